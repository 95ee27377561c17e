"""From recorded speech to a model bundle. Needs the `[train]` extra."""
