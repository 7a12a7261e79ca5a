"""One file per step of the work, in the order of the work; panels draw and decide nothing."""
