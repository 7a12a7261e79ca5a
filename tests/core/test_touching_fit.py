"""Hands that overlap in the picture are fitted together: how far apart they are, who is in front, what is hidden."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from dir_core import rotations
from dir_core.camera import make_camera_matrix, project, rays
from dir_core.clean_up.capsules import fit_capsules, place_capsules
from dir_core.clean_up.contact import measure_penetration
from dir_core.clean_up.gaps import straight
from dir_core.conventions import SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry, rotations_from_angles
from dir_core.evaluation.metrics import procrustes_aligned_error, root_aligned_error
from dir_core.evaluation.touching_metrics import straight_ahead
from dir_core.fitting import clip as clip_fit
from dir_core.fitting.clip import LIGHT, FittedHand, Sighting, fit_hands, fit_sighting, pose_hands
from dir_core.fitting.hand_pose import place_on_rays
from dir_core.fitting.landmark_places import landmark_places
from dir_core.fitting.touching_hands import BLEND, overlap_share, place_in_picture, settle_depth
from dir_core.hand_model import open_hand_models
from dir_core.landmarks import HandLandmarkTrack
from dir_core.training.motion import sample_clip
from dir_core.training.two_hands import Kind
from tests.motion import smooth_signal

MODELS = open_hand_models()
RATE = 30.0
SEEN, HIDDEN = 0.93, 0.12  # confidence
HIDDEN_NOISE = 0.03  # metres


@dataclass(frozen=True, eq=False)
class Seen:
    """A clip of two hands, its true key points [T, 21, 3], and what a network would have seen of it."""

    hands: dict[Side, FittedHand]
    keypoints: dict[Side, np.ndarray]
    sighting: Sighting

    @property
    def share(self) -> np.ndarray:
        return overlap_share(self.sighting.tracks, self.sighting.time)

    def fit(self) -> dict[Side, FittedHand]:
        return fit_hands(*(getattr(self.sighting, name) for name in ARGUMENTS))

    def fit_apart(self) -> dict[Side, FittedHand]:
        """Each hand for itself."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clip_fit, "overlap_share", lambda tracks, time: np.zeros(len(time)))
            sighting = replace(self.sighting)
            return fit_sighting(sighting, LIGHT, lambda cutoff: pose_hands(sighting, cutoff))


ARGUMENTS = ("tracks", "time", "models", "camera_matrix", "hand_length")


@cache
def see(kind: Kind, seed: int, seconds: float = 4.0) -> Seen:
    """A clip with exact sizes but for 3 % of each hand in the picture, visible points within some millimetres."""
    rng = np.random.default_rng(seed)
    clip = sample_clip(rng, MODELS, kind, "webcam", seconds, RATE)
    hands = {
        side: FittedHand(
            clip.rotation[:, i].astype(float), clip.translation[:, i].astype(float), clip.shape, clip.scale, np.zeros(0)
        )
        for i, side in enumerate(SIDES)
    }
    keypoints = {
        side: MODELS[side].pose_keypoints(hand.rotation, hand.translation, hand.shape, hand.scale)
        for side, hand in hands.items()
    }
    time = np.arange(len(clip)) / RATE
    hidden = hide(hands, keypoints)
    tracks = {side: observe(rng, keypoints[side], hidden[side], time, clip.camera_matrix) for side in SIDES}
    length = clip.scale * MODELS["right"].length(clip.shape)
    return Seen(hands, keypoints, Sighting(tracks, time, MODELS, clip.camera_matrix, length))


def hide(hands: dict[Side, FittedHand], keypoints: dict[Side, np.ndarray]) -> dict[Side, np.ndarray]:
    """Key points [T, 21] that lie behind a capsule of either hand."""
    capsules = [fit_capsules(MODELS[side], hands[side].shape, hands[side].scale) for side in SIDES]
    ends = [
        place_capsules(capsule, hands[side].rotation, hands[side].translation).ends
        for side, capsule in zip(SIDES, capsules, strict=True)
    ]
    radius = np.tile(np.concatenate([capsule.radius for capsule in capsules]), 5)
    start, end = np.moveaxis(np.concatenate(ends, axis=1), 2, 0)
    spheres = np.concatenate([straight(start, end, np.array(share)) for share in np.linspace(0, 1, 5)], axis=1)
    hidden = {}
    for side, points in keypoints.items():
        distance = np.linalg.norm(points, axis=-1)
        ray = points / distance[..., None]
        along = np.einsum("tkd,tsd->tks", ray, spheres)
        across = np.linalg.norm(spheres[:, None] - along[..., None] * ray[:, :, None], axis=-1)
        away = np.linalg.norm(spheres[:, None] - points[:, :, None], axis=-1)
        covers = (across < 0.9 * radius) & (along < distance[..., None] - 0.012) & (away > radius + 0.004)
        hidden[side] = covers.any(axis=-1)
    return hidden


