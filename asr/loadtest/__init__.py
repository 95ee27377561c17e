"""Load on a server: many paced clients with real speech, and what they found.

`recordings` has what they say, `client` is one of them without a clock of its own, `run` lets N
speak at a time, `figures` sums up, `search` finds the largest N, `plot` draws, `processes` watches
the server where it is on this machine. `asr loadtest` and `benchmarks/server_load.py` use them.
"""
