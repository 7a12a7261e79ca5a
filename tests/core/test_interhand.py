"""InterHand2.6M: a small data set written here with known errors, and the two real pictures where they are at hand."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dir_core.camera import project
from dir_core.cli import main
from dir_core.conventions import SIDES, Side
from dir_core.errors import DataSetError
from dir_core.evaluation.interhand import read_interhand
from dir_core.evaluation.interhand_benchmark import measure_frames
from dir_core.evaluation.protocol import PairPrediction, Protocol, ProtocolErrors, ProtocolFigures, joints_of_mesh
from dir_core.hand_model import OPEN_HAND_FOLDER, HandModel, open_hand_models
from dir_core.rotations import from_rotation_vector, to_matrix, to_rotation_vector

FRAMES = 6
STEP = 3  # the data set numbers its frames in steps
DARK_FRAME = 2
CAMERA_TURN = to_matrix(from_rotation_vector(np.array([0.3, -0.7, 0.2])))
CAMERA_PLACE = np.array([650.0, -120.0, 160.0])  # mm
FOCAL, CENTRE = (1270.0, 1271.0), (166.0, 251.0)
# As in the data set: fingers from thumb to little finger, each from the tip to the base, then the wrist.
TIP_FIRST = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]


@pytest.fixture(scope="session")
def hands() -> dict[Side, HandModel]:
    # Rows of the stored regressors sum to one within float32; exact ones make every expectation exact.
    return {
        side: replace(hand, joint_regressor=hand.joint_regressor / hand.joint_regressor.sum(axis=1, keepdims=True))
        for side, hand in open_hand_models().items()
    }


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, hands: dict[Side, HandModel]) -> tuple[Path, dict[Side, Any]]:
    """A data set in the official layout and the true vertices [6, V, 3] in camera axes, metres."""
    folder = tmp_path_factory.mktemp("interhand")
    return folder, write_data_set(folder, hands)


def write_data_set(folder: Path, hands: dict[Side, HandModel]) -> dict[Side, np.ndarray]:
    random = np.random.default_rng(11)
    numbers = [1000 + STEP * row for row in range(FRAMES)]
    fits: dict[str, dict[str, Any]] = {str(number): {} for number in numbers}
    world_joints = np.zeros((FRAMES, 42, 3))
    vertices: dict[Side, np.ndarray] = {}
    for side, first, shift in (("right", 0, -0.05), ("left", 21, 0.05)):
        hand = hands[side]
        rotation = from_rotation_vector(random.normal(0, 0.25, (FRAMES, 16, 3)))
        shape = random.normal(0, 1, 10)
        in_camera = np.array([shift, 0.02, 1.1]) + random.normal(0, 0.01, (FRAMES, 3))
        wrist = in_camera @ CAMERA_TURN + CAMERA_PLACE / 1e3  # R^T x + position
        world = hand.pose(rotation, wrist, shape).vertices
        vertices[side] = (world - CAMERA_PLACE / 1e3) @ CAMERA_TURN.T
        world_joints[:, first : first + 21] = 1e3 * joints_of_mesh(world, hand)[:, TIP_FIRST]
        for row, number in enumerate(numbers):
            fingers = hand.axis_angle_from_pose(rotation[row : row + 1, 1:])[0]  # without the mean pose
            fits[str(number)][side] = {
                "pose": [*to_rotation_vector(rotation[row, 0]), *fingers],
                "shape": list(shape),
                "trans": list(wrist[row] - hand.rest_joints(shape)[0]),
            }
    images, annotations, joints = [], [], {}
    place = folder / "images" / "test" / "Capture3" / "0001_two_hands" / "cam400001"
    place.mkdir(parents=True)
    for row, number in enumerate(numbers):
        name = f"Capture3/0001_two_hands/cam400001/image{number}.jpg"
        wrist = joints_of_mesh(vertices["left"][row : row + 1], hands["left"])[0, 0]
        write_picture(folder / "images" / "test" / name, wrist, dark=row == DARK_FRAME)
        images.append({"id": row, "file_name": name, "width": 334, "height": 512, "capture": 3, "subject": 0,
                       "seq_name": "0001_two_hands", "camera": "400001", "frame_idx": number})  # fmt: skip
        annotations.append({"id": row, "image_id": row, "bbox": [0, 0, 1, 1], "joint_valid": [1] * 42,
                            "hand_type": "interacting", "hand_type_valid": 1})  # fmt: skip
        joints[str(number)] = {"world_coord": world_joints[row].tolist(), "joint_valid": [[True]] * 42,
                               "hand_type": "interacting", "hand_type_valid": True}  # fmt: skip
    annotations.append(annotations[0] | {"id": 99, "hand_type": "left"})
    annotations.append(annotations[0] | {"id": 98, "hand_type_valid": 0})
    camera = {
        "campos": {"400001": CAMERA_PLACE.tolist()},
        "camrot": {"400001": CAMERA_TURN.tolist()},
        "focal": {"400001": FOCAL},
        "princpt": {"400001": CENTRE},
    }
    write_annotations(
        folder,
        data={"images": images, "annotations": annotations},
        camera={"3": camera},
        joint_3d={"3": joints},
        MANO_NeuralAnnot={"3": fits},
    )
    return vertices


def write_annotations(folder: Path, **files: Any) -> None:
    place = folder / "annotations" / "test"
    place.mkdir(parents=True, exist_ok=True)
    for kind, content in files.items():
        (place / f"InterHand2.6M_test_{kind}.json").write_text(json.dumps(content))


def write_picture(path: Path, wrist: np.ndarray, dark: bool) -> None:
    """Grey with a bright spot on the left wrist; projected as OpenCV counts, from the first pixel's centre."""
    x, y = wrist[:2] / wrist[2] * FOCAL + CENTRE
    rows, columns = np.mgrid[0:512, 0:334]
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    grey = np.zeros((512, 334)) if dark else 60 + 190 * spot
    assert cv2.imwrite(str(path), np.repeat(grey[..., None], 3, axis=2).astype(np.uint8))


