"""The one ordered list of everything Blender has to know about. No behaviour lives here."""

from types import ModuleType
from typing import Final

import bpy

from . import (
    capture_job,
    capture_preview,
    clean_job,
    curves_view,
    footage_view,
    gpu_runtime,
    log,
    overlay,
    painter,
    preferences,
    properties,
    review_data,
    strip,
    takes,
    ticker,
    translations,
)
from .operators import bake as bake_operators
from .operators import calibrate as calibrate_operators
from .operators import capture as capture_operators
from .operators import clean_up as clean_up_operators
from .operators import exchange as exchange_operators
from .operators import export as export_operators
from .operators import footage as footage_operators
from .operators import retarget as retarget_operators
from .operators import review as review_operators
from .operators import rig
from .operators import setup as setup_operators
from .operators import takes as take_operators
from .panels import capture as capture_panel
from .panels import clean_up as clean_up_panel
from .panels import export as export_panel
from .panels import footage as footage_panel
from .panels import hands as hands_panel
from .panels import mistake as mistake_panel
from .panels import retarget as retarget_panel
from .panels import review as review_panel
from .panels import setup as setup_panel
from .panels import takes as takes_panel
from .retargeting import rig_preview, target_rig

MODULES: Final[tuple[ModuleType, ...]] = (
    log,
    translations,
    ticker,
    painter,
    properties,
    gpu_runtime,
    preferences,
    footage_view,
    takes,
    clean_job,
    review_data,
    overlay,
    strip,
    curves_view,
    target_rig,
    rig_preview,
    capture_job,
    capture_preview,
    footage_operators,
    capture_operators,
    clean_up_operators,
    rig,
    take_operators,
    review_operators,
    takes_panel,
    retarget_operators,
    bake_operators,
    calibrate_operators,
    export_operators,
    exchange_operators,
    setup_operators,
    mistake_panel,
    footage_panel,
    capture_panel,
    review_panel,
    hands_panel,
    clean_up_panel,
    retarget_panel,
    export_panel,
    setup_panel,
)
"""In the order of registration: what others refer to comes first, panels in the order of the work.

A module may have CLASSES, and `register` and `unregister` for what is no class (menus, handlers, draw functions).
"""


def classes() -> tuple[type, ...]:
    """Every class, in the order of registration."""
    return tuple(cls for module in MODULES for cls in getattr(module, "CLASSES", ()))


def register() -> None:
    """Register every module in order."""
    for module in MODULES:
        for cls in getattr(module, "CLASSES", ()):
            bpy.utils.register_class(cls)
        if hasattr(module, "register"):
            module.register()


def unregister() -> None:
    """Undo register() in reverse order."""
    for module in reversed(MODULES):
        if hasattr(module, "unregister"):
            module.unregister()
        for cls in reversed(getattr(module, "CLASSES", ())):
            bpy.utils.unregister_class(cls)
