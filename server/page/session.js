// A recording's way to the server: a conversation over as many websockets as it takes.

import { Conversation } from "./conversation.js";
import { Failure } from "./failure.js";

const AHEAD_BYTES = 2 ** 18; // that wait in the browser; the rest waits where it can be counted
const LOOK_MS = 50; // between looks whether they have left: browsers have no event for it
const SILENT_MS = 20000; // of the server while it should say something: the connection is dead
const PASSING_CLOSES = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014]);
const LOST = "The connection was lost";
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5000;
const BUSY_TRIES = 5; // to get in where there is no place
const BUSY_SECONDS = 60; // beyond which it is not waited for
const LAST_WORDS_MS = 30000; // for which they are waited for once the recording is finished

export class Session {
  // `hooks` are told what happens:
  //   opened(ready)        the server listens, for the first time or again
  //   heard(message)       a partial or a final, with times in seconds
  //   broken(words)        the session is lost, the open text stays as it is; a new one follows
  //   away(reason, until)  there is no connection; `until`: when it is tried again, in ms, or 0
  constructor(rate, key, hooks) {
    this.conversation = new Conversation(rate);
    this.key = key;
    this.hooks = hooks;
    this.abandoned = false;
    this.failed = ""; // why it was
    this.socket = null;
    this.waitingSince = null; // when the server was last owed something, in ms
    this.begun = false; // the server has listened
    this.wake = () => {}; // ends the pause before a try
    this.leave = () => {}; // ends the connection
    this.pump = this.pump.bind(this);
  }

  // Holds the conversation up to its end. Throws a `Failure` if that is not to be had.
  async run() {
    const wake = () => this.wake();
    window.addEventListener("online", wake);
    try {
      let tries = 0;
      while (!this.conversation.over && !this.abandoned) {
        const end = await this.#connection();
        if (this.conversation.over || this.abandoned) break;
        if (end.listened && !this.conversation.resumable && !end.broken) {
          this.hooks.broken(this.conversation.beginAnew().words);
        }
        tries = end.listened ? 1 : tries + 1;
        await this.#wait(await this.#reason(end), tries);
      }
    } finally {
      window.removeEventListener("online", wake);
      clearTimeout(this.giveUp);
    }
    if (this.failed) throw new Failure(this.failed);
  }

  audio(samples) {
    this.conversation.audio(samples);
    this.pump();
  }

  // No more audio; `run` is done when its last words have come.
  finish() {
    this.conversation.finish();
    this.#bePatient();
    this.pump();
    this.wake();
  }

