/* The beam search of asr/decoding/reference.py in C, with the same results to the bit.
 *
 * reference.py explains the algorithm; names and order of the steps are the same here. All scores
 * are integers in 1/1024 nat. Wherever the order of additions or of equal scores could matter, it
 * is the same in both: a change here is a change there, and tests/asr/test_kernel.py compares them.
 *
 * Nothing is allocated while frames are taken in: all work is done in a scratch area that the
 * caller owns, whose layout `lay_out` computes. The interpreter lock is released meanwhile. What
 * is read (tables, frames, state) was checked by the caller when it was opened; see kernel.py.
 *
 * One long file on purpose: it is one compilation unit, and its functions are inlined into each other.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FLOOR (-(1 << 29)) /* of every score: what cannot be; far from overflow */
#define ROOT 0
#define NO_WORD (-1)
#define SOUNDING (3 << 10) /* what a sound that lasts is ahead of a blank */
#define JUDGED 2 /* frames: as many are a block of the network */
#define MARGIN (6 << 10) /* behind the best hypothesis, within which another may be shown */
#define CUT_OFF (8 << 10) /* what a hypothesis pays at the end for a word that was not finished */
#define MEMO_BITS 14
#define MAX_UNITS 256
#define BUCKETS 512
#define AHEAD 8
#define FETCH(address) __builtin_prefetch(address)
#define INDEX_BITS 19
#define INDEX ((1u << INDEX_BITS) - 1)

typedef struct {
    int32_t node, lm, blank, sound, history, start, end, mark;
} Hypothesis;

typedef struct {
    int32_t word, start, end, previous, cost, lm;
} Entry; /* a word in the history of hypotheses; `previous` is smaller than its own index, or -1 */

typedef struct {
    int32_t word, start, end, cost, lm, share;
} Committed;

typedef struct {
    int32_t node, lm, blank, sound, best, source, word, word_lm;
} Candidate; /* half a line of the cache */

typedef struct {
    uint32_t child, word; /* the first; those of the next node follow */
} Place;

typedef struct {
    int32_t word, highest; /* no weighted score of the language model for it is above */
} Final;

typedef struct {
    int64_t rank; /* smaller is better: minus the score, then the node */
    uint32_t lm;
    int32_t index;
} Ranked;

typedef struct {
    uint32_t state, word, next; /* state + 1; 0 where the slot is empty */
    int32_t score;
} Memo;

typedef struct Foremost Foremost; /* a reading of what has been said so far */

typedef struct {
    int32_t score, hypothesis, word, cost, word_lm;
} Ending; /* a way in which the speech so far may be read, if no more frames come */

typedef struct {
    int32_t word;
    int64_t mass; /* of the readings that have it */
} Mass;

enum { PLACES, STEPS, FINALS, PARAMETERS, GUESSES, LOG_ADD, SHARES, TOLLS,
       P1, B1, FIRST2, WORDS2, P2, B2, FIRST3, WORDS3, P3, BOOKS,
       FIRST_EDGE, EDGE_WORD, EDGE_NEXT, FAIL, PAID, OWED, TABLES };
enum { BEAM, THRESHOLD, GAP, HORIZON, LM_WEIGHT, BONUS, HOMOPHONES, UNITS, LM_BITS, REWARD, CERTAINTY, LOOP, STEADINESS, N_PARAMETERS };

typedef struct {
    /* tables */
    const Place *places;
    const int32_t *steps, *guesses, *parameters, *tolls;
    const Final *finals;
    const uint16_t *log_add, *shares;
    int32_t n_log_add, n_shares;
    const int32_t *p1, *b1, *book_p2, *book_b2, *book_p3;
    const uint32_t *first2, *first3;
    const uint8_t *words2, *p2, *b2, *words3, *p3;
    uint32_t vocabulary;
    const uint32_t *first_edge, *edge_word, *edge_next, *fail;
    const int32_t *paid, *owed;
    /* scratch */
    Memo *memo;
    Hypothesis *hypotheses, *next;
    Entry *arena;
    Candidate *candidates;
    Ranked *ranked;
    Committed *committed;
    Foremost *readings;
    Ending *endings;
    Mass *masses;
    uint32_t *slots;
    int32_t *scores, *totals, *heads, *links, *first, *renumber, *shown;
    int32_t capacity, mask, most_mask, arena_capacity, most_paid;
    int32_t spelled; /* nodes of the branch that spells: one for each phone, or none */
    /* progress */
    int32_t n, n_arena, n_candidates, n_committed, n_shown, frame, best;
    int64_t score;
} Search;

/* ---- the tree: small records, since what a frame needs lies far apart -------------------------- */

static inline int32_t phone_of(const Search *s, int32_t node) { return s->steps[node] & 0xFF; }
static inline int32_t look_of(const Search *s, int32_t node) { return s->steps[node] >> 8; }

/* ---- language model ------------------------------------------------------------------------ */

static inline uint32_t word24(const uint8_t *words, uint32_t i)
{
    const uint8_t *w = words + 3 * (size_t)i;
    return (uint32_t)w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16;
}

/* Index of a word in the ascending words[low … high - 1], or -1. */
static int64_t find(const uint8_t *words, uint32_t low, uint32_t high, uint32_t word)
{
    uint32_t end = high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (word24(words, middle) < word) low = middle + 1; else high = middle;
    }
    return low < end && word24(words, low) == word ? (int64_t)low : -1;
}

/* Natural log-probability of a word behind a state, and the state after it. */
static int32_t lm_score(const Search *s, uint32_t state, uint32_t word, uint32_t *next)
{
    int32_t back_off = 0;
    uint32_t last = state;
    int64_t three = -1, two;
    if (state >= s->vocabulary) {
        uint32_t i = state - s->vocabulary;
        last = word24(s->words2, i);
        three = find(s->words3, s->first3[i], s->first3[i + 1], word);
        back_off = s->book_b2[s->b2[i]];
    }
    two = find(s->words2, s->first2[last], s->first2[last + 1], word);
    *next = two >= 0 ? s->vocabulary + (uint32_t)two : word;
    if (three >= 0) return s->book_p3[s->p3[three]];
    return back_off + (two >= 0 ? s->book_p2[s->p2[two]] : s->b1[last] + s->p1[word]);
}

