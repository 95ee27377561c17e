// The page: its buttons, what they begin, and what it says about that.

import { Captions } from "./captions.js";
import { Failure } from "./failure.js";
import { key, keep } from "./keys.js";
import { INSECURE, microphoneAllowed } from "./microphone.js";
import { FromFile, Live } from "./recording.js";
import { FORMATS, text } from "./transcript.js";

const DEAF_PIECES = 60; // of digital silence: some 5 s, and no room is as quiet as that
const QUIETEST_DB = -60; // the left end of the level

const $ = (id) => document.getElementById(id);
const captions = new Captions($("captions"), $("newest"));
let recording = null;
let offset = 0; // seconds of the recordings before this one
let again = null; // begins what was refused once more
let remark = ""; // about what this recording lacks
let lost = 0; // samples of sound, as was told
let deaf = 0; // pieces in a row without any sound
let retryAt = 0; // when a connection is tried again, in ms

const PHASES = {
  ready: "Ready",
  connecting: "Connecting…",
  asking: "Allow the microphone…",
  reading: "Reading the file…",
  listening: "Listening",
  transcribing: "Transcribing",
  away: "No connection",
  finishing: "Fetching the last words…",
};

function phase(name) {
  document.body.dataset.phase = name;
  $("status").textContent = PHASES[name];
  $("detail").textContent = "";
  const finishing = recording?.session.conversation.finished || name === "finishing";
  $("start").textContent = name === "ready" ? "Start" : finishing ? "Give up" : "Stop";
  $("level").hidden = name !== "listening" && name !== "away";
  $("file").disabled = name !== "ready";
}

function notice(message) {
  $("notice").textContent = message;
  $("notice").hidden = !message;
}

// What a recording tells.
const hooks = {
  phase: (name) => {
    phase(name === "listening" && recording instanceof FromFile ? "transcribing" : name);
  },

  opened: ({ model, latency }) => {
    $("model").textContent = `${latency.block_ms + latency.look_ahead_ms} ms`;
    $("figures").title =
      `How long the model "${model.name}" listens before it can speak, and what the server took for the last words`;
    $("figures").hidden = false;
    if (document.body.dataset.phase === "away") {
      notice(remark);
      const { finished } = recording.session.conversation;
      hooks.phase(finished ? "finishing" : "listening");
    }
    tellLoss();
  },

  heard: (message) => {
    $("server").textContent = `${Math.round(message.latency_ms)} ms`;
    if (message.type === "final") captions.settle(shifted(message.words));
    else captions.show(message.stable, message.tentative);
    offerText();
    if (recording instanceof FromFile && document.body.dataset.phase === "transcribing") {
      $("detail").textContent = `${Math.round(100 * recording.progress)} %`;
    }
  },

  broken: (words) => {
    captions.settle(shifted(words));
    remark =
      "The server could not go on where it was. A new session goes on from here; at this place a word may be missing, or be there twice.";
    notice(remark);
  },

  away: (why, until) => {
    retryAt = until;
    phase("away");
    notice(`${why}. Trying again.`);
    tellAway();
  },

  level: (peak) => {
    const db = 20 * Math.log10(Math.max(peak, 1e-6));
    $("level").value = Math.max(0, 1 - db / QUIETEST_DB);
    if (deaf >= DEAF_PIECES && peak > 0) notice(remark);
    deaf = peak === 0 ? deaf + 1 : 0;
    if (deaf === DEAF_PIECES) notice("The microphone gives no sound at all. Is it muted?");
  },
};

// What waits while there is no connection.
function tellAway() {
  const { kept, rate, taken } = recording.session.conversation;
  const seconds = Math.ceil((retryAt - performance.now()) / 1000);
  const soon = seconds > 0 ? `trying again in ${seconds} s` : "trying again";
  $("detail").textContent = taken ? `${Math.round(kept / rate)} s of sound kept; ${soon}` : soon;
  tellLoss();
}

function tellLoss() {
  const { lost: total, rate } = recording.session.conversation;
  if (total - lost > rate / 10) {
    lost = total;
    remark = `${(total / rate).toFixed(1)} s of sound were lost while there was no connection.`;
    notice(remark);
  }
}

const shifted = (words) =>
  words.map((word) => ({ ...word, start: word.start + offset, end: word.end + offset }));

// Begins a recording, and sees it to its end.
async function record(make) {
  remark = "";
  notice(remark);
  $("entrance").hidden = true;
  lost = deaf = 0;
  const awake = keepAwake();
  const clock = setInterval(() => document.body.dataset.phase === "away" && tellAway(), 1000);
  try {
    recording = make();
    await recording.run();
    notice(remark);
  } catch (error) {
    if (!(error instanceof Failure)) console.error(error);
    notice(error instanceof Failure ? error.message : `Something went wrong in this page: ${error}`);
    if (error.wantsKey) askForKey(() => record(make));
  } finally {
    clearInterval(clock);
    awake.then((lock) => lock?.release());
    if (recording) {
      // What was shown and never became final stays.
      captions.settle(shifted(recording.session.conversation.beginAnew().words));
      offset += recording.seconds;
    }
    recording = null;
    phase("ready");
    offerText();
  }
}

// A phone that falls asleep in the middle of a talk hears nothing more.
async function keepAwake() {
  try {
    return await navigator.wakeLock?.request("screen");
  } catch {
    return undefined; // not while the battery is low, say
  }
}

function askForKey(then) {
  again = then;
  keep("");
  $("entrance").hidden = false;
  $("key").focus();
}

function offerText() {
  $("hint").hidden = !captions.empty || recording !== null;
  for (const id of ["copy", "download", "clear"]) $(id).disabled = captions.empty;
}

function transcribe(file) {
  if (!file) return;
  if (recording) notice("Stop first, then drop the file once more.");
  else record(() => new FromFile(file, key(), hooks));
}

async function copy() {
  const said = text(captions.segments);
  try {
    await navigator.clipboard.writeText(said);
  } catch {
    copyByHand(said); // plain http has no clipboard
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
}

function copyByHand(said) {
  const area = document.createElement("textarea");
  area.value = said;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function download() {
  const format = $("format").value;
  const { write, type } = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(captions.segments)], { type }));
  link.download = `captions.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

$("start").addEventListener("click", () => {
  if (recording) recording.stop();
  else record(() => new Live(key(), hooks));
});
$("file").addEventListener("change", ({ target }) => {
  transcribe(target.files[0]);
  target.value = ""; // the same file may be chosen again
});
$("entrance").addEventListener("submit", (event) => {
  event.preventDefault();
  keep($("key").value);
  $("key").value = "";
  again?.();
});
$("copy").addEventListener("click", copy);
$("download").addEventListener("click", download);
$("clear").addEventListener("click", () => {
  captions.clear();
  if (!recording) offset = 0;
  offerText();
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  transcribe(event.dataTransfer.files[0]);
});

phase("ready");
offerText();
if (!microphoneAllowed()) notice(INSECURE);
