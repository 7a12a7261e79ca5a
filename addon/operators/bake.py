"""Bake: the captured hands on the rig become plain keys. The work is that of addon/retargeting/bake.py."""

from collections.abc import Generator
from typing import Any, ClassVar, Final

from ..retargeting import bake, fewer_keys, retarget, rig_preview
from .base import has_rig, refuse_poll, shows_poses
from .steps import SteppedOperator


class HANDS_OT_bake_to_keys(SteppedOperator):
    """Turn what is seen of the hands on the rig into plain keys of the rig's own action; the layer goes, \
and so do the links to the take"""

    bl_idname = "hands.bake_to_keys"
    bl_label = "Bake to Keys"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a layer of hands, and a mode in which the rig can be read."""
        if not has_rig(cls, context):
            return False
        if not retarget.has_hands(context.scene.two_hands.retarget.target):
            return refuse_poll(cls, "The rig has no keys of captured hands")
        return shows_poses(cls, context)

    def steps(self, context: Any) -> Generator[float, None, Any]:
        """Read the rig, then key it."""
        settings = context.scene.two_hands.retarget
        return rig_preview.away(bake.bake_layer(settings.target, fewer_keys.bounds_of(settings)))

    def finish(self, _context: Any, done: bake.Baked) -> None:
        """Say where the keys are."""
        for note in done.notes:
            self.report({"WARNING"}, note)
        fewer = fewer_keys.describe(*done.keys)
        self.tell(f'Baked {done.bones} bones on {done.frames:,} frames into "{done.action}"{fewer}.')


CLASSES: Final = (HANDS_OT_bake_to_keys,)