/* What a word is paid behind a state of the phrases' automaton, and the state after it. */
static int32_t pay(const Search *s, uint32_t *state, uint32_t word)
{
    uint32_t at = *state, following = 0;
    for (;;) {
        uint32_t edge = s->first_edge[at], end = s->first_edge[at + 1];
        while (edge < end && s->edge_word[edge] != word) edge++;
        if (edge < end) {
            following = s->edge_next[edge];
            break;
        }
        if (at == 0) break;
        at = s->fail[at];
    }
    int further = following && at == *state;
    int32_t paid = s->paid[following] - (further ? s->paid : s->owed)[*state];
    *state = following;
    return paid;
}

static inline uint32_t lm_of(const Search *s, uint32_t state)
{
    return state & ((1u << s->parameters[LM_BITS]) - 1);
}

static inline Memo *memo_of(const Search *s, uint32_t lm, uint32_t word)
{
    return s->memo + ((lm * 0x9E3779B1u ^ word * 0x85EBCA6Bu) >> (32 - MEMO_BITS));
}

/* The score of the language model, weighted, and of the phrases. The former is remembered:
 * hypotheses ask the same thing frame after frame. */
static int32_t weighted_lm(Search *s, uint32_t state, uint32_t word, uint32_t *next)
{
    uint32_t phrases = state >> s->parameters[LM_BITS], lm = lm_of(s, state);
    Memo *memo = memo_of(s, lm, word);
    if (memo->state != lm + 1 || memo->word != word) {
        int64_t score = lm_score(s, lm, word, &memo->next);
        memo->state = lm + 1;
        memo->word = word;
        memo->score = (int32_t)((score * s->parameters[LM_WEIGHT]) >> 10);
    }
    int32_t paid = s->parameters[REWARD] ? pay(s, &phrases, word) : 0;
    *next = memo->next | phrases << s->parameters[LM_BITS];
    return memo->score + paid;
}

/* ---- arithmetic and order ------------------------------------------------------------------ */

static inline int32_t floored(int64_t score) { return score < FLOOR ? FLOOR : (int32_t)score; }

static inline int32_t log_add(const Search *s, int32_t a, int32_t b)
{
    int32_t more = a > b ? a : b, gap = a > b ? a - b : b - a;
    return gap < s->n_log_add ? more + s->log_add[gap] : more;
}

static inline int before(const Ranked *a, const Ranked *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->lm < b->lm);
}

static void sort(Ranked *a, int32_t n)
{
    while (n > 12) {
        Ranked pivot = a[n / 2], swap;
        int32_t i = 0, j = n - 1;
        while (i <= j) {
            while (before(&a[i], &pivot)) i++;
            while (before(&pivot, &a[j])) j--;
            if (i <= j) { swap = a[i]; a[i] = a[j]; a[j] = swap; i++; j--; }
        }
        sort(a, j + 1);
        a += i;
        n -= i;
    }
    for (int32_t i = 1; i < n; i++) {
        Ranked one = a[i];
        int32_t j = i;
        for (; j > 0 && before(&one, &a[j - 1]); j--) a[j] = a[j - 1];
        a[j] = one;
    }
}

static inline void rank(Ranked *to, int32_t total, int32_t node, int32_t lm, int32_t index)
{
    to->rank = (int64_t)((uint64_t)(-(int64_t)total) << 32 | (uint32_t)node);
    to->lm = (uint32_t)lm;
    to->index = index;
}

/* ---- one frame ----------------------------------------------------------------------------- */

/* A slot of the table of candidates holds the upper bits of the hash and the candidate's number + 1,
 * or 0. Most others in the way are told apart without a look at them. */
static inline uint32_t hash_of(int32_t node, int32_t lm)
{
    uint32_t hash = (uint32_t)node * 0x9E3779B1u ^ (uint32_t)lm * 0x85EBCA6Bu;
    return hash ^ hash >> 15;
}

static inline uint32_t *slot_of(const Search *s, uint32_t hash, int32_t node, int32_t lm)
{
    for (uint32_t at = hash;; at++) {
        uint32_t *slot = s->slots + (at & (uint32_t)s->mask);
        if (*slot == 0) return slot;
        if ((*slot ^ hash) >> INDEX_BITS) continue;
        const Candidate *c = s->candidates + (*slot & INDEX) - 1;
        if (c->node == node && c->lm == lm) return slot;
    }
}

/* Another place for a candidate in the table: twice as many slots once half of them are taken. A
 * small table stays in the processor's cache. */
static void take_slot(Search *s, uint32_t *slot, uint32_t hash)
{
    *slot = (hash & ~INDEX) | (uint32_t)s->n_candidates;
    if (2 * s->n_candidates <= s->mask || s->mask >= s->most_mask) return;
    s->mask = 2 * s->mask + 1;
    memset(s->slots, 0, ((size_t)s->mask + 1) * sizeof *s->slots);
    for (int32_t i = 0; i < s->n_candidates; i++) {
        const Candidate *c = s->candidates + i;
        hash = hash_of(c->node, c->lm);
        *slot_of(s, hash, c->node, c->lm) = (hash & ~INDEX) | (uint32_t)(i + 1);
    }
}

/* A new phone: add a way of this score into (node, lm). */
static inline void enter(Search *s, int32_t score, const Candidate *way)
{
    if (score < s->best - s->parameters[THRESHOLD]) return;
    if (score > s->best) s->best = score;
    uint32_t hash = hash_of(way->node, way->lm), *slot = slot_of(s, hash, way->node, way->lm);
    Candidate *c;
    if (*slot) {
        c = s->candidates + (*slot & INDEX) - 1;
        c->sound = log_add(s, c->sound, score);
        if (score <= c->best) return;
    } else {
        if (s->n_candidates == s->capacity) return;
        c = s->candidates + s->n_candidates++;
        c->node = way->node;
        c->lm = way->lm;
        take_slot(s, slot, hash);
        c->blank = FLOOR;
        c->sound = score;
    }
    c->best = score;
    c->source = way->source;
    c->word = way->word;
    c->word_lm = way->word_lm;
}

