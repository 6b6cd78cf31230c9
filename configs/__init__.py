"""One run a file: pure data, ml_collections only."""
