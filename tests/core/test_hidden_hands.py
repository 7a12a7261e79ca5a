"""Hands that touch and hide each other: made-up networks that snap onto the hand in front, as real ones do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dir_core.detection import hidden_hands, landmark_network, looking
from dir_core.detection.clip_tracking import track_hands
from dir_core.detection.crop import Crop, crop_around_palm
from dir_core.detection.hand_distances import apart, gap
from dir_core.detection.landmark_network import HandLandmarks, TwoHandLandmarkNetwork
from dir_core.detection.locator import LocatedHands
from dir_core.detection.palm_detector import Palm
from dir_core.detection.sides import Sighting, label_tracks
from dir_core.detection.tracker import HandTracker
from dir_core.footage import Frame, open_footage
from dir_core.landmarks import LandmarkClip

DEMO = Path(__file__).parents[2] / "blender_assets" / "demo" / "two_hands.mp4"
RATE = 30.0
SCALE = 60.0  # pixels from the wrist to the base of the middle finger

USUAL = (SCALE / 0.1, SCALE / 0.1)  # pixels a metre

# A right hand's palm side, fingers up: (x, y) in hand scales from the wrist.
_RIGHT = np.array([
    (0, 0), (-0.35, -0.25), (-0.6, -0.5), (-0.8, -0.75), (-0.95, -0.95),
    (-0.3, -0.95), (-0.36, -1.35), (-0.38, -1.6), (-0.4, -1.8),
    (0, -1), (0, -1.45), (0, -1.75), (0, -2),
    (0.22, -0.95), (0.25, -1.35), (0.27, -1.65), (0.28, -1.9),
    (0.42, -0.85), (0.5, -1.15), (0.54, -1.35), (0.58, -1.5),
])  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """A hand in one frame; hidden ones lie behind the other."""

    x: float
    y: float
    angle: float = 0.0
    hidden: bool = False


Motion = Callable[[float], tuple[Pose, Pose]]
"""Where the hands that look like a left and like a right one are at a time in seconds."""


def skeleton(pose: Pose, right: bool) -> np.ndarray:
    points = _RIGHT * [1 if right else -1, 1] * SCALE
    cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + [pose.x, pose.y]


def landmarks(pose: Pose, right: bool, confidence: float = 0.9) -> HandLandmarks:
    points = skeleton(pose, right).astype(np.float32)
    world = np.concatenate([points * np.float32(0.1 / SCALE), np.zeros((21, 1), np.float32)], axis=1)
    return HandLandmarks(points, world, 0.97, 0.95 if right else 0.05, np.full(21, confidence, np.float32))


def palm(pose: Pose, right: bool) -> Palm:
    points = skeleton(pose, right)[[0, 5, 9, 13, 17, 1, 2]]
    box = np.array([*points[[0, 2]].mean(axis=0), 1.3 * SCALE, 1.3 * SCALE])
    return Palm(crop_around_palm(box, points, Crop(0, 0, 1)), 0.95, points)


@dataclass
class Stage:
    """What the made-up networks see; pictures only carry the number of their frame."""

    motion: Motion
    told: list[bool]

    def poses(self, image: np.ndarray) -> tuple[Pose, Pose]:
        return self.motion(int(image[0, 0, 0]) / RATE)

    def in_sight(self, image: np.ndarray) -> list[tuple[Pose, bool]]:
        return [(pose, right) for right, pose in enumerate(self.poses(image)) if not pose.hidden]

    def nearest(self, image: np.ndarray, crop: Crop) -> tuple[float, Pose, bool]:
        """The hand in sight nearest to the middle of a crop, and how far off it is in sizes of the crop."""
        ranked = []
        for pose, right in self.in_sight(image):
            x, y = skeleton(pose, right).mean(axis=0)
            ranked.append((float(np.hypot(x - crop.x, y - crop.y)) / crop.size, pose, bool(right)))
        return min(ranked, key=lambda each: each[0], default=(np.inf, Pose(0, 0), False))

    # the four networks

    def locate_free(self, image: np.ndarray, crop: Crop) -> HandLandmarks:
        off, pose, right = self.nearest(image, crop)
        seen = landmarks(pose, right, confidence=1.0)
        return seen if off < 0.5 else replace(seen, presence=0.01)

    def locate_near(self, image: np.ndarray, crop: Crop, right: bool) -> HandLandmarks:
        self.told.append(right)
        wanted = self.poses(image)[right]
        x, y = skeleton(wanted, right).mean(axis=0)
        if not wanted.hidden and np.hypot(x - crop.x, y - crop.y) < 0.5 * crop.size:
            return landmarks(wanted, right)
        off, pose, _ = self.nearest(image, crop)
        if off > 0.7:
            return replace(landmarks(wanted, right), presence=0.01)
        # It snaps onto the hand in front, and is only a little unsure about it.
        front = skeleton(pose, not right).astype(np.float32)
        return replace(landmarks(pose, right, 0.45), keypoints_2d=front, right_score=0.7 if right else 0.3)

    def detect(self, image: np.ndarray, outer: Crop) -> list[Palm]:
        return [palm(pose, right) for pose, right in self.in_sight(image)]

    def locate_both(self, image: np.ndarray, outer: Crop) -> LocatedHands:
        left, right = (None if pose.hidden else palm(pose, side) for side, pose in enumerate(self.poses(image)))
        return LocatedHands(left, right, (() if left is None else (left,), () if right is None else (right,)))


def network(**methods: Any) -> Callable[..., Any]:
    """What makes a network with these methods."""
    return lambda threads=1: type("Network", (), {name: staticmethod(each) for name, each in methods.items()})()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(lambda _: (Pose(0, 0), Pose(0, 0)), [])
    monkeypatch.setattr(looking, "LandmarkNetwork", network(locate=made.locate_free))
    monkeypatch.setattr(looking, "TwoHandLandmarkNetwork", network(locate=made.locate_near))
    monkeypatch.setattr(looking, "PalmDetector", network(detect=made.detect))
    monkeypatch.setattr(looking, "HandLocator", network(locate=made.locate_both))
    return made


def frames(count: int) -> Iterator[Frame]:
    for index in range(count):
        image = np.zeros((480, 640, 3), np.uint8)
        image[0, 0] = index
        yield Frame(index, index / RATE, image)


def follow(count: int, **options: Any) -> LandmarkClip:
    with HandTracker(threads=1, **options) as made:
        return track_hands(frames(count), made)


def off(clip: LandmarkClip, motion: Motion, side: str) -> np.ndarray:
    """Mean distance of the key points from the truth in hand scales, [T]."""
    right = side == "right"
    truth = np.stack([skeleton(motion(time)[right], right) for time in clip.time])
    return np.linalg.norm(clip.hand("right" if right else "left").keypoints_2d - truth, axis=-1).mean(axis=-1) / SCALE


# --- following -------------------------------------------------------------------------------------------------


def passing(time: float) -> tuple[Pose, Pose]:
    """The left hand goes behind the right one and comes out again on the other side."""
    x = 540 - 230 * time
    return Pose(x, 330, hidden=abs(x - 300) < 45), Pose(300, 330)


def clasped(time: float) -> tuple[Pose, Pose]:
    """The right hand comes to rest in the left one and both move and turn together, it hidden; then they part."""
    angle = 0.6 * np.sin(3 * max(time - 1, 0)) if time < 2.5 else 0.6 * np.sin(4.5)
    x = 320 + 80 * np.sin(2 * max(time - 1, 0)) if time < 2.5 else 320 + 80 * np.sin(3)
    apart_by = 220 * max(1 - time, 0) if time < 2.5 else 220 * (time - 2.5)
    across = 15 + apart_by
    x_right, y_right = x - across * np.cos(angle), 300 - across * np.sin(angle)
    return Pose(x, 300, angle), Pose(x_right, y_right, angle, hidden=1.1 <= time < 2.5)


def test_a_hand_that_passes_behind_the_other_is_predicted(stage: Stage) -> None:
    stage.motion = passing
    clip = follow(60)
    hidden = np.array([passing(time)[0].hidden for time in clip.time])
    assert hidden.sum() >= 10
    for side in ("left", "right"):
        assert clip.hand(side).observed.all()
    assert off(clip, passing, "right").max() < 0.01
    assert off(clip, passing, "left")[~hidden].max() < 0.01
    assert off(clip, passing, "left")[hidden].max() < 1.0  # it moved on by 1.4
    assert clip.touching[hidden].all()
    confidence = clip.left.confidence.mean(axis=1)
    assert (np.diff(confidence[hidden]) < 0).all()
    assert confidence[hidden].max() < 0.9 <= confidence[~hidden].min() + 0.1
    assert confidence[hidden].min() < 0.45


def test_without_the_networks_for_two_hands_it_is_lost(stage: Stage) -> None:
    stage.motion = passing
    clip = follow(60, two_hands=False)
    hidden = np.array([passing(time)[0].hidden for time in clip.time])
    assert clip.left.observed[hidden].mean() < 0.5
    assert not stage.told


def test_a_hidden_hand_goes_with_the_one_that_holds_it(stage: Stage) -> None:
    stage.motion = clasped
    clip = follow(105)
    hidden = np.array([clasped(time)[1].hidden for time in clip.time])
    assert clip.right.observed.all()
    assert off(clip, clasped, "left").max() < 0.01
    assert off(clip, clasped, "right")[~hidden].max() < 0.01
    truth = np.stack([skeleton(clasped(time)[1], True) for time in clip.time[hidden]])
    assert np.ptp(truth[:, 12, 0]) > 2 * SCALE  # the finger tip travels far
    assert off(clip, clasped, "right")[hidden].max() < 0.5
    assert clip.right.confidence[hidden][-1].max() < 0.05


def test_a_hand_that_stays_hidden_is_given_up_and_found_again(stage: Stage) -> None:
    def motion(time: float) -> tuple[Pose, Pose]:
        across = 240 * max(1 - time, 0) if time < 5 else 240 * min(time - 5, 1)
        return Pose(300 + across, 330, hidden=1.0 <= time < 5.2), Pose(300, 330)

    stage.motion = motion
    clip = follow(180)
    assert clip.right.observed.all()
    gone = ~clip.left.observed
    assert 2.0 <= clip.time[gone][0] - 1.0 <= 2.2
    assert clip.time[gone][-1] < 5.3
    assert off(clip, motion, "left")[-15:].max() < 0.01
    assert clip.touching[gone].any()


def test_hands_that_change_places_in_the_dark_are_known_where_they_part(stage: Stage) -> None:
    def motion(time: float) -> tuple[Pose, Pose]:
        across = 170 * (1 - time)  # the left hand is on the right first, then on the left
        hidden = 0.9 < time < 1.15
        return Pose(320 + across, 330, hidden=hidden), Pose(320 - across, 330, hidden=hidden)

    stage.motion = motion
    clip = follow(60)
    for side in ("left", "right"):
        assert off(clip, motion, side)[:25].max() < 0.01
        assert off(clip, motion, side)[45:].max() < 0.01


def exchanged(time: float) -> tuple[Pose, Pose]:
    """Behind each other the hands change places; who follows a motion ends on the other one."""
    across = 170 * abs(1 - time) * (1 if time < 1 else -1)
    hidden = 0.9 < time < 1.1
    return Pose(320 + across, 330, hidden=hidden), Pose(320 - across, 330, hidden=hidden)


@pytest.mark.parametrize("palms", [True, False])
@pytest.mark.parametrize("mirrored", [False, True])
def test_hands_that_were_exchanged_are_told_by_a_network_that_disagrees(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, mirrored: bool, palms: bool
) -> None:
    """Handedness, locator and maybe palms say nothing once the hands have been behind each other."""
    stage.motion = exchanged

    def near(image: np.ndarray, crop: Crop, right: bool) -> HandLandmarks:
        far, pose, side = stage.nearest(image, crop)
        return replace(landmarks(pose, side, 0.9 if side == right else 0.1), presence=0.97 if far < 0.5 else 0.01)

    def free(image: np.ndarray, crop: Crop) -> HandLandmarks:
        seen = stage.locate_free(image, crop)
        return seen if image[0, 0, 0] < 0.9 * RATE else replace(seen, right_score=0.5)

    def detect(image: np.ndarray, outer: Crop) -> list[Palm]:
        return stage.detect(image, outer) if palms or image[0, 0, 0] < 0.9 * RATE else []

    monkeypatch.setattr(looking, "PalmDetector", network(detect=detect))
    monkeypatch.setattr(looking, "TwoHandLandmarkNetwork", network(locate=near))
    monkeypatch.setattr(looking, "LandmarkNetwork", network(locate=free))
    monkeypatch.setattr(looking, "HandLocator", network(locate=lambda *_: LocatedHands(None, None, ((), ()))))
    clip = follow(60, mirrored=mirrored)
    for side, seen in (("left", "right"), ("right", "left")) if mirrored else (("left", "left"), ("right", "right")):
        truth = np.stack([skeleton(exchanged(time)[seen == "right"], seen == "right") for time in clip.time])
        far = np.linalg.norm(clip.hand(side).keypoints_2d - truth, axis=-1).mean(axis=-1) / SCALE
        assert far[:25].max() < 0.01
        assert far[45:].max() < 0.01


def test_selfie_footage_asks_for_the_hand_that_it_looks_like(stage: Stage) -> None:
    stage.motion = passing
    clip = follow(60)
    plain = list(stage.told)
    stage.told.clear()
    selfie = follow(60, mirrored=True)
    assert stage.told == plain
    np.testing.assert_array_equal(selfie.right.keypoints_2d, clip.left.keypoints_2d)
    np.testing.assert_array_equal(selfie.left.confidence, clip.right.confidence)


def test_hands_that_begin_clasped_are_both_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.motion = lambda _: (Pose(320, 300, 0.3), Pose(295, 300, 0.3))
    monkeypatch.setattr(stage, "detect", lambda image, outer: [])
    monkeypatch.setattr(looking, "PalmDetector", lambda threads: stage)
    clip = follow(5)
    for side in ("left", "right"):
        assert off(clip, stage.motion, side).max() < 0.01


def test_a_hand_that_is_located_with_the_wrong_side_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.motion = lambda _: (Pose(200, 300), Pose(440, 300))
    # Both are located as right ones and none too surely, and the palm network sees neither.
    palms = tuple(replace(palm(pose, side), score=0.6) for side, pose in enumerate(stage.motion(0.0)))
    monkeypatch.setattr(looking, "HandLocator", network(locate=lambda *_: LocatedHands(None, palms[0], ((), palms))))
    monkeypatch.setattr(looking, "PalmDetector", network(detect=lambda *_: []))
    clip = follow(5)
    for side in ("left", "right"):
        assert off(clip, stage.motion, side).max() < 0.01


def together(time: float) -> tuple[Pose, Pose]:
    """Hands beside each other that soon move to the left by their distance a frame."""
    frame = time * RATE
    moved = 50 * max(frame - 8, 0) + 50 * min(frame, 8) ** 2 / 16
    return Pose(590 - moved, 300), Pose(530 - moved, 300)


def test_hands_that_move_together_are_not_taken_for_each_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network cannot tell the hands apart: it sees the nearer one, whatever it is told."""

    def nearest(image: np.ndarray, crop: Crop, right: bool) -> HandLandmarks:
        _, pose, hand = stage.nearest(image, crop)
        return replace(landmarks(pose, hand), right_score=0.9 if right else 0.1)

    stage.motion = together
    monkeypatch.setattr(looking, "TwoHandLandmarkNetwork", network(locate=nearest))
    clip = follow(13)
    for side in ("left", "right"):
        assert off(clip, stage.motion, side).max() < 0.1


