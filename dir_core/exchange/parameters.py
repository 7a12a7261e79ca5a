"""A take as parameters of MANO and of SMPL-X, as `smplx` and the programs around it load them. numpy only.

All rotations are axis-angle vectors in radians, relative to the flat hand (`flat_hand_mean=True`). Axes are those of
the camera: x right, y down, z forward; metres. docs/EXCHANGE.md lists every field.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.errors import ExchangeError
from dir_core.exchange.files import write_arrays
from dir_core.fitting.hand_shape import bone_lengths, fit_shape
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import HandModel
from dir_core.rotations import to_rotation_vector
from dir_core.take import Take

Array = NDArray[Any]

MANO_FORMAT: Final = "two-hand-mano/1"
SMPLX_FORMAT: Final = "two-hand-smplx/1"

CAMERA_AXES: Final = "camera: x right, y down, z forward; metres, radians"

_BONE_NOISE: Final = 3e-4  # metres; lengths of a model are exact, only no other model has quite the same
_FINGER_VALUES = 3 * (len(JOINTS) - 1)
# Joints of SMPL-X in the order of `poses`: root, body, jaw, eyes, left hand, right hand.
_SMPLX_PARTS: Final = (
    ("root_orient", 1),
    ("pose_body", 21),
    ("pose_jaw", 1),
    ("pose_eye", 2),
    ("left_hand_pose", 15),
    ("right_hand_pose", 15),
)


def mano_parameters(take: Take, models: Mapping[Side, HandModel]) -> dict[str, Array]:
    """Both hands as parameters of MANO: `smplx`'s output times `scale` lies where the take's hand lies.

    Args:
        take: any take.
        models: the hand model of each side that the take's shape belongs to.

    Raises:
        ExchangeError: the take has no frames.
    """
    arrays = _shared(take, MANO_FORMAT)
    arrays["hand_model"] = np.array(models["right"].name)
    arrays["hand_model_licence"] = np.array(models["right"].licence)
    for side in SIDES:
        hand, scale = take.hand(side), float(take.hand(side).scale[0])
        orient, pose = _axis_angle(hand.rotation)
        # smplx turns a hand about its wrist joint, which does not lie at the origin of the model.
        root = models[side].rest_joints(hand.shape)[0]
        values = {
            "global_orient": orient,
            "hand_pose": pose,
            "betas": hand.shape,
            "transl": hand.translation / scale - root,
            "scale": scale,
            "wrist": hand.translation,
            "hand_mean": models[side].mean_pose,
            "confidence": hand.confidence,
        }
        arrays |= {f"{side}_{name}": np.asarray(value, np.float32) for name, value in values.items()}
        arrays[f"{side}_observed"] = np.asarray(hand.observed)
    return arrays


def smplx_parameters(take: Take) -> dict[str, Array]:
    """The hands of a body of SMPL-X that stands in its rest pose, and where the wrists are turned in the camera.

    Args:
        take: any take.

    Raises:
        ExchangeError: the take has no frames.
    """
    count = len(take)
    arrays = _shared(take, SMPLX_FORMAT)
    arrays["surface_model_type"] = np.array("smplx")
    arrays["gender"] = np.array("neutral")
    model = take.meta["hand_model"] if isinstance(take.meta["hand_model"], dict) else {}
    arrays["hand_model"] = np.array(str(model.get("name", "")))
    arrays["betas"] = np.zeros(SHAPE_COUNT, np.float32)
    arrays["trans"] = np.zeros((count, 3), np.float32)
    for name, joints in _SMPLX_PARTS:
        arrays[name] = np.zeros((count, 3 * joints), np.float32)
    for side in SIDES:
        hand = take.hand(side)
        orient, pose = _axis_angle(hand.rotation)
        arrays[f"{side}_hand_pose"] = pose.astype(np.float32)
        arrays[f"{side}_wrist_orient"] = orient.astype(np.float32)
        arrays[f"{side}_wrist"] = np.asarray(hand.translation, np.float32)
        # A body has one shape for all of it; the hand's own is kept for those who import the file here again.
        arrays[f"{side}_hand_betas"] = np.asarray(hand.shape, np.float32)
        arrays[f"{side}_hand_scale"] = np.asarray(hand.scale[0], np.float32)
        arrays[f"{side}_confidence"] = np.asarray(hand.confidence, np.float32)
        arrays[f"{side}_observed"] = np.asarray(hand.observed)
    arrays["pose_hand"] = np.concatenate([arrays["left_hand_pose"], arrays["right_hand_pose"]], axis=1)
    arrays["poses"] = np.concatenate([arrays[name] for name, _ in _SMPLX_PARTS], axis=1)
    return arrays


def save_mano(take: Take, models: Mapping[Side, HandModel], path: Path) -> None:
    """Write `mano_parameters` as .npz or .json.

    Raises:
        ExchangeError, SettingsError, OutputError: the take is empty, the ending unknown, the file not writable.
    """
    write_arrays(mano_parameters(take, models), path)


def save_smplx(take: Take, path: Path) -> None:
    """Write `smplx_parameters` as .npz or .json.

    Raises:
        ExchangeError, SettingsError, OutputError: the take is empty, the ending unknown, the file not writable.
    """
    write_arrays(smplx_parameters(take), path)


def reshape_hands(take: Take, models: Mapping[Side, HandModel], wanted: Mapping[Side, HandModel]) -> Take:
    """The take for another hand model: betas and scale that give its bones the lengths that they have now.

    Joint rotations stay: both models count them from a flat hand.

    Args:
        take: any take.
        models: the hand model of each side that the take's shape belongs to.
        wanted: those that it shall belong to.
    """
    hands = {}
    for side in SIDES:
        hand = take.hand(side)
        size = float(hand.scale[0])
        points = size * landmark_places(models[side].rest_keypoints(hand.shape))[None]
        length = size * models[side].length(hand.shape)
        found = fit_shape(wanted[side], bone_lengths(points, np.ones(points.shape[:2])), length, noise=_BONE_NOISE)
        scale = np.array([found.scale], np.float32)
        hands[side] = replace(hand, shape=found.shape.astype(np.float32), scale=scale)
    return replace(take, left=hands["left"], right=hands["right"])


def frame_rate_of(take: Take) -> float:
    """Frames per second of a take, from its time stamps; of a single frame that of its source, or 30."""
    if len(take) > 1:
        return float((len(take) - 1) / (take.time[-1] - take.time[0]))
    source = take.meta["source"] if isinstance(take.meta["source"], dict) else {}
    rate = source.get("frame_rate")
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else 30.0


def _shared(take: Take, kind: str) -> dict[str, Array]:
    """What both kinds of files say about the clip."""
    if not len(take):
        raise ExchangeError("The take has no frames, so there is nothing to export: capture the clip again.")
    return {
        "format": np.array(kind),
        "coordinates": np.array(CAMERA_AXES),
        "flat_hand_mean": np.array(True),
        "time": np.asarray(take.time, np.float64),
        "frame": np.asarray(take.frame, np.int64),
        # The name of AMASS, which the SMPL-X add-on of Blender reads too.
        "mocap_frame_rate": np.array(frame_rate_of(take)),
        "camera_matrix": np.asarray(take.camera_matrix, np.float32),
        "image_size": np.asarray(take.image_size, np.int64),
        "source": np.array(json.dumps(take.meta["source"], ensure_ascii=False)),
    }


def _axis_angle(rotation: Array) -> tuple[Array, Array]:
    """Rotations [T, 16, 4] as vectors [T, 3] of the wrist and [T, 45] of the fingers."""
    vectors = to_rotation_vector(np.asarray(rotation, np.float64))
    return vectors[:, 0], vectors[:, 1:].reshape(len(vectors), _FINGER_VALUES)
