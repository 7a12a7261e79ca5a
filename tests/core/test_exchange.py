"""Takes for other programs, and the results of other programs as takes. Files of others are made from what their
authors say of the formats, with motion of our own in them."""

import csv
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dir_core import rotations
from dir_core.camera import project
from dir_core.clean import clean_take
from dir_core.cli import main
from dir_core.conventions import JOINTS, KEYPOINTS, SIDES, Side
from dir_core.errors import ExchangeError, HandCaptureError, SettingsError
from dir_core.exchange.clip import KnownFootage
from dir_core.exchange.files import write_arrays
from dir_core.exchange.joints_csv import joints_table
from dir_core.exchange.parameters import mano_parameters, reshape_hands, save_mano, save_smplx
from dir_core.exchange.results import import_results
from dir_core.exchange.settings import ImportSettings
from dir_core.hand_model import load_hand_models, open_hand_models
from dir_core.take import Take, load_take, save_take
from tests.takes import make_raw_take, make_take

ROOT = Path(__file__).parents[2]
MANO_FOLDER = ROOT / "tests" / "data" / "dir_network"
OPEN_FOLDER = ROOT / "blender_assets" / "hand_model"
RATE = 30.0
SIZE = (1280, 720)
MIRROR = np.array([1.0, 1.0, -1.0, -1.0])
ONE_HAND = [[[0.1, 0.2, 0.3]] * len(KEYPOINTS)]


@pytest.fixture(scope="module")
def mano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up hands under the names that MANO's files have."""
    folder = tmp_path_factory.mktemp("mano")
    for side in SIDES:
        name = f"MANO_{side.upper()}"
        (folder / f"{name}.npz").write_bytes((MANO_FOLDER / f"{name}.synthetic.npz").read_bytes())
    return folder


