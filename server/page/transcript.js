// Finals as text and as subtitles, cut like those of `asr transcribe` (asr/writers.py).
//
// A segment is {words: [{word, start, end}]} with times in seconds.

const LINE_CHARACTERS = 42;
const CUE_LINES = 2;
const CUE_SECONDS = 7;

export const text = (segments) =>
  segments.map(({ words }) => `${words.map(({ word }) => word).join(" ")}\n`).join("");

export const srt = (segments) =>
  cues(segments)
    .map(({ start, end, lines }, n) => `${n + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines}\n\n`)
    .join("");

export const vtt = (segments) =>
  `WEBVTT\n\n${cues(segments)
    .map(({ start, end, lines }) => `${clock(start, ".")} --> ${clock(end, ".")}\n${escaped(lines)}\n\n`)
    .join("")}`;

export const FORMATS = {
  txt: { write: text, type: "text/plain" },
  srt: { write: srt, type: "application/x-subrip" },
  vtt: { write: vtt, type: "text/vtt" },
};

function cues(segments) {
  const groups = [];
  for (const { words } of segments) {
    let group = [];
    for (const word of words) {
      if (group.length && !fits([...group, word])) {
        groups.push(group);
        group = [];
      }
      group.push(word);
    }
    if (group.length) groups.push(group);
  }
  return groups.map((group) => ({
    start: milliseconds(group[0].start),
    // players drop empty cues
    end: Math.max(milliseconds(group.at(-1).end), milliseconds(group[0].start) + 1),
    lines: broken(group).join("\n"),
  }));
}

const fits = (words) =>
  broken(words).length <= CUE_LINES && words.at(-1).end - words[0].start <= CUE_SECONDS;

function broken(words) {
  const lines = [];
  for (const { word } of words) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= LINE_CHARACTERS) {
      lines[lines.length - 1] = `${line} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}

const milliseconds = (seconds) => Math.round(seconds * 1000);

function clock(total, point) {
  const two = (number) => String(number).padStart(2, "0");
  const [s, m, h] = [total / 1000, total / 60000, total / 3600000].map(Math.floor);
  return `${two(h)}:${two(m % 60)}:${two(s % 60)}${point}${String(total % 1000).padStart(3, "0")}`;
}

const escaped = (content) =>
  content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
