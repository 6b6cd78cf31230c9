"""One teacher-weighting strategy a file: `Adapter`.

`Adapter(num_teachers=, ranking=, ...)` is a linen module that returns
log-weights `(N, m)` of `(student, teachers, labels=None)`. `needs_labels` says
that it has none outside training. One that listens to a single teacher,
whatever the image, has `only_teacher`, its index: the others are then not run
where nothing else needs them.
"""
