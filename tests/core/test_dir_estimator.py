"""The estimator `dir` from footage to take: with a network that knows the truth, and with the real one.

`TruthNetwork` stands in for trained weights. It gets nothing but the crop: the pictures carry their own position in
red and green and their number in blue, so it reads where it was pointed, and answers with the known hands as the
network is specified to. Hands outside of its crop it does not see. So these tests measure cropping, following,
mirroring and the camera fit, and say nothing about how well a network sees hands.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from takes import curl_rotation  # noqa: E402

from dir_core import rotations  # noqa: E402
from dir_core.camera import make_camera_matrix, project, rays  # noqa: E402
from dir_core.capture import CaptureSettings, capture_take, choose_hand_models  # noqa: E402
from dir_core.cli import main  # noqa: E402
from dir_core.conventions import SIDES, Side  # noqa: E402
from dir_core.detection.landmark_network import HandLandmarks  # noqa: E402
from dir_core.detection.sides import Sighting  # noqa: E402
from dir_core.detection.tracker import HandTracker  # noqa: E402
from dir_core.errors import CheckpointError, SettingsError  # noqa: E402
from dir_core.estimator import make_estimator  # noqa: E402
from dir_core.fitting.posed_clip import place_hands  # noqa: E402
from dir_core.footage import open_footage  # noqa: E402
from dir_core.hand_model import OPEN_HAND_FOLDER, load_hand_model, open_hand_models  # noqa: E402
from dir_core.landmarks import PosedClip, PosedHandTrack  # noqa: E402
from dir_core.network import DIR, load_checkpoint  # noqa: E402
from dir_core.network.crop import IMAGE_DEVIATION, IMAGE_MEAN  # noqa: E402
from dir_core.network.estimator import DirEstimator, rotations_from_mano  # noqa: E402
from dir_core.network.follow import HandFollower, stretches  # noqa: E402
from dir_core.network.inference import BatchedNetwork  # noqa: E402
from dir_core.network.results import OFFSET_UNIT, DIROutput, HandResult, StageResult  # noqa: E402
from dir_core.take import load_take, take_digest  # noqa: E402
from dir_core.worker.protocol import PREVIEW, PreviewReader  # noqa: E402

WIDTH, HEIGHT, FOCAL, RATE = 640, 480, 560.0, 30.0
FIRST_BLUE = 60  # of frame 0; black is outside of the picture
FOOTAGE = Path(__file__).parents[1] / "data" / "footage"


@dataclass(frozen=True, eq=False)
class Truth:
    """Both hands over T frames, in the axes of the real camera; `camera` has a negative focal length for selfies."""

    rotation: dict[Side, Any]
    translation: dict[Side, Any]
    keypoints: dict[Side, Any]
    visible: dict[Side, Any]
    shape: Any
    camera: Any

    @property
    def pixels(self) -> dict[Side, Any]:
        return {side: project(self.keypoints[side], self.camera) for side in SIDES}

    @property
    def hand_length(self) -> float:
        return open_hand_models()["right"].length(self.shape)


def make_truth(
    count: int = 40, *, mirrored: bool = False, apart: float = 0.09, depth: float = 0.5, travel: float = 0.05
) -> Truth:
    models = open_hand_models()
    time = np.arange(count) / RATE
    shape = np.random.default_rng(3).normal(0, 0.6, 10)
    rotation = {side: curl_rotation(models[side], shape, time / 1.6) for side in SIDES}
    turn = 2 * np.pi * time / 2.0
    common = np.stack([travel * np.sin(turn), 0.06 + 0.5 * travel * np.sin(2 * turn), depth + 0.04 * np.cos(turn)], -1)
    translation = {
        side: common + np.array([apart if side == "left" else -apart, 0.0, 0.02 if side == "left" else -0.02])
        for side in SIDES
    }
    keypoints = {side: models[side].pose_keypoints(rotation[side], translation[side], shape) for side in SIDES}
    camera = make_camera_matrix((WIDTH, HEIGHT), FOCAL)
    if mirrored:
        camera[0, 0] *= -1
    return Truth(rotation, translation, keypoints, {side: np.ones(count, bool) for side in SIDES}, shape, camera)


def write_pictures(folder: Path, count: int) -> Path:
    """Frames that say where each of their pixels lies and which frame they are."""
    folder.mkdir()
    x = np.round(255 * (np.arange(WIDTH) + 0.5) / WIDTH)[None].repeat(HEIGHT, 0)
    y = np.round(255 * (np.arange(HEIGHT) + 0.5) / HEIGHT)[:, None].repeat(WIDTH, 1)
    for number in range(count):
        blue = np.full_like(x, FIRST_BLUE + number)
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.stack([blue, y, x], -1).astype(np.uint8))
    return folder


class TruthNetwork(torch.nn.Module):  # type: ignore[misc]
    """Answers with the truth about the hands that lie in the crop it is shown, and nonsense about others."""

    root_joint = 0

    def __init__(self, truth: Truth, *, weak: bool = False):
        super().__init__()
        self.hand_models = open_hand_models()
        self.truth = truth
        self.weak = weak  # uv from weak perspective, as the real network's, instead of the true projection
        self.batches: list[int] = []
        self.crops: list[tuple[int, Any]] = []  # frame, and uv of both hands [2, 21, 2]

    def forward(self, images: Any, auxiliary: bool = False, meshes: str = "all") -> DIROutput:
        assert images.shape[1:] == (3, 256, 256)
        assert images.dtype == torch.float32
        self.batches.append(len(images))
        answers = [self._answer(image) for image in images.permute(0, 2, 3, 1).numpy()]
        hands = [
            HandResult(
                joint_uv=self._stack(a["uv"][h] for a in answers),
                joint_xyz=self._stack(a["xyz"][h] for a in answers),
                mesh_xyz=torch.zeros(len(images), 0, 3),
                mesh_uv=torch.zeros(len(images), 0, 2),
                mano=self._stack(a["mano"][h] for a in answers),
            )
            for h in (0, 1)
        ]
        stage = StageResult(*hands, offset=self._stack(a["offset"] for a in answers))
        seg = self._stack(a["seg"] for a in answers) if auxiliary else None
        return DIROutput((stage, stage, stage), seg=seg)

    @staticmethod
    def _stack(arrays: Iterator[Any]) -> Any:
        return torch.tensor(np.stack(list(arrays)), dtype=torch.float32)

    def _answer(self, image: Any) -> dict[str, Any]:
        colours = (image * IMAGE_DEVIATION + IMAGE_MEAN) * 255
        inside = cv2.erode((colours[..., 2] > FIRST_BLUE / 2).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        frame = round(float(np.median(colours[inside][:, 2]))) - FIRST_BLUE
        inside[np.arange(256) % 3 > 0] = False  # enough pixels are left
        rows, columns = np.nonzero(inside)
        slope_x, start_x = np.polyfit(columns, colours[inside][:, 0] * WIDTH / 255, 1)
        slope_y, start_y = np.polyfit(rows, colours[inside][:, 1] * HEIGHT / 255, 1)

        truth, models = self.truth, self.hand_models
        look = rays(np.array([start_x + 128 * slope_x, start_y + 128 * slope_y]), truth.camera)
        view = turn_towards(np.append(look, 1.0))
        back = rotations.inverse(view)
        seg = np.zeros((3, 32, 32))
        seg[0] = 2.0
        found: dict[str, Any] = {"uv": [], "xyz": [], "mano": []}
        for hand, side in enumerate(SIDES):
            points = (truth.pixels[side][frame] - [start_x, start_y]) / [slope_x, slope_y]
            uv = points / 128 - 1
            xyz = rotations.rotate(back, truth.keypoints[side][frame] - truth.translation[side][frame])
            turned = truth.rotation[side][frame].copy()
            turned[0] = rotations.multiply(back, turned[0])
            if self.weak:
                a = np.concatenate(
                    [np.stack([xyz[:, axis], *np.eye(2)[axis][:, None] * np.ones(21)], -1) for axis in (0, 1)]
                )
                s, *t = np.linalg.lstsq(a, uv.T.ravel(), rcond=None)[0]
                uv = s * xyz[:, :2] + t
            if truth.visible[side][frame] and (np.abs(uv).max(axis=-1) <= 1).mean() > 0.7:
                cells = np.round((uv + 1) * 16 - 0.5).astype(int)
                for dx in (-1, 0, 1):
                    for dy in (-1, 0, 1):
                        x, y = np.clip(cells + [dx, dy], 0, 31).T
                        seg[1 + hand, y, x] = 6.0
            else:
                uv = np.random.default_rng(frame).normal(0.1, 0.3, (21, 2))
            matrix = rotations.to_matrix(turned[0])
            coefficients = models[side].components_from_pose(turned[None, 1:])[0]
            mano = np.concatenate([matrix[:, 0], matrix[:, 1], coefficients, truth.shape, np.zeros(3)])
            for name, value in (("uv", uv), ("xyz", xyz), ("mano", mano)):
                found[name].append(value)
        apart = truth.translation["right"][frame] - truth.translation["left"][frame]
        found["offset"] = rotations.rotate(back, apart) / OFFSET_UNIT
        found["seg"] = seg
        self.crops.append((frame, np.stack(found["uv"])))
        return found


def turn_towards(direction: Any) -> Any:
    """The short turn from the optical axis to a direction, by its rotation vector."""
    direction = direction / np.linalg.norm(direction)
    axis = np.cross([0.0, 0.0, 1.0], direction)
    sine = np.linalg.norm(axis)
    return rotations.from_rotation_vector(axis / max(sine, 1e-12) * np.arctan2(sine, direction[2]))


Run = Callable[..., Any]


@pytest.fixture
def capture_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(
        truth: Truth,
        *,
        network: TruthNetwork | None = None,
        parts: Path | None = None,
        preview: Path | None = None,
        **choices: Any,
    ) -> Any:
        count = len(truth.visible["left"])
        folder = tmp_path / f"pictures{count}"
        if not folder.is_dir():
            write_pictures(folder, count)
        settings = CaptureSettings(
            estimator="dir",
            checkpoint="truth.pth",
            focal_length=FOCAL,
            frame_rate=RATE,
            hand_length=truth.hand_length,
            mirrored=bool(truth.camera[0, 0] < 0),
            **choices,
        )
        estimator = DirEstimator(
            network or TruthNetwork(truth),  # type: ignore[arg-type]
            "truth",
            mirrored=settings.mirrored,
            device="cpu",
            box=settings.box,
            batch=settings.batch,
        )
        monkeypatch.setattr("dir_core.capture.make_estimator", lambda *_, **__: estimator)
        return capture_take(folder, settings, parts_folder=parts, preview_folder=preview)

    return run


def box_around(truth: Truth, frame: int = 0) -> tuple[float, float, float, float]:
    points = np.concatenate([truth.pixels[side][frame] for side in SIDES])
    low, high = points.min(axis=0) - 10, points.max(axis=0) + 10
    return tuple(float(value) for value in (*low, *(high - low)))  # type: ignore[return-value]


def assert_truth(take: Any, truth: Truth, *, degrees: float, metres: float, pixels: float) -> None:
    for side in SIDES:
        hand, seen = take.hand(side), truth.visible[side]
        assert (hand.observed == seen).all(), side
        turn = np.degrees(rotations.angle_between(hand.rotation[seen].astype(float), truth.rotation[side][seen]))
        assert turn.max() < degrees, (side, turn.max())
        shift = np.linalg.norm(hand.translation - truth.translation[side], axis=1)[seen]
        assert shift.max() < metres, (side, shift.max())
        posed = open_hand_models()[side].pose_keypoints(
            hand.rotation.astype(float), hand.translation, hand.shape, float(hand.scale[0])
        )
        error = np.linalg.norm(project(posed, take.camera_matrix) - truth.pixels[side], axis=-1)[seen]
        assert error.max() < pixels, (side, error.max())


# --- with the truth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_truth_comes_back_through_crop_and_camera(mirrored: bool, capture_truth: Run) -> None:
    truth = make_truth(mirrored=mirrored)
    take = capture_truth(truth, box=box_around(truth)).take
    assert_truth(take, truth, degrees=0.1, metres=0.001, pixels=0.8)
    assert np.abs(take.left.shape - truth.shape).max() < 1e-5
    assert (take.camera_matrix[0, 0] < 0) == mirrored


def test_weak_perspective_off_the_axis_costs_little(capture_truth: Run) -> None:
    truth = make_truth(depth=0.6, apart=0.08)
    moved = {side: truth.translation[side] + [0.17, 0.05, 0.0] for side in SIDES}  # 16 degrees off the axis
    keypoints = {side: truth.keypoints[side] + [0.17, 0.05, 0.0] for side in SIDES}
    truth = replace(truth, translation=moved, keypoints=keypoints)
    take = capture_truth(truth, network=TruthNetwork(truth, weak=True), box=box_around(truth)).take
    assert_truth(take, truth, degrees=0.1, metres=0.015, pixels=4)


def test_the_offset_between_the_roots_steadies_the_depth_between_the_hands() -> None:
    """Sizes in the picture that err by 6 % would put the hands 40 mm apart in depth; the offset says better."""
    truth, rng = make_truth(60), np.random.default_rng(11)

    def track(side: Side) -> PosedHandTrack:
        pixels = truth.pixels[side]
        middle = pixels.mean(axis=1, keepdims=True)
        size = 1 + 0.06 * (1 if side == "left" else -1) * np.sin(np.arange(60) / 9)[:, None, None]
        return PosedHandTrack(
            keypoints_2d=middle + size * (pixels - middle),
            keypoints_3d=truth.keypoints[side] - truth.translation[side][:, None],
            confidence=np.ones((60, 21), np.float32),
            observed=np.ones(60, bool),
            rotation=truth.rotation[side],
            shape=np.tile(truth.shape, (60, 1)),
            view=np.tile(truth.camera[:2, 2], (60, 1)),
        )

    apart = truth.translation["right"] - truth.translation["left"]
    clip = PosedClip(
        time=np.arange(60) / RATE,
        frame=np.arange(60),
        left=track("left"),
        right=track("right"),
        touching=np.zeros(60, bool),
        offset=apart + rng.normal(0, 0.017, (60, 3)),
        offset_known=np.ones(60, bool),
        root=0,
    )

    def error(clip: PosedClip) -> float:
        hands = place_hands(clip, open_hand_models(), truth.camera, truth.hand_length)
        return float(np.abs(hands["right"].translation - hands["left"].translation - apart)[:, 2].mean())

    alone = error(replace(clip, offset_known=np.zeros(60, bool)))
    assert alone > 0.02
    assert error(clip) < 0.5 * alone


def test_hands_are_found_in_the_whole_picture_and_stay_in_the_crop(capture_truth: Run) -> None:
    truth = make_truth(travel=0.12)
    network = TruthNetwork(truth)
    take = capture_truth(truth, network=network).take
    assert_truth(take, truth, degrees=0.1, metres=0.002, pixels=1.5)  # fast, so the light smoothing shows
    # What was taken in the end fills the square as in training: a little less than 80 % for the key points.
    last = dict(network.crops)
    edges = np.array([np.abs(uv).max() for uv in last.values()])
    assert edges.max() < 1
    sides = np.array([np.ptp(uv.reshape(-1, 2), axis=0).max() / 2 for uv in last.values()])
    assert (sides > 0.6).all()
    assert (sides < 0.9).all()


def test_slow_hands_are_followed_blindly_with_less_than_two_looks_a_frame(capture_truth: Run) -> None:
    truth = make_truth(travel=0.03)
    network = TruthNetwork(truth)
    capture_truth(truth, network=network, box=box_around(truth))
    assert sum(network.batches) <= 1.75 * len(truth.visible["left"])
    assert max(network.batches) == 8


def test_hands_leave_and_return(capture_truth: Run) -> None:
    truth = make_truth(60)
    truth.visible["left"][20:42] = truth.visible["right"][20:42] = False
    take = capture_truth(truth).take
    for side in SIDES:
        observed = take.hand(side).observed
        assert not observed[20:42].any()
        assert observed[:20].all()
        assert observed[48:].all()  # the whole picture is looked at once every sixteen frames
        assert not take.hand(side).confidence[~observed].any()


def test_one_hand_alone_leaves_the_other_unobserved(capture_truth: Run) -> None:
    truth = make_truth()
    truth.visible["left"][:] = False
    take = capture_truth(truth).take
    assert take.right.observed.all()
    assert not take.left.observed.any()


def test_no_hands_give_an_empty_take_and_a_warning(capture_truth: Run) -> None:
    truth = make_truth(20)
    truth.visible["left"][:] = truth.visible["right"][:] = False
    result = capture_truth(truth)
    assert not (result.take.left.observed | result.take.right.observed).any()
    assert any("No hand was found" in warning for warning in result.warnings)


class TruthTracker:
    """Sees the true hands, but not in `blind` frames; track 0 is the left one."""

    truth: Truth
    blind: range = range(0)

    def __init__(self, mirrored: bool = False, box: object = None, two_hands: bool = False):
        self._row = -1

    def __enter__(self) -> "TruthTracker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def follow(self, image: Any, time: float) -> tuple[list[Sighting], bool]:
        self._row += 1
        if self._row in self.blind:
            return [], True
        seen = []
        for track, side in enumerate(SIDES):
            if self.truth.visible[side][self._row]:
                points = self.truth.pixels[side][self._row].astype(np.float32)
                landmarks = HandLandmarks(points, np.zeros((21, 3), np.float32), 1.0, float(track))
                seen.append(Sighting(track, landmarks, np.ones(21, np.float32), 2.0 * track - 1.0))
        return seen, False


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[TruthTracker]:
    class Tracker(TruthTracker):
        pass

    monkeypatch.setattr("dir_core.network.estimator.HandTracker", Tracker)
    return Tracker


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_network_follows_where_the_tracker_is_blind(
    mirrored: bool, capture_truth: Run, tracker: type[TruthTracker]
) -> None:
    truth = make_truth(travel=0.1, mirrored=mirrored)
    tracker.truth, tracker.blind = truth, range(10, 38)
    take = capture_truth(truth).take
    assert_truth(take, truth, degrees=0.1, metres=0.001, pixels=0.8)


def test_one_look_a_frame_is_enough_where_the_tracker_sees(capture_truth: Run, tracker: type[TruthTracker]) -> None:
    truth = make_truth(travel=0.12)
    tracker.truth = truth
    network = TruthNetwork(truth)
    take = capture_truth(truth, network=network).take
    assert sum(network.batches) == len(take)


def test_hands_far_apart_get_a_crop_each(capture_truth: Run, tracker: type[TruthTracker]) -> None:
    truth = make_truth(20, apart=0.34, depth=0.8, travel=0.02)
    tracker.truth = truth
    network = TruthNetwork(truth)
    take = capture_truth(truth, network=network).take
    assert_truth(take, truth, degrees=0.1, metres=0.004, pixels=0.8)
    assert sum(network.batches) == 2 * 20
    extents = [max(np.ptp(hand, axis=0).max() / 2 for hand in uv if np.abs(hand).max() < 1) for _, uv in network.crops]
    assert min(extents) > 0.4  # of the crop; in a common one they would fill less than a fifth


def test_a_sighted_hand_that_the_network_does_not_confirm_is_not_observed(
    capture_truth: Run, tracker: type[TruthTracker]
) -> None:
    truth = make_truth(20)
    tracker.truth = truth
    elsewhere = replace(truth, visible={side: np.zeros(20, bool) for side in SIDES})
    take = capture_truth(truth, network=TruthNetwork(elsewhere)).take
    assert not (take.left.observed | take.right.observed).any()


def test_memory_that_runs_out_halves_the_batch_and_is_told(capture_truth: Run) -> None:
    class SmallMemory(TruthNetwork):
        def forward(self, images: Any, auxiliary: bool = False, meshes: str = "all") -> DIROutput:
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(images, auxiliary, meshes)

    truth = make_truth(20)
    result = capture_truth(truth, network=SmallMemory(truth))
    assert [w for w in result.warnings if "Memory" in w] == [
        "Memory of cpu ran out, the batch went down to 4.",
        "Memory of cpu ran out, the batch went down to 2.",
    ]
    assert_truth(result.take, truth, degrees=0.1, metres=0.001, pixels=0.8)


def test_a_picture_that_does_not_fit_sends_the_network_to_the_cpu() -> None:
    class NoMemory(TruthNetwork):
        def forward(self, images: Any, auxiliary: bool = False, meshes: str = "all") -> DIROutput:
            if images.device.type != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(images, auxiliary, meshes)

    warnings: list[str] = []
    # The meta device stands for one without memory.
    network = BatchedNetwork(NoMemory(make_truth(1)), torch.device("meta"), 2, warnings.append)
    pictures = np.full((3, 256, 256, 3), FIRST_BLUE, np.uint8)
    pictures[..., 0], pictures[..., 1] = np.arange(256), np.arange(256)[:, None]
    answer = network.ask(pictures, check=True)
    assert answer["uv"].shape == (3, 2, 21, 2)
    assert answer["shown"].shape == (3, 2)
    assert warnings == [
        "Memory of meta ran out, the batch went down to 1.",
        "Memory of meta ran out for a single picture, the capture went on on the CPU.",
    ]


def test_a_stopped_capture_goes_on_and_ends_the_same(capture_truth: Run, tmp_path: Path) -> None:
    class Stopped(TruthNetwork):
        def forward(self, images: Any, auxiliary: bool = False, meshes: str = "all") -> DIROutput:
            if len(self.batches) == 8:
                raise KeyboardInterrupt
            return super().forward(images, auxiliary, meshes)

    truth, parts = make_truth(40, travel=0.1), tmp_path / "parts"
    truth.visible["left"][25:] = False
    whole = capture_truth(truth).take
    with pytest.raises(KeyboardInterrupt):
        capture_truth(truth, network=Stopped(truth), parts=parts)
    kept = sorted(path.name for path in parts.iterdir())
    assert kept[0] == "000000.npz"
    assert "000002.npz" not in kept
    network = TruthNetwork(truth)
    resumed = capture_truth(truth, network=network, parts=parts).take
    assert min(frame for frame, _ in network.crops) == 16 * (len(kept) - 1)
    for side in SIDES:
        for name, values in vars(whole.hand(side)).items():
            assert values.tobytes() == getattr(resumed.hand(side), name).tobytes(), name
    assert whole.meta == resumed.meta

    other = TruthNetwork(truth)
    capture_truth(truth, network=other, parts=parts, batch=5)  # another request does not use these parts
    assert min(frame for frame, _ in other.crops) == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_those_who_look_on_see_nearly_the_result(mirrored: bool, capture_truth: Run, tmp_path: Path) -> None:
    truth = make_truth(40, mirrored=mirrored)
    truth.visible["left"][25:] = False
    take = capture_truth(truth, parts=tmp_path / "parts", preview=tmp_path / PREVIEW).take
    reader, clips = PreviewReader(tmp_path), []
    while (clip := reader.read()) is not None:
        clips.append(clip)
    assert np.array_equal(np.concatenate([clip.frame for clip in clips]), take.frame)
    for side in SIDES:
        hand, seen = take.hand(side), truth.visible[side]
        shown = {
            name: np.concatenate([getattr(clip.hand(side), name) for clip in clips]) for name in vars(clips[0].left)
        }
        assert np.array_equal(shown["observed"], hand.observed)
        assert np.array_equal(shown["keypoints_2d"], hand.keypoints_2d)
        turn = rotations.angle_between(shown["rotation"].astype(float), truth.rotation[side])[seen]
        assert np.degrees(turn.max()) < 0.1
        # The person's shape is not known yet, so a hand of the mean shape is put where it looks as large.
        assert np.linalg.norm(shown["translation"] - truth.translation[side], axis=1)[seen].max() < 0.04


def test_hands_are_followed_over_skipped_frames(capture_truth: Run, tmp_path: Path) -> None:
    truth, parts = make_truth(40), tmp_path / "parts"
    take = capture_truth(truth, step=3, parts=parts).take
    assert take.frame.tolist() == list(range(0, 40, 3))
    for side in SIDES:
        hand = take.hand(side)
        assert hand.observed.all()
        turn = rotations.angle_between(hand.rotation.astype(float), truth.rotation[side][::3])
        assert np.degrees(turn.max()) < 0.1
    network = TruthNetwork(truth)
    again = capture_truth(truth, network=network, step=3, parts=parts).take
    assert not network.crops
    assert take_digest(again) == take_digest(take)


def test_squares_on_real_sightings_are_those_of_the_training() -> None:
    """The rendered demonstration clip knows its meshes, by which DIR's training squares were cut."""
    demo = Path(__file__).parents[2] / "blender_assets" / "demo" / "two_hands.mp4"
    truth, models = load_take(demo.with_suffix(".truth.npz")), open_hand_models()
    meshes = [
        project(models[side].pose(hand.rotation, hand.translation, hand.shape, float(hand.scale[0])).vertices, camera)
        for side in SIDES
        for hand, camera in [(truth.hand(side), truth.camera_matrix)]
    ]
    points = np.concatenate(meshes, axis=1)
    low, high = points.min(axis=1), points.max(axis=1)
    middle, width = 0.5 * (low + high), (high - low).max(axis=1) / 0.8

    follower, off = HandFollower(), []
    with open_footage(demo, end=3.0) as footage, HandTracker() as tracker:
        for stretch in stretches(iter(footage), tracker):
            follower.observe(stretch)
            for frame, looks in zip(stretch.frames, follower.plan(stretch), strict=True):
                if len(looks) == 1:
                    square, row = looks[0].square, frame.index
                    shift = (np.array([square.x, square.y]) - middle[row]) / width[row]
                    off.append([*shift, square.side / width[row] - 1])
            follower.update(stretch, [{} for _ in stretch.frames])
    assert len(off) > 45
    assert np.abs(np.median(off, axis=0)).max() < 0.025


