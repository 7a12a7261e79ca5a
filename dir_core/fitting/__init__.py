"""From landmarks to posed hands in one camera: shape per clip, pose and position per frame. numpy and scipy only."""
