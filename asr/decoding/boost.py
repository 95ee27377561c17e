"""Phrases that a session expects: an automaton over words that adds to their scores.

An Aho-Corasick automaton (Aho and Corasick 1975): a state stands for the longest end of the words
so far that begins a phrase. Every word along a phrase is rewarded at once, so that the phrase
survives the beam; where the phrase breaks off, what was paid for its beginning is taken back.

Sizes: Q states, E edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Boost:
    """The automaton in flat arrays. State 0 is that of no phrase.

    Attributes:
        first_edge: the edges of state q are first_edge[q] … first_edge[q + 1] - 1, uint32 [Q + 1].
        edge_word: their words, ascending for each state, uint32 [E].
        edge_next: where they lead, uint32 [E].
        fail: the state of the longest shorter end that begins a phrase, uint32 [Q].
        paid: what has been paid for the words of a state, int32 [Q], in 1/1024 nat.
        owed: how much of that is taken back where the phrase breaks off, int32 [Q]: what was paid
            behind its last state in which a phrase was whole.
    """

    first_edge: NDArray[np.uint32]
    edge_word: NDArray[np.uint32]
    edge_next: NDArray[np.uint32]
    fail: NDArray[np.uint32]
    paid: NDArray[np.int32]
    owed: NDArray[np.int32]

    def step(self, state: int, word: int) -> tuple[int, int]:
        """The state behind a word, and what the word is paid."""
        at = state
        while (following := self._edge(at, word)) < 0 and at:
            at = int(self.fail[at])
        following = max(following, 0)
        further = following > 0 and at == state
        return following, int(self.paid[following] - (self.paid if further else self.owed)[state])

    def _edge(self, state: int, word: int) -> int:
        for edge in range(int(self.first_edge[state]), int(self.first_edge[state + 1])):
            if self.edge_word[edge] == word:
                return int(self.edge_next[edge])
        return -1


def automaton(phrases: Sequence[Sequence[int]], rewards: Mapping[int, int], whole: int) -> Boost:
    """The automaton of phrases.

    Args:
        phrases: the numbers of their words, at least one each.
        rewards: for each word inside a phrase, ≥ 0, in 1/1024 nat: little for words that are
            frequent anyway, since they begin much that is no phrase.
        whole: for the last word of a phrase, at least.
    """
    edges: list[dict[int, int]] = [{}]
    paid, final = [0], [False]
    for phrase in phrases:
        state = before = 0
        for word in phrase:
            before = state
            if word not in edges[state]:
                edges[state][word] = len(edges)
                edges.append({})
                paid.append(0)
                final.append(False)
            state = edges[state][word]
        final[state] = before != state
    owed = [0] * len(edges)
    waiting = [0]
    for state in waiting:  # grows meanwhile
        for word, child in edges[state].items():
            reward = rewards[word]
            more = max(reward, whole) if final[child] else reward
            paid[child] = paid[state] + more
            owed[child] = 0 if final[child] else owed[state] + more
            waiting.append(child)
    fail = [0] * len(edges)
    waiting = list(edges[0].values())
    for state in waiting:  # grows meanwhile: shorter beginnings first
        for word, child in edges[state].items():
            at = fail[state]
            while word not in edges[at] and at:
                at = fail[at]
            fail[child] = edges[at].get(word, 0)
            waiting.append(child)
    ordered = [sorted(one.items()) for one in edges]
    return Boost(
        np.cumsum([0, *map(len, ordered)]).astype(np.uint32),
        np.array([word for one in ordered for word, _ in one], np.uint32),
        np.array([child for one in ordered for _, child in one], np.uint32),
        np.array(fail, np.uint32),
        np.array(paid, np.int32),
        np.array(owed, np.int32),
    )