  // Gives the last words up if nothing comes for a time.
  #bePatient() {
    clearTimeout(this.giveUp);
    this.giveUp = setTimeout(() => {
      this.failed = "The last words could not be fetched: the server does not answer.";
      this.abandon();
    }, LAST_WORDS_MS);
  }

  // No more words are wanted.
  abandon() {
    this.abandoned = true;
    this.socket?.close(1000);
    this.leave();
    this.wake();
  }

  // Waits until most of what was given has left.
  async room() {
    while (this.conversation.waiting.length > 1 && !this.abandoned && !this.conversation.over) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  // Sends what there is to send.
  pump() {
    const { socket, conversation } = this;
    clearTimeout(this.again);
    if (socket?.readyState !== WebSocket.OPEN || !conversation.ready) return;
    while (socket.bufferedAmount < AHEAD_BYTES) {
      const message = conversation.next();
      if (message === null) return;
      socket.send(message);
      // It tells about once a second of audio what it has saved.
      if (conversation.resumable) this.waitingSince ??= performance.now();
    }
    this.again = setTimeout(this.pump, LOOK_MS);
  }

  // One connection, up to its end: {opened, listened, code, reason}.
  #connection() {
    const end = { opened: false, listened: false, code: 1006, reason: "" };
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    try {
      // Browsers set no headers here; as a subprotocol the key is in no address and no log.
      this.socket = new WebSocket(address, this.key ? ["token", this.key] : []);
    } catch (error) {
      if (error.name !== "SyntaxError") throw error;
      throw new Failure("This is no API key.", { wantsKey: true });
    }
    const { socket, conversation } = this;
    this.waitingSince = performance.now();
    return new Promise((resolve) => {
      const watch = setInterval(() => {
        if (performance.now() - (this.waitingSince ?? Infinity) > SILENT_MS) leave();
      }, 1000);
      const leave = (this.leave = () => {
        clearInterval(watch);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close(); // of a dead connection this takes minutes, and nobody waits for it
        conversation.ready = false;
        resolve(end);
      });
      socket.onopen = () => {
        end.opened = true;
        socket.send(conversation.start());
      };
      socket.onmessage = ({ data }) => {
        this.waitingSince = null;
        if (conversation.finished) this.#bePatient();
        this.#receive(conversation.receive(data), end);
        this.pump();
      };
      socket.onclose = ({ code, reason }) => {
        Object.assign(end, { code, reason });
        leave();
      };
    });
  }

  #receive(message, end) {
    switch (message.type) {
      case "ready":
        this.begun = end.listened = true;
        this.hooks.opened(message);
        break;
      case "partial":
      case "final":
        this.hooks.heard(message);
        break;
      case "broken":
        end.broken = true;
        this.socket.close(1000);
        this.hooks.broken(message.words);
        break;
      case "failed":
        this.failed = `The server ended the session: ${message.message}.`;
        break;
    }
  }

  // Why a connection ended, if trying again may help: {why, seconds}; else throws a `Failure`.
  async #reason(end) {
    if (!end.opened) {
      const { why, seconds } = await whyRefused(this.key);
      if (why) return { why, seconds };
      return { why: this.begun ? LOST : "The server is there, but no websocket comes through" };
    }
    if (end.code === 1008 && !end.broken) {
      throw new Failure("The session goes on somewhere else, so it has ended here.");
    }
    if (!PASSING_CLOSES.has(end.code) && !end.broken) {
      const why = end.reason ? `: ${end.reason}` : "";
      throw new Failure(`The server closed the connection (${end.code}${why}).`);
    }
    return { why: LOST };
  }

  // Waits before the next try. Throws a `Failure` if there is to be none.
  async #wait({ why, seconds }, tries) {
    if (!this.begun && (seconds === undefined || seconds > BUSY_SECONDS || tries > BUSY_TRIES)) {
      throw new Failure(`${why}.`);
    }
    const longest = Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS);
    // Drawn at random, so that those who were cut off together do not come back together.
    const drawn = 0.5 + Math.random() / 2;
    const pause = seconds === undefined ? longest * drawn : 1000 * seconds * (0.5 + drawn);
    this.hooks.away(why, seconds === undefined ? 0 : performance.now() + pause);
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, pause);
    });
    this.wake = () => {};
  }
}

// Browsers do not tell pages why a websocket was refused. The same address without the upgrade
// gives the same answer in the open: 426 would have been let in.
async function whyRefused(key) {
  let answer;
  try {
    answer = await fetch("v1/stream", {
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(SILENT_MS),
    });
  } catch {
    return { why: "The server cannot be reached" };
  }
  const [said] = (await answer.text()).split("\n");
  const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
  switch (answer.status) {
    case 426:
      return {};
    case 401:
      throw new Failure(
        key ? "The server does not know this API key." : "This server wants an API key.",
        { wantsKey: true },
      );
    case 403:
      throw new Failure(`This page may not use the server: ${said}.`);
    case 429:
    case 503:
      return { why: sentence(said), seconds: Number.isFinite(seconds) ? seconds : undefined };
    case 502:
    case 504:
      return { why: "The server cannot be reached" };
    default:
      throw new Failure(`The server refuses (HTTP ${answer.status}: ${said}).`);
  }
}

// "all 64 sessions are taken; try again in 5 s" → "All 64 sessions are taken"
function sentence(said) {
  const [first] = said.split(";");
  return first.charAt(0).toUpperCase() + first.slice(1);
}
