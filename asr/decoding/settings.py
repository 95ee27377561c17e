"""What steers the beam search: the table `[decoding]` of a model bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from asr.errors import ConfigError

MAX_BEAM = 10_000
EVIDENCE = 6  # numbers that tell how surely a word was said
LATER = {  # settings that the first bundles did not have
    "calibration_tentative",
    "certainty",
    "phrase_reward",
    "spelling",
    "steadiness",
}
LOWEST = 64.0  # a log-probability further from 0 is taken to be so far, in nats


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """Width and weights of the search: `[decoding]` of a bundle.

    Attributes:
        head: name of the head whose units the lexicon spells words in.
        beam: hypotheses that survive a frame.
        threshold: how far behind the best they may be, in nats.
        lm_weight: of the language model's natural logarithms.
        word_bonus: for every word, in nats.
        blank_bonus: for every blank, in nats.
        prior_weight: how much of each unit's log prior is taken from its log-probability.
        priors: log prior of each unit [V]; may be empty where `prior_weight` is 0.
        gap: frames of 40 ms without a sound that end a word.
        horizon: frames after which a word is committed whatever the other hypotheses say.
        certainty: share of the hypotheses' probability that commits the word it agrees on.
        phrase_reward: for each word of an expected phrase, at most, in nats.
        calibration: what makes a probability of a word's evidence: one weight for each number of
            `asr.decoding.confidence.evidence`; empty for none.
        calibration_tentative: the same for words that are shown and may still change; empty for
            those of `calibration`.
        spelling: what a word that is spelled costs beyond its phones and what the language model
            says of unknown words, in nats; None spells none.
        steadiness: how much likelier than a word that is shown, and may still change, another one
            must be to take its place, in nats; 0 shows the likeliest at any time.
    """

    head: str = "phones"
    beam: int = 200
    threshold: float = 14.0
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    blank_bonus: float = 0.0
    prior_weight: float = 0.0
    priors: tuple[float, ...] = ()
    gap: int = 12
    horizon: int = 50
    calibration: tuple[float, ...] = ()
    calibration_tentative: tuple[float, ...] = ()
    certainty: float = 1.0
    phrase_reward: float = 3.0
    spelling: float | None = None
    steadiness: float = 0.0

    def __post_init__(self) -> None:
        _demand(isinstance(self.head, str), "head is not a name")
        _demand(_whole(self.beam, 1, MAX_BEAM), f"beam is not a whole number of 1 … {MAX_BEAM}")
        _demand(_whole(self.gap, 1, 12), "gap is not a whole number of frames, 1 … 12")
        _demand(
            _whole(self.horizon, self.gap + 1, 1000),
            "horizon is not a whole number of frames, above gap and at most 1000",
        )
        for name, low, high in (
            ("threshold", 0.0, 10_000.0),
            ("lm_weight", 0.0, 16.0),
            ("word_bonus", -100.0, 100.0),
            ("blank_bonus", -100.0, 100.0),
            ("prior_weight", 0.0, 16.0),
            ("certainty", 0.5, 1.0),
            ("phrase_reward", 0.0, 100.0),
            ("spelling", -100.0, 100.0),
            ("steadiness", 0.0, 10.0),
        ):
            value = getattr(self, name)
            if name == "spelling" and value is None:
                continue
            _demand(
                _number(value) and low <= value <= high,
                f"{name} is not a number of {low:g} … {high:g}",
            )
            object.__setattr__(self, name, float(value))
        for name in ("priors", "calibration", "calibration_tentative"):
            numbers = tuple(getattr(self, name))
            _demand(all(map(_number, numbers)), f"{name} has something else than numbers")
            object.__setattr__(self, name, tuple(map(float, numbers)))
            if name.startswith("calibration"):
                _demand(
                    len(numbers) in {0, EVIDENCE} and all(map(math.isfinite, numbers)),
                    f"{name} is not {EVIDENCE} numbers",
                )
        _demand(all(-LOWEST <= p <= 0 for p in self.priors), "priors has numbers beyond -64 … 0")

    def table(self) -> dict[str, Any]:
        """The settings as a bundle writes and signs them.

        Those that came after the first bundles are left out where they are what they are by
        default, so that these bundles stay what they were.
        """
        return {
            setting.name: getattr(self, setting.name)
            for setting in fields(self)
            if setting.name not in LATER or getattr(self, setting.name) != setting.default
        }


def _demand(condition: bool, otherwise: str) -> None:  # noqa: FBT001  # an assertion for settings
    if not condition:
        raise ConfigError(f"decoding.{otherwise}")


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
