"""Exchange inside Blender: parameters and tables out, other programs' results in, up to keyed and retargeted hands."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

import addon
from addon import clean_job, footage_view, result_import, takes
from addon.hand_rig import bone_name
from addon.operators import exchange
from dir_core import rotations
from dir_core.conventions import KEYPOINTS, SIDES
from dir_core.exchange.parameters import save_mano
from dir_core.hand_model import load_hand_models
from dir_core.take import Take, load_take, save_take
from tests.blender.stage import DEMO, ROOT, add_hands, load_footage, use_own_user_folder, write_take
from tests.takes import make_raw_take

MANO_FOLDER = ROOT / "tests" / "data" / "dir_network"
RATE = 30.0
SIZE = (1280, 720)


@pytest.fixture(autouse=True)
def registered(empty_file: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    use_own_user_folder(monkeypatch, tmp_path / "user")
    addon.register()
    yield
    addon.unregister()


def landmark_file(take: Take, path: Path) -> Path:
    """A take as MediaPipe's Tasks API gives it, one HandLandmarkerResult per frame."""
    frames = []
    for row in range(len(take)):
        frame: dict[str, Any] = {"hand_landmarks": [], "hand_world_landmarks": [], "handedness": []}
        for side in SIDES:
            hand = take.hand(side)
            if hand.observed[row]:
                flat = (hand.keypoints_2d[row] / take.image_size).tolist()
                frame["hand_landmarks"].append([{"x": x, "y": y, "z": 0.0} for x, y in flat])
                world = (hand.keypoints_3d[row] - hand.keypoints_3d[row].mean(axis=0)).tolist()
                frame["hand_world_landmarks"].append([dict(zip("xyz", point, strict=True)) for point in world])
                frame["handedness"].append([{"score": 0.95, "category_name": side.capitalize()}])
        frames.append(frame)
    path.write_text(json.dumps(frames))
    return path


def the_take() -> Take:
    return takes.load_raw(takes.active_take(bpy.context.scene))


def take_names() -> list[str]:
    return [item.name for item in bpy.context.scene.two_hands.takes]


# --- out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hands.npz", "hands.json", "hands"])
def test_parameters_are_those_of_the_take(name: str, tmp_path: Path) -> None:
    add_hands(write_take(tmp_path / "take.npz"))
    assert bpy.ops.hands.export_parameters(filepath=str(tmp_path / name), kind="MANO") == {"FINISHED"}
    path = tmp_path / (name if "." in name else f"{name}.npz")
    if path.suffix == ".json":
        wrist = np.array(json.loads(path.read_text())["left_wrist"])
    else:
        with np.load(path) as arrays:
            wrist = arrays["left_wrist"]
    np.testing.assert_allclose(wrist, the_take().left.translation, atol=1e-6)


def test_who_has_mano_gets_its_betas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_hands(write_take(tmp_path / "take.npz"))
    for side in ("LEFT", "RIGHT"):
        (tmp_path / f"MANO_{side}.npz").write_bytes((MANO_FOLDER / f"MANO_{side}.synthetic.npz").read_bytes())
    lengths = {}
    for folder, name in ((None, "Open hand"), (str(tmp_path), "MANO")):
        monkeypatch.setattr(exchange.gpu_runtime, "hands_folder", lambda _, folder=folder: folder)
        assert bpy.ops.hands.export_parameters(filepath=str(tmp_path / "hands.npz"), kind="MANO") == {"FINISHED"}
        with np.load(tmp_path / "hands.npz") as arrays:
            assert str(arrays["hand_model"]) == name
            model = load_hand_models(folder)["left"]
            lengths[name] = float(arrays["left_scale"]) * model.length(arrays["left_betas"])
    assert lengths["MANO"] == pytest.approx(lengths["Open hand"], rel=1e-5)


def test_what_is_cleaned_is_exported_clean(tmp_path: Path) -> None:
    item = add_hands(write_take(tmp_path / "take.npz"), clean=True)
    assert bpy.ops.hands.export_parameters(filepath=str(tmp_path / "hands.npz"), kind="SMPLX") == {"FINISHED"}
    clean = clean_job.clean_take_of(item)
    with np.load(tmp_path / "hands.npz") as arrays:
        np.testing.assert_allclose(arrays["right_wrist"], clean.right.translation, atol=1e-6)
    assert np.abs(clean.right.translation - the_take().right.translation).max() > 1e-4


