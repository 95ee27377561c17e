"""Word n-gram models: text to normalised sentences, sentences to counts, counts to a model.

`prepare` turns book text into sentences; `build` counts them (sorted runs on disk, merged), gives
modified Kneser-Ney probabilities and prunes by relative entropy; `arpa` and `compact` are the two
forms on disk; `scoring` gives perplexities; `overlap` says what a text shares with references.

Sizes: W words, N order (1 … 3). A word is an id: 0 `<unk>`, 1 `<s>`, 2 `</s>`, then the words by
falling count. An n-gram is its ids packed into 64 bits, the first word in the highest bits, so
that ascending keys are ordered by context and then by word. Logarithms are natural.
"""

from __future__ import annotations
