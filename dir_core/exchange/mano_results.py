"""MANO parameters that other programs, or this one, have saved -> a raw take. numpy only."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import project
from dir_core.clean_up.gaps import inner_gaps, straight
from dir_core.conventions import DEFAULT_HAND_LENGTH, JOINTS, KEYPOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.errors import ExchangeError, SettingsError
from dir_core.exchange.clip import (
    KnownFootage,
    assemble_take,
    camera_of,
    choose_image_size,
    choose_lens,
    choose_times,
    describe_import,
    every_frame,
)
from dir_core.exchange.mano_rows import HandRows, find_field, pick_rows, read_mano
from dir_core.exchange.parameters import MANO_FORMAT, SMPLX_FORMAT
from dir_core.exchange.settings import ImportSettings
from dir_core.fitting.hand_shape import weighted_median
from dir_core.hand_model import HandModel, load_hand_models, open_hand_models
from dir_core.take import HandTrack, Take

Array = NDArray[Any]

_FINGERS: Final = len(JOINTS) - 1
_OWN: Final = (MANO_FORMAT, SMPLX_FORMAT)

_RATE: Final = ("mocap_frame_rate", "mocap_framerate", "frame_rate", "fps")
_FOCAL: Final = ("scaled_focal_length", "focal_length", "img_focal", "focal")
_MATRIX: Final = ("camera_matrix", "cam_k", "k", "intrinsics")
_SIZE: Final = ("image_size", "img_size")

_MANO_ROOT: Final = np.array([0.0957, 0.0064, 0.0062])
"""Where the wrist joint of a right hand of MANO in its mean shape lies, metres in model axes: what parameters are
counted from, also where the files of MANO are not to be had."""

_OTHER_MODEL: Final = (
    "The parameters belong to MANO, whose files were not given: the hands have the mean shape of the open hand."
)

_LONGEST_LENS = 5.0  # widths of the picture, 180 mm on full frame; HaMeR's 5000 px at 256 are 19.5 and no lens at all
_NEAREST = 0.01  # metres; nothing nearer is in a picture
_MIRROR: Final = np.array([1.0, 1.0, -1.0, -1.0])  # of a quaternion, as x is turned round


def import_mano(
    path: Path, arrays: Mapping[str, Array] | None, settings: ImportSettings, footage: KnownFootage | None
) -> tuple[Take, tuple[str, ...]]:
    """The take of MANO parameters, and what the user should know, a sentence each.

    Args:
        path: the file, or a folder with an .npz per frame.
        arrays: what is in the file; None reads it.
        settings: what the user says about it.
        footage: what the results were made from, if that is known.

    Raises:
        ExchangeError: the file is damaged or laid out in a way that is not known.
        SettingsError: something is missing that only the user can say.
        HandModelError: the hand model of the user cannot be used.
    """
    results = read_mano(path, arrays, settings)
    facts = results.facts
    if str(facts.get("hand_model", "")) == open_hand_models()["right"].name:
        settings = replace(settings, hand_model=None)  # the file knows better whose betas it has
    models, same = _choose_models(facts, settings)
    rows = _put_right(results.rows, facts, models, settings, same)
    # Frames in which a program looked and saw nobody are frames too.
    frame = every_frame(results.rows.frame if len(rows.frame) else rows.frame)
    time = choose_times(frame, _times(results.rows, frame), _number(facts, _RATE), footage, settings)
    size = choose_image_size(find_field(facts, _SIZE), footage, settings)
    rows, camera_matrix, note = _choose_camera(rows, facts, size, settings)
    if settings.mirrored and not _is_own(facts):  # our own files have turned hands back already
        rows, camera_matrix = _turn_back(rows, camera_matrix)
    tracks = {}
    for side in SIDES:
        hand = pick_rows(rows, rows.right == (side == "right"))
        # One person has one shape: where the hands were seen each for itself, both share the median.
        shape = _clip_shape(hand if _is_own(facts) else rows) if same else np.zeros(SHAPE_COUNT)
        scale = _scale(hand, models[side], shape, settings)
        tracks[side] = _make_track(hand, frame, models[side], shape, scale, camera_matrix)
    notes = [] if same else [_OTHER_MODEL]
    estimator = {
        "name": "imported",
        "licence": "that of the program that made it",
        "weights": "",
        "format": str(facts["format"]) if _is_own(facts) else "MANO parameters",
    }
    meta = describe_import(path, estimator, models, settings, footage=footage, time=time, size=size)
    if footage is None and "source" in facts:
        meta["source"] |= _source(facts["source"])
    take = assemble_take(tracks, time=time, frame=frame, camera_matrix=camera_matrix, size=size, meta=meta)
    return take, (*notes, *([note] if note else []))


def _choose_models(facts: Mapping[str, Array], settings: ImportSettings) -> tuple[dict[Side, HandModel], bool]:
    """The hands to pose, and whether the parameters belong to them."""
    models = load_hand_models(settings.hand_model)
    if settings.hand_model is not None:
        return models, True
    return models, str(facts.get("hand_model", "")) == models["right"].name


def _put_right(
    rows: HandRows, facts: Mapping[str, Array], models: Mapping[Side, HandModel], settings: ImportSettings, same: bool
) -> HandRows:
    """Usable rows: turns relative to the flat hand of their own side, `place` the wrist in camera axes."""
    flat = settings.flat_hand_mean
    if flat is None:
        flat = bool(facts["flat_hand_mean"]) if "flat_hand_mean" in facts else True
    fingers = rows.fingers
    if not flat:
        if settings.hand_model is None:
            raise SettingsError("MANO's mean pose is in its files, give the folder that holds them (--hand-model).")
        told_right = (rows.right | rows.mirrored)[:, None]
        mean = np.where(told_right, models["right"].mean_pose, models["left"].mean_pose).reshape(-1, _FINGERS, 3)
        fingers = rotations.from_rotation_vector(rotations.to_rotation_vector(fingers) + mean)
    mirror = np.where(rows.mirrored[:, None], _MIRROR, 1.0)
    root = np.where(rows.mirrored[:, None], rows.root * [-1.0, 1.0, 1.0], rows.root)
    root = np.where(np.isnan(root), _model_roots(rows, models, same), root)
    wrist = rotations.rotate(rows.turn, rows.place + root) + rows.move
    rows = replace(
        rows,
        orient=rotations.multiply(rows.turn, rows.orient * mirror),
        fingers=fingers * mirror[:, None],
        place=wrist,
    )
    known = np.isfinite(np.concatenate([rows.orient, rows.place, rows.fingers.reshape(len(wrist), -1)], axis=1))
    usable = known.all(axis=1) & (_is_own(facts) | (rows.confidence.max(axis=1, initial=0.0) > 0))
    if usable.any() and not (rows.place[usable, 2] > _NEAREST).any():
        raise ExchangeError(
            "The hands lie behind the camera, so the file is in the axes of a world: save the results of the camera, "
            "or its turn and place with them (cam_R, cam_t)."
        )
    return pick_rows(rows, usable & (np.nan_to_num(rows.place[:, 2]) > _NEAREST))


def _model_roots(rows: HandRows, models: Mapping[Side, HandModel], same: bool) -> Array:
    """From the origin of the model to the wrist of each row's shape [N, 3]."""
    if not same:
        return _MANO_ROOT * np.where(rows.right[:, None], 1.0, [-1.0, 1.0, 1.0])
    betas = np.nan_to_num(rows.betas)
    roots = {}
    for side, model in models.items():
        mean = model.rest_joints()[0]
        change = np.stack([model.rest_joints(unit)[0] - mean for unit in np.eye(SHAPE_COUNT)])
        roots[side] = mean + betas @ change
    return np.where(rows.right[:, None], roots["right"], roots["left"])