static void stay(Search *s, const int32_t *x)
{
    s->mask = 255;
    while (s->mask < 12 * s->n && s->mask < s->most_mask) s->mask = 2 * s->mask + 1;
    memset(s->slots, 0, ((size_t)s->mask + 1) * sizeof *s->slots);
    s->n_candidates = s->n;
    s->best = FLOOR;
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        Candidate *c = s->candidates + i;
        FETCH(s->steps + h[s->n - i > AHEAD ? AHEAD : 0].node);
        FETCH(s->places + h->node);
        uint32_t hash = hash_of(h->node, h->lm);
        *slot_of(s, hash, h->node, h->lm) = (hash & ~INDEX) | (uint32_t)(i + 1);
        s->totals[i] = log_add(s, h->blank, h->sound);
        c->node = h->node;
        c->lm = h->lm;
        c->blank = floored((int64_t)s->totals[i] + x[0]);
        c->sound = h->node == ROOT ? FLOOR : floored((int64_t)h->sound + x[phone_of(s, h->node)]);
        c->best = log_add(s, c->blank, c->sound);
        c->source = i;
        c->word = NO_WORD;
        c->word_lm = 0;
        if (c->best > s->best) s->best = c->best;
    }
}

/* What a hypothesis that is soon to be extended will need. */
static inline void fetch(const Search *s, int32_t i)
{
    if (i + AHEAD < s->n) {
        const Place *place = s->places + s->hypotheses[i + AHEAD].node;
        FETCH(s->steps + place->child);
        FETCH(s->finals + place->word);
    }
    if (i + AHEAD / 2 < s->n) {
        const Hypothesis *h = s->hypotheses + i + AHEAD / 2;
        const Place *place = s->places + h->node;
        if (place->word < place[1].word) FETCH(memo_of(s, lm_of(s, (uint32_t)h->lm), (uint32_t)s->finals[place->word].word));
    }
}

/* Where words begin, best first; equal ones in order of their nodes. */
typedef struct {
    int32_t n, nodes[2 * MAX_UNITS], gains[2 * MAX_UNITS];
} Roots;

static void add_root(Roots *to, int32_t node, int32_t gain)
{
    int32_t j = to->n++;
    for (; j > 0 && to->gains[j - 1] < gain; j--) {
        to->gains[j] = to->gains[j - 1];
        to->nodes[j] = to->nodes[j - 1];
    }
    to->gains[j] = gain;
    to->nodes[j] = node;
}

/* Go on to every phone of the branch that spells, or begin there. */
static void spell(Search *s, const int32_t *x, int32_t i)
{
    const int32_t *p = s->parameters;
    const Hypothesis *h = s->hypotheses + i;
    int32_t total = s->totals[i], last = phone_of(s, h->node), look = look_of(s, h->node);
    const int32_t *tolls = s->tolls + last * p[UNITS];
    Candidate way = {.lm = h->lm, .source = i, .word = NO_WORD};
    for (int32_t phone = 1; phone < p[UNITS]; phone++) {
        way.node = p[LOOP] + phone - 1;
        int64_t score = (int64_t)(phone == last ? h->blank : total) + x[phone] + look_of(s, way.node) - look + tolls[phone];
        if (score >= FLOOR) enter(s, (int32_t)score, &way);
    }
}

static void extend(Search *s, const int32_t *x)
{
    const int32_t *p = s->parameters;
    Roots roots;
    int32_t loudest = x[1];
    for (int32_t v = 2; v < p[UNITS]; v++)
        if (x[v] > loudest) loudest = x[v];
    roots.n = 0;
    for (int32_t child = (int32_t)s->places[ROOT].child; child < (int32_t)s->places[ROOT + 1].child; child++)
        add_root(&roots, child, x[phone_of(s, child)] + look_of(s, child));
    for (int32_t phone = 1; phone <= s->spelled; phone++)
        add_root(&roots, p[LOOP] + phone - 1, x[phone] + look_of(s, p[LOOP] + phone - 1) + s->tolls[phone]);
    for (int32_t i = 0; i < s->n; i++) {
        fetch(s, i);
        const Hypothesis *h = s->hypotheses + i;
        const Place *place = s->places + h->node;
        int32_t total = s->totals[i], look = look_of(s, h->node), last = phone_of(s, h->node);
        Candidate way = {.lm = h->lm, .source = i, .word = NO_WORD};
        /* Below the root no child has a better look-ahead than its parent. */
        if (h->node == ROOT || (int64_t)total + loudest >= (int64_t)s->best - p[THRESHOLD]) {
            int32_t children[MAX_UNITS], scores[MAX_UNITS], n = 0;
            int64_t least = (int64_t)s->best - p[THRESHOLD];
            if (least < FLOOR) least = FLOOR;
            for (uint32_t child = place->child; child < place[1].child; child++) {
                int32_t step = s->steps[child], phone = step & 0xFF;
                int64_t score = (int64_t)(phone == last ? h->blank : total) + x[phone] + (step >> 8) - look;
                children[n] = (int32_t)child;
                scores[n] = (int32_t)score;
                n += score >= least; /* no branch: which are good enough cannot be predicted */
            }
            for (int32_t k = 0; k < n; k++) {
                way.node = children[k];
                enter(s, scores[k], &way);
            }
        }
        if (s->spelled && (h->node == ROOT || h->node >= p[LOOP])) spell(s, x, i);
        if (place->word == place[1].word || roots.n == 0) continue;
        int64_t most = (int64_t)total + p[BONUS] - look + roots.gains[0];
        if (most + p[REWARD] < (int64_t)s->best - p[THRESHOLD]) continue;
        for (const Final *f = s->finals + place->word; f < s->finals + place[1].word; f++) {
            uint32_t next;
            if (most + f->highest + s->most_paid < (int64_t)s->best - p[THRESHOLD]) continue;
            way.word = f->word;
            way.word_lm = weighted_lm(s, (uint32_t)h->lm, (uint32_t)f->word, &next);
            way.lm = (int32_t)next;
            int64_t gone = (int64_t)way.word_lm + p[BONUS] - look;
            for (int32_t r = 0; r < roots.n; r++) {
                if (total + gone + roots.gains[r] < (int64_t)s->best - p[THRESHOLD]) break;
                way.node = roots.nodes[r];
                int32_t from = phone_of(s, way.node) == last ? h->blank : total;
                int64_t score = from + gone + roots.gains[r];
                if (score >= FLOOR) enter(s, (int32_t)score, &way);
            }
        }
    }
}

static int32_t append(Search *s, int32_t word, const Hypothesis *from, int32_t cost, int32_t lm)
{
    Entry *e = s->arena + s->n_arena;
    e->word = word;
    e->start = from->start;
    e->end = from->end;
    e->previous = from->history;
    e->cost = cost;
    e->lm = lm;
    return s->n_arena++;
}

