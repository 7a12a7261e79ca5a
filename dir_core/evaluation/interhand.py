"""InterHand2.6M (Moon et al. 2020) as it is downloaded: which frames show two hands, and what is known about them.

Reads the JSON files and pictures of the data set; measures nothing. Two layouts are understood:

    FOLDER/annotations/{split}/InterHand2.6M_{split}_{data,camera,joint_3d,MANO_NeuralAnnot}.json
    FOLDER/images/{split}/Capture*/<sequence>/cam<camera>/image<frame>.jpg

and a flat excerpt, FOLDER/{data,camera,joint_3d,MANO_NeuralAnnot}.json with the pictures beside them.

World coordinates are millimetres; what leaves this file is metres in camera axes and project pixels.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.errors import DataSetError
from dir_core.hand_model import HandModel
from dir_core.rotations import from_matrix, from_rotation_vector, multiply

Array = NDArray[Any]

Shown = Literal["interacting", "left", "right"]
"""What a picture of the data set shows: both hands, or one of them."""

SPLITS = ("train", "val", "test")

# Per hand the data set lists every finger from tip to base, then the wrist; the right hand comes first.
_KEYPOINT_ROWS = np.array([20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16])
_FIRST_ROW: dict[Side, int] = {"right": 0, "left": 21}
_METRE = 1e-3
_POSE_COUNT = 3 * len(JOINTS)


@dataclass(frozen=True, eq=False)
class ManoFit:
    """A MANO hand fitted to the frame by the data set's authors, in world axes.

    Attributes:
        pose: [48] axis-angle, root first; the 15 finger joints without the mean pose.
        shape: [10] betas.
        translation: [3] metres, added to the vertices after the root turned about the wrist joint.
    """

    pose: Array
    shape: Array
    translation: Array


@dataclass(frozen=True, eq=False)
class InterHandCamera:
    """One camera of one capture.

    Attributes:
        name: the data set's number of it.
        matrix: [3, 3] pixels, first pixel's centre at (0.5, 0.5).
        rotation, translation: [3, 3], [3]: camera point = rotation @ world point + translation, metres.
    """

    name: str
    matrix: Array
    rotation: Array
    translation: Array


@dataclass(frozen=True, eq=False)
class InterHandFrame:
    """One picture of hands. What the cameras of a moment share is held once.

    Attributes:
        image: the picture's file.
        capture, sequence: where it was taken.
        number: index of the frame in its sequence, as the data set counts.
        camera: what took it.
        world_joints: [42, 3] annotated joints in the data set's order, metres, world axes; NaN where one is missing.
        mano: MANO fits of both hands, None where the data set has none.
    """

    image: Path
    capture: str
    sequence: str
    number: int
    camera: InterHandCamera
    world_joints: Array
    mano: dict[Side, ManoFit] | None

    def joints(self, side: Side) -> Array:
        """Annotated key points [21, 3] in metres, camera axes.

        Raises:
            DataSetError: one of the hand's joints is missing.
        """
        world = self.world_joints[_FIRST_ROW[side] + _KEYPOINT_ROWS]
        if not np.isfinite(world).all():
            raise DataSetError(f"{self.image} has not all joints of the {side} hand, leave it out.")
        return world @ self.camera.rotation.T + self.camera.translation

    def vertices(self, side: Side, hand: HandModel) -> Array:
        """Vertices [V, 3] of a MANO fit in metres, camera axes.

        Raises:
            DataSetError: the frame has no MANO fit.
        """
        if self.mano is None:
            raise DataSetError(f"{self.image} has no MANO fit, measure without meshes.")
        fit = self.mano[side]
        turn = from_rotation_vector(fit.pose[None, :3])[:, None]  # [1, 1, 4]
        turn = multiply(from_matrix(self.camera.rotation), turn)
        # The fits are of the SMPL-X package, which adds the mean pose (flat_hand_mean=False).
        rotation = np.concatenate([turn, hand.pose_from_axis_angle(fit.pose[None, 3:])], axis=1)  # [1, 16, 4]
        wrist = hand.rest_joints(fit.shape)[0] + fit.translation
        wrist = self.camera.rotation @ wrist + self.camera.translation
        return hand.pose(rotation, wrist[None], fit.shape).vertices[0]

    def read_image(self) -> Array:
        """The picture [H, W, 3] uint8 RGB.

        Raises:
            DataSetError: it is missing or damaged.
        """
        try:
            data = np.frombuffer(self.image.read_bytes(), np.uint8)
        except OSError as error:
            raise DataSetError(f"Cannot read the picture {self.image}: {error.strerror}; unpack all images.") from error
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if image is None:
            raise DataSetError(f"The picture {self.image} is damaged, unpack it again.")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_interhand(
    folder: Path, split: str = "test", *, need_mano: bool | None = None, shown: Shown = "interacting"
) -> list[InterHandFrame]:
    """The frames of two interacting hands, or of one (by the valid hand_type), ordered by sequence and time.

    Args:
        folder: the data set, in one of the two layouts.
        split: train, val or test.
        need_mano: True keeps the frames with MANO fits of both hands, as DIR was trained and measured; False
            those with all annotated joints of the hands that are shown; None is True where the data set has MANO
            fits at all.
        shown: which frames.

    Raises:
        DataSetError: files are missing or foreign, or no frame is left.
    """
    folder = Path(folder)
    files = _find_files(folder, split)
    if need_mano is None:
        need_mano = "MANO_NeuralAnnot" in files
    if need_mano and "MANO_NeuralAnnot" not in files:
        raise DataSetError(f"{folder} has no MANO_NeuralAnnot.json for {split}, download the MANO annotations.")
    data = _read_json(files["data"])
    annotations = _Annotations(files)
    try:
        images = {image["id"]: image for image in data["images"]}
        wanted = [
            images[annotation["image_id"]]
            for annotation in data["annotations"]
            if annotation["hand_type"] == shown and annotation["hand_type_valid"]
        ]
        frames = [
            InterHandFrame(
                image=Path(image["file_name"]),
                capture=str(image["capture"]),
                sequence=str(image["seq_name"]),
                number=int(image["frame_idx"]),
                camera=annotations.camera(str(image["capture"]), str(image["camera"])),
                world_joints=annotations.world_joints(str(image["capture"]), int(image["frame_idx"])),
                mano=annotations.mano(str(image["capture"]), int(image["frame_idx"])),
            )
            for image in wanted
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(files["data"], error) from error
    rows = np.concatenate([row + _KEYPOINT_ROWS for side, row in _FIRST_ROW.items() if shown in ("interacting", side)])
    frames = [frame for frame in frames if (frame.mano if need_mano else np.isfinite(frame.world_joints[rows]).all())]
    if not frames:
        known = "MANO fits of both hands" if need_mano else f"all {len(rows)} joints"
        hands = "two interacting hands" if shown == "interacting" else f"a {shown} hand"
        raise DataSetError(f"{files['data']} has no frame of {hands} with {known}, choose another split.")
    places = (folder / "images" / split, folder / "images", folder)
    place = next((each for each in places if (each / frames[0].image).is_file()), places[0])
    frames = [replace(frame, image=place / frame.image) for frame in frames]
    return sorted(frames, key=lambda frame: (frame.capture, frame.sequence, frame.camera.name, frame.number))


def _find_files(folder: Path, split: str) -> dict[str, Path]:
    if split not in SPLITS:
        raise DataSetError(f"InterHand2.6M has no split {split!r}, choose one of {', '.join(SPLITS)}.")
    if not folder.is_dir():
        raise DataSetError(f"There is no folder {folder}, give the one that holds annotations and images.")
    found: dict[str, Path] = {}
    for kind in ("data", "camera", "joint_3d", "MANO_NeuralAnnot"):
        official = f"InterHand2.6M_{split}_{kind}.json"
        for path in (folder / "annotations" / split / official, folder / official, folder / f"{kind}.json"):
            if path.is_file():
                found[kind] = path
                break
        else:
            if kind != "MANO_NeuralAnnot":
                raise DataSetError(
                    f"{folder} is no InterHand2.6M: annotations/{split}/{official} is missing; "
                    "give the folder that holds annotations and images."
                )
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataSetError(f"Cannot read {path}: {error.strerror}; choose another folder.") from error
    except ValueError as error:
        raise DataSetError(f"{path} is damaged, download it again.") from error


class _Annotations:
    """The annotation files beside data.json. What several pictures share is read once and held once."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._content = {kind: _read_json(path) for kind, path in files.items() if kind != "data"}
        self.camera = functools.cache(self._camera)
        self.world_joints = functools.cache(self._world_joints)
        self.mano = functools.cache(self._mano)

    def _camera(self, capture: str, name: str) -> InterHandCamera:
        try:
            place = self._content["camera"][capture]
            rotation = np.array(place["camrot"][name], np.float64).reshape(3, 3)
            position = np.array(place["campos"][name], np.float64).reshape(3)
            focal = np.array(place["focal"][name], np.float64).reshape(2)
            centre = np.array(place["princpt"][name], np.float64).reshape(2)
        except (KeyError, TypeError, ValueError) as error:
            raise DataSetError(
                f"{self._files['camera']} has no camera {name} of capture {capture}, "
                "take all annotation files of one release."
            ) from error
        matrix = np.diag([*focal, 1.0])
        matrix[:2, 2] = centre + 0.5  # the data set counts from the centre of the first pixel, as OpenCV does
        return InterHandCamera(name, matrix, rotation, -_METRE * rotation @ position)

    def _world_joints(self, capture: str, number: int) -> Array:
        try:
            annotation = self._content["joint_3d"][capture][str(number)]
            world = _METRE * np.array(annotation["world_coord"], np.float64).reshape(42, 3)
            valid = np.array(annotation["joint_valid"], bool).reshape(42)
        except (KeyError, TypeError, ValueError) as error:
            raise DataSetError(
                f"{self._files['joint_3d']} has no joints of frame {number} of capture {capture}, "
                "take all annotation files of one release."
            ) from error
        world[~valid] = np.nan
        return world

    def _mano(self, capture: str, number: int) -> dict[Side, ManoFit] | None:
        """The fits of both hands; None where a hand or the frame has none, as it happens throughout the data set."""
        try:
            entry = self._content.get("MANO_NeuralAnnot", {}).get(capture, {}).get(str(number), {})
            if not all(entry.get(side) for side in SIDES):
                return None
            return {
                side: ManoFit(
                    pose=np.array(entry[side]["pose"], np.float64).reshape(_POSE_COUNT),
                    shape=np.array(entry[side]["shape"], np.float64).reshape(SHAPE_COUNT),
                    translation=np.array(entry[side]["trans"], np.float64).reshape(3),
                )
                for side in SIDES
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _foreign(self._files["MANO_NeuralAnnot"], error) from error


def _foreign(path: Path, error: Exception) -> DataSetError:
    return DataSetError(f"{path} is no annotation file of InterHand2.6M ({error!r}), download it again.")
