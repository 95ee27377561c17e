"""What the jobs of a line bring: what is heard, answers, and the end.

All of it happens on the engine's thread, and to one line at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asr.errors import ConfigError, ProtocolError
from asr.transcript import Event
from asr.transcript import Final as FinalEvent
from server import wishes
from server.dialogue import (
    Acknowledge,
    Configure,
    Configured,
    Done,
    Failed,
    Flush,
    Flushed,
    Heard,
    Ping,
    Pong,
    Reply,
)
from server.line import End, Ending, Leave

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.state import State
    from server.line import Job, Line


class Answers:
    """Does what the jobs of lines ask for.

    Args:
        recognizer: what listens.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    def took(self, line: Line, outcomes: list[tuple[State, list[Event]]]) -> list[Reply]:
        """Keep what a step made of a line's states; what there is to tell."""
        if line.ending is not None:
            return self._ended(line, line.ending, outcomes)
        line.states = [state for state, _ in outcomes]
        return [
            line.heard(event, number)
            for number, (_, events) in enumerate(outcomes)
            for event in events
        ]

    def answer(self, line: Line, job: Job, arrived: float) -> list[Reply]:
        """What there is to tell when a job is done that is no audio.

        Raises:
            ProtocolError: what is asked for cannot be; the line is to end with it.
        """
        match job:
            case Ping(message_id):
                return [Pong(message_id, line.intake.position, arrived)]
            case Flush(message_id):
                streams = range(len(line.states))
                return [self._flushed(line, message_id, arrived, n) for n in streams]
            case Configure():
                return self._configure(line, job, arrived)
            case Acknowledge(segments):
                if line.record is not None:
                    line.record.acknowledge(segments)
                return []
            case End(error):
                return self.end(line, error, arrived)
            case Leave():
                line.left = True
                return []
            case _:  # pragma: no cover - audio is never answered
                raise TypeError(job)

    def _configure(self, line: Line, wanted: Configure, arrived: float) -> list[Reply]:
        """Change the options of the line from here on."""
        phrases, unsupported = wishes.expected(self._recognizer, wanted.phrases)
        try:
            states = [self._configured(state, wanted, phrases) for state in line.states]
        except ConfigError as error:
            raise wishes.refused(error) from error
        line.states = states
        unsupported = (*wanted.unsupported, *unsupported)
        return [Configured(unsupported, line.intake.position, arrived)]

    def _configured(
        self, state: State, wanted: Configure, phrases: tuple[str, ...] | None
    ) -> State:
        if state.ended:  # where the end itself is resumed
            return state
        if phrases is not None:
            state = self._recognizer.expect(state, phrases)
        if wanted.endpoint_ms is None:
            return state
        return replace(state, options=replace(state.options, endpoint_ms=wanted.endpoint_ms))

    def _flushed(
        self, line: Line, message_id: int | str | None, arrived: float, stream: int
    ) -> Flushed:
        """What a stream of the line would say at its end, said on copies."""
        intake, state = line.intake, line.states[stream]
        events: list[Event] = []
        if not state.ended:  # else all that could be said is
            rest = intake.preview()[stream]
            if rest.size:
                state, events = self._recognizer.step(state, rest)
            events = [*events, *self._recognizer.flush(state)]
        finals = [intake.at_input_rate(e) for e in events if isinstance(e, FinalEvent)]
        words = [word for e in finals if isinstance(e, FinalEvent) for word in e.words]
        channel = line.channel(stream)
        return Flushed(message_id, tuple(words), intake.position, channel, arrived)

    def end(self, line: Line, error: ProtocolError | None, arrived: float) -> list[Reply]:
        """The audio of a line has ended: its last blocks are done in the rounds to come."""
        states = line.states
        if not states[0].ended:  # as it is where the end itself is resumed
            rest = line.intake.preview()
            states = [self._recognizer.end(*each) for each in zip(states, rest, strict=True)]
        line.ending = Ending(error or line.intake.cut_off(), arrived, states, [])
        return self._farewell(line, line.ending)

    def _ended(
        self, line: Line, ending: Ending, outcomes: list[tuple[State, list[Event]]]
    ) -> list[Reply]:
        """Keep what a step made of the end of a line; what there is to tell."""
        ending.states = [state for state, _ in outcomes]
        ending.replies += [
            Heard(line.intake.at_input_rate(event), ending.arrived, (), line.channel(number))
            for number, (_, events) in enumerate(outcomes)
            for event in events
        ]
        return self._farewell(line, ending)

    def _farewell(self, line: Line, ending: Ending) -> list[Reply]:
        """Everything there is to tell of the end of a line when it is over, nothing before."""
        if not all(state.finished for state in ending.states):
            return []
        line.intake.end()
        line.states, line.ending = ending.states, None
        if ending.error is not None:
            return [*ending.replies, Failed(ending.error)]
        intake = line.intake
        repaired = intake.repaired + sum(state.repaired for state in line.states)
        done = Done(intake.position, intake.sample_rate, repaired, ending.arrived)
        return [*ending.replies, done]
