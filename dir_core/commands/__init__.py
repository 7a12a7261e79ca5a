"""The commands of `python -m dir_core`: each its options, and the calls that do the work."""
