"""One architecture family a file; teachers and students are alike."""
