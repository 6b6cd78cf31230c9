"""One teacher-weighting strategy a file: `Adapter`."""
