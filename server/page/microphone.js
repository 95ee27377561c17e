// The microphone as pieces of 16-bit samples, at the rate that the browser's sound system has.

import { Failure } from "./failure.js";

const PIECE_MS = 80; // the recogniser's own block
const HIGHEST_RATE = 48000; // that the server takes

// What was recognised best is what came unprocessed: echo cancellers and noise gates are made for
// ears, and swallow beginnings of words.
const WISHES = {
  channelCount: 1,
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
};

const REASONS = {
  NotAllowedError:
    "The microphone was not allowed. Allow it for this page in the browser's address bar, then press Start.",
  NotFoundError: "No microphone was found. Connect one, then press Start.",
  NotReadableError:
    "The microphone cannot be opened; another program may be using it. Close that, then press Start.",
};

export const microphoneAllowed = () =>
  window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

export const INSECURE =
  "Browsers give the microphone only to pages that come over https, or from localhost. Audio files can be transcribed here all the same.";

export class Microphone {
  // Call it while a click is being handled, or the browser may not let the sound run.
  constructor() {
    if (!microphoneAllowed()) throw new Failure(INSECURE);
    this.context = new AudioContext({ latencyHint: "interactive" });
    if (this.context.sampleRate > HIGHEST_RATE) {
      this.context.close();
      this.context = new AudioContext({ latencyHint: "interactive", sampleRate: HIGHEST_RATE });
    }
    this.closed = false;
    this.rate = this.context.sampleRate;
    this.running = this.context.resume();
  }

  // Opens it; `onPiece(samples, peak)` gets every piece, `onEnd()` is called if it is pulled out.
  //
  // All behind it runs before it opens: nothing of the first words is lost.
  async open(onPiece, onEnd) {
    await this.running;
    await this.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.node = new AudioWorkletNode(this.context, "gatherer", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { size: Math.round((this.rate * PIECE_MS) / 1000) },
    });
    this.flushed = new Promise((resolve) => {
      this.node.port.onmessage = ({ data }) =>
        data.ended ? resolve() : onPiece(data.samples, data.peak);
    });
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
    } catch (error) {
      throw new Failure(
        REASONS[error.name] ?? `The microphone cannot be opened (${error.message || error.name}).`,
      );
    }
    if (this.closed) return this.#release(); // while the browser asked
    const [track] = this.stream.getAudioTracks();
    track.addEventListener("ended", onEnd); // not when we stop it ourselves
    this.context.createMediaStreamSource(this.stream).connect(this.node);
  }

  // Gives it back. What was said until now has gone to `onPiece` when this is done.
  async close() {
    if (this.closed) return;
    this.closed = true;
    if (this.stream && this.context.state === "running") {
      this.node.port.postMessage("end");
      await this.flushed;
    }
    this.#release();
    await this.context.close();
  }

  #release() {
    this.stream?.getTracks().forEach((track) => track.stop());
  }
}
