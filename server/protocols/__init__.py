"""Protocols of other recognisers: their clients work unchanged (docs/protocols-foreign.md)."""