def test_a_free_hand_is_followed_where_the_untouched_network_takes_it_for_the_other_side(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.motion = lambda _: (Pose(160, 300), Pose(480, 300))

    def misread(image: np.ndarray, crop: Crop) -> HandLandmarks:
        seen = stage.locate_free(image, crop)
        if image[0, 0, 0] < 10 or seen.right_score > 0.5:
            return seen
        return replace(seen, keypoints_2d=seen.keypoints_2d[::-1].copy(), right_score=0.95)

    monkeypatch.setattr(looking, "LandmarkNetwork", network(locate=misread))
    clip = follow(20)
    for side in ("left", "right"):
        assert off(clip, stage.motion, side).max() < 0.05


def test_a_second_palm_beside_a_hand_that_is_surely_seen_is_the_hidden_one_whatever_it_looks_like(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def motion(time: float) -> tuple[Pose, Pose]:
        if time < 1.3:
            return Pose(300 + 240 * max(1 - time, 0), 330, hidden=time >= 1), Pose(300, 330)
        return Pose(560, 150), Pose(300, 330)

    def misread(image: np.ndarray, crop: Crop) -> HandLandmarks:
        return replace(stage.locate_free(image, crop), right_score=0.95)

    stage.motion = motion
    monkeypatch.setattr(looking, "LandmarkNetwork", network(locate=misread))
    monkeypatch.setattr(looking, "HandLocator", network(locate=lambda *_: LocatedHands(None, None, ((), ()))))
    clip = follow(60)
    assert clip.left.observed.all()
    assert off(clip, motion, "left")[clip.time > 1.45].max() < 0.1
    assert off(clip, motion, "right").max() < 0.1


def test_a_stopped_tracker_goes_on_in_the_dark(stage: Stage, tmp_path: Path) -> None:
    stage.motion = clasped
    with HandTracker(threads=1) as whole, HandTracker(threads=1) as resumed:
        for frame in frames(60):
            np.savez(tmp_path / "state.npz", **whole.state())
            with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
                resumed.restore(state)
            expected, again = (each.follow(frame.image, frame.time) for each in (whole, resumed))
            assert again[1] == expected[1]
            for a, b in zip(again[0], expected[0], strict=True):
                assert (a.track, a.right_evidence, a.segment) == (b.track, b.right_evidence, b.segment)
                assert a.confidence.tobytes() == b.confidence.tobytes()
                assert a.landmarks.keypoints_2d.tobytes() == b.landmarks.keypoints_2d.tobytes()
                assert a.landmarks.world.tobytes() == b.landmarks.world.tobytes()


# --- judgement -------------------------------------------------------------------------------------------------


def test_of_two_answers_on_one_hand_the_worse_is_not_believed() -> None:
    left, right = landmarks(Pose(320, 300), False), landmarks(Pose(300, 300), True)
    snapped = replace(left, keypoints_2d=right.keypoints_2d + np.float32(2), confidence=np.full(21, 0.4, np.float32))
    assert hidden_hands.believe((left, right), (left, right), (False, True), USUAL) == (True, True)
    assert hidden_hands.believe((snapped, right), (left, right), (False, True), USUAL) == (False, True)
    assert hidden_hands.believe((right, snapped), (right, left), (True, False), USUAL) == (True, False)


def test_a_jump_onto_the_other_hand_is_not_believed_however_sure() -> None:
    left, right = landmarks(Pose(420, 300), False), landmarks(Pose(300, 300), True)
    jumped = landmarks(Pose(305, 300), False)
    assert hidden_hands.believe((jumped, right), (left, right), (False, True), USUAL) == (False, True)
    assert hidden_hands.believe((landmarks(Pose(400, 290), False), right), (left, right), (False, True), USUAL)[0]


def test_a_hand_that_shrinks_is_not_believed_and_its_crop_stays_large() -> None:
    left, right = landmarks(Pose(420, 300), False), landmarks(Pose(300, 300), True)
    middle = left.keypoints_2d.mean(axis=0)
    small = replace(left, keypoints_2d=middle + 0.5 * (left.keypoints_2d - middle))
    assert hidden_hands.believe((small, right), (left, right), (False, True), USUAL) == (False, True)
    half = replace(left, keypoints_2d=middle + 0.7 * (left.keypoints_2d - middle))
    full = hidden_hands.next_crop_of_size(left, USUAL[0])
    assert hidden_hands.next_crop_of_size(half, USUAL[0]).size == pytest.approx(full.size, rel=1e-3)
    assert hidden_hands.size_after(USUAL[0], half, right=False) > 0.98 * USUAL[0]


def test_a_rider_turns_and_a_passer_goes_straight_on() -> None:
    before, now = landmarks(Pose(300, 300), True), landmarks(Pose(310, 280, 0.2), True)
    rider = landmarks(Pose(300, 300), False)
    moved, velocity = hidden_hands.hide(rider, (0.0, 0.0), (before, now), 1 / RATE)
    assert apart(moved, landmarks(Pose(310, 280, 0.2), False)) < 0.02
    assert velocity == (0.0, 0.0)
    passer, velocity = hidden_hands.hide(rider, (-600.0, 0.0), None, 1 / RATE)
    assert apart(passer, landmarks(Pose(280, 300), False)) < 1e-3
    assert -600 < velocity[0] < -400
    assert hidden_hands.rides(rider, (-600.0, 0.0), (-550.0, 0.0))
    assert not hidden_hands.rides(rider, (0.0, 0.0), (-600.0, 0.0))  # the other hand passes in front of it


def test_a_hidden_hand_stays_behind_the_one_that_hides_it() -> None:
    partner, there = landmarks(Pose(300, 300), True), landmarks(Pose(290, 310), False)
    assert hidden_hands.keep_behind(there, partner) is there
    gone = hidden_hands.keep_behind(landmarks(Pose(700, 300), False), partner)
    assert 0.05 < gap(gone, partner) < 0.15
    np.testing.assert_allclose(np.ptp(gone.keypoints_2d, axis=0), np.ptp(there.keypoints_2d, axis=0), atol=1e-3)


def test_the_network_for_two_hands_corrects_a_free_hand_as_far_as_it_is_trusted() -> None:
    free = landmarks(Pose(300, 300), True)
    other = replace(free, world=free.world[:, [2, 1, 0]], keypoints_2d=free.keypoints_2d + np.float32(10))
    off = hidden_hands.correction(free, other, right=True)
    np.testing.assert_allclose(off.applied_to(free).world, other.world, atol=1e-6)
    moved = off.applied_to(free).keypoints_2d - free.keypoints_2d
    assert moved.min() > 0
    assert moved.max() < 5  # in the picture the untouched network keeps the most of it
    nothing = hidden_hands.correction(free, other, right=False)
    assert not nothing.world.any()
    assert not nothing.points.any()
    half = hidden_hands.correction(free, replace(other, confidence=np.full(21, 0.2, np.float32)), right=True)
    assert 0.3 < np.abs(half.world).max() / np.abs(off.world).max() < 0.7


# --- sides -----------------------------------------------------------------------------------------------------


def pieces(*parts: tuple[int, float]) -> list[list[Sighting]]:
    """Two tracks with opposite evidence through segments of (frames, evidence of track 0 for the right hand)."""
    pair = (landmarks(Pose(100, 300), True), landmarks(Pose(400, 300), False))
    certain = np.ones(21, np.float32)
    return [
        [Sighting(track, seen, certain, (1 - 2 * track) * evidence, segment) for track, seen in enumerate(pair)]
        for segment, (count, evidence) in enumerate(parts)
        for _ in range(count)
    ]


def xs(clip_track: Any) -> list[int]:
    return np.round(clip_track.keypoints_2d[:, 0, 0]).astype(int).tolist()


def test_hands_exchanged_in_the_dark_are_put_right_from_where_they_part() -> None:
    left, right = label_tracks(pieces((30, 0.9), (10, 0.02), (20, -0.9)))
    assert xs(right) == [100] * 40 + [400] * 20
    assert xs(left) == [400] * 40 + [100] * 20


def test_a_short_doubt_exchanges_nothing() -> None:
    left, right = label_tracks(pieces((30, 0.9), (12, -0.2), (6, -0.9), (5, -0.2), (30, 0.9)))
    assert xs(right) == [100] * 83
    assert left.observed.all()


# --- the network ---------------------------------------------------------------------------------------------


def test_a_left_hand_is_seen_as_the_mirrored_right_one() -> None:
    network = TwoHandLandmarkNetwork(weights=landmark_network.WEIGHTS)
    with open_footage(DEMO, None, 0.0) as footage:
        image = next(iter(footage)).image
    width, crop = image.shape[1], Crop(200.0, 240.0, 230.0, 0.2)
    seen = network.locate(image, crop, right=True)
    # The first sample of a cut-out lies on its border, the last one a sample inside: mirrored crops lie one over.
    over = crop.size / landmark_network.INPUT_SIDE
    x, y = width - crop.x + over * np.cos(crop.angle), crop.y - over * np.sin(crop.angle)
    twin = network.locate(image[:, ::-1].copy(), Crop(x, y, crop.size, -crop.angle), right=False)
    np.testing.assert_allclose(twin.keypoints_2d * [-1, 1] + [width, 0], seen.keypoints_2d, atol=0.5)
    np.testing.assert_allclose(twin.world * [-1, 1, 1], seen.world, atol=1e-3)
    assert twin.presence == pytest.approx(seen.presence, abs=1e-2)
    assert twin.right_score == pytest.approx(1 - seen.right_score, abs=2e-2)
    assert ((seen.confidence >= 0) & (seen.confidence <= 1)).all()