/* The best of the candidates within beam and threshold, ranked. Sorted by buckets of score first:
 * only what may survive is compared. */
static int32_t survivors(Search *s)
{
    int32_t best = FLOOR, beam = s->parameters[BEAM], threshold = s->parameters[THRESHOLD];
    for (int32_t i = 0; i < s->n_candidates; i++) {
        const Candidate *c = s->candidates + i;
        int32_t total = s->scores[i] = log_add(s, c->blank, c->sound);
        if (total > best) best = total;
    }
    int32_t ends[BUCKETS] = {0}, shift = 0, kept = 0;
    while (threshold >> shift >= BUCKETS) shift++;
    for (int32_t i = 0; i < s->n_candidates; i++)
        if (best - s->scores[i] <= threshold) ends[(best - s->scores[i]) >> shift]++;
    int32_t buckets = 0;
    for (; buckets < BUCKETS && kept < beam; buckets++) {
        int32_t begin = kept;
        kept += ends[buckets];
        ends[buckets] = begin;
    }
    for (int32_t i = 0; i < s->n_candidates; i++) {
        int32_t behind = best - s->scores[i];
        if (behind > threshold || behind >> shift >= buckets) continue;
        rank(s->ranked + ends[behind >> shift]++, s->scores[i], s->candidates[i].node, s->candidates[i].lm, i);
    }
    for (int32_t n = 0, begin = 0; n < buckets; begin = ends[n++]) sort(s->ranked + begin, ends[n] - begin);
    return kept < beam ? kept : beam;
}

static void select_best(Search *s)
{
    int32_t kept = survivors(s);
    for (int32_t i = 0; i < s->n; i++) s->heads[i] = -1;
    for (int32_t i = 0; i < kept; i++) {
        const Candidate *c = s->candidates + s->ranked[i].index;
        const Hypothesis *from = s->hypotheses + c->source;
        Hypothesis *to = s->next + i;
        to->node = c->node;
        to->lm = c->lm;
        to->blank = c->blank;
        to->sound = c->sound;
        to->start = from->start;
        int begins = c->node != from->node || c->word != NO_WORD;
        to->end = begins || c->sound - c->blank >= SOUNDING ? s->frame + 1 : from->end;
        to->mark = from->mark;
        to->history = from->history;
        if (from->node == ROOT && c->node != ROOT) {
            to->start = s->frame;
            to->mark = s->totals[c->source];
        }
        if (c->word == NO_WORD) continue;
        to->start = s->frame;
        to->mark = floored((int64_t)s->totals[c->source] + c->word_lm + s->parameters[BONUS] - look_of(s, from->node));
        int32_t entry = s->heads[c->source];
        while (entry >= 0 && s->arena[entry].word != c->word) entry = s->links[entry];
        if (entry < 0) {
            int64_t cost = (int64_t)to->mark - from->mark;
            entry = append(s, c->word, from, floored(cost), c->word_lm);
            s->links[entry] = s->heads[c->source];
            s->heads[c->source] = entry;
        }
        to->history = entry;
    }
    Hypothesis *swap = s->hypotheses;
    s->hypotheses = s->next;
    s->next = swap;
    s->n = kept;
}

/* ---- pauses -------------------------------------------------------------------------------- */

static inline int pausing(const Search *s, const Hypothesis *h)
{
    return s->frame + 1 - h->end >= s->parameters[GAP];
}

static int32_t into_root(Search *s, int32_t n, const Hypothesis *from, int32_t word)
{
    const int32_t *p = s->parameters;
    uint32_t lm;
    int32_t weighted = weighted_lm(s, (uint32_t)from->lm, (uint32_t)word, &lm);
    int32_t total = log_add(s, from->blank, from->sound);
    int64_t gone = (int64_t)total + weighted + p[BONUS] - look_of(s, from->node);
    int32_t score = floored(gone), at = 0;
    while (at < n && !(s->next[at].node == ROOT && s->next[at].lm == (int32_t)lm)) at++;
    Hypothesis *to = s->next + at;
    if (at < n) {
        int32_t old = s->totals[at];
        to->blank = log_add(s, to->blank, score);
        if (score <= old) return n;
    } else {
        to->node = ROOT;
        to->lm = (int32_t)lm;
        to->blank = score;
        to->sound = FLOOR;
        n++;
    }
    s->totals[at] = score;
    to->start = 0;
    to->mark = 0;
    to->end = from->end;
    to->history = append(s, word, from, floored(gone - from->mark), weighted);
    return n;
}

static void end_paused(Search *s)
{
    int32_t n = 0, open = 0;
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        if (h->node != ROOT && pausing(s, h)) { open++; continue; }
        s->totals[n] = log_add(s, h->blank, h->sound);
        s->next[n++] = *h;
    }
    if (!open) return;
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        if (h->node == ROOT || !pausing(s, h)) continue;
        const Place *place = s->places + h->node;
        for (uint32_t f = place->word; f < place[1].word; f++) n = into_root(s, n, h, s->finals[f].word);
    }
    if (n == 0) {
        Hypothesis *to = s->next;
        *to = s->hypotheses[0];
        to->blank = log_add(s, to->blank, to->sound);
        to->sound = FLOOR;
        to->node = ROOT;
        to->start = to->mark = 0;
        n = 1;
    }
    int32_t best = FLOOR, kept = 0;
    for (int32_t i = 0; i < n; i++) {
        s->totals[i] = log_add(s, s->next[i].blank, s->next[i].sound);
        if (s->totals[i] > best) best = s->totals[i];
    }
    for (int32_t i = 0; i < n; i++)
        if (s->totals[i] >= best - s->parameters[THRESHOLD])
            rank(s->ranked + kept++, s->totals[i], s->next[i].node, s->next[i].lm, i);
    sort(s->ranked, kept);
    if (kept > s->parameters[BEAM]) kept = s->parameters[BEAM];
    for (int32_t i = 0; i < kept; i++) s->hypotheses[i] = s->next[s->ranked[i].index];
    s->n = kept;
}

/* ---- commitment ---------------------------------------------------------------------------- */

static void find_first(Search *s)
{
    for (int32_t i = 0; i < s->n_arena; i++) {
        int32_t previous = s->arena[i].previous;
        s->first[i] = previous < 0 ? i : s->first[previous];
    }
}

static inline const Entry *first_of(const Search *s, const Hypothesis *h)
{
    return h->history < 0 ? NULL : s->arena + s->first[h->history];
}

