"""Setting up, testing, repairing and removing the runtime of the DIR network; looking into its weights."""

from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import GpuRuntimeError
from dir_core.worker.runtime import BUILDS, LICENCES

from .. import gpu_runtime
from ..preferences import chosen_build, preferences
from .base import HandsOperator, refuse_poll

_BUSY: Final = "Something is being done to the runtime, wait for it or cancel it"
_OFFLINE: Final = "Blender is offline: switch Allow Online Access on in Preferences > System"


def _finish(sentence: str) -> str:
    """Without a window wait for the end; a mistake is then raised. Gives back what to report."""
    if not bpy.app.background:
        return f"{sentence} ..."
    gpu_runtime.drain()
    return f"{sentence}: done"


class HANDS_OT_set_up_runtime(HandsOperator):
    """Download PyTorch into an environment of the add-on's own, or repair it; Blender's own Python stays as it is"""

    bl_idname = "hands.set_up_runtime"
    bl_label = "Set Up GPU Runtime"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Online, and nothing else is being done."""
        if gpu_runtime.task():
            return refuse_poll(cls, _BUSY)
        if not bpy.app.online_access:
            return refuse_poll(cls, _OFFLINE)
        if not chosen_build(context):
            return refuse_poll(cls, gpu_runtime.detected_build()[1])
        return True

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Say what it costs before it begins."""
        build = chosen_build(context)
        try:
            download, disk = gpu_runtime.sizes(build)
        except GpuRuntimeError as error:
            return self.refuse(str(error))
        return set(
            context.window_manager.invoke_confirm(
                self,
                event,
                title=f"Set up the runtime for {BUILDS[build]}?",
                message=f"Downloads {download:.1f} GB and needs up to {disk:.1f} GB of disk space. {LICENCES[build]}.",
                confirm_text="Set Up",
            )
        )

    def run(self, context: Any) -> set[str]:
        """Start it."""
        build = chosen_build(context)
        gpu_runtime.set_up(build)
        self.tell(_finish(f"Setting up the runtime for {BUILDS[build]}"))
        return {"FINISHED"}


class HANDS_OT_cancel_runtime(HandsOperator):
    """End what is being done to the runtime; what is downloaded stays for the next time"""

    bl_idname = "hands.cancel_runtime"
    bl_label = "Cancel"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """There has to be something to end."""
        return True if gpu_runtime.task() else refuse_poll(cls, "Nothing is being done to the runtime")

    def run(self, _context: Any) -> set[str]:
        """Ask it to end."""
        gpu_runtime.cancel()
        return {"FINISHED"}


class HANDS_OT_test_runtime(HandsOperator):
    """Run the DIR network once on this computer, compare it with known numbers and measure its speed"""

    bl_idname = "hands.test_runtime"
    bl_label = "Test"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a runtime."""
        if gpu_runtime.task():
            return refuse_poll(cls, _BUSY)
        chosen = preferences(context)
        if chosen is not None and chosen.runtime_source == gpu_runtime.OWN:
            return True if gpu_runtime.own_path(chosen) else refuse_poll(cls, "Choose a Python first")
        return True if gpu_runtime.status().environment else refuse_poll(cls, "Set the runtime up first")

    def run(self, context: Any) -> set[str]:
        """Start it."""
        gpu_runtime.test(preferences(context))
        self.tell(_finish("Testing the runtime"))
        return {"FINISHED"}


class HANDS_OT_remove_runtime(HandsOperator):
    """Remove the runtime and everything that was downloaded for it"""

    bl_idname = "hands.remove_runtime"
    bl_label = "Remove"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """There has to be something to remove."""
        if gpu_runtime.task():
            return refuse_poll(cls, _BUSY)
        return refuse_poll(cls, "Nothing is set up") if gpu_runtime.status().state == "none" else True

    def invoke(self, context: Any, event: Any) -> set[str]:
        """It takes long to download again, so ask."""
        return set(context.window_manager.invoke_confirm(self, event))

    def run(self, _context: Any) -> set[str]:
        """Start it."""
        gpu_runtime.remove()
        self.tell(_finish("Removing the runtime"))
        return {"FINISHED"}


class HANDS_OT_check_weights(HandsOperator):
    """Look into the chosen file of weights and say what it is"""

    bl_idname = "hands.check_weights"
    bl_label = "Check"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be a file and a runtime."""
        if gpu_runtime.task():
            return refuse_poll(cls, _BUSY)
        chosen = preferences(context)
        if not gpu_runtime.weights_path(chosen):
            return refuse_poll(cls, "Choose a file of weights first")
        reason = gpu_runtime.missing_runtime(chosen)
        return refuse_poll(cls, reason) if reason else True

    def run(self, context: Any) -> set[str]:
        """Start it."""
        gpu_runtime.check_weights(preferences(context))
        self.tell(_finish("Looking into the weights"))
        return {"FINISHED"}


CLASSES: Final = (
    HANDS_OT_set_up_runtime,
    HANDS_OT_cancel_runtime,
    HANDS_OT_test_runtime,
    HANDS_OT_remove_runtime,
    HANDS_OT_check_weights,
)
