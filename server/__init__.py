"""Many recognisers behind sockets: an engine, sessions, and one file a protocol."""
