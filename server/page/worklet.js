// Runs on the audio thread: gathers the microphone's sound into pieces of 16-bit samples.
//
// Posts {samples: Int16Array, peak: 0…1} for each piece. Any message to it means: post what there
// is, however short, then {ended: true}.

const FULL_SCALE = 32768;

class Gatherer extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.size = processorOptions.size;
    this.ended = false;
    this.begin();
    this.port.onmessage = () => {
      this.post();
      this.ended = true;
      this.port.postMessage({ ended: true });
    };
  }

  begin() {
    this.samples = new Int16Array(this.size);
    this.count = 0;
    this.peak = 0;
  }

  post() {
    const samples = this.samples.subarray(0, this.count);
    this.port.postMessage({ samples, peak: this.peak }, [this.samples.buffer]);
    this.begin();
  }

  process([input]) {
    const channel = input[0]; // absent until the microphone is connected
    if (channel && !this.ended) {
      for (const value of channel) {
        const scaled = Math.round(value * FULL_SCALE);
        this.samples[this.count++] = Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, scaled));
        this.peak = Math.max(this.peak, Math.abs(value));
        if (this.count === this.size) this.post();
      }
    }
    return !this.ended;
  }
}

registerProcessor("gatherer", Gatherer);