/* Keep hypotheses whose first word is this one, and take that word from their histories. */
static void settle(Search *s, const Entry *lead, int64_t agreed, int64_t all)
{
    Committed *to = s->committed + s->n_committed++;
    to->word = lead->word;
    to->start = lead->start;
    to->end = lead->end;
    to->cost = lead->cost;
    to->lm = lead->lm;
    to->share = all ? (int32_t)((agreed << 15) / all) : 1 << 15;
    int32_t word = lead->word, n = 0;
    if (s->n_shown && s->shown[0] == word) memmove(s->shown, s->shown + 1, (size_t)--s->n_shown * 4);
    else s->n_shown = 0;
    for (int32_t i = 0; i < s->n; i++) {
        Hypothesis h = s->hypotheses[i];
        const Entry *first = first_of(s, &h);
        if (first == NULL || first->word != word) continue;
        if (s->first[h.history] == h.history) h.history = -1;
        s->hypotheses[n++] = h;
    }
    s->n = n;
    for (int32_t i = 0; i < s->n_arena; i++) {
        int32_t previous = s->arena[i].previous;
        if (previous >= 0 && s->first[previous] == previous) s->arena[i].previous = -1;
    }
}

static void commit(Search *s)
{
    int32_t now = s->frame + 1, horizon;
    for (;;) {
        const Hypothesis *best = s->hypotheses;
        horizon = s->parameters[best->node == ROOT && pausing(s, best) ? GAP : HORIZON];
        find_first(s);
        const Entry *lead = first_of(s, best);
        if (lead == NULL) break;
        int32_t top = log_add(s, best->blank, best->sound);
        int64_t agreed = 0, all = 0;
        int same = 1;
        for (int32_t i = 0; i < s->n; i++) {
            const Hypothesis *h = s->hypotheses + i;
            const Entry *first = first_of(s, h);
            int32_t behind = top - log_add(s, h->blank, h->sound);
            int32_t share = behind < s->n_shares ? s->shares[behind] : 0;
            all += share;
            if (first != NULL && first->word == lead->word) agreed += share; else same = 0;
        }
        int certain = same || (agreed << 15) >= all * s->parameters[CERTAINTY];
        if (!certain && lead->end > now - horizon) break;
        settle(s, lead, agreed, all);
    }
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        const Entry *first = first_of(s, s->hypotheses + i);
        if (first == NULL || first->end > now - horizon) s->hypotheses[n++] = s->hypotheses[i];
    }
    s->n = n;
}

/* Forget entries that no hypothesis has in its history. */
static void compact(Search *s)
{
    for (int32_t i = 0; i < s->n_arena; i++) s->renumber[i] = -1;
    for (int32_t i = 0; i < s->n; i++) {
        int32_t at = s->hypotheses[i].history;
        for (; at >= 0 && s->renumber[at] < 0; at = s->arena[at].previous) s->renumber[at] = 0;
    }
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_arena; i++) {
        if (s->renumber[i] < 0) continue;
        Entry e = s->arena[i];
        if (e.previous >= 0) e.previous = s->renumber[e.previous];
        s->renumber[i] = n;
        s->arena[n++] = e;
    }
    s->n_arena = n;
    for (int32_t i = 0; i < s->n; i++)
        if (s->hypotheses[i].history >= 0)
            s->hypotheses[i].history = s->renumber[s->hypotheses[i].history];
}

/* Scores relative to the best hypothesis: they stay small however long the stream. */
static void normalise(Search *s, int32_t likeliest)
{
    int32_t top = log_add(s, s->hypotheses[0].blank, s->hypotheses[0].sound);
    for (int32_t i = 0; i < s->n; i++) {
        Hypothesis *h = s->hypotheses + i;
        h->blank = floored((int64_t)h->blank - top);
        h->sound = floored((int64_t)h->sound - top);
        int64_t mark = (int64_t)h->mark + likeliest - top;
        if (h->node == ROOT) mark = 0;
        h->mark = mark > -FLOOR ? -FLOOR : floored(mark);
    }
    s->score += top;
}

/* ---- what is said now ---------------------------------------------------------------------- */

/* Of one reading: the hypothesis, what its open word is (NO_WORD at the root), what it scores then, and how
 * many words it has in all. */
struct Foremost {
    int32_t hypothesis, word, score, word_lm, length;
};

static void add_reading(Search *s, int32_t *n, Foremost reading)
{
    int32_t at = s->hypotheses[reading.hypothesis].history;
    reading.length = reading.word != NO_WORD;
    for (; at >= 0; at = s->arena[at].previous) reading.length++;
    s->readings[(*n)++] = reading;
}

/* What may have been said so far: each hypothesis near the best as if its open word ended now. */
static int32_t find_readings(Search *s)
{
    int32_t n = 0, top = log_add(s, s->hypotheses[0].blank, s->hypotheses[0].sound);
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        const Place *place = s->places + h->node;
        int32_t total = log_add(s, h->blank, h->sound), guess = s->guesses[h->node], complete = 0;
        if (total < top - MARGIN) break;
        if (h->node == ROOT) {
            add_reading(s, &n, (Foremost){i, NO_WORD, total, 0, 0});
            continue;
        }
        for (uint32_t f = place->word; f < place[1].word || !complete; f++) {
            int32_t word = f < place[1].word ? s->finals[f].word : guess;
            complete |= word == guess;
            uint32_t next;
            int32_t word_lm = weighted_lm(s, (uint32_t)h->lm, (uint32_t)word, &next);
            int32_t score = floored((int64_t)total + word_lm + s->parameters[BONUS] - look_of(s, h->node));
            add_reading(s, &n, (Foremost){i, word, score, word_lm, 0});
        }
    }
    return n;
}

/* The word at a place of a reading; NO_WORD behind its end. */
static int32_t word_at(const Search *s, const Foremost *reading, int32_t place)
{
    int32_t back = reading->length - 1 - place - (reading->word != NO_WORD);
    if (place >= reading->length) return NO_WORD;
    if (back < 0) return reading->word;
    int32_t at = s->hypotheses[reading->hypothesis].history;
    while (back--) at = s->arena[at].previous;
    return s->arena[at].word;
}

static int32_t mass_of(const Search *s, int32_t n_masses, int32_t word)
{
    for (int32_t at = 0; at < n_masses; at++)
        if (s->masses[at].word == word) return at;
    return -1;
}