def perturbed(vertices: dict[Side, np.ndarray], hands: dict[Side, HandModel]) -> Callable[[np.ndarray], PairPrediction]:
    """A network that sees the left hand 10 % too large and the right wrist 5 mm away from where it is."""
    rows = [row for row in range(FRAMES) if row != DARK_FRAME]

    def predict(images: np.ndarray) -> PairPrediction:
        batch, rows[:] = rows[: len(images)], rows[len(images) :]
        roots = {side: joints_of_mesh(vertices[side][batch], hands[side])[:, 0] for side in SIDES}
        size = {"left": 1.1, "right": 1.0}
        return PairPrediction(
            {side: size[side] * (vertices[side][batch] - roots[side][:, None]) for side in SIDES},
            roots["right"] - roots["left"] + [0.0, 0.003, -0.004],
            0,
        )

    return predict


def measure(
    folder: Path, vertices: dict[Side, np.ndarray], hands: dict[Side, HandModel], **protocol: Any
) -> ProtocolFigures:
    errors = ProtocolErrors(Protocol(**protocol), hands)
    frames = read_interhand(folder)
    assert measure_frames(frames, perturbed(vertices, hands), errors, hands, batch=2) == 1  # one dark frame
    return errors.figures()


def test_vertices_and_joints_come_out_in_camera_axes(
    written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel]
) -> None:
    folder, vertices = written
    frames = read_interhand(folder)
    assert [frame.number for frame in frames] == [1000 + STEP * row for row in range(FRAMES)]
    for row, frame in enumerate(frames):
        for side in SIDES:
            assert frame.vertices(side, hands[side]) == pytest.approx(vertices[side][row], abs=1e-9)
            expected = joints_of_mesh(vertices[side][row : row + 1], hands[side])[0]
            assert frame.joints(side) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("root", [0, 9])
