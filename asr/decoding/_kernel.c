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
#include <string.h>

#define FLOOR (-(1 << 29)) /* of every score: what cannot be; far from overflow */
#define ROOT 0
#define NO_WORD (-1)
#define MEMO_BITS 14
#define MAX_UNITS 256

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
    int32_t node, lm, blank, sound, best, source, word, word_lm, start, mark;
} Candidate;

typedef struct {
    int64_t rank; /* smaller is better: minus the score, then the node */
    uint32_t lm;
    int32_t index;
} Ranked;

typedef struct {
    uint32_t state, word, next; /* state + 1; 0 where the slot is empty */
    int32_t score;
} Memo;

enum { PHONE, FIRST_CHILD, FIRST_WORD, WORDS, LOOK, LOG_ADD, SHARES, PARAMETERS,
       P1, B1, FIRST2, WORDS2, P2, B2, FIRST3, WORDS3, P3, BOOKS,
       FIRST_EDGE, EDGE_WORD, EDGE_NEXT, FAIL, PAID, OWED, TABLES };
enum { BEAM, THRESHOLD, GAP, HORIZON, LM_WEIGHT, BONUS, HOMOPHONES, UNITS, LM_BITS, REWARD, N_PARAMETERS };

typedef struct {
    /* tables */
    const uint8_t *phone;
    const uint32_t *first_child, *first_word, *words;
    const int32_t *look, *log_add, *shares, *parameters;
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
    int32_t *slots, *totals, *heads, *links, *first, *renumber;
    int32_t capacity, mask, arena_capacity;
    /* progress */
    int32_t n, n_arena, n_candidates, n_committed, frame, best;
    int64_t score;
} Search;

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

/* The score of the language model, weighted, and of the phrases. The former is remembered:
 * hypotheses ask the same thing frame after frame. */
