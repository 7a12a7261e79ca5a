"""Fitting a whole clip: landmarks are smoothed first, then fitted; strengths act on the part they are named after."""

from dataclasses import replace

import numpy as np
import pytest

from dir_core import rotations
from dir_core.camera import make_camera_matrix, project
from dir_core.clean_up.settings import CleanUpSettings, Cutoffs
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.evaluation.touching_metrics import straight_ahead
from dir_core.fitting.clip import fit_hands
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import open_hand_models
from dir_core.landmarks import HandLandmarkTrack
from tests.motion import hand_motion

SHAPE = np.array([0.0, 0.8, -0.5, 0.4, 0.6, -0.5, 0.3, -0.4, 0.0, 0.3])
SCALE = 1.05
CAMERA = make_camera_matrix((1920, 1080), 1400.0)
MODELS = open_hand_models()
USUAL = CleanUpSettings().cutoffs
TIPS = [4, 8, 12, 16, 20]


class Clip:
    """A right hand whose landmarks were seen with noise, and what it really did."""

    def __init__(self, noise: float, seed: int, seconds: float = 12.0, pace: float = 1.0, shape=SHAPE) -> None:
        rng = np.random.default_rng(seed)
        model = MODELS["right"]
        self.time = np.arange(round(30 * seconds)) / 30
        self.length = SCALE * model.length(shape)
        self.rotation, self.place = hand_motion(finger_geometry(model, shape, SCALE), pace * self.time, seed)
        self.keypoints = model.pose_keypoints(self.rotation, self.place, shape, SCALE)
        exact = landmark_places(self.keypoints)
        pixels = project(exact, CAMERA)
        ahead = straight_ahead(exact[:, None], pixels[:, None], CAMERA)[:, 0]
        seen = ahead - ahead.mean(axis=1, keepdims=True) + noise * rng.normal(size=exact.shape)
        pixels = pixels + 1400 / 0.6 * 0.3 * noise * rng.normal(size=(*exact.shape[:2], 2))
        count = len(self.time)
        self.track = HandLandmarkTrack(pixels, seen, np.full((count, 21), 0.95), np.ones(count, bool))
        nothing = np.zeros_like
        self.absent = HandLandmarkTrack(nothing(pixels), nothing(seen), np.zeros((count, 21)), np.zeros(count, bool))

    def without(self, rows: np.ndarray) -> None:
        fields = {name: getattr(self.track, name).copy() for name in vars(self.track)}
        for array in fields.values():
            array[rows] = 0
        self.track = replace(self.track, **fields)

    def fit(self, cutoffs: Cutoffs = USUAL):
        hands = {"left": self.absent, "right": self.track}
        return fit_hands(hands, self.time, MODELS, CAMERA, self.length, cutoffs=cutoffs)["right"]

    def errors(self, cutoffs: Cutoffs = USUAL) -> tuple[float, float]:
        """Mean angle of the finger joints in degrees, mean distance of the finger tips from the wrist in mm."""
        fitted = self.fit(cutoffs)
        angle = np.degrees(rotations.angle_between(self.rotation[:, 1:], fitted.rotation[:, 1:])).mean()
        found = MODELS["right"].pose_keypoints(fitted.rotation, None, fitted.shape, fitted.scale)
        wanted = self.keypoints - self.keypoints[:, :1]
        return angle, 1e3 * np.linalg.norm((found - found[:, :1] - wanted)[:, TIPS], axis=-1).mean()


def acceleration(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(values, n=2, axis=0), axis=-1).mean())


@pytest.mark.parametrize(("noise", "degrees", "millimetres"), [(0.003, 3.3, 2.0), (0.006, 5.1, 3.5)])
def test_a_noisy_clip_is_fitted_within_the_study(noise: float, degrees: float, millimetres: float) -> None:
    """Bars: a study of landmark fitting with a hand of known shape; here the shape is found too, from the prior."""
    found = [Clip(noise, seed, shape=np.zeros(10)).errors() for seed in (1, 2)]
    angle, tip = np.mean(found, axis=0)
    print(f"{1e3 * noise:.0f} mm: {angle:.2f} degrees, {tip:.2f} mm at the tips")
    assert angle <= degrees
    assert tip <= millimetres


def test_an_unusual_hand_is_not_much_worse() -> None:
    """Networks see bones some millimetres too long or short, so what a clip says about the shape is half believed."""
    angle, tip = np.mean([Clip(0.003, seed).errors() for seed in (1, 2)], axis=0)
    assert angle < 3.3
    assert tip < 2.8


def test_smoothing_first_beats_the_frame_by_frame_fit() -> None:
    clip = Clip(0.006, 3)
    off = Cutoffs(np.inf, np.inf, np.inf)
    assert np.all(np.array(clip.errors()) < 0.7 * np.array(clip.errors(off)))


@pytest.mark.parametrize("part", ["wrist_rotation", "wrist_position", "fingers"])
def test_each_strength_acts_on_its_part(part: str) -> None:
    clip = Clip(0.006, 4, pace=0.1)
    usual, strong = clip.fit(), clip.fit(replace(USUAL, **{part: 0.75}))
    change = {
        "wrist_rotation": acceleration(strong.rotation[:, 0]) / acceleration(usual.rotation[:, 0]),
        "fingers": acceleration(strong.rotation[:, 1:]) / acceleration(usual.rotation[:, 1:]),
        "wrist_position": acceleration(strong.translation) / acceleration(usual.translation),
    }
    print(change)
    assert change.pop(part) < 0.5
    assert all(0.6 < other < 1.15 for other in change.values()), "what hangs on it may become calmer"


def test_gaps_are_carried_across_and_the_ends_held() -> None:
    clip = Clip(0.003, 5)
    gaps = np.zeros(len(clip.time), bool)
    gaps[:7] = gaps[100:109] = gaps[200:260] = gaps[-5:] = True
    clip.without(gaps)
    fitted = clip.fit()
    error = np.degrees(rotations.angle_between(fitted.rotation, clip.rotation)).mean(axis=1)
    assert error[100:109].mean() < 6
    assert np.array_equal(fitted.rotation[:7], np.repeat(fitted.rotation[7:8], 7, axis=0))
    assert np.array_equal(fitted.translation[-5:], np.repeat(fitted.translation[-6:-5], 5, axis=0))
    turn = rotations.angle_between(fitted.rotation[199:260], fitted.rotation[200:261])
    assert np.abs(turn - turn.mean(axis=0)).max() < 1e-6, "a long gap is crossed evenly"


def test_a_mirrored_clip_gives_the_mirrored_hand() -> None:
    clip = Clip(0.004, 6, seconds=3)
    mirrored = replace(
        clip.track,
        keypoints_2d=clip.track.keypoints_2d * [-1, 1] + [1920, 0],
        keypoints_3d=clip.track.keypoints_3d * [-1, 1, 1],
    )
    right = clip.fit()
    left = fit_hands({"left": mirrored, "right": clip.absent}, clip.time, MODELS, CAMERA, clip.length, cutoffs=USUAL)[
        "left"
    ]
    assert left.translation == pytest.approx(right.translation * [-1, 1, 1], abs=1e-6)
    expected = right.rotation * [1, 1, -1, -1]  # a mirrored turn: about the mirrored axis, the other way round
    assert np.degrees(rotations.angle_between(left.rotation, expected)).max() < 0.01