/* The reading that most of the probability agrees on, word for word; words shown give way to much likelier ones. */
static Foremost foremost_of(Search *s)
{
    Foremost *readings = s->readings;
    int32_t n = find_readings(s), best = 0, word = 0, steady = s->n_shown;
    for (int32_t i = 1; i < n; i++)
        if (readings[i].score > readings[best].score) best = i;
    best = readings[best].score;
    for (int32_t place = 0; word != NO_WORD && n > 1; place++) {
        int32_t n_masses = 0, most = 0, kept = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t behind = best - readings[i].score, at = 0, said = word_at(s, readings + i, place);
            while (at < n_masses && s->masses[at].word != said) at++;
            if (at == n_masses) s->masses[n_masses++] = (Mass){said, 0};
            s->masses[at].mass += behind < s->n_shares ? s->shares[behind] : 0;
        }
        for (int32_t at = 1; at < n_masses; at++)
            if (s->masses[at].mass > s->masses[most].mass) most = at;
        word = s->masses[most].word;
        if (word != NO_WORD && place < steady) {
            int32_t at = mass_of(s, n_masses, s->shown[place]);
            int64_t least = s->masses[most].mass * s->shares[s->parameters[STEADINESS]];
            if (at >= 0 && least < s->masses[at].mass << 15) word = s->shown[place];
        }
        if (place < steady && word != s->shown[place]) steady = 0;
        for (int32_t i = 0; i < n; i++)
            if (word_at(s, readings + i, place) == word) readings[kept++] = readings[i];
        n = kept;
    }
    int32_t found = 0;
    for (int32_t i = 1; i < n; i++)
        if (readings[i].score > readings[found].score) found = i;
    return readings[found];
}

/* The ways to end, ranked: best first, at equal scores that of the better hypothesis. */
static int32_t find_endings(Search *s, int32_t behind, int32_t within)
{
    int32_t n = 0, kept = 0, best = FLOOR, top = log_add(s, s->hypotheses[0].blank, s->hypotheses[0].sound);
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        const Place *place = s->places + h->node;
        int32_t total = log_add(s, h->blank, h->sound), look = look_of(s, h->node), begun = n;
        if (total < (int64_t)top - behind) break;
        for (uint32_t f = place->word; f < place[1].word; f++) {
            uint32_t next;
            int32_t word_lm = weighted_lm(s, (uint32_t)h->lm, (uint32_t)s->finals[f].word, &next);
            int64_t gone = (int64_t)total + word_lm + s->parameters[BONUS] - look;
            int32_t score = floored(gone - s->owed[next >> s->parameters[LM_BITS]]);
            s->endings[n++] = (Ending){score, i, s->finals[f].word, floored(gone - h->mark), word_lm};
        }
        if (n == begun) {
            int64_t left = (h->node == ROOT ? 0 : (int64_t)look + CUT_OFF) + s->owed[(uint32_t)h->lm >> s->parameters[LM_BITS]];
            s->endings[n++] = (Ending){floored(total - left), i, NO_WORD, 0, 0};
        }
    }
    for (int32_t i = 0; i < n; i++)
        if (s->endings[i].score > best) best = s->endings[i].score;
    for (int32_t i = 0; i < n; i++)
        if (s->endings[i].score >= (int64_t)best - within) rank(s->ranked + kept++, s->endings[i].score, i, 0, i);
    sort(s->ranked, kept);
    return kept;
}

/* Remember what is shown: no more words than there are frames to the horizon, and an open one. */
static void show(Search *s)
{
    Foremost found = foremost_of(s);
    int32_t n = found.length, at = s->hypotheses[found.hypothesis].history;
    s->n_shown = n;
    if (found.word != NO_WORD) s->shown[--n] = found.word;
    for (; at >= 0; at = s->arena[at].previous) s->shown[--n] = s->arena[at].word;
}

static void take_frame(Search *s, const int32_t *x)
{
    int32_t likeliest = x[0];
    for (int32_t v = 1; v < s->parameters[UNITS]; v++)
        if (x[v] > likeliest) likeliest = x[v];
    stay(s, x);
    extend(s, x);
    select_best(s);
    end_paused(s);
    commit(s);
    compact(s);
    normalise(s, likeliest);
    s->frame++;
    if (s->parameters[STEADINESS] && s->frame % JUDGED == 0) show(s);
}

/* ---- Python -------------------------------------------------------------------------------- */