def observe(rng: np.random.Generator, keypoints, hidden, time, camera_matrix) -> HandLandmarkTrack:
    exact = landmark_places(keypoints)
    slow = np.stack([smooth_signal(rng, time, 0.2, 3.0) for _ in range(63)], axis=-1).reshape(-1, 21, 3)
    lost = hidden[..., None] * HIDDEN_NOISE / np.sqrt(3) * slow
    pixels = project(exact, camera_matrix)
    ahead = straight_ahead(exact[:, None], pixels[:, None], camera_matrix)[:, 0]
    middle = pixels.mean(axis=1, keepdims=True)
    pixels = middle + (1 + 0.03 * rng.normal()) * (pixels - middle)
    metre = camera_matrix[0, 0] / exact[..., 2:].mean(axis=1, keepdims=True)
    pixels += metre * (lost + 0.0025 * rng.normal(size=exact.shape))[..., :2]
    landmarks = ahead - ahead.mean(axis=1, keepdims=True) + lost + 0.004 * rng.normal(size=exact.shape)
    confidence = np.clip(np.where(hidden, HIDDEN, SEEN) + 0.05 * rng.normal(size=hidden.shape), 0.02, 1.0)
    return HandLandmarkTrack(pixels, landmarks, confidence, np.ones(len(time), bool))


def errors(seen: Seen, fitted: dict[Side, FittedHand]) -> dict[str, float]:
    """Millimetres in frames of overlap: wrist to wrist, wrist-centred and aligned key points, penetration."""
    rows = seen.share == 1
    found = {
        side: MODELS[side].pose_keypoints(hand.rotation, hand.translation, hand.shape, hand.scale)[rows]
        for side, hand in fitted.items()
    }
    truth = {side: points[rows] for side, points in seen.keypoints.items()}
    between = (found["right"] - found["left"] - truth["right"] + truth["left"])[:, 0]
    return {
        "between": 1e3 * float(np.linalg.norm(between, axis=-1).mean()),
        "wrist-centred": 1e3 * float(np.mean([root_aligned_error(found[side], truth[side]) for side in SIDES])),
        "aligned": 1e3 * float(np.mean([procrustes_aligned_error(found[side], truth[side]) for side in SIDES])),
        "penetration": 1e3 * float(measure_penetration(fitted, MODELS).between[rows].mean()),
    }


def test_hands_come_out_where_they_are_to_each_other() -> None:
    clips = [see(kind, 1) for kind in ("touch", "prayer", "interlaced", "wrapped", "passing")]
    apart = [errors(seen, seen.fit_apart()) for seen in clips]
    together = [errors(seen, seen.fit()) for seen in clips]
    share = {name: mean(together, name) / mean(apart, name) for name in apart[0]}
    assert share["between"] < 0.6, share
    assert share["penetration"] < 0.5, share
    assert share["wrist-centred"] < 0.95, share
    assert share["aligned"] < 0.95, share


def mean(figures: list[dict[str, float]], name: str) -> float:
    return float(np.mean([each[name] for each in figures]))


def test_frames_without_an_overlap_stay_as_they_are() -> None:
    seen = see("touch", 1)
    apart, together = seen.fit_apart(), seen.fit()
    free = seen.share == 0
    assert free.any()
    assert (~free).any()
    for side in SIDES:
        for name in ("rotation", "translation", "pixels"):
            assert np.array_equal(getattr(apart[side], name)[free], getattr(together[side], name)[free]), (side, name)


def test_hands_that_stay_apart_are_fitted_each_for_itself() -> None:
    seen = see("apart", 1)
    apart, together = seen.fit_apart(), seen.fit()
    assert seen.sighting.meeting is None
    for side in SIDES:
        assert np.array_equal(apart[side].rotation, together[side].rotation)
        assert np.array_equal(apart[side].translation, together[side].translation)


def test_the_same_clip_gives_the_same_hands() -> None:
    first, second = see("touch", 2).fit(), see("touch", 2).fit()
    for side in SIDES:
        assert np.array_equal(first[side].rotation, second[side].rotation)
        assert np.array_equal(first[side].translation, second[side].translation)


def test_the_correction_comes_and_goes_without_a_jump() -> None:
    seen = see("interlaced", 1)
    apart, together = seen.fit_apart(), seen.fit()
    correction = np.stack([together[side].translation - apart[side].translation for side in SIDES])
    assert np.abs(correction).max() > 0.01
    # Over `BLEND` seconds a smooth step moves at most 1.5 times its height a `BLEND`.
    assert np.abs(np.diff(correction, axis=1)).max() < 2.0 * np.abs(correction).max() / (BLEND * RATE)


