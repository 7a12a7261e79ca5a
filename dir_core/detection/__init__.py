"""Finding both hands in a frame and following them over a clip."""
