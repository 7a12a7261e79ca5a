"""Channels of a rig's bones with fewer keys: found in a process of its own, while Blender goes on."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.retargeting.fewer_keys import group_channels
from dir_core.worker.key_reducer import reduce_aside

from ..keying import Component
from ..processes import own_python

Array = NDArray[Any]
Channel = tuple[str, str, int]
"""Bone, channel such as "location", index."""


def bounds_of(settings: Any) -> KeyReduction | None:
    """What a panel says of fewer keys; None for a key on every frame."""
    return KeyReduction(angle=settings.reduction_angle) if settings.use_reduction else None


def reduce_channels(
    target: Any, channels: Mapping[Channel, Array], bounds: KeyReduction | None
) -> Generator[float, None, dict[Channel, Array | Component]]:
    """The fewest keys for channels [K] of a rig on whole frames; those that are no rotation or location stay.

    Args:
        target: armature object of the rig.
        channels: (bone, channel, index) -> [K] values.
        bounds: how far bones may be off; None leaves everything.

    Yields:
        The share of the work that is done, 0..1.

    Raises:
        HandCaptureError: the process failed.
    """
    if bounds is None:
        return dict(channels)
    modes = {bone.name: bone.rotation_mode for bone in target.pose.bones}
    grouped = group_channels({key: values for key, values in channels.items() if key[0]}, modes)
    size = np.linalg.norm(np.array(target.matrix_world)[:3, :3], axis=0).max()
    own = replace(bounds, distance=bounds.distance / float(size))  # bones are moved in the rig's own units
    curves = yield from reduce_aside(list(grouped.values()), own, *own_python())
    reduced: dict[Channel, Array | Component] = dict(channels)
    for ((bone, channel), numbers), curve in zip(grouped.items(), curves, strict=True):
        reduced |= {(bone, channel, index): Component(curve, row) for row, index in enumerate(numbers.indices)}
    return reduced


def count_keys(channels: Mapping[Channel, Array | Component], frames: int) -> tuple[int, int]:
    """How many keys channels have, and how many a key on every one of so many frames would be."""
    kept = sum(len(each.curve.rows) if isinstance(each, Component) else frames for each in channels.values())
    return kept, frames * len(channels)


def describe(kept: int, whole: int) -> str:
    """The end of a sentence about keys; empty where none were saved."""
    return f" with {kept:,} keys instead of {whole:,}" if kept < whole else ""