def test_overlaps_are_found_in_the_picture_and_ease_in_time() -> None:
    seen = see("touch", 1)
    share = seen.share
    assert share.min() == 0
    assert share.max() == 1
    assert np.abs(np.diff(share)).max() < 2.0 / (BLEND * RATE)
    tracks = seen.sighting.tracks
    assert not overlap_share({"right": tracks["right"]}, seen.sighting.time).any()
    unseen = {side: replace(track, observed=np.zeros(len(share), bool)) for side, track in tracks.items()}
    assert not overlap_share(unseen, seen.sighting.time).any()


def test_a_hand_lost_in_an_overlap_still_overlaps() -> None:
    seen = see("interlaced", 1)
    time, tracks = seen.sighting.time, seen.sighting.tracks
    inside = np.flatnonzero(seen.share == 1)
    lost = np.zeros(len(time), bool)
    lost[inside[len(inside) // 2] :][:6] = True
    left = replace(
        tracks["left"],
        observed=~lost,
        keypoints_2d=np.where(lost[:, None, None], 0, tracks["left"].keypoints_2d),
        confidence=np.where(lost[:, None], 0, tracks["left"].confidence),
    )
    without = replace(seen, sighting=replace(seen.sighting, tracks={"left": left, "right": tracks["right"]}))
    assert np.array_equal(without.share, seen.share)


CAMERA = make_camera_matrix((1280, 720), 1100.0)


def flat_hand(side: Side, place: list[float]) -> FittedHand:
    """A flat hand, its palm to the camera, for 30 frames."""
    to_camera = rotations.from_matrix(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    mirror = np.array([1, 1, -1, -1]) if side == "left" else np.ones(4)
    geometry = finger_geometry(MODELS[side], np.zeros(10), 1.0)
    rotation = rotations_from_angles(geometry, np.tile(to_camera * mirror, (30, 1)), np.zeros((30, 5, 5)))
    return FittedHand(rotation, np.tile(place, (30, 1)), np.zeros(10), 1.0, np.zeros(0))


@pytest.mark.parametrize("front", SIDES)
def test_who_is_seen_in_the_overlap_is_in_front(front: Side) -> None:
    """Both hands were placed in each other; what is seen says which way they come out."""
    hands: dict[Side, FittedHand] = {
        "left": flat_hand("left", [0.01, 0.08, 0.55]),
        "right": flat_hand("right", [-0.01, 0.08, 0.55]),
    }
    pixels = {
        side: project(MODELS[side].pose_keypoints(hand.rotation, hand.translation, hand.shape, 1.0), CAMERA)
        for side, hand in hands.items()
    }
    trust = {side: np.full((30, 21), SEEN if side == front else HIDDEN) for side in SIDES}
    back: Side = "right" if front == "left" else "left"
    trust[back][10:14] = 0  # lost for a moment
    places = settle_depth(hands, pixels, trust, np.arange(30) / RATE, models=MODELS, camera_matrix=CAMERA)
    step = (places["right"] - places["left"])[:, 2] * (1 if front == "left" else -1)
    assert step.min() > 0.01
    # The hidden hand gives way, and neither leaves where it is seen.
    moved = {side: np.abs(places[side] - hands[side].translation).max() for side in SIDES}
    assert moved[back] > 3 * moved[front]
    for side, hand in hands.items():
        now = project(MODELS[side].pose_keypoints(hand.rotation, places[side], hand.shape, 1.0), CAMERA)
        assert np.linalg.norm((now - pixels[side]).mean(axis=1), axis=-1).max() < 3.0


def test_hidden_key_points_do_not_bring_a_hand_nearer() -> None:
    rng = np.random.default_rng(3)
    hand = flat_hand("right", [0.05, 0.0, 0.6])
    keypoints = MODELS["right"].pose_keypoints(hand.rotation, hand.translation, hand.shape, 1.0)
    relative, exact = keypoints - keypoints[:, :1], rays(project(keypoints, CAMERA), CAMERA)
    everywhere = np.ones((30, 21))
    assert np.abs(place_in_picture(relative, exact, everywhere) - hand.translation).max() < 1e-6

    hidden = np.arange(21) % 4 == 3
    seen = exact + hidden[:, None] * rng.normal(scale=0.06, size=exact.shape)
    weight = np.where(hidden, HIDDEN, SEEN) * everywhere
    algebraic, pictured = (
        np.abs(place(relative, seen, weight)[:, 2] - 0.6).mean() for place in (place_on_rays, place_in_picture)
    )
    assert pictured < 0.01
    assert pictured < 0.3 * algebraic
