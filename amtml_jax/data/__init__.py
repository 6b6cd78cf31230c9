"""One data source a file: `load(split, ...) -> types.Dataset`."""
