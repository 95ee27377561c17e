"""Teach a head to write from text: `python -m training.text_injection RECIPE --init MODEL …`.

A head that reads another head (`reads`, docs/recipes.md) hears no sound, only what that head says.
So it can learn from sentences that nobody spoke, which there are a thousand times more of:

1. The network hears the recipe's distorted speech, and what the head that is read says of it is cut
   into stretches of one unit each (`training.segments`).
2. Sentences of the text become units by the lexicon of the recipe, and frames by stretches of these
   units, put together at random.
3. The head's own recurrent layer learns from such sentences: first frame by frame, each word to be
   written when it has been said (left to CTC, it would write letters as soon as it hears them, and
   never learn to wait), then by CTC, and from the speech itself, too. Nothing below it changes, so
   whatever else the model says stays the same.

Under `torchrun` several processes share the work. Speech and text in one network: Sainath et al.
2023, "JOIST: A joint speech and text streaming model for ASR"; here the text takes the place of a
lower layer's output, not of the sound.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from asr.errors import ConfigError, DataError, Error
from training.assembly import make_trainer
from training.checkpoint import Checkpoint, write_checkpoint
from training.language_model.text import sentence_blocks
from training.loop import seed_of, uses_bfloat16
from training.losses import UNKNOWN, ctc, frame_cross_entropy
from training.preparation import prepare
from training.processes import Processes
from training.recipe import read_recipe
from training.schedule import learning_rate
from training.segments import BLANK, Heard, Segments
from training.start import read_start, take_over
from training.units import Phones
from training.validation import best_path, word_error_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from training.loop import Trainer
    from training.model import AcousticNetwork
    from training.preparation import Material
    from training.recipe import Recipe
    from training.segments import Frames
    from training.units import Units

FRAMES_AN_HOUR: Final = 90_000
LONGEST: Final = 24  # words of a sentence; of a longer one a stretch of so many is taken
POOL: Final = 256  # sentences that are sorted by length together
FLOOR: Final = -12.0  # lowest log-probability that is kept
SAID: Final = 6  # frames after the beginning of a word's last phone, when it has been said
EVERY: Final = 200  # steps between two lines of progress
KEEP_MINUTES: Final = 10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is learned from.

    Attributes:
        heard_hours: of speech that the network hears first, all processes together.
        most_wrong: wrong units for each that was said, above which an utterance is left out.
        hours: of frames that are learned from, 25 a second, in all processes together.
        placed: share of these in which words are written where they have been said.
        speech: share of the sentences that were really spoken.
        seconds: bound on the padded length of a batch.
    """

    heard_hours: float
    most_wrong: float
    hours: float
    placed: float
    speech: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """Sentences to learn from.

    Attributes:
        log_probs: of the head that is read [B, T, V].
        frames: used ones of each row [B]; silence follows.
        targets: units to be written.
        placed: the unit of each frame [B, T], `UNKNOWN` behind a sentence; None: anywhere.
    """

    log_probs: Tensor
    frames: Tensor
    targets: list[Tensor | None]
    placed: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """One of them.

    Attributes:
        log_probs: of the head that is read, float16 [T, V].
        written: units to be written.
        placed: the unit of each frame and of the silence behind [T + behind]; None: anywhere.
    """

    log_probs: Frames
    written: Sequence[int]
    placed: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Where news goes.

    Attributes:
        say: lines for people.
        keep: what was learned so far, every ten minutes and at the end.
    """

    say: Callable[[str], None]
    keep: Callable[[Checkpoint], None]


class Author:
    """Makes lessons of text and of speech.

    Args:
        sentences: lower-case words with single spaces.
        read: units of the head that is read; sentences with words it lacks are passed over.
        written: units of the head that reads.
        heard: speech, and perhaps noise in which nothing is said.
        speech: share of these in all sentences.
        behind: frames of silence that follow each.
    """

    def __init__(
        self,
        sentences: Sequence[str],
        read: Phones,
        written: Units,
        heard: Sequence[Heard],
        speech: float,
        behind: int = 0,
    ) -> None:
        self.sentences, self.read, self.written = sentences, read, written
        self.speech, self.behind = speech, behind
        self.heard = [one for one in heard if len(one.written) < len(one.log_probs)]
        self.segments = Segments(heard, read.units)

    def one(self, rng: np.random.Generator, *, placed: bool) -> Sentence:
        """A sentence, spoken or put together; with `placed` put together, and written in places."""
        if not placed and rng.random() < self.speech:
            heard = self.heard[int(rng.integers(len(self.heard)))]
            return Sentence(heard.log_probs, heard.written)
        while True:
            words = self.sentences[int(rng.integers(len(self.sentences)))].split()
            if len(words) > LONGEST:
                first = int(rng.integers(len(words) - LONGEST + 1))
                words = words[first : first + LONGEST]
            try:
                said = [self.read.encode(word) for word in words]
                written = self.written.encode(" ".join(words))
            except DataError:
                continue
            log_probs, last = self.segments.speak(said, rng)
            if not placed:
                return Sentence(log_probs, written)
            texts = [self.written.encode(" ".join(words[:n])) for n in range(len(words) + 1)]
            units = [after[len(before) :] for before, after in pairwise(texts)]
            begins = [frame + SAID for frame in last]
            length = len(log_probs) + self.behind
            return Sentence(log_probs, written, in_places(units, begins, length))

    def lessons(
        self, seed: int, rank: int, seconds: float, *, placed: bool = False
    ) -> Iterator[Lesson]:
        """Without end, of like length each, the same for the same seed and rank."""
        rng = np.random.default_rng((seed, 6, rank, int(placed)))
        bound = seconds * FRAMES_AN_HOUR / 3600
        while True:
            sentences = (self.one(rng, placed=placed) for _ in range(POOL))
            pool = sorted(sentences, key=lambda one: len(one.log_probs))
            batches: list[list[Sentence]] = [[]]
            for one in pool:
                if batches[-1] and len(one.log_probs) * (len(batches[-1]) + 1) > bound:
                    batches.append([])
                batches[-1].append(one)
            for number in rng.permutation(len(batches)):
                yield lesson(batches[number], self.behind)


def in_places(
    units: Sequence[Sequence[int]], begins: Sequence[int], length: int
) -> NDArray[np.int64]:
    """The unit of each frame [T], where each word is written from a frame on, or when it can be.

    Args:
        units: of each word.
        begins: frame from which on each may be written.
        length: T; what would be written later is left out.
    """
    frames = np.zeros(length, np.int64)
    free = 0
    for word, begin in zip(units, begins, strict=True):
        free = max(free, begin)
        before = BLANK
        for unit in word:
            free += unit == before  # two alike with a blank between them
            if free < length:
                frames[free] = unit
            before, free = unit, free + 1
    return frames


def lesson(batch: Sequence[Sentence], behind: int = 0) -> Lesson:
    """A batch with so many frames of silence behind each sentence, the longest included."""
    frames = torch.tensor([len(one.log_probs) for one in batch])
    length = int(frames.max()) + behind
    log_probs = torch.full((len(batch), length, batch[0].log_probs.shape[1]), FLOOR)
    log_probs[:, :, BLANK] = 0.0
    for row, one in zip(log_probs, batch, strict=True):
        row[: len(one.log_probs)] = torch.from_numpy(one.log_probs)
    places = [one.placed for one in batch if one.placed is not None]
    placed = torch.full(log_probs.shape[:2], UNKNOWN) if len(places) == len(batch) else None
    if placed is not None:
        for row, units in zip(placed, places, strict=True):
            row[: len(units)] = torch.from_numpy(units)
    return Lesson(log_probs, frames, [torch.tensor(one.written) for one in batch], placed)


@torch.inference_mode()
def hear(
    trainer: Trainer, read: str, written: str, hours: float, most_wrong: float = math.inf
) -> list[Heard]:
    """What a head says of the distorted speech of a recipe, of so many hours in each process.

    What it says is left out where it has hardly understood: nothing can be learned from that.
    """
    network, processes = trainer.network.eval(), trainer.processes
    heard: list[Heard] = []
    seconds = 0.0
    while seconds < 3600 * hours:
        batches = [next(trainer.batches) for _ in range(processes.size)]
        examples = trainer.make(batches[processes.rank])
        if examples is None:
            continue
        seconds += examples.seconds
        logits = network(examples.features.to(processes.device))[read]
        log_probs = logits.float().log_softmax(-1).clamp(min=FLOOR).half().cpu().numpy()
        frames, targets = examples.labels.frames.tolist(), examples.labels.targets
        for row, count, said, wanted in zip(
            log_probs, frames, targets[read], targets[written], strict=True
        ):
            if said is None or wanted is None:
                continue
            one = Heard(row[:count].copy(), said.tolist(), wanted.tolist())
            wrong = Levenshtein.distance(best_path(one.log_probs.argmax(1)), one.said)
            if wrong <= most_wrong * len(one.said):
                heard.append(one)
    return heard


class Teacher:
    """Teaches one head of a network, and nothing else in it.

    Args:
        recipe: its `[optimiser]` counts.
        network: is changed in place.
        head: that reads another.
        processes: those that teach together.
    """

    def __init__(
        self, recipe: Recipe, network: AcousticNetwork, head: str, processes: Processes
    ) -> None:
        self.recipe, self.network, self.head, self.processes = recipe, network, head, processes
        parts = (network.readers[head], network.reader_norms[head], network.heads[head])
        self.parameters = [p for part in parts for p in part.parameters()]
        chosen = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=chosen.rate,
            betas=(chosen.beta1, chosen.beta2),
            weight_decay=chosen.weight_decay,
            fused=True,
        )
        self.average = {k: v.clone() for k, v in self._own().items()}
        self.look_ahead = network.config.heads[head].look_ahead
        self.autocast = uses_bfloat16(recipe.budget.precision, processes.device)
        self.steps, self.frames = 0, 0.0

    def _own(self) -> dict[str, Tensor]:
        weights = self.network.state_dict()
        return {name: weights[name] for name in weights if f".{self.head}." in name}

    def weights(self) -> dict[str, Tensor]:
        """Those of the whole network, of the head that learns their running average."""
        whole = self.network.state_dict() | self.average
        return {name: value.detach().cpu().clone() for name, value in whole.items()}

    def learn(self, lesson: Lesson, done: float) -> float:
        """One step; returns the loss, nats a unit.

        Args:
            lesson: of this process.
            done: share of the whole that is done, for the learning rate.
        """
        chosen, processes = self.recipe.optimiser, self.processes
        torch.manual_seed(seed_of(self.recipe.seed, self.steps, processes.rank))
        device = processes.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            logits, _ = self.network.spell(self.head, lesson.log_probs.to(device))
        if lesson.placed is not None:
            loss = frame_cross_entropy(logits, lesson.placed.to(device))
        else:
            loss = ctc(logits[:, self.look_ahead :], lesson.frames, lesson.targets)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        processes.average_gradients(self.parameters, counts=True)
        norm = nn.utils.clip_grad_norm_(self.parameters, chosen.clip or float("inf"))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(chosen, self.steps, done)
        if norm < float("inf"):
            self.optimiser.step()
        decay = min(chosen.average, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            for name, value in self._own().items():
                self.average[name].lerp_(value, 1 - decay)
        total, frames = processes.sums(float(loss.detach()), float(lesson.frames.sum()))
        self.steps += 1
        self.frames += frames
        return total / processes.size


def teach(
    material: Material,
    trainer: Trainer,
    sentences: Sequence[str],
    effort: Effort,
    tell: Tell,
) -> Checkpoint:
    """Teach the head of a recipe's network that reads another.

    Args:
        material: data of a recipe with one such head, which reads phones.
        trainer: of a network whose other weights are trained already.
        sentences: text.
        effort: how much is learned from.
        tell: is told of the progress.

    Returns:
        The model that has learned, to be exported.

    Raises:
        ConfigError: the recipe has no such head, or several.
        DataError: too little was heard.
    """
    recipe, say = trainer.recipe, tell.say
    readers = trainer.network.config.readers()
    if len(readers) != 1:
        raise ConfigError(f"heads: {len(readers)} of them have `reads`; text can teach one")
    [(head, config)] = readers.items()
    read = material.units[config.reads]
    if not isinstance(read, Phones):
        raise ConfigError(f"heads.{head}.reads: {config.reads} writes no phones of a lexicon")
    hours = effort.heard_hours / trainer.processes.size
    heard = hear(trainer, config.reads, head, hours, effort.most_wrong)
    author = Author(sentences, read, material.units[head], heard, effort.speech, config.look_ahead)
    say(f"{len(heard)} utterances heard, {len(author.segments)} stretches of phones")
    teacher = Teacher(recipe, trainer.network, head, trainer.processes)
    begun, kept, losses = time.monotonic(), 0.0, list[float]()
    wanted = effort.hours * FRAMES_AN_HOUR
    placed, free = (
        author.lessons(recipe.seed, trainer.processes.rank, effort.seconds, placed=placed)
        for placed in (True, False)
    )
    while True:
        one = next(placed if teacher.frames < effort.placed * wanted else free)
        losses.append(teacher.learn(one, teacher.frames / wanted))
        over, minutes = teacher.frames >= wanted, (time.monotonic() - begun) / 60
        if over or teacher.steps % EVERY == 0:
            hours, loss = teacher.frames / FRAMES_AN_HOUR, float(np.mean(losses[-EVERY:]))
            say(f"step {teacher.steps}, {hours:.1f} h, {minutes:.1f} min, loss {loss:.3f}")
        if over:
            break
        if minutes // KEEP_MINUTES > kept:
            kept = minutes // KEEP_MINUTES
            tell.keep(_checkpoint(trainer, teacher, material))
    learned = _checkpoint(trainer, teacher, material)
    tell.keep(learned)
    return learned


def _checkpoint(trainer: Trainer, teacher: Teacher, material: Material) -> Checkpoint:
    units = {name: kind.units for name, kind in material.units.items()}
    return replace(
        trainer.checkpoint(units, complete=False),
        weights=teacher.weights(),
        progress={"hours": teacher.frames / FRAMES_AN_HOUR, "step": teacher.steps},
    )


def main(arguments: Sequence[str]) -> int:
    """Teach, and write the checkpoint."""
    args = _parsed(arguments)
    processes = Processes()

    def say(line: str) -> None:
        if processes.first:
            print(line, flush=True)  # noqa: T201

    def keep(checkpoint: Checkpoint) -> None:
        if processes.first:
            write_checkpoint(args.out, checkpoint)

    try:
        recipe = read_recipe(args.recipe, args.set)
        torch.set_num_threads(recipe.budget.threads)
        start = read_start(args.init)
        material = prepare(recipe, start.units)
        trainer = make_trainer(recipe, material, processes, start, say)
        if args.head:
            own = {name: kind.units for name, kind in material.units.items()}
            take_over(trainer.network, read_start(args.head), own)
        sentences = [s for block in sentence_blocks(args.text) for s in block if s]
        if not sentences:
            raise DataError("the text holds no sentence")
        effort = Effort(
            args.heard_hours, args.most_wrong, args.hours, args.placed, args.speech, args.seconds
        )
        checkpoint = teach(material, trainer, sentences, effort, Tell(say, keep))
        if processes.first:
            wer = word_error_rate(checkpoint, material.validation)
            say(f"word-error rate without a language model: {100 * wer:.2f} %")
        processes.wait()
    except Error as error:
        print(f"python -m training.text_injection: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        processes.close()
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m training.text_injection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", type=Path, metavar="RECIPE", help="with a head that reads another")
    add("--init", type=Path, required=True, metavar="MODEL", help="a checkpoint or a bundle")
    add(
        "--head", type=Path, metavar="MODEL", help="one whose head was taught before, to go on with"
    )
    add("--out", type=Path, required=True, metavar="OUT.pt", help="the checkpoint that is written")
    add("--text", type=Path, nargs="+", required=True, help="a sentence a line, plain, .gz or .xz")
    add("--heard-hours", type=_positive, default=8.0, help="of speech, heard first (default: 8)")
    add(
        "--most-wrong",
        type=_positive,
        default=0.35,
        help="wrong units for each, above which speech is left out (default: 0.35)",
    )
    add("--hours", type=_positive, default=400.0, help="learned from in all (default: 400)")
    add("--placed", type=_share, default=0.2, help="of them, frame by frame (default: 0.2)")
    add("--speech", type=_share, default=0.3, help="share of real speech in them (default: 0.3)")
    add("--seconds", type=_positive, default=160.0, help="of a batch, padded (default: 160)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the recipe")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
