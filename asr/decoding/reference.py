"""The beam search in Python: the definition that `_kernel.c` is held to, and what runs without it.

CTC prefix search (Graves 2012, section 7.5.3; Hannun et al. 2014, "First-pass large vocabulary
continuous speech recognition using bi-directional recurrent DNNs") over a lexicon tree with a word
n-gram. A **hypothesis** is a place in the tree (what of the open word has been said) and a state of
the language model (the words before). It sums over all its alignments, in two scores: those that
end in a blank, and those that end in the sound of its last phone. A word is left, and its language
model score paid, when the first phone of the next one begins: until then one hypothesis stands for
"car" and for the start of "carpet". Meanwhile it has paid the best unigram score below its node.

A **frame** is taken in like this:

1. every hypothesis stays where it is (blank, or its phone goes on);
2. it goes on to each phone below its node, and, where words are complete, to the first phones of
   the next word; ways into the same (node, state) are added up, and the best of them brings its
   history along; ways more than the threshold behind the best so far are not taken;
   where words begin, so does the branch that spells, if there is one: a node for each phone, at
   which the unknown word is complete, and from which any phone follows at a toll;
3. the best within beam and threshold survive (equal scores: lower node, then lower state);
4. a hypothesis that has had no sound for `gap` frames ends its word; if no word is complete at its
   node, it is dropped;
5. words on which hypotheses with `certainty` of all probability agree are committed; so are words
   of the best one that ended `horizon` frames ago, or `gap` frames if it pauses; hypotheses that
   disagree are dropped;
6. at every second frame it is decided anew which words are shown; see `Search.foremost`.

Everything is whole numbers of 1/1024 nat, added in a fixed order, so that C and Python agree to the
bit, and so do all machines. Scores are relative to the best hypothesis; nothing grows with time but
the count of frames. Change nothing here without `_kernel.c`.

Sizes: V units with the blank at 0, T frames, A the adding table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from asr.decoding.boost import Boost
    from asr.decoding.ngram import NGram

    Numbers = Sequence[int] | NDArray[Any]  # whole ones

SCALE = 1024
FLOOR = -(1 << 29)  # of every score: what cannot be
ROOT = 0
NO_WORD = -1
ONE = 1 << 15  # a share of everything
SOUNDING = 3 * SCALE  # what a sound that lasts is ahead of a blank
MARGIN = 6 * SCALE  # behind the best hypothesis, within which another may be shown
CUT_OFF = 8 * SCALE  # what a hypothesis pays at the end for a word that was not finished
JUDGED = 2  # frames: as many are a block of the network
MEMO_SIZE = 1 << 16  # scores of the language model that are remembered


class Parameters(NamedTuple):
    """What steers the search, whole numbers; the order is the kernel's, too.

    Attributes:
        beam: hypotheses that survive a frame, ≥ 1.
        threshold: how far behind the best one they may be, in 1/1024 nat.
        gap: frames without a sound that end a word, ≥ 1.
        horizon: frames after which a word is committed whatever others say, > gap.
        lm_weight: of the language model's scores, in 1/1024.
        bonus: for every word, in 1/1024 nat.
        homophones: the most words at one node.
        units: V.
        lm_bits: of a hypothesis' state of the language model; the bits above are the state of the
            phrases' automaton.
        reward: for every word of an expected phrase, in 1/1024 nat; 0 without phrases.
        certainty: share of the probability, of 32768, that commits the word it agrees on.
        loop: first node of the branch that spells, one for each phone; the number of nodes where
            there is none.
        steadiness: how much likelier than a word shown another must be to take its place, in
            1/1024 nat.
    """

    beam: int
    threshold: int
    gap: int
    horizon: int
    lm_weight: int
    bonus: int
    homophones: int
    units: int
    lm_bits: int
    reward: int
    certainty: int
    loop: int
    steadiness: int


class Hypothesis(NamedTuple):
    """A place in the tree behind a history of words.

    Attributes:
        node: of the lexicon tree.
        lm: state of the language model and of the phrases, without the open word.
        blank: score of its alignments that end in a blank.
        sound: of those that end in its last phone.
        history: index of its last complete word, -1 if all words before are committed.
        start: frame in which the open word began; 0 at the root.
        end: one past the last frame in which its last phone began, or was 3 nats ahead of a blank.
        mark: score at which the open word began, less what free phones would have had; 0 at the
            root.
    """

    node: int
    lm: int
    blank: int
    sound: int
    history: int
    start: int
    end: int
    mark: int


class Entry(NamedTuple):
    """A complete word in a history.

    Attributes:
        word: its number in the language model.
        start: its first frame.
        end: one past its last frame.
        previous: index of the word before, smaller than its own; -1 for none.
        cost: its score, language model included, less that of the best unit of every frame.
        lm: the weighted score of the language model in that.
    """

    word: int
    start: int
    end: int
    previous: int
    cost: int
    lm: int


class Committed(NamedTuple):
    """A committed word: see `Entry`, and the share of probability that agreed, of 32768."""

    word: int
    start: int
    end: int
    cost: int
    lm: int
    share: int


class Foremost(NamedTuple):
    """A reading of what has been said so far, its open word included.

    Attributes:
        hypothesis: its index.
        word: what its open word is, complete or not; -1 at the root.
        score: of the hypothesis if it ended that word now.
        word_lm: the weighted score of the language model in that.
    """

    hypothesis: int
    word: int
    score: int
    word_lm: int


class Ending(NamedTuple):
    """A way in which the speech so far may be read, if no more frames come.

    Attributes:
        score: in 1/1024 nat.
        hypothesis: index of the hypothesis that it ends.
        word: the last word, which no history holds yet; -1 for none.
        cost: of that word; see `Entry`.
        word_lm: its weighted score of the language model.
    """

    score: int
    hypothesis: int
    word: int
    cost: int
    word_lm: int


class Tables(NamedTuple):
    """What is searched: sequences of whole numbers, indexed as `Lexicon` and `LookAhead` say.

    `look` is weighted; `guess` is the likeliest word at or below each node. `log_add[d]` is what
    the larger of two scores gains from one that is d below; `shares[d]` is exp(-d / 1024) of 32768;
    both are 0 beyond their ends. `tolls[V · p + q]` is what phone q of a spelled word costs behind
    phone p, or as its first one where p is 0; none where no words are spelled.
    """

    parameters: Parameters
    phone: Numbers
    first_child: Numbers
    first_word: Numbers
    words: Numbers
    look: Numbers
    guess: Numbers
    log_add: Numbers
    shares: Numbers
    tolls: Numbers
    lm: NGram
    boost: Boost


class _Candidate:
    """A hypothesis in the making, and the best way into it."""

    __slots__ = (
        "best", "blank", "lm", "mark", "node", "sound", "source", "start", "word", "word_lm",
    )  # fmt: skip

    def __init__(self, node: int, lm: int, blank: int, sound: int, way: _Way) -> None:
        self.node, self.lm, self.blank, self.sound = node, lm, blank, sound
        self.take(sound, way)

    def take(self, best: int, way: _Way) -> None:
        """Come along this way, whose score is the best so far."""
        self.best = best
        self.source, self.word, self.word_lm, self.start, self.mark = way


class _Way(NamedTuple):
    """Where a way comes from: hypothesis, the word that it completed, and the open word's start."""

    source: int
    word: int
    word_lm: int
    start: int
    mark: int


