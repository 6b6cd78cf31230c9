"""One data source a file: `load(split, ...) -> types.Dataset`.

A source whose sets may not fit in memory also has `examples(split, ...) ->
types.Examples`.
"""