def mano_layer(folder: Path, side: Side, model: Any, count: int, **options: Any) -> Any:
    """MANO as smplx loads it; the left hand with the correction that docs/EXCHANGE.md names."""
    import smplx
    import torch

    path = next(path for path in folder.glob("*.npz") if side.upper() in path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = smplx.MANO(str(path), is_rhand=side == "right", use_pca=False, ext="npz", batch_size=count, **options)
    assert layer.is_rhand == (side == "right")
    if side == "left" and model.name == "MANO":
        with torch.no_grad():
            layer.shapedirs[:, 0, :] *= -1
    return layer


def smplx_joints(arrays: dict[str, Any], layer: Any, side: Side, count: int, names: tuple[str, ...]) -> Any:
    import torch

    inputs = {name: torch.tensor(arrays[f"{side}_{name}"]) for name in names}
    inputs["betas"] = torch.tensor(arrays[f"{side}_betas"])[None].expand(count, -1)
    return layer(**inputs).joints.detach().numpy()


# --- out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["open hand", "MANO"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("flat", [True, False])
def test_smplx_makes_the_same_joints_of_mano_parameters(own: bool, side: Side, flat: bool, mano: Path) -> None:
    folder, models = (OPEN_FOLDER, open_hand_models()) if own else (mano, load_hand_models(mano))
    take = make_take(models, count=12, scale=0.93)
    arrays = mano_parameters(take, models)
    if not flat:  # as docs/EXCHANGE.md says for those who load MANO with its mean pose
        arrays[f"{side}_hand_pose"] = arrays[f"{side}_hand_pose"] - arrays[f"{side}_hand_mean"]
    layer = mano_layer(folder, side, models[side], len(take), flat_hand_mean=flat)
    joints = smplx_joints(arrays, layer, side, len(take), ("global_orient", "hand_pose", "transl"))

    hand = take.hand(side)
    want = models[side].pose(hand.rotation, hand.translation, hand.shape, float(hand.scale[0])).joints
    assert np.abs(hand.shape).max() > 0.5
    assert np.abs(float(arrays[f"{side}_scale"]) * joints - want).max() < 1e-6
    # Without the factor the hand has the size of the model, and covers the same pixels.
    assert np.abs(project(joints, take.camera_matrix) - project(want, take.camera_matrix)).max() < 1e-3


def made_up_smplx(models: Any) -> dict[str, Any]:
    """The fields of a file of SMPL-X whose body is bones alone, with the hands of a model at its wrists."""
    rng = np.random.default_rng(3)
    count, joints = 10475, 55
    parents = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    for first, wrist in ((25, 20), (40, 21)):
        for finger in range(5):
            parents += [wrist, first + 3 * finger, first + 3 * finger + 1]
    places = rng.normal(0.0, 0.3, (joints, 3))
    for side, first, wrist in (("left", 25, 20), ("right", 40, 21)):
        rest = models[side].rest_joints()
        places[first : first + 15] = places[wrist] + rest[1:] - rest[0]
    template = np.zeros((count, 3))
    template[:joints] = places
    regressor = np.zeros((joints, count))
    regressor[:, :joints] = np.eye(joints)
    weights = np.zeros((count, joints))
    weights[:, 0] = 1.0
    return {
        "v_template": template,
        "shapedirs": np.zeros((count, 3, 20), np.float32),
        "posedirs": np.zeros((count, 3, 9 * (joints - 1)), np.float32),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([parents, range(joints)]),
        "f": np.zeros((1, 3), np.int64),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
        "hands_meanl": models["left"].mean_pose,
        "hands_meanr": models["right"].mean_pose,
        "lmk_faces_idx": np.zeros(51, np.int64),
        "lmk_bary_coords": np.zeros((51, 3)),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
        "dynamic_lmk_bary_coords": np.zeros((79, 17, 3)),
    }


def test_smplx_poses_the_hands_of_a_body_alike(tmp_path: Path) -> None:
    import smplx
    import torch

    models = open_hand_models()
    take = make_take(models, count=6)
    flat = {side: replace(take.hand(side), shape=np.zeros(10, np.float32)) for side in SIDES}
    take = replace(take, left=flat["left"], right=flat["right"])
    path = tmp_path / "hands.npz"
    save_smplx(take, path)
    with np.load(path) as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    assert {"trans", "gender", "mocap_frame_rate", "betas", "poses"} <= fields.keys()  # what AMASS files have
    assert fields["poses"].shape == (6, 165)
    np.testing.assert_array_equal(fields["poses"][:, 75:120], fields["left_hand_pose"])
    np.testing.assert_array_equal(fields["poses"][:, 120:], fields["right_hand_pose"])

    np.savez_compressed(tmp_path / "SMPLX_NEUTRAL.npz", **made_up_smplx(models))
    body = smplx.SMPLX(
        str(tmp_path / "SMPLX_NEUTRAL.npz"),
        ext="npz",
        use_pca=False,
        flat_hand_mean=True,
        use_face_contour=False,
        batch_size=len(take),
    )
    # The body stands in its rest pose, so a wrist turns in the world as it is turned itself.
    pose = np.zeros((6, 21, 3), np.float32)
    pose[:, 19], pose[:, 20] = fields["left_wrist_orient"], fields["right_wrist_orient"]
    joints = (
        body(
            body_pose=torch.tensor(pose.reshape(6, 63)),
            left_hand_pose=torch.tensor(fields["left_hand_pose"]),
            right_hand_pose=torch.tensor(fields["right_hand_pose"]),
        )
        .joints.detach()
        .numpy()
    )
    for side, wrist, first in (("left", 20, 25), ("right", 21, 40)):
        hand = take.hand(side)  # type: ignore[arg-type]
        want = models[side].pose(hand.rotation).joints  # type: ignore[index]
        assert np.abs(joints[:, first : first + 15] - joints[:, wrist : wrist + 1] - want[:, 1:]).max() < 1e-5


def test_a_file_of_parameters_says_what_it_is(tmp_path: Path) -> None:
    models = open_hand_models()
    take = make_take(models, count=5, rate=25.0, observed=[True, True, False, True, True])
    save_mano(take, models, tmp_path / "hands.npz")
    save_mano(take, models, tmp_path / "hands.json")
    texts = json.loads((tmp_path / "hands.json").read_text())
    with np.load(tmp_path / "hands.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == set(texts)
        assert str(arrays["coordinates"]) == "camera: x right, y down, z forward; metres, radians"
        assert str(arrays["hand_model"]) == "Open hand"
        assert float(arrays["mocap_frame_rate"]) == pytest.approx(25.0)
        assert arrays["left_observed"].tolist() == [True, True, False, True, True]
        for name in arrays.files:
            assert arrays[name].dtype.kind in "biufU"
            if arrays[name].dtype.kind == "f":
                np.testing.assert_allclose(np.array(texts[name]), arrays[name], atol=1e-8)
        np.testing.assert_allclose(arrays["right_wrist"], take.right.translation)


def test_hands_get_a_shape_of_another_model_with_bones_as_long(mano: Path) -> None:
    models, wanted = open_hand_models(), load_hand_models(mano)
    take = make_take(models, count=4, scale=1.1)
    told = reshape_hands(take, models, wanted)
    for side in SIDES:
        before, after = take.hand(side), told.hand(side)
        length = float(before.scale[0]) * models[side].length(before.shape)
        assert float(after.scale[0]) * wanted[side].length(after.shape) == pytest.approx(length, rel=1e-5)
        np.testing.assert_array_equal(after.rotation, before.rotation)


def test_bones_keep_their_lengths_in_another_shape() -> None:
    """The open hand put into itself: betas are found again as far as bones show them."""
    models = open_hand_models()
    take = make_take(models, count=4, scale=1.1)
    told = reshape_hands(take, models, models)
    for side in SIDES:
        before, after = (
            models[side].pose_keypoints(hand.rotation, hand.translation, hand.shape, float(hand.scale[0]))
            for hand in (take.hand(side), told.hand(side))
        )
        mean = models[side].pose_keypoints(take.hand(side).rotation, take.hand(side).translation, None, 1.1)
        error = np.linalg.norm(after - before, axis=-1).mean()
        assert error < 2e-4
        assert error < 0.1 * np.linalg.norm(mean - before, axis=-1).mean()


def test_the_table_has_a_row_per_frame_and_metres() -> None:
    models = open_hand_models()
    observed = np.array([True, False, True, True])
    take = make_take(models, count=4, observed=observed, rate=24.0, first_frame=3)
    rows = list(csv.reader(io.StringIO(joints_table(take, models))))
    names = rows[0]
    assert names[:4] == ["frame", "time_s", "left_observed", "left_wrist_x_m"]
    assert len(names) == 2 + 2 * (1 + 3 * len(KEYPOINTS))
    assert [row[0] for row in rows[1:]] == ["3", "4", "5", "6"]
    assert [row[names.index("right_observed")] for row in rows[1:]] == ["1", "0", "1", "1"]
    values = np.array(rows[1:], float)
    for side in SIDES:
        first = names.index(f"{side}_wrist_x_m")
        points = values[:, first : first + 63].reshape(4, 21, 3)
        np.testing.assert_allclose(points, take.hand(side).keypoints_3d, atol=2e-6)
    turned = np.array(list(csv.reader(io.StringIO(joints_table(take, models, "blender"))))[1:], float)
    first = names.index("left_wrist_x_m")
    x, y, z = values[:, first : first + 3].T
    np.testing.assert_allclose(turned[:, first : first + 3], np.stack([x, z, -y], axis=1))


def test_cells_are_empty_where_there_is_no_hand() -> None:
    models = open_hand_models()
    take = make_take(models, count=6, observed=[True, True, False, False, True, True])
    take = replace(take, left=replace(take.left, observed=np.zeros(6, bool)))
    take = replace(take, meta={**take.meta, "history": [{"step": "clean_up", "hidden": {"right": [[2, 3]]}}]})
    rows = list(csv.DictReader(io.StringIO(joints_table(take, models))))
    assert all(row["left_wrist_x_m"] == "" and row["left_observed"] == "0" for row in rows)
    assert [row["right_pinky4_z_m"] == "" for row in rows] == [False, False, True, True, False, False]


# --- in: our own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hands.npz", "hands.json"])
@pytest.mark.parametrize("kind", ["mano", "smplx"])
def test_what_is_exported_comes_back(name: str, kind: str, tmp_path: Path) -> None:
    models = open_hand_models()
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.06, 20))  # a phone's
    take = make_take(models, count=20, times=times, observed=rng.random(20) > 0.3, scale=1.04, first_frame=7)
    take = replace(take, meta={**take.meta, "hand_model": {"name": "Open hand"}})
    path = tmp_path / name
    if kind == "mano":
        save_mano(take, models, path)
    else:
        save_smplx(take, path)
    back = import_results(path)
    assert back.notes == ()
    np.testing.assert_allclose(back.take.time, take.time, atol=1e-8)
    np.testing.assert_array_equal(back.take.frame, take.frame)
    np.testing.assert_array_equal(back.take.camera_matrix, take.camera_matrix)
    np.testing.assert_array_equal(back.take.image_size, take.image_size)
    assert back.take.meta["source"]["name"] == "synthetic"
    for side in SIDES:
        before, after = take.hand(side), back.take.hand(side)
        assert np.abs(rotations.angle_between(before.rotation.astype(float), after.rotation.astype(float))).max() < 1e-6
        np.testing.assert_allclose(after.translation, before.translation, atol=1e-6)
        np.testing.assert_allclose(after.shape, before.shape, atol=1e-6)
        np.testing.assert_allclose(after.scale, before.scale, atol=1e-6)
        np.testing.assert_array_equal(after.observed, before.observed)
        np.testing.assert_allclose(after.confidence, before.confidence, atol=1e-6)


