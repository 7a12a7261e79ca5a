"""The process that captures for Blender. `protocol` is what Blender imports; the rest loads networks and video."""
