"""Hands of more kinds of build than a model's ten shape components tell apart. numpy only.

A network that has only seen one mesh knows its build by heart: where the thumb starts, how thick the palm is. It takes
another build for another direction of the hand: on the second mesh it put the wrist 7 mm too far towards the back.
Here every region of the hand is also moved by itself, smoothly, and the joints follow the skin.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import JOINTS, MIRRORED, Side
from dir_core.hand_model import HandModel

Array = NDArray[Any]

_REACH: Final = 0.2  # hand lengths over which a region's move fades
_STEP: Final = 0.026  # hand lengths that one unit moves the middle of a region


def vary_build(models: Mapping[Side, HandModel]) -> dict[Side, HandModel]:
    """The models with a component more for every joint and axis: the skin about that joint moves along the axis.

    The joints follow as they do under the model's own components. Left and right stay mirror images.
    """
    centres = models["right"].rest_joints()
    return {side: _with_regions(model, centres * MIRRORED[side]) for side, model in models.items()}


def _with_regions(model: HandModel, centres: Array) -> HandModel:
    size = model.length()
    distance = np.linalg.norm(model.template[:, None] - centres, axis=-1)  # [V, 16]
    fade = np.exp(-0.5 * (distance / (_REACH * size)) ** 2)
    moves = _STEP * size * np.einsum("vj,ab->vajb", fade, np.diag(MIRRORED[model.side]))
    directions = np.concatenate([model.shape_directions, moves.reshape(len(fade), 3, 3 * len(JOINTS))], axis=2)
    return replace(model, shape_directions=directions, digest=f"{model.digest} of any build")