def _choose_camera(
    rows: HandRows, facts: Mapping[str, Array], size: tuple[int, int], settings: ImportSettings
) -> tuple[HandRows, Array, str]:
    """Hands and camera matrix [3, 3] of the lens, as the picture was given, and a note for the user.

    Another lens than the file's sees the hands equally large where they are nearer or farther by the ratio of the
    focal lengths.
    """
    wanted, note = choose_lens(size, settings), ""
    stated = _stated_matrix(facts, size)
    if stated is None:
        return rows, camera_of(size, wanted, replace(settings, mirrored=False)), note
    focal = abs(float(stated[0, 0]))
    is_lens = focal <= _LONGEST_LENS * size[0]
    if wanted is None and is_lens:
        return rows, stated, note
    camera = camera_of(size, wanted, replace(settings, mirrored=False))
    camera[0, 0] = np.copysign(camera[0, 0], stated[0, 0])
    if wanted is None:
        note = (
            f"The focal length in the file ({focal:.0f} px) is no lens but a measure of the network: the hands were "
            f"moved to where a lens of {camera[1, 1]:.0f} px sees them."
        )
    depth = rows.place[:, 2:]
    factor = abs(camera[0, 0]) / focal
    across = rows.place[:, :2] + (stated[:2, 2] - camera[:2, 2]) * depth / [stated[0, 0], stated[1, 1]]
    return replace(rows, place=np.concatenate([across, depth * factor], axis=1)), camera, note


def _stated_matrix(facts: Mapping[str, Array], size: tuple[int, int]) -> Array | None:
    """The camera matrix [3, 3] that the file states, or that of the focal length that it states."""
    matrix = find_field(facts, _MATRIX)
    if matrix is not None and matrix.size and matrix.size % 9 == 0 and np.isfinite(matrix).all():
        first: Array = np.asarray(matrix, np.float64).reshape(-1, 3, 3)[0]
        if first[0, 0] and first[1, 1] > 0:
            return first
    if "intrins" in facts and facts["intrins"].size >= 4:
        fx, fy, cx, cy = np.asarray(facts["intrins"], np.float64).ravel()[:4]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    focal = find_field(facts, _FOCAL)
    if focal is None or not focal.size:
        return None
    middle = float(np.median(np.asarray(focal, np.float64)))
    return np.array([[middle, 0.0, size[0] / 2], [0.0, middle, size[1] / 2], [0.0, 0.0, 1.0]]) if middle > 0 else None


