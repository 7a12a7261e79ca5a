"""Provisional hands of a chunk: near the truth, honest about what was not seen, and never in the way of a capture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from takes import make_raw_take

from dir_core import rotations
from dir_core.conventions import SIDES, Side
from dir_core.errors import OutputError
from dir_core.hand_model import open_hand_models
from dir_core.landmarks import HandLandmarkTrack, LandmarkClip
from dir_core.take import Take
from dir_core.worker.live_preview import LivePreview, PreviewedParts, pose_provisionally
from dir_core.worker.protocol import PREVIEW, PreviewReader

FRAMES = 32
UNSEEN = slice(5, 9)


def as_seen(raw: Take, *, mirrored: bool = False) -> LandmarkClip:
    """What an estimator keeps of a take; a mirrored picture shows the same hands at mirrored pixels."""

    def track(side: Side) -> HandLandmarkTrack:
        hand = raw.hand(side)
        pixels = hand.keypoints_2d.copy()
        if mirrored:
            pixels[..., 0] = raw.image_size[0] - pixels[..., 0]
        observed = hand.observed.copy()
        observed[UNSEEN] = False
        shown = {"keypoints_2d": pixels, "keypoints_3d": hand.keypoints_3d, "confidence": hand.confidence}
        return HandLandmarkTrack(
            **{
                name: np.where(observed.reshape(-1, *[1] * (array.ndim - 1)), array, 0) for name, array in shown.items()
            },
            observed=observed,
        )

    return LandmarkClip(raw.time, raw.frame, track("left"), track("right"), np.zeros(len(raw), bool))


def camera(raw: Take, *, mirrored: bool = False) -> Any:
    matrix = raw.camera_matrix.astype(np.float64)
    matrix[0, 0] *= -1 if mirrored else 1
    return matrix


@pytest.mark.parametrize("mirrored", [False, True])
def test_provisional_hands_are_near_the_truth(mirrored: bool) -> None:
    raw, truth = make_raw_take(open_hand_models(), times=np.arange(FRAMES) / 30, noise=0.001, hand_length=0.2)
    poses = pose_provisionally(
        as_seen(raw, mirrored=mirrored), open_hand_models(), camera(raw, mirrored=mirrored), hand_length=0.2
    )
    assert tuple(poses) == SIDES
    seen = np.ones(FRAMES, bool)
    seen[UNSEEN] = False
    for side, (rotation, translation) in poses.items():
        assert (rotation.dtype, translation.dtype) == (np.float32, np.float32)
        turn = rotations.angle_between(rotation.astype(float), truth.hand(side).rotation.astype(float))[seen]
        assert np.degrees(np.median(turn)) < 4
        assert np.degrees(np.median(turn[:, 0])) < 3
        assert np.linalg.norm(translation - truth.hand(side).translation, axis=-1)[seen].max() < 0.03
        assert np.array_equal(rotation[UNSEEN], np.tile(np.float32([1, 0, 0, 0]), (4, 16, 1)))
        assert not translation[UNSEEN].any()


@pytest.mark.parametrize("count", [0, 1])
def test_chunks_of_nothing_and_of_one_frame(count: int) -> None:
    raw, _ = make_raw_take(open_hand_models(), times=np.arange(4) / 30)
    clip = as_seen(raw)
    hands = [HandLandmarkTrack(**{n: a[:count] for n, a in vars(hand).items()}) for hand in (clip.left, clip.right)]
    short = LandmarkClip(clip.time[:count], clip.frame[:count], hands[0], hands[1], clip.touching[:count])
    for rotation, translation in pose_provisionally(short, open_hand_models(), camera(raw), 0.185).values():
        assert (rotation.shape, translation.shape) == ((count, 16, 4), (count, 3))
        assert np.isfinite(translation).all()
        assert (translation[:, 2] > 0.1).all()


class OneClip:
    """An estimator whose parts always show the same clip."""

    def __init__(self, clip: LandmarkClip):
        self.clip = clip
        self.warnings: list[str] = []
        self.reads = 0

    def read_part(self, part: Any) -> LandmarkClip:
        self.reads += 1
        return self.clip


@pytest.fixture
def estimator() -> OneClip:
    return OneClip(as_seen(make_raw_take(open_hand_models(), times=np.arange(12) / 30)[0]))


def parts(folder: Path, estimator: OneClip, request: str = "this") -> PreviewedParts:
    raw, _ = make_raw_take(open_hand_models(), times=np.arange(2) / 30)
    preview = LivePreview(
        folder / PREVIEW,
        estimator,  # type: ignore[arg-type]
        open_hand_models(),
        camera_matrix=camera(raw),
        image_size=(1280, 720),
        hand_length=0.185,
    )
    return PreviewedParts(folder / "parts", {"request": request}, preview)


def test_a_part_and_its_preview_go_together(tmp_path: Path, estimator: OneClip) -> None:
    reader, made = PreviewReader(tmp_path), parts(tmp_path, estimator)
    made.save(0, {"some": np.arange(3)})
    shown = reader.read()
    assert shown is not None
    assert shown.camera_matrix[0, 0] == 1100
    assert shown.image_size.tolist() == [1280, 720]
    expected = pose_provisionally(estimator.clip, open_hand_models(), shown.camera_matrix.astype(float), 0.185)
    for side in SIDES:
        hand, seen = shown.hand(side), estimator.clip.hand(side)
        assert np.array_equal(hand.rotation, expected[side][0])
        assert np.array_equal(hand.translation, expected[side][1])
        for name in ("keypoints_2d", "confidence", "observed"):
            assert np.array_equal(getattr(hand, name), getattr(seen, name))
    assert np.array_equal(shown.time, estimator.clip.time)
    assert np.array_equal(shown.frame, estimator.clip.frame)

    again = parts(tmp_path, estimator)
    assert again.load(0) is not None
    assert estimator.reads == 1  # what is shown already is not posed again
    (tmp_path / PREVIEW / "000000.npz").unlink()
    assert again.load(0) is not None
    assert PreviewReader(tmp_path).read() is not None

    parts(tmp_path, estimator, "another")
    assert not (tmp_path / PREVIEW).exists()


def test_a_preview_that_cannot_be_written_is_told_once(
    tmp_path: Path, estimator: OneClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        tries.append(path)
        raise OutputError(f"Cannot write {path}: No space left on device; choose another folder.")

    monkeypatch.setattr("dir_core.worker.protocol.write_whole", full)
    made = parts(tmp_path, estimator)
    for number in range(3):
        made.save(number, {"some": np.arange(3)})
    assert len(tries) == 1
    assert made.load(2) is not None
    assert len(estimator.warnings) == 1
    assert "No space left on device" in estimator.warnings[0]
    (tmp_path / PREVIEW).rmdir()
    (tmp_path / PREVIEW).touch()  # a file where the folder should be
    estimator.warnings.clear()
    monkeypatch.undo()
    other = parts(tmp_path, estimator)
    other.save(3, {"some": np.arange(3)})
    assert str(tmp_path / PREVIEW) in estimator.warnings[0]


def test_a_person_with_another_hand_is_as_long_as_asked(estimator: OneClip) -> None:
    """Landmarks know no size: the same ones at another hand length are the same hand, farther away."""
    near = pose_provisionally(estimator.clip, open_hand_models(), np.diag([1100.0, 1100.0, 1.0]), 0.15)
    far = pose_provisionally(estimator.clip, open_hand_models(), np.diag([1100.0, 1100.0, 1.0]), 0.3)
    for side in SIDES:
        seen = estimator.clip.hand(side).observed
        assert np.allclose(2 * near[side][1][seen], far[side][1][seen], rtol=0.05)
        half = replace(estimator.clip.hand(side), keypoints_3d=0.5 * estimator.clip.hand(side).keypoints_3d)
        smaller = replace(estimator.clip, **{side: half})
        again = pose_provisionally(smaller, open_hand_models(), np.diag([1100.0, 1100.0, 1.0]), 0.15)
        assert np.allclose(again[side][1], near[side][1], atol=1e-4)
