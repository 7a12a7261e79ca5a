"""The captured hands on an animator's own rig, from its bones to keys on a layer of their own."""
