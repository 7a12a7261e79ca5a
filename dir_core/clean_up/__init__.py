"""Steady, complete and believable tracks from raw ones. numpy and scipy only."""