def test_known_errors_with_the_size_of_the_truth(
    written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel], root: int
) -> None:
    folder, vertices = written
    figures = measure(folder, vertices, hands, root=root, frame_rate=30)
    assert figures.frames == FRAMES - 1
    assert figures.average.mpjpe_mm == pytest.approx(0, abs=1e-6)
    assert figures.average.mpvpe_mm == pytest.approx(0, abs=1e-6)
    assert figures.average.pa_mpjpe_mm == pytest.approx(0, abs=1e-5)
    assert figures.average.vertex_pixels == pytest.approx(0, abs=1e-6)
    if root == 0:
        assert figures.mrrpe_mm == pytest.approx(5.0, abs=1e-6)
    else:  # the left knuckle lies 10 % too far from its wrist
        knuckle = np.delete(bone_to_knuckle(vertices["left"], hands["left"]), DARK_FRAME, axis=0)
        expected = np.linalg.norm([0.0, 0.003, -0.004] - 0.1 * knuckle, axis=-1).mean()
        assert figures.mrrpe_mm == pytest.approx(1e3 * expected, abs=1e-6)
    # Three pictures in a row are left on one side of the dark one; both hands move as the truth does.
    assert figures.average.acceleration_mm == pytest.approx(0, abs=1e-6)


def bone_to_knuckle(vertices: np.ndarray, hand: HandModel) -> np.ndarray:
    joints = joints_of_mesh(vertices, hand)
    return joints[:, 9] - joints[:, 0]


@pytest.mark.parametrize("root", [0, 9])
def test_known_errors_without_scale_alignment(
    written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel], root: int
) -> None:
    folder, vertices = written
    figures = measure(folder, vertices, hands, root=root, scale=False)
    mesh = np.delete(vertices["left"], DARK_FRAME, axis=0)
    joints = joints_of_mesh(mesh, hands["left"])
    origin = joints[:, root, None]
    assert figures.left.mpjpe_mm == pytest.approx(100 * np.linalg.norm(joints - origin, axis=-1).mean())
    assert figures.left.mpvpe_mm == pytest.approx(100 * np.linalg.norm(mesh - origin, axis=-1).mean())
    assert figures.right.mpjpe_mm == pytest.approx(0, abs=1e-6)
    assert figures.average.mpjpe_mm == pytest.approx(figures.left.mpjpe_mm / 2)
    assert figures.left.joint_pixels > 1
    assert figures.average.acceleration_mm is None  # no frame rate, no acceleration


def test_the_crop_shows_what_its_camera_says(
    written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel]
) -> None:
    folder, vertices = written
    seen: list[np.ndarray] = []
    inner = perturbed(vertices, hands)

    def predict(images: np.ndarray) -> PairPrediction:
        seen.extend(images)
        return inner(images)

    frame = read_interhand(folder)[:1]
    errors = ProtocolErrors(Protocol(), hands)
    measure_frames(frame, predict, errors, hands)
    assert seen[0].shape == (3, 256, 256)
    both = np.concatenate([vertices[side][0] for side in SIDES])
    pixels = both[:, :2] / both[:, 2:] * FOCAL + CENTRE
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    half = (high - low).max() / 2 / 0.8
    wrist = joints_of_mesh(vertices["left"][:1], hands["left"])[0, 0]
    expected = (wrist[:2] / wrist[2] * FOCAL + CENTRE - (low + high) / 2) * 128 / half + 128
    spot = np.clip(seen[0][0] - np.median(seen[0][0]) - 0.3, 0, None)
    y, x = np.mgrid[0:256, 0:256]
    assert np.array([(x * spot).sum(), (y * spot).sum()]) / spot.sum() == pytest.approx(expected, abs=0.1)