def _turn_back(rows: HandRows, camera_matrix: Array) -> tuple[HandRows, Array]:
    """The real hands of a selfie, and the camera with a negative focal length that sees them in the mirror."""
    rows = replace(
        rows,
        right=~rows.right,
        orient=rows.orient * _MIRROR,
        fingers=rows.fingers * _MIRROR,
        place=rows.place * [-1.0, 1.0, 1.0],
    )
    return rows, camera_matrix * [[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]


def _scale(rows: HandRows, model: HandModel, shape: Array, settings: ImportSettings) -> tuple[float, float]:
    """Size factor of the hand in the take, and how much farther away it is for being so large."""
    stated = float(np.median(rows.scale)) if len(rows.scale) else 1.0
    if settings.hand_length is None and len(rows.scale):
        return stated, 1.0
    wanted = (settings.hand_length or DEFAULT_HAND_LENGTH) / model.length(shape)
    return wanted, wanted / stated


def _make_track(  # noqa: PLR0917 - all of it is needed
    rows: HandRows, frame: Array, model: HandModel, shape: Array, scale: tuple[float, float], camera_matrix: Array
) -> HandTrack:
    """One hand; where a frame has it twice, the surer one. Frames without it are crossed evenly."""
    count = len(frame)
    order = np.argsort(rows.confidence.mean(axis=1), kind="stable")
    which = np.full(count, -1)
    which[np.searchsorted(frame, rows.frame)[order]] = order
    posed = which >= 0
    picked = which[posed]
    rotation = np.tile([1.0, 0.0, 0.0, 0.0], (count, len(JOINTS), 1))
    rotation[posed, 0], rotation[posed, 1:] = rows.orient[picked], rows.fingers[picked]
    translation, confidence = np.zeros((count, 3)), np.zeros((count, len(KEYPOINTS)))
    translation[posed], confidence[posed] = scale[1] * rows.place[picked], rows.confidence[picked]
    rotation = rotations.make_continuous(_cross(rotation, posed, rotations.slerp))
    translation = _cross(translation, posed, straight)
    observed = confidence.max(axis=1) > 0  # files of ours also tell where a hand is thought to be that was not seen
    keypoints = model.pose_keypoints(rotation, translation, shape, scale[0])
    keypoints[~observed] = 0.0
    pixels = np.zeros((count, len(KEYPOINTS), 2))
    pixels[observed] = project(keypoints[observed], camera_matrix)
    return HandTrack(
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        shape=shape.astype(np.float32),
        scale=np.array([scale[0]], np.float32),
        keypoints_2d=pixels.astype(np.float32),
        keypoints_3d=keypoints.astype(np.float32),
        confidence=confidence.astype(np.float32),
        observed=observed,
    )


def _clip_shape(rows: HandRows) -> Array:
    """Median of the betas [10] of rows, weighted by confidence; zeros if no row has any."""
    known = np.isfinite(rows.betas).all(axis=1)
    if not known.any():
        return np.zeros(SHAPE_COUNT)
    weight = np.broadcast_to(rows.confidence[known].mean(axis=1)[:, None], (int(known.sum()), SHAPE_COUNT))
    return weighted_median(rows.betas[known], weight)


def _cross(values: Array, known: Array, between: Any) -> Array:
    """Values [T, K, D] or [T, D] with an even passage through frames without any, held at both ends."""
    seen = np.flatnonzero(known)
    if not len(seen):
        return values
    result = values.copy()
    result[: seen[0]], result[seen[-1] + 1 :] = values[seen[0]], values[seen[-1]]
    for first, last in inner_gaps(known):
        share = np.arange(1, last - first + 2) / (last - first + 2)
        result[first : last + 1] = between(values[first - 1], values[last + 1], share[:, None])
    return result


def _times(rows: HandRows, frame: Array) -> Array | None:
    """Seconds [T] that the file states, evenly filled in for frames that it does not have."""
    known = np.isfinite(rows.time)
    if not known.any():
        return None
    stated, first = np.unique(rows.frame[known], return_index=True)
    if len(stated) == 1 and len(frame) > 1:
        return None
    return np.interp(frame, stated, rows.time[known][first])


def _number(facts: Mapping[str, Array], names: tuple[str, ...]) -> float | None:
    value = find_field(facts, names)
    return float(np.asarray(value, np.float64).ravel()[0]) if value is not None and value.size else None


def _is_own(facts: Mapping[str, Array]) -> bool:
    return str(facts.get("format", "")) in _OWN


def _source(text: Array) -> dict[str, Any]:
    """What a file of ours says of its footage; nothing if it is damaged."""
    try:
        source = json.loads(str(text))
    except json.JSONDecodeError:
        return {}
    return source if isinstance(source, dict) else {}