def test_a_table_in_the_axes_of_blender_has_the_places_of_the_bones(tmp_path: Path) -> None:
    bpy.context.scene.render.fps = 30
    item = add_hands(write_take(tmp_path / "take.npz"))
    path = tmp_path / "hands.csv"
    assert bpy.ops.hands.export_parameters(filepath=str(path), kind="CSV", axes="blender") == {"FINISHED"}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(the_take())
    for row in (0, 5):
        bpy.context.scene.frame_set(1 + row)
        for side in SIDES:
            armature = getattr(item.keying, side)
            for joint, point in (("wrist", "wrist"), ("index2", "index2"), ("pinky3", "pinky3")):
                bone = armature.matrix_world @ armature.pose.bones[bone_name(joint, side)].head
                told = [float(rows[row][f"{side}_{point}_{axis}_m"]) for axis in "xyz"]
                np.testing.assert_allclose(told, bone, atol=2e-5)
    assert len(rows[0]) == 2 + 2 * (1 + 3 * len(KEYPOINTS))


def test_the_raw_take_is_never_written_over(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take.npz")
    add_hands(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="is the raw take"):
        bpy.ops.hands.export_parameters(filepath=str(path), kind="MANO")
    assert path.read_bytes() == before


def test_a_hand_model_that_is_gone_is_told(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take.npz")
    take = load_take(path)
    take.meta["hand_model"] = {"name": "MANO"}
    save_take(take, path)
    bpy.ops.hands.add_take(filepath=str(path), build=False)
    takes.active_take(bpy.context.scene).clean_up.enabled = False
    with pytest.raises(RuntimeError, match="fitted with MANO"):
        bpy.ops.hands.export_parameters(filepath=str(tmp_path / "hands.npz"), kind="MANO")
    # The hands of a body need no shape.
    assert bpy.ops.hands.export_parameters(filepath=str(tmp_path / "body.npz"), kind="SMPLX") == {"FINISHED"}


# --- in ------------------------------------------------------------------------------------------------------


def test_exported_parameters_come_back_as_keyed_hands(models: Any, tmp_path: Path) -> None:
    raw, _ = make_raw_take(models, times=np.arange(20) / RATE)
    save_mano(raw, models, tmp_path / "shot.npz")
    bpy.context.scene.render.fps = 30
    assert bpy.ops.hands.import_results(filepath=str(tmp_path / "shot.npz")) == {"FINISHED"}
    assert take_names() == ["shot"]
    take = the_take()
    assert (tmp_path / "user").resolve() in takes.raw_path(takes.active_take(bpy.context.scene)).resolve().parents
    for side in SIDES:
        angle = rotations.angle_between(take.hand(side).rotation.astype(float), raw.hand(side).rotation.astype(float))
        assert angle.max() < 1e-6
        armature = getattr(takes.active_take(bpy.context.scene).keying, side)
        assert armature.animation_data.action is not None


def test_landmarks_of_the_footage_get_its_size_times_and_lens(models: Any, tmp_path: Path) -> None:
    raw, _ = make_raw_take(models, times=np.arange(40) / RATE, noise=0.001)
    scene = load_footage()
    size = tuple(scene.two_hands.footage.clip.size)
    matrix, _ = footage_view.camera_matrix_of(scene)
    path = landmark_file(raw, tmp_path / "landmarks.json")
    assert bpy.ops.hands.import_results(filepath=str(path)) == {"FINISHED"}
    take = the_take()
    assert tuple(take.image_size) == size
    assert take.camera_matrix[0, 0] == pytest.approx(matrix[0, 0], rel=1e-4)
    np.testing.assert_allclose(take.time, np.arange(40) / 30, atol=1e-6)
    item = takes.active_take(scene)
    assert Path(bpy.path.abspath(item.footage)) == DEMO
    assert item.estimator == "landmarks"


def test_imported_landmarks_clean_and_move_a_rig(models: Any, tmp_path: Path) -> None:
    """The whole way of somebody else's capture: imported, cleaned, keyed, on a rig with other bone names."""
    from tests.blender.test_every_operator import character

    raw, truth = make_raw_take(models, times=np.arange(40) / RATE, noise=0.001)
    path = landmark_file(raw, tmp_path / "landmarks.json")
    bpy.context.scene.render.fps = 30
    done = bpy.ops.hands.import_results(
        filepath=str(path), frame_rate=RATE, image_size=SIZE, field_of_view=2 * np.arctan(640 / 1100.0)
    )
    assert done == {"FINISHED"}
    item = takes.active_take(bpy.context.scene)
    clean = clean_job.clean_take_of(item)
    for side in SIDES:
        angle = rotations.angle_between(
            clean.hand(side).rotation.astype(float), truth.hand(side).rotation.astype(float)
        )
        assert np.degrees(angle).mean() < 6.0
    character(tmp_path / "rig", None)  # type: ignore[arg-type]
    bpy.context.scene.two_hands.active_take = 0
    assert bpy.ops.hands.key_onto_rig() == {"FINISHED"}
    rig = bpy.context.scene.two_hands.retarget.target
    bone = next(bone for bone in rig.pose.bones if "Index2" in bone.name)
    poses = []
    for frame in (1, 20):
        bpy.context.scene.frame_set(frame)
        poses.append(np.array(bone.matrix.to_3x3()))
    assert np.abs(poses[0] - poses[1]).max() > 0.01


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ('[{"hand_landmarks": [], "handedness": []}]', "holds no hand"),
        (None, "There is nothing at"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RuntimeError, match=sentence):
        bpy.ops.hands.import_results(filepath=str(path))
    assert take_names() == []
    assert list((tmp_path / "user").rglob("*.npz")) == []


def test_a_process_that_breaks_is_told_and_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(result_import, "MODULE", "dir_core.no_such_module")
    path = tmp_path / "hands.json"
    path.write_text("[]")
    with pytest.raises(RuntimeError, match="the log says more"):
        bpy.ops.hands.import_results(filepath=str(path))


def test_a_python_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(result_import, "own_python", lambda: (str(tmp_path / "python"), ()))
    with pytest.raises(RuntimeError, match="Cannot start Python"):
        bpy.ops.hands.import_results(filepath=str(tmp_path / "hands.json"))


def test_a_cancelled_import_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    take = tmp_path / "take.npz"

    def wait(_python: str, _module: str, _arguments: Any, _paths: Any) -> list[str]:
        (tmp_path / ".take.npz.half").write_bytes(b"half")
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    monkeypatch.setattr(result_import, "python_command", wait)
    running = result_import.start_import(tmp_path / "hands.json", take, [])
    assert not running.is_done()
    running.cancel()
    assert running.is_done()
    assert list(tmp_path.glob("*take*")) == []
    assert list(tmp_path.glob(".take*")) == []


def test_who_adds_results_as_a_take_is_told_where_to_go(models: Any, tmp_path: Path) -> None:
    path = tmp_path / "hands.npz"
    save_mano(make_raw_take(models, times=np.arange(3) / RATE)[0], models, path)
    with pytest.raises(RuntimeError, match="use File > Import > Hand Results"):
        bpy.ops.hands.add_take(filepath=str(path))
    np.savez(path, something=np.zeros(3))
    with pytest.raises(RuntimeError, match="is not a valid take"):
        bpy.ops.hands.add_take(filepath=str(path))


def test_a_dropped_file_is_imported_at_once(models: Any, tmp_path: Path) -> None:
    path = tmp_path / "hands.json"
    save_mano(make_raw_take(models, times=np.arange(5) / RATE)[0], models, path)
    assert exchange.HANDS_FH_results.bl_import_operator == "hands.import_results"
    assert path.suffix in exchange.HANDS_FH_results.bl_file_extensions.split(";")
    assert bpy.ops.hands.import_results("INVOKE_DEFAULT", filepath=str(path), build=False) == {"FINISHED"}
    assert take_names() == ["hands"]


def test_the_file_menu_has_the_import() -> None:
    assert exchange.draw_import_entry in bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()