def test_without_mano_fits_the_annotated_joints_are_the_truth(
    written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel], tmp_path: Path
) -> None:
    folder, vertices = written
    flat = tmp_path / "flat"
    shutil.copytree(folder, flat)
    (flat / "annotations" / "test" / "InterHand2.6M_test_MANO_NeuralAnnot.json").unlink()
    figures = measure(flat, vertices, hands, truth="annotated joints")
    assert figures.average.mpjpe_mm == pytest.approx(0, abs=1e-6)
    assert figures.average.mpvpe_mm is None


# Errors are one sentence


def annotation(folder: Path, kind: str) -> Path:
    return folder / "annotations" / "test" / f"InterHand2.6M_test_{kind}.json"


def change(folder: Path, kind: str, edit: Callable[[Any], Any]) -> None:
    path = annotation(folder, kind)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(edit(content)))


def only_left(data: Any) -> Any:
    return data | {"annotations": [each | {"hand_type": "left"} for each in data["annotations"]]}


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "There is no folder"),
    "another folder": (lambda folder: shutil.rmtree(folder / "annotations"), "no InterHand2.6M"),
    "no cameras": (lambda folder: annotation(folder, "camera").unlink(), "camera.json is missing"),
    "damaged JSON": (lambda folder: annotation(folder, "joint_3d").write_text("{"), "is damaged"),
    "foreign JSON": (lambda folder: annotation(folder, "data").write_text('{"a": 1}'), "no annotation file"),
    "foreign list": (lambda folder: annotation(folder, "data").write_text("[]"), "no annotation file"),
    "another camera": (lambda folder: change(folder, "camera", lambda _: {"3": {}}), "no camera 400001 of capture 3"),
    "no such frame": (lambda folder: change(folder, "joint_3d", lambda _: {"3": {}}), "no joints of frame 1000"),
    "single hands": (lambda folder: change(folder, "data", only_left), "no frame of two interacting hands"),
    "foreign fits": (
        lambda folder: change(folder, "MANO_NeuralAnnot", lambda fits: {"3": {key: {} for key in fits["3"]}}),
        "no frame of two interacting hands with MANO fits",
    ),
    "fits of another length": (
        lambda folder: change(
            folder, "MANO_NeuralAnnot", lambda _: {"3": {"1000": {key: {"pose": [1], "shape": []} for key in SIDES}}}
        ),
        "MANO_NeuralAnnot.json is no annotation file",
    ),
    "no pictures": (lambda folder: shutil.rmtree(folder / "images"), "Cannot read the picture"),
    "damaged picture": (
        lambda folder: next((folder / "images").rglob("image1000.jpg")).write_bytes(b"no picture"),
        "is damaged",
    ),
}


