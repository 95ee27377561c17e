// An audio file as pieces of 16-bit samples. The browser decodes it: whatever it plays, it reads.

import { Failure } from "./failure.js";

export const FILE_RATE = 16000; // the recogniser's own; the browser resamples
const PIECE = 8000; // samples: half a second
const LARGEST_MB = 200; // it is decoded as a whole, in memory

// All samples of a file, mixed to one channel: Int16Array.
export async function decode(file) {
  if (file.size > LARGEST_MB * 1e6) {
    throw new Failure(
      `${file.name} is too large for a browser (${LARGEST_MB} MB at most); use asr transcribe.`,
    );
  }
  let sound;
  try {
    const data = await file.arrayBuffer();
    sound = await new OfflineAudioContext(1, 1, FILE_RATE).decodeAudioData(data);
  } catch {
    throw new Failure(`${file.name} is no audio file that this browser can read.`);
  }
  const mixed = new Int16Array(sound.length);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, n) =>
    sound.getChannelData(n),
  );
  for (let i = 0; i < mixed.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    const scaled = Math.round((sum / channels.length) * 32768);
    mixed[i] = Math.max(-32768, Math.min(32767, scaled));
  }
  return mixed;
}

export function* pieces(samples) {
  for (let first = 0; first < samples.length; first += PIECE) {
    yield samples.slice(first, first + PIECE);
  }
}
