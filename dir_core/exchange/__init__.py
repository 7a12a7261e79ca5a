"""Takes for other programs, and the results of other programs as takes."""