@pytest.mark.parametrize("damage", BREAKS)
def test_what_is_missing_is_told_in_one_sentence(
    damage: str, written: tuple[Path, dict[Side, Any]], hands: dict[Side, HandModel], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(written[0], folder)
    do_damage, words = BREAKS[damage]
    do_damage(folder)
    with pytest.raises(DataSetError) as caught:
        measure(folder, written[1], hands)
    message = str(caught.value)
    assert words in message
    assert message.endswith(".")
    assert "\n" not in message


def test_asking_for_fits_that_are_not_there(written: tuple[Path, dict[Side, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(written[0], folder)
    annotation(folder, "MANO_NeuralAnnot").unlink()
    with pytest.raises(DataSetError, match="download the MANO annotations"):
        read_interhand(folder, need_mano=True)
    with pytest.raises(DataSetError, match="train, val, test"):
        read_interhand(folder, "everything")


def run(*arguments: str | Path) -> int:
    return main(["evaluate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["interhand"], "--data FOLDER and --checkpoint FILE"),
        (["interhand", "--data", "nowhere"], "--data FOLDER and --checkpoint FILE"),
        (["interhand", "--data", "nowhere", "--checkpoint", "no.pth"], "There is no folder nowhere"),
        (["interhand", "--data", "DATA", "--checkpoint", "no.pth"], "no weights at no.pth"),
        (["interhand", "--data", "DATA", "--checkpoint", "no.pth", "--root", "3"], "choose 0 (wrist) or 9"),
        (["interhand", "--data", "DATA", "--checkpoint", "no.pth", "--split", "all"], "train, val, test"),
        (["interhand", "--data", "DATA", "--checkpoint", "no.pth", "--every", "0"], "both start at 1"),
        (["interhand", "--data", "DATA", "--checkpoint", "no.pth", "--truth", "t.npz"], "takes no --truth"),
        (["take.npz", "--data", "DATA"], "without --data"),
        (["take.npz", "--checkpoint", "a.pth", "--hand-model", "b"], "either --hand-model or --checkpoint"),
    ],
)
def test_options_that_cannot_work(
    arguments: list[str], words: str, written: tuple[Path, dict[Side, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(str(written[0]) if each == "DATA" else each for each in arguments)) == 2
    message = capsys.readouterr().err.strip()
    assert words in message
    assert message.endswith(".")
    assert "\n" not in message


# With a network


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights around the open hand."""
    torch = pytest.importorskip("torch")
    from dir_core.network import DIR, save_checkpoint

    torch.manual_seed(0)
    models = open_hand_models()
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(DIR(models["left"], models["right"]), path)
    return path


def test_the_command_states_its_protocol_and_writes_a_report(
    checkpoint: Path, written: tuple[Path, dict[Side, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["interhand", "--data", written[0], "--checkpoint", checkpoint, "--root", 9, "--no-scale"]
    options += ["--every", 2, "--device", "cpu", "--report", tmp_path / "figures.json"]
    # The annotations of this data set are no MANO hands; the open hand has to be asked for.
    assert run(*options) == 2
    assert "--hand-model" in capsys.readouterr().err
    assert run(*options, "--hand-model", OPEN_HAND_FOLDER) == 0
    table = capsys.readouterr().out
    for words in ("root joint 9 (middle1), no scale", "truth: MANO fits", "one of every 2 frames", "1 dark", "MPVPE"):
        assert words in table
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["figures"]["protocol"]["root"] == 9
    assert report["figures"]["frames"] == 2
    for name in ("mpjpe_mm", "mpvpe_mm", "pa_mpjpe_mm", "joint_pixels", "vertex_pixels"):
        assert math.isfinite(report["figures"]["average"][name])
    assert report["checkpoint"] == checkpoint.name


# The real data set


def test_a_real_frame(real: Path) -> None:
    (frame,) = read_interhand(real)  # the other picture shows one hand
    assert frame.number == 44669
    assert frame.mano is None
    assert frame.read_image().shape == (512, 334, 3)
    for side in SIDES:
        palm = np.linalg.norm(frame.joints(side)[9] - frame.joints(side)[0])
        assert 0.07 < palm < 0.11
        assert np.linalg.norm(frame.joints(side)[12] - frame.joints(side)[0]) > palm  # the tip is beyond the base
    # The data set's box is the joints' own, 1.2 times as large: the projection meets it to a tenth of a pixel.
    (box,) = [
        each["bbox"] for each in json.loads((real / "data.json").read_text())["annotations"] if each["id"] == 286291
    ]
    pixels = project(np.concatenate([frame.joints(side) for side in SIDES]), frame.camera.matrix) - 0.5
    middle = 0.5 * (pixels.min(axis=0) + pixels.max(axis=0))
    assert middle == pytest.approx([box[0] + box[2] / 2, box[1] + box[3] / 2], abs=0.1)
    assert 1.2 * np.ptp(pixels, axis=0) == pytest.approx(box[2:], abs=0.1)


def test_the_command_on_the_real_frame(real: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("interhand", "--data", real, "--checkpoint", checkpoint, "--device", "cpu", "--frame-rate", 30) == 0
    table = capsys.readouterr().out
    assert "truth: annotated joints" in table
    assert "crop around the true joints" in table
    assert "no three frames follow each other" in table
    assert "; 1 frames" in table
