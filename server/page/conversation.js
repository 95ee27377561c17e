// One recording's side of the native protocol (docs/protocol.md), without I/O: what to send, what
// to keep for a lost connection, and what the server's messages mean.
//
// Two ways to count samples meet here. A *place* counts those of the recording since Start, with
// all that was lost; a *position* counts those of a session with the server, as the protocol does.
// A session that cannot be resumed is followed by a new one, which begins at position 0 and a later
// place; `seams` says which position lies at which place.

const KEPT_SECONDS = 300; // as long as a server keeps a session, unless told otherwise
const BEGIN_ANEW = new Set([
  "resume_unknown",
  "resume_gap",
  "resume_model",
  "resume_damaged",
  "too_long",
]);
const PASSING = new Set(["resume_unavailable", "unavailable"]);

export class Conversation {
  constructor(rate) {
    this.rate = rate;
    this.taken = 0; // the place where the next samples lie
    this.gaps = []; // {place, length} of samples that no server will hear
    this.finished = false; // no more samples come
    this.over = false; // everything is said
    this.kept = 0; // samples in `waiting` and `away`
    this.waiting = []; // pieces {place, samples} to be sent, in order
    this.shown = 0; // the place up to which the texts on the screen rest
    this.ended = 0; // the place where the last final one ends
    this.#beginSession();
  }

