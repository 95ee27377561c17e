// A recording from its first sample to its last word: the microphone, or a file.
//
// Both take the hooks of `Session`, and two more:
//   phase(name)   "connecting", "asking" (for the microphone), "reading" (a file), "listening",
//                 "finishing"
//   level(peak)   of a piece of the microphone's sound, 0…1
// `run` is done when the last word has come; it throws a `Failure` where something ends it early.

import { Failure } from "./failure.js";
import { FILE_RATE, decode, pieces } from "./file.js";
import { Microphone } from "./microphone.js";
import { Session } from "./session.js";

class Recording {
  begin(rate, key, hooks) {
    this.hooks = hooks;
    this.stopped = false;
    this.session = new Session(rate, key, {
      ...hooks,
      opened: (ready) => {
        hooks.opened(ready);
        if (this.stopped) return;
        this.source ??= this.supply().catch((error) => {
          this.failure = error;
          this.session.abandon();
        });
      },
    });
  }

  // Seconds that were recorded so far.
  get seconds() {
    return this.session.conversation.taken / this.session.conversation.rate;
  }

  async hold() {
    this.hooks.phase("connecting");
    await this.session.run();
    if (this.failure) throw this.failure;
  }

  // No more is said. Who stops twice does not want to wait for the last words, and before the first
  // ones there is nothing to wait for.
  stop() {
    this.stopped = true;
    const { taken, finished } = this.session.conversation;
    if (!taken || finished) {
      this.session.abandon();
      return;
    }
    this.hooks.phase("finishing");
    this.session.finish();
  }
}

export class Live extends Recording {
  // To be made while a click is being handled.
  constructor(key, hooks) {
    super();
    this.microphone = new Microphone();
    this.begin(this.microphone.rate, key, hooks);
  }

  async run() {
    try {
      await this.hold();
    } finally {
      await this.microphone.close();
    }
  }

  // The microphone is asked for when somebody listens, and not before.
  async supply() {
    this.hooks.phase("asking");
    await this.microphone.open(
      (samples, peak) => {
        if (this.session.conversation.finished) return;
        this.session.audio(samples);
        this.hooks.level(peak);
      },
      () => {
        this.failure = new Failure("The microphone is gone. What was said before is here.");
        this.stop();
      },
    );
    if (!this.stopped) this.hooks.phase("listening");
  }

  async stop() {
    await this.microphone.close(); // its last piece comes out
    super.stop();
  }
}

export class FromFile extends Recording {
  constructor(file, key, hooks) {
    super();
    this.file = file;
    this.begin(FILE_RATE, key, hooks);
  }

  async run() {
    this.hooks.phase("reading");
    this.samples = await decode(this.file);
    if (!this.stopped) await this.hold();
  }

  // As fast as the server takes it.
  async supply() {
    this.hooks.phase("listening");
    for (const samples of pieces(this.samples)) {
      if (this.stopped) return;
      this.session.audio(samples);
      await this.session.room();
    }
    this.stop();
  }

  // How much of it is recognised, 0…1.
  get progress() {
    return this.samples ? this.session.conversation.shown / this.samples.length : 0;
  }
}