static void *part(char **at, size_t bytes)
{
    void *here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* Place everything in the scratch area; return its size. `frames` bounds one call. */
static size_t lay_out(Search *s, char *base, const int32_t *p, int32_t frames)
{
    char *at = base;
    size_t beam = (size_t)p[BEAM], wide = beam * (1 + (size_t)p[HOMOPHONES]);
    s->capacity = (int32_t)(32 * beam + 1024);
    s->most_mask = 255;
    while (s->most_mask < 2 * s->capacity) s->most_mask = 2 * s->most_mask + 1;
    s->arena_capacity = (int32_t)(beam * ((size_t)p[HORIZON] + 4) + wide);
    size_t ranked = (size_t)s->capacity > wide ? (size_t)s->capacity : wide;
    s->memo = part(&at, sizeof(Memo) << MEMO_BITS);
    s->hypotheses = part(&at, wide * sizeof(Hypothesis));
    s->next = part(&at, wide * sizeof(Hypothesis));
    s->arena = part(&at, (size_t)s->arena_capacity * sizeof(Entry));
    s->candidates = part(&at, (size_t)s->capacity * sizeof(Candidate));
    s->ranked = part(&at, ranked * sizeof(Ranked));
    s->committed = part(&at, ((size_t)p[HORIZON] + 4 + 2 * (size_t)frames) * sizeof(Committed));
    s->readings = part(&at, wide * sizeof(Foremost)); /* the words complete at a node, and one below */
    s->endings = part(&at, wide * sizeof(Ending));
    s->masses = part(&at, wide * sizeof(Mass));
    s->slots = part(&at, ((size_t)s->most_mask + 1) * 4);
    s->scores = part(&at, (size_t)s->capacity * 4);
    s->totals = part(&at, wide * 4);
    s->heads = part(&at, beam * 4);
    s->links = part(&at, (size_t)s->arena_capacity * 4);
    s->first = part(&at, (size_t)s->arena_capacity * 4);
    s->renumber = part(&at, (size_t)s->arena_capacity * 4);
    s->shown = part(&at, ((size_t)p[HORIZON] + 2) * 4);
    return (size_t)(at - base);
}

static void take_tables(Search *s, const Py_buffer *t)
{
    s->places = t[PLACES].buf;
    s->steps = t[STEPS].buf;
    s->finals = t[FINALS].buf;
    s->guesses = t[GUESSES].buf;
    s->log_add = t[LOG_ADD].buf;
    s->n_log_add = (int32_t)(t[LOG_ADD].len / 2);
    s->shares = t[SHARES].buf;
    s->n_shares = (int32_t)(t[SHARES].len / 2);
    s->parameters = t[PARAMETERS].buf;
    s->tolls = t[TOLLS].buf;
    s->spelled = t[TOLLS].len ? s->parameters[UNITS] - 1 : 0;
    s->p1 = t[P1].buf;
    s->b1 = t[B1].buf;
    s->vocabulary = (uint32_t)(t[P1].len / 4);
    s->first2 = t[FIRST2].buf;
    s->words2 = t[WORDS2].buf;
    s->p2 = t[P2].buf;
    s->b2 = t[B2].buf;
    s->first3 = t[FIRST3].buf;
    s->words3 = t[WORDS3].buf;
    s->p3 = t[P3].buf;
    s->book_p2 = t[BOOKS].buf;
    s->book_b2 = s->book_p2 + 256;
    s->book_p3 = s->book_p2 + 512;
    s->first_edge = t[FIRST_EDGE].buf;
    s->edge_word = t[EDGE_WORD].buf;
    s->edge_next = t[EDGE_NEXT].buf;
    s->fail = t[FAIL].buf;
    s->paid = t[PAID].buf;
    s->owed = t[OWED].buf;
    s->most_paid = 0;
    for (Py_ssize_t state = 0; state < t[PAID].len / 4; state++)
        if (s->paid[state] > s->most_paid) s->most_paid = s->paid[state];
}

/* Begin at a state; NULL, or what is wrong with it. */
static const char *take_hypotheses(Search *s, const Py_buffer *hypotheses)
{
    s->n = (int32_t)(hypotheses->len / (Py_ssize_t)sizeof(Hypothesis));
    if (s->n < 1 || s->n > s->parameters[BEAM]) return "a state of another size than parameters allow";
    memcpy(s->hypotheses, hypotheses->buf, (size_t)s->n * sizeof(Hypothesis));
    return NULL;
}

static const char *take_arena(Search *s, const Py_buffer *arena)
{
    const int32_t *p = s->parameters;
    s->n_arena = (int32_t)(arena->len / (Py_ssize_t)sizeof(Entry));
    if (s->n_arena > p[BEAM] * (p[HORIZON] + 2)) return "a state of another size than parameters allow";
    memcpy(s->arena, arena->buf, (size_t)s->n_arena * sizeof(Entry));
    return NULL;
}

static const char *take_shown(Search *s, const Py_buffer *shown)
{
    s->n_shown = (int32_t)(shown->len / 4);
    if (s->n_shown > s->parameters[HORIZON] + 2) return "a state of another size than parameters allow";
    memcpy(s->shown, shown->buf, (size_t)s->n_shown * 4);
    return NULL;
}

typedef struct {
    Py_buffer frames, hypotheses, arena, shown;
    int frame, held; /* how many of the buffers are held */
    int64_t score;
    size_t bytes[4]; /* of hypotheses, arena, words shown and committed words in the results */
} Job;

typedef struct {
    char *at;
    size_t used, size;
} Results;

/* Keep bytes for when the interpreter lock is held again; whether there is memory. */
static int keep(Results *r, const void *from, size_t bytes)
{
    if (r->used + bytes > r->size) {
        size_t size = 2 * (r->used + bytes);
        char *at = realloc(r->at, size);
        if (at == NULL) return 0;
        r->at = at;
        r->size = size;
    }
    memcpy(r->at + r->used, from, bytes);
    r->used += bytes;
    return 1;
}

/* Take in all frames of a stream; NULL, or what is wrong with the arguments. */
static const char *run(Search *s, Job *job, Results *results, int32_t most)
{
    const int32_t *p = s->parameters;
    size_t row = 4 * (size_t)p[UNITS];
    int32_t frames = (int32_t)((size_t)job->frames.len / row);
    if ((size_t)job->frames.len % row || frames > most) return "frames of another shape than parameters say";
    const char *wrong = take_hypotheses(s, &job->hypotheses);
    if (!wrong) wrong = take_arena(s, &job->arena);
    if (!wrong) wrong = take_shown(s, &job->shown);
    if (wrong) return wrong;
    s->n_committed = 0;
    s->score = 0;
    s->frame = job->frame;
    for (int32_t t = 0; t < frames; t++) take_frame(s, (const int32_t *)job->frames.buf + t * p[UNITS]);
    job->score = s->score;
    job->bytes[0] = (size_t)s->n * sizeof(Hypothesis);
    job->bytes[1] = (size_t)s->n_arena * sizeof(Entry);
    job->bytes[2] = (size_t)s->n_shown * 4;
    job->bytes[3] = (size_t)s->n_committed * sizeof(Committed);
    if (keep(results, s->hypotheses, job->bytes[0]) && keep(results, s->arena, job->bytes[1])
        && keep(results, s->shown, job->bytes[2]) && keep(results, s->committed, job->bytes[3])) return NULL;
    return "out of memory";
}

static void release(Py_buffer *held, int n)
{
    while (n) PyBuffer_Release(&held[--n]);
}

/* Hold all tables and lay out a search in the scratch area; whether that was possible. */
static int open_search(Search *s, PyObject *tables, Py_buffer *t, const Py_buffer *scratch, int most)
{
    int n = 0;
    const char *wrong = NULL;
    memset(s, 0, sizeof *s);
    if (PyTuple_Size(tables) != TABLES) {
        PyErr_SetString(PyExc_ValueError, "wrong number of tables");
        return 0;
    }
    for (; n < TABLES; n++)
        if (PyObject_GetBuffer(PyTuple_GetItem(tables, n), &t[n], PyBUF_SIMPLE) < 0) goto failed;
    if (t[PARAMETERS].len != 4 * N_PARAMETERS) wrong = "wrong number of parameters";
    else take_tables(s, t);
    if (!wrong && (s->parameters[UNITS] < 2 || s->parameters[UNITS] > MAX_UNITS)) wrong = "units of another number than can be";
    if (!wrong && (size_t)scratch->len < lay_out(s, scratch->buf, s->parameters, most)) wrong = "the scratch area is too small";
    if (!wrong) return 1;
    PyErr_SetString(PyExc_ValueError, wrong);
failed:
    release(t, n);
    return 0;
}

static PyObject *results_of(const Job *jobs, Py_ssize_t n, const char *at)
{
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++) {
        const size_t *bytes = jobs[i].bytes;
        const char *arena = at + bytes[0], *shown = arena + bytes[1], *committed = shown + bytes[2];
        PyObject *one = Py_BuildValue(
            "Ly#y#y#y#", (long long)jobs[i].score, at, (Py_ssize_t)bytes[0], arena, (Py_ssize_t)bytes[1],
            shown, (Py_ssize_t)bytes[2], committed, (Py_ssize_t)bytes[3]);
        at = committed + bytes[3];
        if (one == NULL || PyList_SetItem(list, i, one) < 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *advance(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tables, *streams, *result = NULL;
    Py_buffer t[TABLES], scratch;
    Search search;
    Results results = {NULL, 0, 0};
    const char *wrong = NULL;
    int most;
    if (!PyArg_ParseTuple(args, "O!iO!w*", &PyTuple_Type, &tables, &most, &PyList_Type, &streams, &scratch)) return NULL;
    Py_ssize_t n = PyList_Size(streams);
    Job *jobs = PyMem_Calloc((size_t)n + 1, sizeof(Job));
    if (jobs == NULL) {
        PyBuffer_Release(&scratch);
        return PyErr_NoMemory();
    }
    if (!open_search(&search, tables, t, &scratch, most)) goto closed;
    for (Py_ssize_t i = 0; i < n; i++) {
        Job *job = jobs + i;
        PyObject *stream = PyList_GetItem(streams, i);
        if (!PyArg_ParseTuple(stream, "iy*y*y*y*", &job->frame, &job->frames, &job->hypotheses, &job->arena, &job->shown)) goto done;
        job->held = 1;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < n && !wrong; i++) wrong = run(&search, jobs + i, &results, most);
    Py_END_ALLOW_THREADS
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else result = results_of(jobs, n, results.at);
done:
    release(t, TABLES);
closed:
    for (Py_ssize_t i = 0; i < n && jobs[i].held; i++) {
        PyBuffer_Release(&jobs[i].frames);
        PyBuffer_Release(&jobs[i].hypotheses);
        PyBuffer_Release(&jobs[i].arena);
        PyBuffer_Release(&jobs[i].shown);
    }
    free(results.at);
    PyMem_Free(jobs);
    PyBuffer_Release(&scratch);
    return result;
}

static PyObject *foremost(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tables, *result = NULL;
    Py_buffer t[TABLES], scratch, hypotheses, arena, shown;
    Search search;
    int most;
    if (!PyArg_ParseTuple(args, "O!iy*y*y*w*", &PyTuple_Type, &tables, &most, &hypotheses, &arena, &shown, &scratch)) return NULL;
    if (open_search(&search, tables, t, &scratch, most)) {
        const char *wrong = take_hypotheses(&search, &hypotheses);
        if (!wrong) wrong = take_arena(&search, &arena);
        if (!wrong) wrong = take_shown(&search, &shown);
        if (wrong) {
            PyErr_SetString(PyExc_ValueError, wrong);
        } else {
            Foremost found = foremost_of(&search);
            result = Py_BuildValue("iiii", found.hypothesis, found.word, found.score, found.word_lm);
        }
        release(t, TABLES);
    }
    PyBuffer_Release(&hypotheses);
    PyBuffer_Release(&arena);
    PyBuffer_Release(&shown);
    PyBuffer_Release(&scratch);
    return result;
}

static PyObject *endings(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tables, *result = NULL;
    Py_buffer t[TABLES], scratch, hypotheses;
    Search search;
    int most, behind, within;
    if (!PyArg_ParseTuple(args, "O!iy*iiw*", &PyTuple_Type, &tables, &most, &hypotheses, &behind, &within, &scratch)) return NULL;
    if (open_search(&search, tables, t, &scratch, most)) {
        const char *wrong = take_hypotheses(&search, &hypotheses);
        if (wrong) {
            PyErr_SetString(PyExc_ValueError, wrong);
        } else {
            int32_t n;
            Py_BEGIN_ALLOW_THREADS
            n = find_endings(&search, behind, within);
            Py_END_ALLOW_THREADS
            result = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(Ending));
            char *to = result ? PyBytes_AsString(result) : NULL;
            for (int32_t i = 0; to && i < n; i++)
                memcpy(to + i * sizeof(Ending), search.endings + search.ranked[i].index, sizeof(Ending));
        }
        release(t, TABLES);
    }
    PyBuffer_Release(&hypotheses);
    PyBuffer_Release(&scratch);
    return result;
}

static PyObject *scratch_bytes(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer p;
    int most;
    Search search;
    if (!PyArg_ParseTuple(args, "y*i", &p, &most)) return NULL;
    PyObject *result = NULL;
    if (p.len == 4 * N_PARAMETERS)
        result = PyLong_FromSize_t(lay_out(&search, NULL, p.buf, most));
    else
        PyErr_SetString(PyExc_ValueError, "wrong number of parameters");
    PyBuffer_Release(&p);
    return result;
}

static PyMethodDef methods[] = {
    {"advance", advance, METH_VARARGS,
     "advance(tables, most, [(frame, frames, hypotheses, arena, shown), …], scratch) -> [(score, hypotheses, arena, shown, committed), …]"},
    {"foremost", foremost, METH_VARARGS,
     "foremost(tables, most, hypotheses, arena, shown, scratch) -> (hypothesis, word, score, word_lm)"},
    {"endings", endings, METH_VARARGS, "endings(tables, most, hypotheses, behind, within, scratch) -> packed, best first"},
    {"scratch_bytes", scratch_bytes, METH_VARARGS, "scratch_bytes(parameters, most) -> size"},
    {NULL, NULL, 0, NULL}};
/* Of this file as it was compiled: what was built before it changed is not to be used. */
static int tell_source(PyObject *module) { return PyModule_AddStringConstant(module, "source", SOURCE_DIGEST); }
static PyModuleDef_Slot slots[] = {{Py_mod_exec, tell_source}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, slots, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
