"""One loss term a file: the pure function and its `Term`."""
