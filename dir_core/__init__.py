"""Two-hand capture from ordinary video: footage in, a Take of both hands out. Never imports bpy."""

__version__ = "0.1.0"
