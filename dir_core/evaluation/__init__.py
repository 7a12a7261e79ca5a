"""How good a take is: the field's metrics, each with its root, alignment and unit stated."""
