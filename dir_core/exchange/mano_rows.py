"""MANO parameters that other programs, or this one, have saved in their many layouts -> rows of hands. numpy only.

What is read, whatever the names around it (`pred_mano_params/hand_pose` counts as `hand_pose`):

- rows: one hand a row, `is_right` [N], `frame` [N]; `global_orient` [N, 1, 3, 3] and `hand_pose` [N, 15, 3, 3] as
  HaMeR and WiLoR give them, or axis-angle [N, 3] and [N, 45] as WiLoR-mini does; `betas` [N, 10], `pred_cam_t_full`
  [N, 3], `scaled_focal_length`, `img_size`. A folder with one such file per frame is read in the order of the names.
- tracks: [B, T, ...] with `is_right` [B, T] (Dyn-HaMR: `root_orient`, `pose_body`, `trans`), or the left and the
  right hand [2, T, ...] (HaWoR: `pred_rot`, `pred_hand_pose`, `pred_trans`, `pred_valid`).
- sides: `left_hand_pose` [T, 45], `right_global_orient` [T, 3] and so on, as this program exports them.

The HaMeR family shows left hands to its network in the mirror and saves the right hand that it saw. In the mirror
x is turned round, which takes a turn (x, y, z) to (x, -y, -z) and puts the root joint at -x.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import JOINTS, KEYPOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.errors import ExchangeError
from dir_core.exchange.files import read_archive
from dir_core.exchange.settings import ImportSettings

Array = NDArray[Any]

_FINGERS: Final = len(JOINTS) - 1

_ORIENT: Final = ("global_orient", "root_orient", "wrist_orient", "orient", "pred_rot", "rot")
_POSE: Final = ("hand_pose", "pose_body", "pred_hand_pose", "pose")
_BETAS: Final = ("betas", "pred_betas", "shape")
_PLACE: Final = ("pred_cam_t_full", "cam_t_full", "transl", "trans", "pred_trans", "translation", "cam_t")
_WRIST: Final = ("wrist",)
_POINTS: Final = ("pred_keypoints_3d",)
_RIGHT: Final = ("is_right", "right")
_SEEN: Final = ("observed", "valid", "pred_valid", "vis_mask")
_SURE: Final = ("confidence", "score", "scores")
_FRAME: Final = ("frame", "frame_id", "frame_idx", "frame_index", "frame_ids")
_TIME: Final = ("time", "timestamp", "timestamps")
_TO_CAMERA: Final = (("cam_r", "cam_t"), ("r_w2c", "t_w2c"))  # world -> camera, a turn and a move per frame

_SIDE_NAME: Final = re.compile(r"(left|right|lh|rh)[_/.](?:hand[_/.])?(.+)")


@dataclass(frozen=True, eq=False)
class HandRows:
    """Hands in frames as a file has them, N rows in any order.

    Attributes:
        frame: [N] index in the source.
        time: [N] seconds, NaN where the file does not say.
        right: [N] bool, the side.
        orient: [N, 4] quaternions of the wrist.
        fingers: [N, 15, 4] quaternions in MANO order.
        betas: [N, 10], NaN where the file has none.
        place: [N, 3] metres; what it is the place of says `root`.
        root: [N, 3] from there to the wrist; NaN where that is MANO's root joint, zero for the wrist itself.
        scale: [N] size factor.
        confidence: [N, 21] in 0..1, 0 where nothing was seen.
        mirrored: [N] bool, a left hand that is told as the right hand in the mirror.
        turn, move: [N, 4] and [N, 3], from the axes of all this into those of the frame's camera.
    """

    frame: Array
    time: Array
    right: Array
    orient: Array
    fingers: Array
    betas: Array
    place: Array
    root: Array
    scale: Array
    confidence: Array
    mirrored: Array
    turn: Array
    move: Array


@dataclass(frozen=True, eq=False)
class ManoResults:
    """A file of results: its hands, and everything that it says, by the last part of each name in lower case."""

    rows: HandRows
    facts: dict[str, Array]


def holds_mano(arrays: Mapping[str, Any]) -> bool:
    """Whether fields of these names hold rotations of wrists and fingers."""
    facts, sides = _sort_fields(arrays)
    return any(
        not values.keys().isdisjoint(_POSE) and not values.keys().isdisjoint(_ORIENT)
        for values in (facts, *sides.values())
    )


def read_mano(path: Path, arrays: Mapping[str, Array] | None, settings: ImportSettings) -> ManoResults:
    """The hands in a file, or in a folder with one .npz per frame; frames without a hand count too.

    Args:
        path: the file or folder.
        arrays: what is in the file; None reads it.
        settings: what the user says about left hands.

    Raises:
        ExchangeError: something is damaged, missing or laid out in a way that is not known.
    """
    if arrays is not None or not path.is_dir():
        return _read_fields(path, read_archive(path) if arrays is None else arrays, settings)
    files = sorted(path.glob("*.npz"))
    if not files:
        raise ExchangeError(f"There is no .npz file in {path}, choose the file or the folder of the results.")
    archives = [(number, file, read_archive(file)) for number, file in enumerate(files)]
    found = [_read_fields(file, archive, settings, number) for number, file, archive in archives if holds_mano(archive)]
    if not found:
        raise ExchangeError(f"No file in {path} holds MANO parameters (hand_pose), choose another folder.")
    return ManoResults(_join([part.rows for part in found]), found[0].facts)


def find_field(values: Mapping[str, Array], names: tuple[str, ...]) -> Array | None:
    """The first field that has one of these names."""
    return next((values[name] for name in names if name in values), None)


def pick_rows(rows: HandRows, which: Array) -> HandRows:
    """Some of the rows, by index or mask."""
    return HandRows(**{each.name: getattr(rows, each.name)[which] for each in fields(HandRows)})


def _join(parts: list[HandRows]) -> HandRows:
    names = [each.name for each in fields(HandRows)]
    return HandRows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _sort_fields(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Side, dict[str, Any]]]:
    """Everything by the last part of its name in lower case, and what the names give to a side."""
    sides: dict[Side, dict[str, Any]] = {side: {} for side in SIDES}
    for name, array in arrays.items():
        match = _SIDE_NAME.fullmatch(str(name).lower())
        if match:
            sides["left" if match.group(1)[0] == "l" else "right"][_last_part(match.group(2))] = array
    return {_last_part(str(name).lower()): array for name, array in arrays.items()}, sides


def _last_part(name: str) -> str:
    return re.split(r"[/.]", name)[-1]


def _read_fields(
    path: Path, arrays: Mapping[str, Array], settings: ImportSettings, number: int | None = None
) -> ManoResults:
    """The hands in one file; all of them in frame `number` if that is given and the file does not say."""
    facts, by_side = _sort_fields(arrays)
    sides = {side: values for side, values in by_side.items() if find_field(values, _POSE) is not None}
    shared = {name: facts[name] for name in (*_FRAME, *_TIME) if name in facts}
    if sides and settings.left_hands == "auto":
        settings = replace(settings, left_hands="own")  # who names the left hand's fields has some of its own
    parts = [{**shared, **values, "is_right": np.array(side == "right")} for side, values in sides.items()] or [facts]
    try:
        return ManoResults(_join([_read_rows(part, facts, path, settings, number) for part in parts]), facts)
    except (ValueError, TypeError, IndexError) as error:  # what numpy says of shapes that do not go together
        raise ExchangeError(
            f"{path} is laid out in a way that is not known ({error}), see docs/EXCHANGE.md."
        ) from error


def _read_rows(
    values: Mapping[str, Array], facts: Mapping[str, Array], path: Path, settings: ImportSettings, number: int | None
) -> HandRows:
    pose, orient = find_field(values, _POSE), find_field(values, _ORIENT)
    if pose is None:
        raise _lacks(path, "MANO parameters (hand_pose)")
    lead, fingers, wrist_turn, matrices = _split_pose(np.asarray(pose, np.float64), path)
    right = find_field(values, _RIGHT)
    if len(lead) == 2 and lead[1] == 1 and right is not None and right.size == lead[0]:
        lead = lead[:1]  # every row was a batch of one
    if len(lead) > 2:
        raise _lacks(path, "rows or tracks of hands but something of more dimensions")
    if orient is not None:
        wrist_turn = _turns(np.asarray(orient, np.float64), lead)
    if wrist_turn is None:
        raise _lacks(path, "orientation of the wrist (global_orient)")
    count = int(np.prod(lead))
    is_right = _which_side(right, lead, path)
    mirrored = matrices or (len(lead) == 2 and right is not None)
    if settings.left_hands != "auto":
        mirrored = settings.left_hands == "mirrored"
    place, root = _places(values, facts, lead, path)
    betas, stamps, scale = find_field(values, _BETAS), find_field(values, _TIME), values.get("scale", np.ones(1))
    turn, move = _cameras(facts, lead[-1], count)
    return HandRows(
        frame=_frames(find_field(values, _FRAME), lead, is_right, number, path),
        time=np.full(count, np.nan) if stamps is None else _spread(np.asarray(stamps, np.float64), lead),
        right=is_right,
        orient=wrist_turn.reshape(count, 4),
        fingers=fingers.reshape(count, _FINGERS, 4),
        betas=np.full((count, SHAPE_COUNT), np.nan) if betas is None else _per_row(betas, lead, SHAPE_COUNT),
        place=place,
        root=root,
        scale=_spread(np.asarray(scale, np.float64), lead),
        confidence=_confidence(values, lead),
        mirrored=np.full(count, mirrored) & ~is_right,
        turn=turn,
        move=move,
    )


def _lacks(path: Path, what: str) -> ExchangeError:
    return ExchangeError(f"{path} holds no {what}, see docs/EXCHANGE.md for what is read.")


def _which_side(right: Array | None, lead: tuple[int, ...], path: Path) -> Array:
    """Whether each row is a right hand [N]; two tracks without a word are the left and the right hand."""
    if right is not None:
        return _spread(np.asarray(right, np.float64) > 0.5, lead)
    if len(lead) == 2 and lead[0] == 2:
        return np.repeat([False, True], lead[1])
    raise _lacks(path, "word on which hand is the right one (is_right)")


def _frames(stated: Array | None, lead: tuple[int, ...], is_right: Array, number: int | None, path: Path) -> Array:
    """Index in the source of each row [N]."""
    if stated is not None and np.asarray(stated).dtype.kind in "iuf":
        return _spread(np.asarray(stated), lead).astype(np.int64)
    if number is not None:
        return np.full(len(is_right), number)
    if len(lead) == 2 or is_right.all() or not is_right.any():
        return _spread(np.arange(lead[-1]), lead)
    raise _lacks(path, "word on which frame a hand is in (frame)")


def _places(
    values: Mapping[str, Array], facts: Mapping[str, Array], lead: tuple[int, ...], path: Path
) -> tuple[Array, Array]:
    """Places [N, 3] of the hands, and from there to the wrist [N, 3], NaN where only the hand model knows."""
    count = int(np.prod(lead))
    wrist, place, points = (find_field(values, names) for names in (_WRIST, _PLACE, _POINTS))
    if wrist is not None:
        return _per_row(wrist, lead, 3), np.zeros((count, 3))
    if place is None or ("cam_r" in facts and place is facts.get("cam_t")):
        raise _lacks(path, "place of the hands in the camera (pred_cam_t_full, transl or trans)")
    if points is None:
        return _per_row(place, lead, 3), np.full((count, 3), np.nan)
    return _per_row(place, lead, 3), np.asarray(points, np.float64).reshape(count, len(KEYPOINTS), 3)[:, 0]


def _split_pose(pose: Array, path: Path) -> tuple[tuple[int, ...], Array, Array | None, bool]:
    """Leading axes, finger turns [..., 15, 4], wrist turns [..., 4] if it has them, and whether it is matrices."""
    matrices = pose.ndim >= 3 and pose.shape[-2:] == (3, 3) and pose.shape[-3] in (_FINGERS, _FINGERS + 1)
    if matrices:
        turns = rotations.from_matrix(rotations.nearest_rotation(_finite(pose, np.eye(3))))
        turns[~np.isfinite(pose).all(axis=(-1, -2))] = np.nan
    elif pose.ndim and pose.shape[-1] in (3 * _FINGERS, 3 * (_FINGERS + 1)):
        turns = rotations.from_rotation_vector(pose.reshape(*pose.shape[:-1], -1, 3))
    elif pose.ndim >= 2 and pose.shape[-1] == 3 and pose.shape[-2] in (_FINGERS, _FINGERS + 1):
        turns = rotations.from_rotation_vector(pose)
    else:
        raise ExchangeError(
            f"{path} has a hand_pose of shape {list(pose.shape)}, which are neither 15 matrices nor 45 axis-angle "
            "values (principal components cannot be read)."
        )
    lead = turns.shape[:-2] or (1,)
    turns = turns.reshape(*lead, *turns.shape[-2:])
    has_root = turns.shape[-2] == _FINGERS + 1
    return lead, turns[..., -_FINGERS:, :], turns[..., 0, :] if has_root else None, matrices


def _turns(values: Array, lead: tuple[int, ...]) -> Array:
    """Wrist turns [..., 4] from matrices or axis-angle vectors with any axes of length 1 between."""
    count = int(np.prod(lead))
    if values.size == 9 * count:
        matrices = values.reshape(*lead, 3, 3)
        turns = rotations.from_matrix(rotations.nearest_rotation(_finite(matrices, np.eye(3))))
        turns[~np.isfinite(matrices).all(axis=(-1, -2))] = np.nan
        return turns
    return rotations.from_rotation_vector(values.reshape(*lead, 3))


def _confidence(values: Mapping[str, Array], lead: tuple[int, ...]) -> Array:
    """How sure each key point is [N, 21], 0 where the hand was not seen."""
    count = int(np.prod(lead))
    sure = find_field(values, _SURE)
    confidence = np.ones((count, len(KEYPOINTS)))
    if sure is not None and sure.size == count * len(KEYPOINTS):
        confidence = np.array(sure, np.float64).reshape(count, len(KEYPOINTS))
    elif sure is not None:
        confidence *= _spread(np.asarray(sure, np.float64), lead).reshape(count, 1)
    seen = find_field(values, _SEEN)
    if seen is not None:
        confidence = confidence * (_spread(np.asarray(seen, np.float64), lead) > 0).reshape(count, 1)
    return np.clip(_finite(confidence, np.zeros(())), 0.0, 1.0)


def _cameras(facts: Mapping[str, Array], length: int, count: int) -> tuple[Array, Array]:
    """Turn [N, 4] and move [N, 3] of every row from the world into its camera; none where the file has no world."""
    known = next(((facts[turn], facts[move]) for turn, move in _TO_CAMERA if turn in facts and move in facts), None)
    if known is None:
        return np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)), np.zeros((count, 3))
    turn = np.asarray(known[0], np.float64).reshape(-1, 3, 3)
    move = np.asarray(known[1], np.float64).reshape(-1, 3)
    if len(turn) not in (length, count) or len(move) != len(turn):
        raise ExchangeError("The file has not as many cameras as frames, see docs/EXCHANGE.md for what is read.")
    which = np.arange(count) % len(turn)
    return rotations.from_matrix(rotations.nearest_rotation(turn))[which], move[which]


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    """One value per row [N] from values of that many, of one per track, of one per frame, or of one for all."""
    values = np.asarray(values)
    count = int(np.prod(shape))
    if values.size == count:
        return values.ravel()
    if values.size == 1:
        return np.full(count, values.ravel()[0])
    if len(shape) == 2 and values.size == shape[1] and values.shape != (shape[0], 1):
        return np.broadcast_to(values.reshape(1, -1), shape).ravel()
    return np.broadcast_to(values.reshape(-1, 1), shape).ravel()


def _per_row(values: Array, lead: tuple[int, ...], width: int) -> Array:
    """Vectors [N, width] from those of every row, of every track, or of all."""
    values = np.asarray(values, np.float64)
    count = int(np.prod(lead))
    if values.size == count * width:
        return values.reshape(count, width)
    if len(lead) == 2 and values.size == lead[0] * width:
        return np.repeat(values.reshape(lead[0], width), lead[1], axis=0)
    return (
        np.tile(values.reshape(1, -1)[:, :width], (count, 1)) if values.size == width else values.reshape(count, width)
    )


def _finite(values: Array, instead: Array) -> Array:
    """Values without those that are no numbers; a later look leaves their rows out."""
    return np.where(np.isfinite(values), values, instead)