# --- in: what others save ------------------------------------------------------------------------------------


def rows_of(take: Take, models: Any) -> dict[str, Any]:
    """A take as a list of seen hands, with the place of MANO's origin, as most programs think of it."""
    rows: dict[str, list[Any]] = {name: [] for name in ("frame", "is_right", "rotation", "betas", "place", "points")}
    for row in range(len(take)):
        for side in SIDES:
            hand = take.hand(side)
            if not hand.observed[row]:
                continue
            root = models[side].rest_joints(hand.shape)[0]
            rows["frame"].append(take.frame[row])
            rows["is_right"].append(side == "right")
            rows["rotation"].append(hand.rotation[row].astype(float))
            rows["betas"].append(hand.shape)
            rows["place"].append(hand.translation[row] - root)
            rows["points"].append(hand.keypoints_3d[row] - hand.translation[row] + root)
    return {name: np.array(values) for name, values in rows.items()}


def hamer_arrays(take: Take, models: Any) -> dict[str, Any]:
    """As HaMeR's demo gives them: left hands are right ones in the mirror, turns are matrices, a crop's focal length.

    pred_cam_t_full goes with scaled_focal_length = 5000 / 256 * longer side of the picture, so hands are as far away
    as a telescope would have to be.
    """
    rows = rows_of(take, models)
    mirrored = np.where(rows["is_right"][:, None, None], 1.0, MIRROR)
    matrices = rotations.to_matrix(rows["rotation"] * mirrored)
    focal = 5000 / 256 * max(SIZE)
    place = rows["place"] * [1.0, 1.0, 1.0]
    wrist = place + np.array(
        [
            models["right" if r else "left"].rest_joints(b)[0]
            for r, b in zip(rows["is_right"], rows["betas"], strict=True)
        ]
    )
    far = wrist * [1.0, 1.0, focal / take.camera_matrix[0, 0]] - wrist + place
    return {
        "pred_mano_params/global_orient": matrices[:, :1].astype(np.float32),
        "pred_mano_params/hand_pose": matrices[:, 1:].astype(np.float32),
        "pred_mano_params/betas": rows["betas"],
        "pred_cam_t_full": far.astype(np.float32),
        "is_right": rows["is_right"].astype(np.float32),
        "frame": rows["frame"],
        "scaled_focal_length": np.full(len(far), focal),
        "img_size": np.tile(np.array(SIZE, float), (len(far), 1)),
    }


def assert_same_hands(take: Take, back: Take, angle: float = 2e-3, place: float = 2e-4) -> None:
    np.testing.assert_array_equal(back.frame, take.frame)
    for side in SIDES:
        before, after = take.hand(side), back.hand(side)
        np.testing.assert_array_equal(after.observed, before.observed)
        seen = before.observed
        turn = rotations.angle_between(before.rotation.astype(float), after.rotation.astype(float))[seen]
        assert turn.max() < angle
        assert np.abs(after.translation - before.translation)[seen].max() < place


