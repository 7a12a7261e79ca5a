"""Training of the DIR network: losses here, data and the loop beside them. Needs torch."""