# --- with the network itself, weights without meaning --------------------------------------------------------


@pytest.fixture(scope="session")
def weights_file(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the official ones are, from the parity recipe."""
    folder = shared / "dir_network" / "parity"
    sys.path.insert(0, str(folder))
    try:
        import weights
    finally:
        sys.path.remove(str(folder))
    hands = [load_hand_model(folder / f"MANO_{side.upper()}.synthetic.npz", side) for side in SIDES]
    state = DIR(*hands).state_dict()
    for name, value in state.items():
        if not weights.skipped(name):
            state[name] = torch.from_numpy(np.asarray(weights.make(name, tuple(value.shape))))
    path = tmp_path_factory.mktemp("weights") / "parity weights.pth"
    torch.save({"net": state, "optimizer": {}, "schedule": {}, "last_epoch": 49}, path)
    return path


def test_the_rotations_of_a_take_pose_the_hands_of_the_network(weights_file: Path) -> None:
    network = load_checkpoint(weights_file)
    images = torch.randn(3, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        last = network(images).stages[-1]
    for side in SIDES:
        hand, model = getattr(last, side), network.hand_models[side]
        rotation = rotations_from_mano(hand.mano.numpy(), model)
        for row in range(3):
            betas = hand.mano[row, 51:61].numpy()
            keypoints = model.pose_keypoints(rotation[row : row + 1], None, betas)[0]
            assert np.abs(keypoints - hand.joint_xyz[row].numpy()).max() < 2e-6


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def short_clip(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of real hands as pictures."""
    folder = tmp_path_factory.mktemp("clip") / "pictures"
    folder.mkdir()
    reader = cv2.VideoCapture(str(shared / "footage" / "two_hands_composite.mp4"))
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(reader.read()[1], None, fx=0.5, fy=0.5))
    return folder