@pytest.fixture
def clip(mano: Path) -> tuple[Take, Any]:
    """Both hands with the shape of one person, the left one away for a while."""
    models = load_hand_models(mano)
    take = make_take(models, count=24, rate=RATE, image_size=SIZE)
    shape = np.linspace(-0.8, 0.8, 10).astype(np.float32)
    seen = np.ones(24, bool)
    seen[8:12] = False
    hands = {}
    for side in SIDES:
        hand = take.hand(side)
        points = models[side].pose_keypoints(hand.rotation, hand.translation, shape)
        observed = seen if side == "left" else np.ones(24, bool)
        confidence = np.where(observed[:, None], 1.0, 0.0) * np.ones((1, 21))
        hands[side] = replace(
            hand, shape=shape, keypoints_3d=points, observed=observed, confidence=confidence.astype(np.float32)
        )
    return replace(take, left=hands["left"], right=hands["right"]), models


def test_hamer_rows(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    path = tmp_path / "hamer.npz"
    np.savez(path, **hamer_arrays(take, models))
    settings = ImportSettings(frame_rate=RATE, focal_length=1100.0, hand_model=str(mano))
    back = import_results(path, settings)
    assert_same_hands(take, back.take)
    for side in SIDES:
        np.testing.assert_allclose(back.take.hand(side).shape, take.hand(side).shape, atol=1e-5)
        seen = take.hand(side).observed
        pixels = project(take.hand(side).keypoints_3d[seen], take.camera_matrix)
        assert np.abs(back.take.hand(side).keypoints_2d[seen] - pixels).max() < 0.5
    np.testing.assert_allclose(back.take.time, np.arange(24) / RATE)

    # Without a lens nobody wants hands thirty metres away; the picture stays the same.
    plain = import_results(path, ImportSettings(frame_rate=RATE, hand_model=str(mano)))
    assert "is no lens but a measure of the network" in plain.notes[0]
    assert 0.3 < float(plain.take.right.translation[:, 2].mean()) < 1.0
    assert np.abs(plain.take.right.keypoints_2d.mean() - back.take.right.keypoints_2d.mean()) < 5.0


def test_a_folder_with_a_file_per_frame(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    arrays = hamer_arrays(take, models)
    frames = arrays.pop("frame")
    for frame in range(len(take)):
        np.savez(tmp_path / f"{frame:06d}.npz", **{name: value[frames == frame] for name, value in arrays.items()})
    back = import_results(tmp_path, ImportSettings(frame_rate=RATE, focal_length=1100.0, hand_model=str(mano)))
    assert_same_hands(take, back.take)


def test_wilor_mini_rows_with_key_points_need_no_mano(clip: tuple[Take, Any], tmp_path: Path) -> None:
    """WiLoR-mini saves a batch of one per hand, left hands with their own parameters, and the key points."""
    take, models = clip
    rows = rows_of(take, models)
    vectors = rotations.to_rotation_vector(rows["rotation"])
    arrays = {
        "global_orient": vectors[:, None, :1],
        "hand_pose": vectors[:, None, 1:],
        "betas": rows["betas"][:, None],
        "pred_keypoints_3d": rows["points"][:, None],
        "pred_cam_t_full": rows["place"][:, None],
        "is_right": rows["is_right"].astype(float),
        "frame_idx": rows["frame"],
        "scaled_focal_length": np.array(1100.0),
    }
    path = tmp_path / "wilor.npz"
    np.savez(path, **arrays)
    back = import_results(path, ImportSettings(frame_rate=RATE, image_size=SIZE))
    assert_same_hands(take, back.take)
    assert "mean shape of the open hand" in back.notes[0]
    assert not back.take.right.shape.any()


def test_without_mano_the_wrist_is_where_mano_has_it(clip: tuple[Take, Any], tmp_path: Path) -> None:
    """The mean shape of MANO has its right wrist at (0.0957, 0.0064, 0.0062) and the left one in the mirror."""
    take, _ = clip
    arrays: dict[str, Any] = {}
    for side in SIDES:
        hand, sign = take.hand(side), 1.0 if side == "right" else -1.0
        arrays |= {
            f"{side}_global_orient": rotations.to_rotation_vector(hand.rotation[:, 0].astype(float)),
            f"{side}_hand_pose": rotations.to_rotation_vector(hand.rotation[:, 1:].astype(float)),
            f"{side}_transl": hand.translation - [0.0957 * sign, 0.0064, 0.0062],
            f"{side}_valid": hand.observed,
        }
    path = tmp_path / "sides.npz"
    np.savez(path, **arrays)
    back = import_results(path, ImportSettings(frame_rate=RATE, image_size=SIZE, focal_length=1100.0))
    assert_same_hands(take, back.take)
    assert "mean shape of the open hand" in back.notes[0]


def test_tracks_of_a_world_with_a_moving_camera(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    """Dyn-HaMR: tracks [B, T], left hands in the mirror, cam_R and cam_t from the world into the camera."""
    take, models = clip
    count = len(take)
    turn = rotations.from_rotation_vector(np.linspace([0.0, 0.0, 0.0], [0.3, -0.5, 0.2], count))
    move = np.linspace([0.0, 0.0, 0.0], [0.2, 0.1, -0.4], count)
    arrays: dict[str, Any] = {
        name: [] for name in ("root_orient", "pose_body", "trans", "betas", "is_right", "vis_mask")
    }
    for side in SIDES:
        hand = take.hand(side)
        rotation = hand.rotation.astype(float)
        rotation[:, 0] = rotations.multiply(rotations.inverse(turn), rotation[:, 0])
        vectors = rotations.to_rotation_vector(rotation * (MIRROR if side == "left" else 1.0))
        wrist = rotations.rotate(rotations.inverse(turn), hand.translation - move)
        arrays["root_orient"].append(vectors[:, 0])
        arrays["pose_body"].append(vectors[:, 1:].reshape(count, 45))
        arrays["trans"].append(wrist - models[side].rest_joints(hand.shape)[0])
        arrays["betas"].append(hand.shape)
        arrays["is_right"].append(np.full(count, float(side == "right")))
        arrays["vis_mask"].append(hand.observed.astype(float))
    arrays |= {"cam_R": rotations.to_matrix(turn), "cam_t": move, "intrins": np.array([1100.0, 1100.0, 640.0, 360.0])}
    path = tmp_path / "dyn_world_results.npz"
    np.savez(path, **{name: np.array(value) for name, value in arrays.items()})
    back = import_results(path, ImportSettings(frame_rate=RATE, image_size=SIZE, hand_model=str(mano)))
    assert_same_hands(take, back.take)


def test_left_and_right_tracks(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    """HaWoR: [2, T, ...], left first, every hand with its own parameters."""
    take, models = clip
    vectors = {side: rotations.to_rotation_vector(take.hand(side).rotation.astype(float)) for side in SIDES}
    roots = {side: models[side].rest_joints(take.hand(side).shape)[0] for side in SIDES}
    path = tmp_path / "hawor.npz"
    np.savez(
        path,
        pred_rot=np.array([vectors[side][:, 0] for side in SIDES]),
        pred_hand_pose=np.array([vectors[side][:, 1:].reshape(24, 45) for side in SIDES]),
        pred_trans=np.array([take.hand(side).translation - roots[side] for side in SIDES]),
        pred_betas=np.array([np.tile(take.hand(side).shape, (24, 1)) for side in SIDES]),
        pred_valid=np.array([take.hand(side).observed for side in SIDES]),
        img_focal=np.array(1100.0),
    )
    back = import_results(path, ImportSettings(frame_rate=RATE, image_size=SIZE, hand_model=str(mano)))
    assert_same_hands(take, back.take)


def test_poses_that_count_from_the_mean_pose(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    arrays: dict[str, Any] = {}
    for side in SIDES:
        hand = take.hand(side)
        arrays |= {
            f"{side}_rot": rotations.to_rotation_vector(hand.rotation[:, 0].astype(float)),
            f"{side}_pose": models[side].axis_angle_from_pose(hand.rotation[:, 1:]),
            f"{side}_shape": hand.shape,
            f"{side}_trans": hand.translation - models[side].rest_joints(hand.shape)[0],
            f"{side}_valid": hand.observed,
        }
    path = tmp_path / "sides.npz"
    np.savez(path, **arrays)
    relaxed = ImportSettings(
        frame_rate=RATE, image_size=SIZE, focal_length=1100.0, flat_hand_mean=False, hand_model=str(mano)
    )
    assert_same_hands(take, import_results(path, relaxed).take)
    with pytest.raises(SettingsError, match="MANO's mean pose is in its files"):
        import_results(path, replace(relaxed, hand_model=None))


def test_a_selfie_is_turned_back(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    """Who looks at a mirrored picture sees the left hand as a right one; pixels stay those of the file."""
    take, models = clip
    save_mano(take, models, tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name not in ("format", "source")}
    settings = ImportSettings(frame_rate=RATE, hand_model=str(mano), mirrored=True)
    write_arrays(arrays, tmp_path / "seen.npz")
    back = import_results(tmp_path / "seen.npz", settings).take
    assert back.camera_matrix[0, 0] == -take.camera_matrix[0, 0]
    np.testing.assert_array_equal(back.right.observed, take.left.observed)
    np.testing.assert_allclose(back.left.translation, take.right.translation * [-1, 1, 1], atol=1e-6)
    seen = take.right.observed
    pixels = project(take.right.keypoints_3d[seen], take.camera_matrix)
    alike = np.delete(np.arange(len(KEYPOINTS)), 12)  # MANO counts the tip of the middle finger by another vertex
    assert np.abs(back.left.keypoints_2d[seen] - pixels)[:, alike].max() < 0.1


def test_our_own_files_of_a_selfie_are_right_already(tmp_path: Path) -> None:
    models = open_hand_models()
    camera = np.array([[-1100.0, 0.0, 640.0], [0.0, 1100.0, 360.0], [0.0, 0.0, 1.0]])
    take = make_take(models, count=4, camera_matrix=camera)
    save_mano(take, models, tmp_path / "hands.npz")
    for mirrored in (False, True):
        back = import_results(tmp_path / "hands.npz", ImportSettings(mirrored=mirrored)).take
        np.testing.assert_array_equal(back.camera_matrix, take.camera_matrix)
        np.testing.assert_allclose(back.left.translation, take.left.translation, atol=1e-6)
    wide = import_results(tmp_path / "hands.npz", ImportSettings(focal_length=550.0)).take
    assert wide.camera_matrix[0, 0] == -550.0
    np.testing.assert_allclose(wide.left.translation, take.left.translation * [1, 1, 0.5], atol=1e-6)


def test_a_file_knows_whose_betas_it_has(mano: Path, tmp_path: Path) -> None:
    models = open_hand_models()
    take = make_take(models, count=4)
    save_mano(take, models, tmp_path / "hands.npz")
    back = import_results(tmp_path / "hands.npz", ImportSettings(hand_model=str(mano))).take
    assert back.meta["hand_model"]["name"] == "Open hand"
    assert back.meta["settings"]["hand_model"] is None
    np.testing.assert_allclose(back.right.keypoints_3d, take.right.keypoints_3d, atol=1e-5)


def test_frames_without_anybody_are_frames(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    seen = np.zeros(24, bool)
    seen[4:20:4] = True
    hands = {side: replace(take.hand(side), observed=seen) for side in SIDES}
    take = replace(take, left=hands["left"], right=hands["right"])
    save_mano(take, models, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name not in ("format", "frame", "time")}
    write_arrays(arrays, tmp_path / "hands.npz")
    back = import_results(tmp_path / "hands.npz", ImportSettings(frame_rate=RATE, hand_model=str(mano))).take
    assert back.frame.tolist() == list(range(24))
    np.testing.assert_array_equal(back.right.observed, seen)


def test_a_hand_length_moves_the_hand_and_keeps_its_pixels(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    save_mano(take, models, tmp_path / "hands.npz")
    back = import_results(tmp_path / "hands.npz", ImportSettings(hand_model=str(mano), hand_length=0.1)).take
    assert float(back.left.scale[0]) * models["left"].length(back.left.shape) == pytest.approx(0.1)
    seen = take.right.observed
    pixels = project(take.right.keypoints_3d[seen], take.camera_matrix)
    assert np.abs(back.right.keypoints_2d[seen] - pixels).max() < 0.1


# --- in: landmarks -------------------------------------------------------------------------------------------


def landmark_frames(take: Take) -> list[dict[str, Any]]:
    """HandLandmarkerResult of every frame in the words of the Tasks API for Python; a hand that is away is left out.

    x and y are shares of the picture, z a share of its width from the wrist; world landmarks are metres about the
    middle of the hand; handedness is a list of categories per hand.
    """
    width, height = SIZE
    frames = []
    for row in range(len(take)):
        frame: dict[str, Any] = {"hand_landmarks": [], "hand_world_landmarks": [], "handedness": []}
        for side in ("right", "left"):
            hand = take.hand(side)  # type: ignore[arg-type]
            if not hand.observed[row]:
                continue
            points = hand.keypoints_3d[row] - hand.keypoints_3d[row].mean(axis=0)
            depth = (hand.keypoints_3d[row, :, 2] - hand.keypoints_3d[row, 0, 2]) * take.camera_matrix[0, 0]
            depth = depth / hand.keypoints_3d[row, 0, 2] / width
            pixels = hand.keypoints_2d[row]
            frame["hand_landmarks"].append(
                [
                    {"x": float(x / width), "y": float(y / height), "z": float(z), "visibility": 0.0}
                    for (x, y), z in zip(pixels, depth, strict=True)
                ]
            )
            frame["hand_world_landmarks"].append([dict(zip("xyz", map(float, point), strict=True)) for point in points])
            frame["handedness"].append([{"index": 0, "score": 0.97, "category_name": side.capitalize()}])
        frames.append({**frame, "timestamp_ms": round(1000 * row / RATE)})
    return frames


@pytest.fixture(scope="module")
def seen_and_true() -> tuple[Take, Take]:
    return make_raw_take(open_hand_models(), times=np.arange(60) / RATE, noise=0.001)


def in_javascript(frames: list[dict[str, Any]]) -> Any:
    return {
        "fps": RATE,
        "image_size": list(SIZE),
        "frames": [
            {
                "landmarks": frame["hand_landmarks"],
                "worldLandmarks": frame["hand_world_landmarks"],
                "handednesses": [
                    [{"score": 0.97, "index": 0, "categoryName": label[0]["category_name"], "displayName": "x"}]
                    for label in frame["handedness"]
                ],
            }
            for frame in frames
        ],
    }


def in_solutions(frames: list[dict[str, Any]]) -> Any:
    """The older solutions through MessageToDict: labels are those of a mirrored picture."""
    other = {"Left": "Right", "Right": "Left"}
    return [
        {
            "multi_hand_landmarks": [{"landmark": hand} for hand in frame["hand_landmarks"]],
            "multi_hand_world_landmarks": [{"landmark": hand} for hand in frame["hand_world_landmarks"]],
            "multi_handedness": [
                {"classification": [{"index": 0, "score": 0.97, "label": other[label[0]["category_name"]]}]}
                for label in frame["handedness"]
            ],
        }
        for frame in frames
    ]


def as_lists(frames: list[dict[str, Any]]) -> Any:
    return [
        {
            "frame": number,
            "landmarks": [
                [[p["x"] * SIZE[0], p["y"] * SIZE[1], p["z"] * SIZE[0]] for p in hand]
                for hand in frame["hand_landmarks"]
            ],
            "handedness": [label[0]["category_name"].lower() for label in frame["handedness"]],
        }
        for number, frame in enumerate(frames)
    ]


def in_holistic(frames: list[dict[str, Any]]) -> Any:
    """The holistic landmarkers name the hands themselves, beside a body that nobody asked for."""
    named = []
    for frame in frames:
        named.append({"pose_landmarks": [], "pose": [1.0]})
        for number, label in enumerate(frame["handedness"]):
            side = label[0]["category_name"].lower()
            named[-1][f"{side}_hand_landmarks"] = [frame["hand_landmarks"][number]]
            named[-1][f"{side}_hand_world_landmarks"] = frame["hand_world_landmarks"][number]
    return named


@pytest.mark.parametrize(
    ("spell", "settings", "largest"),
    [
        (lambda frames: frames, ImportSettings(image_size=SIZE, focal_length=1100.0), 6.0),
        (in_javascript, ImportSettings(focal_length=1100.0), 6.0),
        (
            in_solutions,
            ImportSettings(image_size=SIZE, focal_length=1100.0, frame_rate=RATE, labels="selfie"),
            6.0,
        ),
        (in_holistic, ImportSettings(image_size=SIZE, focal_length=1100.0, frame_rate=RATE), 6.0),
        (as_lists, ImportSettings(image_size=SIZE, focal_length=1100.0, frame_rate=RATE), 12.0),
    ],
    ids=["tasks", "javascript", "solutions", "holistic", "lists of pixels without a world"],
)
def test_landmarks_are_fitted(
    spell: Any, settings: ImportSettings, largest: float, seen_and_true: tuple[Take, Take], tmp_path: Path
) -> None:
    raw, truth = seen_and_true
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps(spell(landmark_frames(raw))))
    take = import_results(path, settings).take
    save_take(take, tmp_path / "take.npz")
    assert len(take) == 60
    np.testing.assert_allclose(take.time, np.arange(60) / RATE, atol=6e-4)
    for side in SIDES:
        hand, true = take.hand(side), truth.hand(side)
        assert hand.observed.all()
        angle = np.degrees(rotations.angle_between(hand.rotation.astype(float), true.rotation.astype(float)))
        assert angle.mean() < largest
        assert np.abs(hand.translation - true.translation).mean() < 0.02


def test_lines_are_frames_and_empty_ones_count(seen_and_true: tuple[Take, Take], tmp_path: Path) -> None:
    frames = landmark_frames(seen_and_true[0])[:20]
    frames[4:7] = [{"hand_landmarks": [], "hand_world_landmarks": [], "handedness": []} for _ in range(3)]
    path = tmp_path / "landmarks.ndjson"
    path.write_text("\n".join(json.dumps(frame) for frame in frames))
    take = import_results(path, ImportSettings(image_size=SIZE, frame_rate=RATE)).take
    assert np.flatnonzero(~take.left.observed).tolist() == [4, 5, 6]
    assert not take.left.keypoints_2d[4:7].any()


def test_two_hands_of_one_label_are_both_hands(seen_and_true: tuple[Take, Take], tmp_path: Path) -> None:
    frames = landmark_frames(seen_and_true[0])[:10]
    frames[3]["handedness"][1][0] |= {"category_name": "Right", "score": 0.6}
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps(frames))
    take = import_results(path, ImportSettings(image_size=SIZE, focal_length=1100.0)).take
    assert take.left.observed.all()
    assert take.left.confidence[3, 0] == pytest.approx(0.6)
    assert np.abs(take.left.keypoints_2d[3] - seen_and_true[0].left.keypoints_2d[3]).max() < 1e-2


def test_landmarks_of_a_selfie(seen_and_true: tuple[Take, Take], tmp_path: Path) -> None:
    """A mirrored picture of the same hands: pixels, worlds and what a label means are all turned round."""
    raw, _ = seen_and_true
    frames = landmark_frames(raw)[:20]
    for frame in frames:
        for hand in frame["hand_landmarks"]:
            for point in hand:
                point["x"] = 1.0 - point["x"]
        for hand in frame["hand_world_landmarks"]:
            for point in hand:
                point["x"] = -point["x"]
        for label in frame["handedness"]:
            label[0]["category_name"] = {"Left": "Right", "Right": "Left"}[label[0]["category_name"]]
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps(frames))
    take = import_results(path, ImportSettings(image_size=SIZE, focal_length=1100.0, mirrored=True)).take
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(landmark_frames(raw)[:20]))
    want = import_results(plain, ImportSettings(image_size=SIZE, focal_length=1100.0)).take
    assert take.camera_matrix[0, 0] == -1100.0
    for side in SIDES:
        np.testing.assert_allclose(take.hand(side).translation, want.hand(side).translation, atol=1e-4)


# --- what is missing or wrong --------------------------------------------------------------------------------


def test_footage_says_size_rate_and_uneven_times(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    path = tmp_path / "hamer.npz"
    np.savez(path, **{name: value for name, value in hamer_arrays(take, models).items() if name != "img_size"})
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.05, 40))
    footage = KnownFootage(str(tmp_path / "clip.mp4"), SIZE, 28.0, times)
    settings = ImportSettings(focal_length=1100.0, hand_model=str(mano))
    back = import_results(path, settings, footage).take
    np.testing.assert_array_equal(back.time, times[:24])
    assert back.meta["source"]["path"] == str(tmp_path / "clip.mp4")
    with pytest.raises(ExchangeError, match="the footage only 20"):
        import_results(path, settings, replace(footage, time=times[:20]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("is_right"), "which hand is the right one"),
        (lambda a: a.pop("frame"), "which frame a hand is in"),
        (lambda a: a.pop("pred_cam_t_full"), "place of the hands in the camera"),
        (lambda a: a.pop("pred_mano_params/global_orient"), "orientation of the wrist"),
        (lambda a: a.pop("pred_mano_params/hand_pose"), "MANO parameters"),
        (lambda a: a.pop("img_size"), "how large the picture is"),
        (lambda a: a.update(frame=a["frame"] - 1_000), "no frame numbers"),
        (lambda a: a.update({"pred_mano_params/hand_pose": np.zeros((44, 6))}), "principal components"),
        (lambda a: a.update({"pred_mano_params/betas": np.zeros((3, 7))}), "laid out in a way"),
        (lambda a: a.update(pred_cam_t_full=-a["pred_cam_t_full"]), "behind the camera"),
        (lambda a: a.update(pred_cam_t_full=np.full((44, 3), np.nan)), "no hand in any frame"),
        (lambda a: a.update(is_right=np.array([None] * 44)), "Python objects"),
    ],
)
def test_every_broken_archive_is_one_sentence(
    change: Any, sentence: str, clip: tuple[Take, Any], tmp_path: Path
) -> None:
    arrays = hamer_arrays(*clip)
    change(arrays)
    path = tmp_path / "broken.npz"
    np.savez(path, **arrays)
    with pytest.raises(HandCaptureError, match=sentence) as told:
        import_results(path, ImportSettings(frame_rate=RATE))
    assert str(told.value).count(". ") == 0
    assert str(told.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 5_000, "not JSON"),
        ("3", "no list of frames"),
        ("[]", "neither landmarks nor MANO"),
        ("[1, 2]", "no list of frames"),
        ('[{"pose_landmarks": []}]', "neither landmarks nor MANO"),
        ('[{"hand_landmarks": [], "handedness": []}]', "no hand in any frame"),
        ('[{"hand_landmarks": 3, "handedness": []}]', "no list of hands"),
        ('[{"hand_landmarks": [[]], "handedness": []}]', "has 1 hands, 0 labels"),
        ('[{"hand_landmarks": [[{"x": 1}]], "handedness": ["Left"]}]', "21 points of numbers"),
        (json.dumps([{"hand_landmarks": ONE_HAND, "handedness": ["Both"]}]), "neither left nor"),
        (json.dumps([{"frame": 1.5, "hand_landmarks": ONE_HAND, "handedness": ["Left"]}]), "no frame number"),
        ('{"hand_pose": [[1, 2], [3]], "other": [1]}', "MANO parameters"),
    ],
)
def test_every_broken_text_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(HandCaptureError, match=sentence):
        import_results(path, ImportSettings(image_size=SIZE, frame_rate=RATE))


