"""One file per step of the work; each operator only collects what it needs, calls a step and reports."""