def test_the_command_line_captures_stops_and_goes_on(
    weights_file: Path,
    short_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dir_core.network.follow._PRESENT", 0.0)  # believe the random weights
    monkeypatch.setattr("dir_core.network.estimator.load_checkpoint", functools.cache(load_checkpoint))  # to save time
    monkeypatch.setattr("dir_core.network.follow._STRETCH_FRAMES", (2, 2))
    command = ["capture", short_clip, "--frame-rate", "25", "--estimator", "dir", "--checkpoint", weights_file]
    take_path, other_path = tmp_path / "take.npz", tmp_path / "other.npz"
    ask = BatchedNetwork.ask

    def ask_for_one_part(self: BatchedNetwork, crops: Any, check: bool) -> Any:
        if (tmp_path / ".take.npz.parts" / "000000.npz").exists():
            raise KeyboardInterrupt
        return ask(self, crops, check)

    with monkeypatch.context() as patch:
        patch.setattr(BatchedNetwork, "ask", ask_for_one_part)
        assert run(*command, "-o", take_path) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".take.npz.parts"]
    assert run(*command, "-o", take_path) == 0
    assert "Weights: parity weights.pth" in capsys.readouterr().out
    assert run(*command, "-o", other_path) == 0
    assert take_path.read_bytes() == other_path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.npz", "take.npz"]

    take = load_take(take_path)
    assert take.left.observed.all()
    assert take.meta["estimator"]["name"] == "dir"
    assert take.meta["estimator"]["checkpoint"] == "parity weights.pth"
    assert "research use only" in take.meta["estimator"]["licence"]
    assert len(take.meta["estimator"]["weights"]) == 64
    assert take.meta["hand_model"]["name"] == "MANO"

    assert run(*command, "-o", other_path, "--batch", "1") == 0
    single = load_take(other_path)
    for side in SIDES:
        a, b = take.hand(side), single.hand(side)
        assert np.abs(a.keypoints_2d - b.keypoints_2d).max() < 0.01  # pixels
        assert np.abs(a.keypoints_3d - b.keypoints_3d).max() < 1e-5
        assert rotations.angle_between(a.rotation.astype(float), b.rotation.astype(float)).max() < 1e-3

    # The hands drawn are those inside the checkpoint, no MANO files needed.
    assert run("preview", take_path, "--frame-rate", "25", "--sheet", tmp_path / "sheet.png") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--estimator", "dir"], "checkpoint"),
        (["--estimator", "dir", "--checkpoint", "no such file.pth"], "no such file.pth"),
        (["--estimator", "dir", "--checkpoint", FOOTAGE / "one_frame.mp4"], "one_frame.mp4"),
        (["--estimator", "dir", "--checkpoint", "x.pth", "--box", "0", "0", "0", "5"], "box"),
        (["--estimator", "dir", "--checkpoint", "x.pth", "--batch", "0"], "batch"),
        (["--checkpoint", "x.pth"], "'dir'"),
        (["--batch", "4"], "'dir'"),
        (["--box", "70", "0", "5", "5"], "64 x 48"),
    ],
)
def test_what_is_missing_or_foreign_is_named(
    options: list[object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path / "take.npz", *options) == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert message.startswith("error: ")
    assert words in message
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="auto"):
        make_estimator("dir", checkpoint="x.pth", device="abacus")


def test_a_hand_model_that_is_not_the_networks_is_refused(tmp_path: Path) -> None:
    estimator = DirEstimator(TruthNetwork(make_truth(1)), "truth", device="cpu")  # type: ignore[arg-type]
    for side in SIDES:
        with np.load(OPEN_HAND_FOLDER / f"HAND_{side.upper()}.npz") as file:
            np.savez(tmp_path / f"MANO_{side.upper()}.npz", **{**file, "v_template": 1.1 * file["v_template"]})
    settings = CaptureSettings(estimator="dir", checkpoint="truth.pth", hand_model=str(tmp_path))
    with pytest.raises(SettingsError, match="inside the checkpoint"):
        choose_hand_models(estimator, settings)
    settings = replace(settings, hand_model=str(OPEN_HAND_FOLDER))
    assert choose_hand_models(estimator, settings) is estimator.hand_models


def test_a_truncated_checkpoint_is_one_sentence(weights_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(weights_file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"damaged\.pth"):
        make_estimator("dir", checkpoint=str(damaged))
