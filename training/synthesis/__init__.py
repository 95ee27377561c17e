"""Synthetic speech for training: text in, a manifest with audio out.

`script` makes of text what is to be spoken, `voices` says what a voice is (`hibari_voice` and
`kokoro_voices` are two), `delivery` gives an utterance its silence and level, and `production`
writes the manifest, in several processes, going on where it was stopped.

Everything is a function of the text, the seed and an utterance's number: who stops and goes on, or
takes more processes, gets the same utterances.
"""

from __future__ import annotations