  #beginSession() {
    this.ready = false; // for audio, on this connection
    this.resumable = false;
    this.token = "";
    this.first = 0; // position of the first of `away`
    this.away = []; // pieces that were sent, and are kept
    this.sent = 0; // position where they end
    this.saved = 0; // position
    this.seams = [];
    this.segments = 0; // finals that came
    this.acknowledged = 0;
    this.open = { segment: 0, position: 0, text: "" }; // the segment that is not final yet
    this.saidFinish = false;
  }

  // The first message on a connection.
  start() {
    this.ready = this.saidFinish = false;
    if (this.resumable) {
      const resume = { token: this.token, position: this.sent, segments: this.segments };
      return write({ type: "start", version: 1, resume });
    }
    return write({
      type: "start",
      version: 1,
      format: { encoding: "s16le", sample_rate: this.rate, channels: 1 },
      options: { resume: true },
    });
  }

  // Takes in samples, Int16Array. Where too many wait for a connection, the oldest are lost.
  audio(samples) {
    this.waiting.push({ place: this.taken, samples });
    this.taken += samples.length;
    this.kept += samples.length;
    while (this.kept > KEPT_SECONDS * this.rate && this.waiting.length > 1) {
      const { place, samples: dropped } = this.waiting.shift();
      this.kept -= dropped.length;
      this.#lose(place, dropped.length);
    }
  }

  #lose(place, length) {
    const last = this.gaps.at(-1);
    if (last && last.place + last.length === place) last.length += length;
    else this.gaps.push({ place, length });
  }

  // Samples that no server will hear.
  get lost() {
    return this.gaps.reduce((sum, { length }) => sum + length, 0);
  }

  finish() {
    this.finished = true;
  }

  // The next message to send while `ready`, or null until there is one.
  next() {
    if (this.over || this.saidFinish) return null;
    if (this.resumable && this.acknowledged < this.segments) {
      this.acknowledged = this.segments;
      return write({ type: "ack", segments: this.segments });
    }
    if (this.waiting.length) return this.#send(this.waiting.shift());
    if (!this.finished) return null;
    this.saidFinish = true;
    return write({ type: "finish" });
  }

  #send(piece) {
    const last = this.seams.at(-1);
    if (!last || piece.place - this.sent !== last.place - last.position) {
      this.seams.push({ position: this.sent, place: piece.place });
    }
    this.sent += piece.samples.length;
    if (this.resumable) {
      this.away.push(piece);
    } else {
      this.kept -= piece.samples.length;
      this.first = this.sent;
    }
    return piece.samples; // little-endian, as every machine is that runs browsers
  }

  // The server will not ask for what lies before; what it heard there is on the screen.
  #saved(position) {
    this.saved = position;
    this.shown = Math.max(this.shown, this.#place(position));
    while (this.away.length && this.first + this.away[0].samples.length <= position) {
      const { length } = this.away.shift().samples;
      this.first += length;
      this.kept -= length;
    }
  }

  // Takes in a message. Returns what the page has to know: {type, …}.
  //
  // `partial` and `final` have their texts, and words with times in seconds of the recording;
  // `broken` ends the session, its open text as it is; `failed` ends everything.
  receive(message) {
    const fields = JSON.parse(message);
    switch (fields.type) {
      case "ready":
        return this.#opened(fields);
      case "saved":
        this.#saved(fields.position);
        return fields;
      case "partial":
        return this.#partial(fields);
      case "final":
        return this.#final(fields);
      case "done":
        return this.#done(fields);
      case "error":
        return this.#error(fields);
      default:
        return fields;
    }
  }

  #opened(fields) {
    if (fields.position < this.first || fields.position > this.sent) return this.beginAnew();
    this.#rewind(fields.position);
    this.token = fields.token;
    this.resumable = fields.resumable;
    if (!this.resumable) this.#forgetAll();
    this.ready = true;
    return fields;
  }

  #forgetAll() {
    this.kept -= total(this.away);
    this.away = [];
    this.first = this.sent;
  }

  // Puts what was sent from a position on before what waits.
  #rewind(position) {
    while (this.sent > position) {
      const piece = this.away.pop();
      this.sent -= piece.samples.length;
      if (this.sent < position) {
        const head = position - this.sent;
        this.away.push({ place: piece.place, samples: piece.samples.subarray(0, head) });
        piece.samples = piece.samples.slice(head);
        piece.place += head;
        this.sent = position;
      }
      this.waiting.unshift(piece);
    }
    this.seams = this.seams.filter((seam) => seam.position < position);
  }

  #partial(fields) {
    const { segment, position, stable, tentative } = fields;
    // A resumed session says again where it was saved, which is behind what the screen shows.
    const behind = segment < this.open.segment || position < this.open.position;
    if (segment < this.segments || behind) return { type: "nothing" };
    this.open = { segment, position, text: [stable, tentative].filter(Boolean).join(" ") };
    this.shown = Math.max(this.shown, this.#place(position));
    return fields;
  }

  #final(fields) {
    if (fields.segment < this.segments) return { type: "nothing" };
    this.segments = fields.segment + 1;
    this.open = { segment: this.segments, position: fields.position, text: "" };
    this.shown = Math.max(this.shown, this.#place(fields.position));
    this.ended = this.#place(fields.end);
    const words = fields.words.map((word) => ({
      ...word,
      start: this.#place(word.start) / this.rate,
      end: this.#place(word.end) / this.rate,
    }));
    return { ...fields, words };
  }

  // A server that stops says all that it has accepted; the rest is for another session.
  #done(fields) {
    this.shown = this.#place(fields.position);
    if (this.finished && !this.waiting.length && fields.position === this.sent) {
      this.over = true;
      return fields;
    }
    return this.beginAnew();
  }

  #error(fields) {
    if (PASSING.has(fields.code)) return { type: "nothing" }; // the close that follows says enough
    if (BEGIN_ANEW.has(fields.code)) return this.beginAnew();
    this.over = true;
    return { type: "failed", message: fields.message };
  }

  // Gives the session up: the next connection begins a new one, behind the last text on the screen.
  //
  // What is kept of the audio is sent from there on; the rest is lost. The open text stays as it
  // is, its words at even distances since nobody knows better.
  beginAnew() {
    const from = this.shown;
    const again = this.away.filter(({ place, samples }) => place + samples.length > from);
    const next = again[0] ?? this.waiting[0];
    const place = next ? next.place : this.taken;
    if (place > from) {
      // What was dropped in there before counts once.
      this.gaps = this.gaps.filter((gap) => gap.place < from || gap.place >= place);
      this.#lose(from, place - from);
    }
    for (const piece of again) {
      const heard = Math.max(0, from - piece.place);
      piece.samples = piece.samples.slice(heard);
      piece.place += heard;
    }
    this.waiting = [...again, ...this.waiting];
    this.kept = total(this.waiting);
    const words = spread(this.open.text, this.ended / this.rate, from / this.rate);
    this.#beginSession();
    return { type: "broken", words };
  }

  #place(position) {
    const seam = this.seams.findLast((one) => one.position <= position);
    return seam ? position - seam.position + seam.place : this.shown;
  }
}

function spread(text, start, end) {
  const words = text.split(" ").filter(Boolean);
  const step = (end - start) / words.length;
  return words.map((word, n) => ({ word, start: start + n * step, end: start + (n + 1) * step }));
}

const total = (pieces) => pieces.reduce((sum, { samples }) => sum + samples.length, 0);

const write = (fields) => JSON.stringify(fields);