static int32_t weighted_lm(Search *s, uint32_t state, uint32_t word, uint32_t *next)
{
    uint32_t phrases = state >> s->parameters[LM_BITS];
    uint32_t lm = state & ((1u << s->parameters[LM_BITS]) - 1);
    uint32_t hash = lm * 0x9E3779B1u ^ word * 0x85EBCA6Bu;
    Memo *memo = s->memo + (hash >> (32 - MEMO_BITS));
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

/* The best `want` of n to the front, in order: quicksort that leaves the rest alone. */
static void sort_best(Ranked *a, int32_t n, int32_t want)
{
    while (n > 12 && want > 0) {
        Ranked pivot = a[n / 2], swap;
        int32_t i = 0, j = n - 1;
        while (i <= j) {
            while (before(&a[i], &pivot)) i++;
            while (before(&pivot, &a[j])) j--;
            if (i <= j) { swap = a[i]; a[i] = a[j]; a[j] = swap; i++; j--; }
        }
        sort_best(a, j + 1, want);
        a += i; n -= i; want -= i;
    }
    if (want <= 0) return;
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

static inline int32_t *slot_of(Search *s, int32_t node, int32_t lm)
{
    uint32_t at = (uint32_t)node * 0x9E3779B1u ^ (uint32_t)lm * 0x85EBCA6Bu;
    at ^= at >> 15;
    for (;; at++) {
        int32_t *slot = s->slots + (at & (uint32_t)s->mask);
        if (*slot == 0) return slot;
        Candidate *c = s->candidates + *slot - 1;
        if (c->node == node && c->lm == lm) return slot;
    }
}

/* A new phone: add a way of this score into (node, lm). */
static void enter(Search *s, int32_t score, const Candidate *way)
{
    if (score < s->best - s->parameters[THRESHOLD]) return;
    if (score > s->best) s->best = score;
    int32_t *slot = slot_of(s, way->node, way->lm);
    Candidate *c;
    if (*slot) {
        c = s->candidates + *slot - 1;
        c->sound = log_add(s, c->sound, score);
        if (score <= c->best) return;
    } else {
        if (s->n_candidates == s->capacity) return;
        c = s->candidates + s->n_candidates++;
        *slot = s->n_candidates;
        c->node = way->node;
        c->lm = way->lm;
        c->blank = FLOOR;
        c->sound = score;
    }
    c->best = score;
    c->source = way->source;
    c->word = way->word;
    c->word_lm = way->word_lm;
    c->start = way->start;
    c->mark = way->mark;
}

static void stay(Search *s, const int32_t *x)
{
    memset(s->slots, 0, ((size_t)s->mask + 1) * sizeof *s->slots);
    s->n_candidates = s->n;
    s->best = FLOOR;
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        Candidate *c = s->candidates + i;
        *slot_of(s, h->node, h->lm) = i + 1;
        s->totals[i] = log_add(s, h->blank, h->sound);
        c->node = h->node;
        c->lm = h->lm;
        c->blank = floored((int64_t)s->totals[i] + x[0]);
        c->sound = h->node == ROOT ? FLOOR : floored((int64_t)h->sound + x[s->phone[h->node]]);
        c->best = log_add(s, c->blank, c->sound);
        c->source = i;
        c->word = NO_WORD;
        c->word_lm = 0;
        c->start = h->start;
        c->mark = h->mark;
        if (c->best > s->best) s->best = c->best;
    }
}

static void extend(Search *s, const int32_t *x)
{
    const int32_t *p = s->parameters;
    int32_t roots[MAX_UNITS], gains[MAX_UNITS], n_roots = 0;
    for (uint32_t child = s->first_child[ROOT]; child < s->first_child[ROOT + 1]; child++) {
        int32_t gain = x[s->phone[child]] + s->look[child], j = n_roots++;
        for (; j > 0 && gains[j - 1] < gain; j--) {
            gains[j] = gains[j - 1];
            roots[j] = roots[j - 1];
        }
        gains[j] = gain;
        roots[j] = (int32_t)child;
    }
    for (int32_t i = 0; i < s->n; i++) {
        const Hypothesis *h = s->hypotheses + i;
        int32_t total = s->totals[i], look = s->look[h->node], last = s->phone[h->node];
        Candidate way = {.lm = h->lm, .source = i, .word = NO_WORD, .start = h->start, .mark = h->mark};
        if (h->node == ROOT) {
            way.start = s->frame;
            way.mark = total;
        }
        for (uint32_t child = s->first_child[h->node]; child < s->first_child[h->node + 1]; child++) {
            int32_t phone = s->phone[child];
            int64_t score = (int64_t)(phone == last ? h->blank : total) + x[phone] + s->look[child] - look;
            way.node = (int32_t)child;
            if (score >= FLOOR) enter(s, (int32_t)score, &way);
        }
        uint32_t word = s->first_word[h->node], end = s->first_word[h->node + 1];
        if (word == end || n_roots == 0) continue;
        if ((int64_t)total + p[BONUS] + p[REWARD] - look + gains[0] < (int64_t)s->best - p[THRESHOLD]) continue;
        way.start = s->frame;
        for (; word < end; word++) {
            uint32_t next;
            way.word = (int32_t)s->words[word];
            way.word_lm = weighted_lm(s, (uint32_t)h->lm, s->words[word], &next);
            way.lm = (int32_t)next;
            int64_t gone = (int64_t)way.word_lm + p[BONUS] - look;
            way.mark = floored(total + gone);
            for (int32_t r = 0; r < n_roots; r++) {
                if (total + gone + gains[r] < (int64_t)s->best - p[THRESHOLD]) break;
                way.node = roots[r];
                int32_t from = s->phone[roots[r]] == last ? h->blank : total;
                int64_t score = from + gone + gains[r];
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

static void select_best(Search *s)
{
    int32_t best = FLOOR, kept = 0;
    for (int32_t i = 0; i < s->n_candidates; i++) {
        Candidate *c = s->candidates + i;
        c->best = log_add(s, c->blank, c->sound);
        if (c->best > best) best = c->best;
    }
    for (int32_t i = 0; i < s->n_candidates; i++) {
        Candidate *c = s->candidates + i;
        if (c->best >= best - s->parameters[THRESHOLD])
            rank(s->ranked + kept++, c->best, c->node, c->lm, i);
    }
    int32_t beam = s->parameters[BEAM];
    sort_best(s->ranked, kept, kept < beam ? kept : beam);
    if (kept > beam) kept = beam;
    for (int32_t i = 0; i < s->n; i++) s->heads[i] = -1;
    for (int32_t i = 0; i < kept; i++) {
        const Candidate *c = s->candidates + s->ranked[i].index;
        const Hypothesis *from = s->hypotheses + c->source;
        Hypothesis *to = s->next + i;
        to->node = c->node;
        to->lm = c->lm;
        to->blank = c->blank;
        to->sound = c->sound;
        to->start = c->start;
        to->end = c->sound >= c->blank ? s->frame + 1 : from->end;
        to->mark = c->mark;
        to->history = from->history;
        if (c->word == NO_WORD) continue;
        int32_t entry = s->heads[c->source];
        while (entry >= 0 && s->arena[entry].word != c->word) entry = s->links[entry];
        if (entry < 0) {
            int64_t cost = (int64_t)c->mark - from->mark;
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
    int64_t gone = (int64_t)total + weighted + p[BONUS] - s->look[from->node];
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
        for (uint32_t w = s->first_word[h->node]; w < s->first_word[h->node + 1]; w++)
            n = into_root(s, n, h, (int32_t)s->words[w]);
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
    sort_best(s->ranked, kept, kept);
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
        if (!same && lead->end > now - horizon) break;
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
    s->mask = 1;
    while (s->mask < 2 * s->capacity) s->mask = 2 * s->mask + 1;
    s->arena_capacity = (int32_t)(beam * ((size_t)p[HORIZON] + 4) + wide);
    size_t ranked = (size_t)s->capacity > wide ? (size_t)s->capacity : wide;
    s->memo = part(&at, sizeof(Memo) << MEMO_BITS);
    s->hypotheses = part(&at, wide * sizeof(Hypothesis));
    s->next = part(&at, wide * sizeof(Hypothesis));
    s->arena = part(&at, (size_t)s->arena_capacity * sizeof(Entry));
    s->candidates = part(&at, (size_t)s->capacity * sizeof(Candidate));
    s->ranked = part(&at, ranked * sizeof(Ranked));
    s->committed = part(&at, ((size_t)p[HORIZON] + 4 + 2 * (size_t)frames) * sizeof(Committed));
    s->slots = part(&at, ((size_t)s->mask + 1) * 4);
    s->totals = part(&at, wide * 4);
    s->heads = part(&at, beam * 4);
    s->links = part(&at, (size_t)s->arena_capacity * 4);
    s->first = part(&at, (size_t)s->arena_capacity * 4);
    s->renumber = part(&at, (size_t)s->arena_capacity * 4);
    return (size_t)(at - base);
}

static void take_tables(Search *s, const Py_buffer *t)
{
    s->phone = t[PHONE].buf;
    s->first_child = t[FIRST_CHILD].buf;
    s->first_word = t[FIRST_WORD].buf;
    s->words = t[WORDS].buf;
    s->look = t[LOOK].buf;
    s->log_add = t[LOG_ADD].buf;
    s->n_log_add = (int32_t)(t[LOG_ADD].len / 4);
    s->shares = t[SHARES].buf;
    s->n_shares = (int32_t)(t[SHARES].len / 4);
    s->parameters = t[PARAMETERS].buf;
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
}

/* Take in all frames; NULL, or what is wrong with the arguments. */
static const char *run(Search *s, const Py_buffer *t, const Py_buffer *b, int32_t most)
{
    if (t[PARAMETERS].len != 4 * N_PARAMETERS) return "wrong number of parameters";
    take_tables(s, t);
    const int32_t *p = s->parameters;
    size_t row = 4 * (size_t)p[UNITS];
    int32_t frames = (int32_t)((size_t)b[0].len / row);
    if (p[UNITS] < 2 || p[UNITS] > MAX_UNITS || (size_t)b[0].len % row || frames > most)
        return "frames of another shape than parameters say";
    if ((size_t)b[3].len < lay_out(s, b[3].buf, p, most)) return "the scratch area is too small";
    s->n = (int32_t)(b[1].len / (Py_ssize_t)sizeof(Hypothesis));
    s->n_arena = (int32_t)(b[2].len / (Py_ssize_t)sizeof(Entry));
    if (s->n < 1 || s->n > p[BEAM] || s->n_arena > p[BEAM] * (p[HORIZON] + 2))
        return "a state of another size than parameters allow";
    memcpy(s->hypotheses, b[1].buf, (size_t)b[1].len);
    memcpy(s->arena, b[2].buf, (size_t)b[2].len);
    for (int32_t t0 = 0; t0 < frames; t0++) take_frame(s, (const int32_t *)b[0].buf + (size_t)t0 * p[UNITS]);
    return NULL;
}

static PyObject *advance(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tables, *result = NULL;
    Py_buffer t[TABLES], b[4]; /* b: frames, hypotheses, arena, scratch */
    Search search;
    const char *wrong = NULL;
    int n_tables = 0, frame, most;
    if (!PyArg_ParseTuple(args, "O!iiy*y*y*w*", &PyTuple_Type, &tables, &most, &frame, &b[0], &b[1], &b[2], &b[3]))
        return NULL;
    if (PyTuple_Size(tables) != TABLES) {
        PyErr_SetString(PyExc_ValueError, "wrong number of tables");
        goto done;
    }
    for (; n_tables < TABLES; n_tables++)
        if (PyObject_GetBuffer(PyTuple_GetItem(tables, n_tables), &t[n_tables], PyBUF_SIMPLE) < 0) goto done;
    memset(&search, 0, sizeof search);
    search.frame = frame;
    Py_BEGIN_ALLOW_THREADS
    wrong = run(&search, t, b, most);
    Py_END_ALLOW_THREADS
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    else
        result = Py_BuildValue(
            "Ly#y#y#", (long long)search.score, (char *)search.hypotheses,
            (Py_ssize_t)search.n * (Py_ssize_t)sizeof(Hypothesis), (char *)search.arena,
            (Py_ssize_t)search.n_arena * (Py_ssize_t)sizeof(Entry), (char *)search.committed,
            (Py_ssize_t)search.n_committed * (Py_ssize_t)sizeof(Committed));
done:
    while (n_tables) PyBuffer_Release(&t[--n_tables]);
    for (int i = 0; i < 4; i++) PyBuffer_Release(&b[i]);
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
     "advance(tables, most, frame, frames, hypotheses, arena, scratch) -> (score, hypotheses, arena, committed)"},
    {"scratch_bytes", scratch_bytes, METH_VARARGS, "scratch_bytes(parameters, most) -> size"},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
