// What was said, on the screen: finals as paragraphs, and the open segment below them.

const UNSURE = 0.5; // confidence below which a word is underlined
const NEAR_END = 60; // pixels from the end that still count as being there

export class Captions {
  constructor(frame, newest) {
    this.frame = frame; // scrolls
    this.settled = frame.querySelector("#settled");
    this.open = frame.querySelector("#open");
    this.stable = frame.querySelector("#stable");
    this.tentative = frame.querySelector("#tentative");
    this.segments = [];
    this.following = true; // until the reader scrolls up
    frame.addEventListener("scroll", () => {
      const below = frame.scrollHeight - frame.scrollTop - frame.clientHeight;
      this.following = below < NEAR_END;
      newest.hidden = this.following;
    });
    // Where the frame or its lines change their size, the end stays in sight.
    const sizes = new ResizeObserver(() => this.#follow());
    sizes.observe(frame);
    sizes.observe(frame.firstElementChild);
    newest.addEventListener("click", () => {
      this.following = true;
      this.#follow();
    });
  }

  get empty() {
    return !this.segments.length && this.open.hidden;
  }

  // The segment that is being spoken: `stable` only grows, `tentative` may still change.
  show(stable, tentative) {
    this.stable.textContent = stable;
    this.tentative.textContent = tentative && stable ? ` ${tentative}` : tentative;
    this.open.hidden = !stable && !tentative;
    this.#follow();
  }

  // A closed segment, which never changes: words with times, and mostly with a confidence.
  settle(words) {
    if (words.length) {
      this.segments.push({ words });
      const paragraph = document.createElement("p");
      words.forEach((word, n) => paragraph.append(n ? " " : "", marked(word)));
      this.settled.append(paragraph);
    }
    this.show("", "");
  }

  clear() {
    this.segments = [];
    this.settled.replaceChildren();
    this.show("", "");
  }

  #follow() {
    if (this.following) this.frame.scrollTop = this.frame.scrollHeight;
  }
}

function marked({ word, confidence }) {
  if (confidence === undefined || confidence >= UNSURE) return word;
  const mark = document.createElement("span");
  mark.className = "unsure";
  mark.title = `perhaps: ${Math.round(100 * confidence)} % sure`;
  mark.textContent = word;
  return mark;
}