def test_times_nobody_knows(seen_and_true: tuple[Take, Take], tmp_path: Path) -> None:
    frames = landmark_frames(seen_and_true[0])[:5]
    path = tmp_path / "landmarks.json"
    for unit, sentence in ((1e-3, "unknown unit"), (1e6, "unknown unit"), (-1.0, "do not increase")):
        path.write_text(json.dumps([{**frame, "timestamp_ms": unit * frame["timestamp_ms"]} for frame in frames]))
        with pytest.raises(ExchangeError, match=sentence):
            import_results(path, ImportSettings(image_size=SIZE))
    path.write_text(json.dumps([{k: v for k, v in frame.items() if k != "timestamp_ms"} for frame in frames]))
    with pytest.raises(SettingsError, match="how many frames there are in a second"):
        import_results(path, ImportSettings(image_size=SIZE))


@pytest.mark.parametrize("name", ["take.npz", "gone.npz", "gone.json", "words.txt", "array.npz", "empty"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    save_take(make_take(open_hand_models(), count=2), tmp_path / "take.npz")
    (tmp_path / "words.txt").write_text("words")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExchangeError, match=Path(name).stem):
        import_results(tmp_path / name)


@pytest.mark.parametrize(
    "values",
    [
        {"frame_rate": 0.0},
        {"image_size": (0, 5)},
        {"focal_length": float("nan")},
        {"field_of_view": 4.0},
        {"hand_length": 3.0},
        {"labels": "both"},
        {"left_hands": "both"},
    ],
)
def test_settings_that_cannot_work(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ImportSettings(**values)


# --- the whole way -------------------------------------------------------------------------------------------


def test_the_command_line_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, _ = make_raw_take(open_hand_models(), times=np.arange(30) / RATE)
    raw = replace(raw, meta={**raw.meta, "hand_model": {"name": "Open hand"}})
    take = tmp_path / "take.npz"
    save_take(raw, take)
    for name, more in (("hands.npz", []), ("hands.json", []), ("body.npz", ["--format", "smplx"]), ("hands.csv", [])):
        assert main(["export", str(take), "-o", str(tmp_path / name), *more]) == 0
        assert f"Wrote 30 frames to {tmp_path / name}" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "hands.json"), "-o", str(tmp_path / "back.npz")]) == 0
    assert "Imported 30 frames, left hand in 100%, right hand in 100%." in capsys.readouterr().out
    assert main(["clean", str(tmp_path / "back.npz"), "-o", str(tmp_path / "clean.npz")]) == 0
    assert len(load_take(tmp_path / "clean.npz").meta["history"]) == 1
    capsys.readouterr()
    for arguments, sentence in (
        (["export", str(take), "-o", str(tmp_path / "hands.csv"), "--format", "mano"], "does not fit the format mano"),
        (["export", str(take), "-o", str(tmp_path / "hands.txt")], "change the ending"),
        (["import", str(take), "-o", str(tmp_path / "again.npz")], "is a take already"),
        (["import", str(tmp_path / "hands.json"), "-o", str(tmp_path / "again.txt")], "change the ending"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "again.npz").exists()


def test_imported_landmarks_clean_like_captured_ones(seen_and_true: tuple[Take, Take], tmp_path: Path) -> None:
    raw, truth = seen_and_true
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps(landmark_frames(raw)))
    models = open_hand_models()
    take = import_results(path, ImportSettings(image_size=SIZE, focal_length=1100.0)).take
    clean = clean_take(take, models).take
    for side in SIDES:
        angle = rotations.angle_between(
            clean.hand(side).rotation.astype(float), truth.hand(side).rotation.astype(float)
        )
        assert np.degrees(angle).mean() < 6.0


def test_imported_rotations_clean_like_captured_ones(clip: tuple[Take, Any], mano: Path, tmp_path: Path) -> None:
    take, models = clip
    path = tmp_path / "hamer.npz"
    np.savez(path, **hamer_arrays(take, models))
    settings = ImportSettings(frame_rate=RATE, focal_length=1100.0, hand_model=str(mano))
    raw = import_results(path, settings).take
    save_take(raw, tmp_path / "raw.npz")
    clean = clean_take(load_take(tmp_path / "raw.npz"), models).take
    assert len(clean) == len(take)
    assert len(JOINTS) == clean.left.rotation.shape[1]
    # The gap of four frames is filled with motion.
    moved = np.linalg.norm(np.diff(clean.left.translation, axis=0), axis=1)
    assert (moved[7:12] > 0).all()