class _Front:
    """The candidates of a frame by node and state, and the best score so far."""

    def __init__(
        self,
        candidates: dict[tuple[int, int], _Candidate],
        parameters: Parameters,
        add: Callable[[int, int], int],
    ) -> None:
        self.candidates = candidates
        self._best = max(c.best for c in candidates.values())
        self._threshold = parameters.threshold
        self._capacity = 32 * parameters.beam + 1024
        self._add = add

    def refuses(self, score: int) -> bool:
        """Whether a score is too far behind the best."""
        return score < self._best - self._threshold

    def enter(self, node: int, lm: int, score: int, way: _Way) -> None:
        """Add a way that ends in the sound of a new phone."""
        if score < FLOOR or self.refuses(score):
            return
        self._best = max(self._best, score)
        c = self.candidates.get((node, lm))
        if c is not None:
            c.sound = self._add(c.sound, score)
            if score > c.best:
                c.take(score, way)
        elif len(self.candidates) < self._capacity:
            self.candidates[node, lm] = _Candidate(node, lm, FLOOR, score, way)


class Search:
    """The search within one call, over lists that change from frame to frame.

    Attributes:
        frame: frames taken in.
        score: what has been taken from all scores.
        hypotheses: best first.
        arena: complete words that are not committed.
        shown: words of the last reading that was shown, without those committed since; empty where
            another word was committed than the one shown, or `steadiness` is 0.
        committed: words committed in this call.
    """

    def __init__(
        self,
        tables: Tables,
        memo: dict[tuple[int, int], tuple[int, int]],
        frame: int,
        hypotheses: list[Hypothesis],
        arena: list[Entry],
        shown: list[int],
    ) -> None:
        """Go on at a state; `memo` is of these tables, and changes no result."""
        self.frame = frame
        self.score = 0
        self.hypotheses = hypotheses
        self.arena = arena
        self.shown = shown
        self.committed: list[Committed] = []
        self._t = tables
        self._p = tables.parameters
        self._memo = memo
        phones = range(1, self._p.units if len(tables.tolls) else 0)
        self._spelled = [(self._p.loop + v - 1, v) for v in phones]  # the nodes that spell

    def take_frame(self, x: Sequence[int]) -> None:
        """Take in the scores [V] of one frame."""
        self._select(self._extend(x, self._stay(x)))
        self._end_paused()
        self._commit()
        self._compact()
        self._normalise(max(x))
        self.frame += 1
        if self._p.steadiness and self.frame % JUDGED == 0:
            _, self.shown = self._foremost()

    def foremost(self) -> Foremost:
        """The reading that most of the probability agrees on, word for word.

        Each hypothesis near the best one is read as if its open word ended now. Of all readings
        those are kept whose first word has the largest share of the probability, of these those
        with the likeliest second word, and so on: what is sure is not given up for a single
        reading that happens to lead while the others still differ in what follows.

        Behind words that were shown before, the next of these gives way only to a word that is
        `steadiness` likelier: of two that are nearly as likely, one stays. (To no word at all it
        gives way at once: where the end of a sentence is must not depend on what was shown.) What
        is `shown` changes at every second frame, with the frames alone; to ask changes nothing.
        """
        return self._foremost()[0]

    def _foremost(self) -> tuple[Foremost, list[int]]:
        """The reading to be shown, with its words."""
        readings = self._readings()
        best = max(reading.score for reading, _ in readings)
        shares, steady, place, word = self._t.shares, self.shown, 0, 0
        while word != NO_WORD:
            masses: dict[int, int] = {}
            for reading, words in readings:
                behind = best - reading.score
                mass = shares[behind] if behind < len(shares) else 0
                said = words[place] if place < len(words) else NO_WORD
                masses[said] = masses.get(said, 0) + mass
            word = max(masses, key=masses.__getitem__)
            if word != NO_WORD and place < len(steady):
                mass = masses.get(steady[place], 0)
                if masses[word] * shares[self._p.steadiness] < mass * ONE:
                    word = steady[place]
            if steady[place : place + 1] != [word]:
                steady = []
            readings = [
                (reading, words)
                for reading, words in readings
                if (words[place] if place < len(words) else NO_WORD) == word
            ]
            place += 1
        return max(readings, key=lambda reading: reading[0].score)

    def _readings(self) -> list[tuple[Foremost, list[int]]]:
        """What may have been said so far, with its words.

        The search has paid for an open word what the likeliest one of any context costs; here every
        word is weighed in its own context, so that it is shown before the next one begins.
        """
        readings = []
        top = self.total(self.hypotheses[0])
        for n, h in enumerate(self.hypotheses):
            total = self.total(h)
            if total < top - MARGIN:
                break
            before = [entry.word for entry in history(self.arena, h.history)]
            if h.node == ROOT:
                readings.append((Foremost(n, NO_WORD, total, 0), before))
            for word in self._open_words(h.node):
                word_lm, _, gain = self.leave(h, word)
                reading = Foremost(n, word, max(FLOOR, total + gain), word_lm)
                readings.append((reading, [*before, word]))
        return readings

    def _open_words(self, node: int) -> list[int]:
        """What the open word may be: the words complete at a node, and the likeliest below."""
        if node == ROOT:
            return []
        words, guess = list(self.words_at(node)), int(self._t.guess[node])
        return words if guess in words else [*words, guess]

    def endings(self, behind: int, within: int) -> list[Ending]:
        """The ways to end, best first; at equal scores that of the better hypothesis.

        A hypothesis ends with each word that is complete at its node; in the middle of a word it
        pays for what is cut off. What was paid for a phrase that is not complete is taken back.

        Args:
            behind: how far hypotheses that are ended may be behind the best one, in 1/1024 nat.
            within: how far endings that are told may be behind the best one.
        """
        endings = []
        bits, owed = self._p.lm_bits, self._t.boost.owed
        least = self.total(self.hypotheses[0]) - behind
        for n, h in enumerate(self.hypotheses):
            total = self.total(h)
            if total < least:
                break
            words = self.words_at(h.node)
            for word in words:
                word_lm, lm, gain = self.leave(h, word)
                score = max(FLOOR, total + gain - int(owed[lm >> bits]))
                cost = max(FLOOR, total + gain - h.mark)
                endings.append(Ending(score, n, word, cost, word_lm))
            if not words:
                left = 0 if h.node == ROOT else self._t.look[h.node] + CUT_OFF
                score = max(FLOOR, total - left - int(owed[h.lm >> bits]))
                endings.append(Ending(score, n, NO_WORD, 0, 0))
        endings.sort(key=lambda ending: -ending.score)
        return [ending for ending in endings if ending.score >= endings[0].score - within]

    def leave(self, h: Hypothesis, word: int) -> tuple[int, int, int]:
        """What it costs a hypothesis to end a word at its node.

        Returns:
            The weighted score of the language model (and phrases), the state behind the word, and
            what the hypothesis' score gains (mostly negative).
        """
        found = self._memo.get((h.lm, word))
        if found is None:
            bits = self._p.lm_bits
            phrases, lm = h.lm >> bits, h.lm & ((1 << bits) - 1)
            score, after = self._t.lm.score(lm, word)
            phrases, paid = self._t.boost.step(phrases, word) if self._p.reward else (0, 0)
            found = ((score * self._p.lm_weight) >> 10) + paid, after | phrases << bits
            if len(self._memo) >= MEMO_SIZE:
                self._memo.clear()
            self._memo[h.lm, word] = found
        return *found, found[0] + self._p.bonus - self._t.look[h.node]

    def words_at(self, node: int) -> Sequence[int]:
        """The words that are complete at a node."""
        first, end = self._t.first_word[node], self._t.first_word[node + 1]
        return list(self._t.words[first:end]) if first < end else ()

    def total(self, h: Hypothesis) -> int:
        """Score of all alignments of a hypothesis."""
        return self.add(h.blank, h.sound)

    def add(self, a: int, b: int) -> int:
        """Logarithm of the sum of two probabilities."""
        more, gap = (a, a - b) if a > b else (b, b - a)
        table = self._t.log_add
        return more + table[gap] if gap < len(table) else more

    def _stay(self, x: Sequence[int]) -> _Front:
        """Step 1: one candidate for each hypothesis, in their order."""
        candidates = {}
        for i, h in enumerate(self.hypotheses):
            blank = max(FLOOR, self.total(h) + x[0])
            sound = FLOOR if h.node == ROOT else max(FLOOR, h.sound + x[self._t.phone[h.node]])
            c = _Candidate(h.node, h.lm, blank, sound, _Way(i, NO_WORD, 0, h.start, h.mark))
            c.best = self.add(blank, sound)
            candidates[h.node, h.lm] = c
        return _Front(candidates, self._p, self.add)

    def _extend(self, x: Sequence[int], front: _Front) -> list[_Candidate]:
        """Step 2: go on to other phones and words."""
        phone, first_child, look = self._t.phone, self._t.first_child, self._t.look
        roots = [(x[phone[n]] + look[n], n) for n in range(first_child[0], first_child[1])]
        roots += [(x[v] + look[n] + self._t.tolls[v], n) for n, v in self._spelled]
        roots.sort(key=lambda root: -root[0])  # stable: equal ones in order of their nodes
        for i, h in enumerate(self.hypotheses):
            total, paid, last = self.total(h), look[h.node], phone[h.node]
            begin = (self.frame, total) if h.node == ROOT else (h.start, h.mark)
            way = _Way(i, NO_WORD, 0, *begin)
            for node in range(first_child[h.node], first_child[h.node + 1]):
                # The same phone again needs a blank in between.
                before = h.blank if phone[node] == last else total
                front.enter(node, h.lm, before + x[phone[node]] + look[node] - paid, way)
            if self._spelled and (h.node == ROOT or h.node >= self._p.loop):
                tolls = last * self._p.units
                for node, v in self._spelled:
                    before = h.blank if v == last else total
                    toll = self._t.tolls[tolls + v]
                    front.enter(node, h.lm, before + x[v] + look[node] - paid + toll, way)
            # No score of a language model is above 0, so this is as good as the next word can be.
            if not front.refuses(total + self._p.bonus + self._p.reward - paid + roots[0][0]):
                self._begin_words(i, roots, front)
        return list(front.candidates.values())

    def _begin_words(self, i: int, roots: list[tuple[int, int]], front: _Front) -> None:
        """Step 2 where words are complete: go on to the first phones of the next."""
        h = self.hypotheses[i]
        total, last = self.total(h), self._t.phone[h.node]
        for word in self.words_at(h.node):
            word_lm, lm, gain = self.leave(h, word)
            way = _Way(i, word, word_lm, self.frame, max(FLOOR, total + gain))
            for root, node in roots:
                if front.refuses(total + gain + root):
                    break
                before = h.blank if self._t.phone[node] == last else total
                front.enter(node, lm, before + gain + root, way)

    def _select(self, candidates: list[_Candidate]) -> None:
        """Step 3: the survivors, best first, with their histories."""
        for c in candidates:
            c.best = self.add(c.blank, c.sound)
        least = max(c.best for c in candidates) - self._p.threshold
        kept = [c for c in candidates if c.best >= least]
        kept.sort(key=lambda c: (-c.best, c.node, c.lm))
        entries: dict[tuple[int, int], int] = {}
        survivors = []
        for c in kept[: self._p.beam]:
            source = self.hypotheses[c.source]
            history = source.history
            if c.word != NO_WORD:
                key = c.source, c.word
                if key not in entries:
                    cost = max(FLOOR, c.mark - source.mark)
                    entries[key] = self._append(c.word, source, cost, c.word_lm)
                history = entries[key]
            begins = c.node != source.node or c.word != NO_WORD
            sounds = begins or c.sound - c.blank >= SOUNDING
            end = self.frame + 1 if sounds else source.end
            survivors.append(
                Hypothesis(c.node, c.lm, c.blank, c.sound, history, c.start, end, c.mark)
            )
        self.hypotheses = survivors

    def _append(self, word: int, source: Hypothesis, cost: int, word_lm: int) -> int:
        entry = Entry(word, source.start, source.end, source.history, cost, word_lm)
        self.arena.append(entry)
        return len(self.arena) - 1

    def _pausing(self, h: Hypothesis) -> bool:
        return self.frame + 1 - h.end >= self._p.gap

    def _end_paused(self) -> None:
        """Step 4: a pause ends a word."""
        paused = [h for h in self.hypotheses if h.node != ROOT and self._pausing(h)]
        if not paused:
            return
        kept = [h for h in self.hypotheses if h.node == ROOT or not self._pausing(h)]
        best = [self.total(h) for h in kept]
        place = {h.lm: n for n, h in enumerate(kept) if h.node == ROOT}
        for h in paused:
            total = self.total(h)
            for word in self.words_at(h.node):
                word_lm, lm, gain = self.leave(h, word)
                score = max(FLOOR, total + gain)
                old = kept[place[lm]] if lm in place else None
                blank = score if old is None else self.add(old.blank, score)
                sound = FLOOR if old is None else old.sound
                if old is not None and score <= best[place[lm]]:
                    kept[place[lm]] = old._replace(blank=blank)
                    continue
                entry = self._append(word, h, max(FLOOR, total + gain - h.mark), word_lm)
                new = Hypothesis(ROOT, lm, blank, sound, entry, 0, h.end, 0)
                if old is None:
                    place[lm] = len(kept)
                    kept.append(new)
                    best.append(score)
                else:
                    kept[place[lm]], best[place[lm]] = new, score
        if not kept:  # nothing but pieces of words: the best one's words stay, the piece goes
            h = self.hypotheses[0]
            blank = self.total(h)
            kept = [h._replace(node=ROOT, blank=blank, sound=FLOOR, start=0, mark=0)]
        kept.sort(key=lambda h: (-self.total(h), h.node, h.lm))
        least = self.total(kept[0]) - self._p.threshold
        self.hypotheses = [h for h in kept if self.total(h) >= least][: self._p.beam]

    def _commit(self) -> None:
        """Step 5: what is certain, or old enough, is taken from the histories."""
        now = self.frame + 1
        while True:
            top = self.hypotheses[0]
            resting = top.node == ROOT and self._pausing(top)
            horizon = self._p.gap if resting else self._p.horizon
            first = self._first()
            leads = [-1 if h.history < 0 else first[h.history] for h in self.hypotheses]
            if leads[0] < 0:
                break
            lead = self.arena[leads[0]]
            same = [n >= 0 and self.arena[n].word == lead.word for n in leads]
            agreed, everything = self._masses(same)
            certain = all(same) or agreed << 15 >= everything * self._p.certainty
            if not certain and lead.end > now - horizon:
                break
            share = (agreed << 15) // everything
            self.committed.append(
                Committed(lead.word, lead.start, lead.end, lead.cost, lead.lm, share)
            )
            self.shown = self.shown[1:] if self.shown[:1] == [lead.word] else []
            self.hypotheses = [
                h._replace(history=-1) if first[h.history] == h.history else h
                for h, agrees in zip(self.hypotheses, same, strict=True)
                if agrees
            ]
            settled = {*first, -1}  # each is its own first; what follows it becomes a first word
            self.arena = [
                e._replace(previous=-1) if e.previous in settled else e for e in self.arena
            ]
        self.hypotheses = [
            h
            for h, n in zip(self.hypotheses, leads, strict=True)
            if n < 0 or self.arena[n].end > now - horizon
        ]

    def _first(self) -> list[int]:
        """The first word of the history that ends in each entry."""
        first: list[int] = []
        for n, entry in enumerate(self.arena):
            first.append(n if entry.previous < 0 else first[entry.previous])
        return first

    def _masses(self, same: list[bool]) -> tuple[int, int]:
        """Probability of the hypotheses that agree, and of all, on a scale of their own."""
        shares = self._t.shares
        top = self.total(self.hypotheses[0])
        agreed = everything = 0
        for h, agrees in zip(self.hypotheses, same, strict=True):
            behind = top - self.total(h)
            share = shares[behind] if behind < len(shares) else 0
            everything += share
            agreed += share if agrees else 0
        return agreed, everything

    def _compact(self) -> None:
        """Forget entries that no hypothesis has in its history."""
        alive = [False] * len(self.arena)
        for h in self.hypotheses:
            n = h.history
            while n >= 0 and not alive[n]:
                alive[n] = True
                n = self.arena[n].previous
        new = [-1] * (len(alive) + 1)  # new[-1] is -1: no entry stays no entry
        kept: list[Entry] = []
        for n, entry in enumerate(self.arena):
            if alive[n]:
                new[n] = len(kept)
                kept.append(entry._replace(previous=new[entry.previous]))
        self.arena = kept
        self.hypotheses = [h._replace(history=new[h.history]) for h in self.hypotheses]

    def _normalise(self, likeliest: int) -> None:
        """Scores become relative to the best hypothesis."""
        top = self.total(self.hypotheses[0])
        self.score += top
        self.hypotheses = [
            h._replace(
                blank=max(FLOOR, h.blank - top),
                sound=max(FLOOR, h.sound - top),
                mark=0 if h.node == ROOT else min(-FLOOR, max(FLOOR, h.mark + likeliest - top)),
            )
            for h in self.hypotheses
        ]


class Arena(Protocol):
    """Entries by index."""

    def __getitem__(self, n: int, /) -> Entry:
        """The entry at an index."""
        ...


def history(arena: Arena, last: int) -> list[Entry]:
    """The words of a history in order, given the index of its last one."""
    found = []
    while last >= 0:
        found.append(arena[last])
        last = arena[last].previous
    return found[::-1]
