"""Figures of hands that touch, on hand-made cases; the real stills where they are at hand."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dir_core.camera import make_camera_matrix, project
from dir_core.cli import main
from dir_core.conventions import SIDES, Side
from dir_core.detection.crop import Crop
from dir_core.detection.landmark_network import HandLandmarks
from dir_core.evaluation import touching
from dir_core.evaluation.metrics import posed_keypoints
from dir_core.evaluation.stills import measure_stills
from dir_core.evaluation.touching import CLIPS, CapturedClip, DrawnClip, measure_fitted, measure_seen
from dir_core.evaluation.touching_metrics import (
    SeenHands,
    TouchingFigures,
    TrueHands,
    join_errors,
    measure_hands,
    summarise,
    table,
    wrist_aligned_error,
)
from dir_core.evaluation.touching_pictures import write_overlays
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import open_hand_models
from dir_core.rotations import from_rotation_vector, to_matrix
from dir_core.take import Take, load_take, save_take

DEMO = Path(__file__).resolve().parents[2] / "blender_assets" / "demo" / "two_hands.mp4"
ROWS = ("rotation", "translation", "keypoints_2d", "keypoints_3d", "confidence", "observed")
FRAMES = 10
LEFT, RIGHT = range(2)


@pytest.fixture
def truth() -> TrueHands:
    """Both open hands side by side before a camera, all of the left one and a third of the right one visible."""
    rotation = np.tile(from_rotation_vector(np.array([0.4, 0.2, 0.0])), (FRAMES, 16, 1))
    rotation[:, 1:] = [1.0, 0.0, 0.0, 0.0]
    places = {"left": [-0.1, 0.0, 0.6], "right": [0.1, 0.0, 0.6]}
    points = [open_hand_models()[side].pose_keypoints(rotation, np.tile(places[side], (FRAMES, 1))) for side in SIDES]
    joints = np.stack(points, axis=1)
    visible = np.ones((FRAMES, 2, 21), bool)
    visible[:, RIGHT, 7:] = False
    return TrueHands(
        project(joints, make_camera_matrix((640, 480))), joints, visible, present=np.ones((FRAMES, 2), bool)
    )


def as_seen(truth: TrueHands) -> SeenHands:
    return SeenHands(truth.keypoints_2d.copy(), truth.keypoints_3d.copy(), truth.present.copy())


def figures(seen: SeenHands, truth: TrueHands) -> TouchingFigures:
    return summarise(measure_hands(seen, truth))


def test_a_perfect_take_has_no_errors(truth: TrueHands) -> None:
    result = figures(as_seen(truth), truth)
    assert (result.frames, result.both_found, result.right_side, result.snapped) == (FRAMES, 100.0, 100.0, 0.0)
    for error in (result.wrist_mm, result.wrist_all_mm, result.pa_mm, result.pa_all_mm, result.error_2d):
        assert error == pytest.approx(0.0, abs=1e-6)


def test_a_hand_read_from_the_other_one_is_snapped_but_not_on_the_wrong_side(truth: TrueHands) -> None:
    seen = as_seen(truth)
    seen.keypoints_2d[:4, RIGHT] = truth.keypoints_2d[:4, LEFT]
    result = figures(seen, truth)
    assert result.snapped == pytest.approx(20.0)  # 4 of 20 hands
    assert result.right_side == 100.0


def test_hands_that_changed_places_have_the_wrong_side(truth: TrueHands) -> None:
    seen = as_seen(truth)
    seen.keypoints_2d[:3] = truth.keypoints_2d[:3, ::-1]
    result = figures(seen, truth)
    assert result.right_side == pytest.approx(70.0)
    assert result.snapped == pytest.approx(30.0)


def test_one_hand_seen_where_the_other_one_is_has_the_wrong_side(truth: TrueHands) -> None:
    seen = as_seen(truth)
    seen.keypoints_2d[:5, RIGHT] = truth.keypoints_2d[:5, LEFT]
    seen.observed[:5, LEFT] = False
    result = figures(seen, truth)
    assert result.both_found == pytest.approx(50.0)
    assert result.right_side == pytest.approx(100 * 10 / 15)


def test_only_frames_with_both_hands_in_the_picture_ask_for_both(truth: TrueHands) -> None:
    truth.present[6:, RIGHT] = False
    seen = as_seen(truth)
    assert figures(seen, truth).both_found == 100.0
    assert np.isinf(measure_hands(seen, truth).to_other[6:, LEFT]).all()
    seen.observed[6:, RIGHT] = True  # a hand where there is none
    assert np.isnan(measure_hands(seen, truth).pa_mm[6:, RIGHT]).all()


def test_a_turned_hand_is_an_error_that_alignment_hides(truth: TrueHands) -> None:
    turn = to_matrix(from_rotation_vector(np.array([0.0, 0.5, 0.0])))
    seen = replace(as_seen(truth), keypoints_3d=1.3 * truth.keypoints_3d @ turn.T)
    result = figures(seen, truth)
    assert result.pa_all_mm == pytest.approx(0.0, abs=1e-6)
    assert result.wrist_all_mm > 20
    assert wrist_aligned_error(1.3 * truth.keypoints_3d[:, LEFT], truth.keypoints_3d[:, LEFT]).max() < 1e-9


def test_hidden_hands_count_in_their_own_column_only(truth: TrueHands) -> None:
    seen = as_seen(truth)
    seen.keypoints_3d[:, RIGHT, 1:] += 0.01
    result = figures(seen, truth)
    assert result.wrist_mm == pytest.approx(0.0, abs=1e-6)
    assert result.wrist_all_mm > 1
    assert result.pa_mm == pytest.approx(0.0, abs=1e-6)
    assert result.pa_all_mm > 1


def test_clips_are_joined_hand_by_hand(truth: TrueHands) -> None:
    good, bad = as_seen(truth), as_seen(truth)
    bad.observed[:, LEFT] = False
    both = summarise(join_errors([measure_hands(good, truth), measure_hands(bad, truth)]))
    assert both.frames == 2 * FRAMES
    assert both.both_found == pytest.approx(50.0)
    nothing = summarise(measure_hands(replace(good, observed=np.zeros((FRAMES, 2), bool)), truth))
    assert nothing.wrist_mm is None
    assert table({"both": both, "nothing": nothing}).splitlines()[2].split()[-1] == "-"


@pytest.fixture(scope="session")
def drawn() -> Take:
    """The truth of the demonstration clip, as that of a drawn clip is: all of both hands visible."""
    take = load_take(DEMO.with_suffix(".truth.npz"))
    hands = {}
    for side in SIDES:
        track = take.hand(side)
        joints = posed_keypoints(track, open_hand_models()[side])
        seen = np.ones_like(track.observed)
        hands[side] = replace(track, keypoints_3d=joints, confidence=np.ones_like(track.confidence), observed=seen)
    return replace(take, **hands)


def seen_straight_ahead(points: np.ndarray, pixels: np.ndarray, camera_matrix: np.ndarray) -> np.ndarray:
    """Points [T, 21, 3] turned the short way so that the ray of their middle in the picture is the optical axis."""
    middle = np.concatenate([pixels.mean(axis=1), np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(camera_matrix).T
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    axis = np.cross(middle, [0.0, 0.0, 1.0])
    axis *= (np.arccos(middle[:, 2]) / np.linalg.norm(axis, axis=1))[:, None]
    return np.stack([turn.apply(hand) for turn, hand in zip(Rotation.from_rotvec(axis), points, strict=True)])


def test_a_take_that_equals_the_truth_has_no_errors(drawn: Take) -> None:
    fitted = summarise(measure_fitted(drawn, drawn, open_hand_models()))
    assert (fitted.both_found, fitted.right_side, fitted.snapped) == (100.0, 100.0, 0.0)
    assert fitted.wrist_all_mm == pytest.approx(0.0, abs=1e-3)
    assert fitted.error_2d == pytest.approx(0.0, abs=1e-3)
    as_landmarks = {}
    for side in SIDES:
        places = landmark_places(drawn.hand(side).keypoints_3d)
        pixels = project(places, drawn.camera_matrix)
        straight = 3 * seen_straight_ahead(places, pixels, drawn.camera_matrix)
        as_landmarks[side] = replace(drawn.hand(side), keypoints_3d=straight, keypoints_2d=pixels)
    seen = summarise(measure_seen(replace(drawn, **as_landmarks), drawn))
    assert seen.wrist_all_mm == pytest.approx(0.0, abs=1e-3)
    assert seen.error_2d == pytest.approx(0.0, abs=1e-3)


def test_a_take_that_starts_late_is_measured_on_its_own_frames(drawn: Take) -> None:
    later = slice(40, 60)
    hands = {}
    for side in SIDES:
        track = drawn.hand(side)
        rows = {name: getattr(track, name)[later] for name in ROWS}
        hands[side] = replace(track, **rows)
    part = replace(drawn, time=drawn.time[later], frame=drawn.frame[later], **hands)
    assert summarise(measure_fitted(part, drawn, open_hand_models())).wrist_all_mm == pytest.approx(0.0, abs=1e-3)


def test_the_clips_show_every_kind_from_both_views_and_every_tone_as_often() -> None:
    assert len({(clip.kind, clip.view) for clip in CLIPS}) == len({clip.seed for clip in CLIPS}) == len(CLIPS) == 12
    assert set(Counter(clip.skin for clip in CLIPS).values()) == {4}


def test_overlays_show_network_tracker_and_fit(drawn: Take, tmp_path: Path) -> None:
    asked: list[str] = []

    def read(image: np.ndarray, crop: Crop, side: Side) -> HandLandmarks:
        asked.append(side)
        middle = np.full((21, 2), [crop.x, crop.y], np.float32)
        return HandLandmarks(middle, np.zeros((21, 3), np.float32), presence=1.0, right_score=1.0)

    write_overlays(tmp_path / "sheet.png", DEMO, CapturedClip(drawn, drawn, 1.0, 1.0, 1.0), read)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert set(asked) == set(SIDES)
    assert len(asked) == 30  # both hands in fifteen frames
    alone, tracker, fit = (sheet[:288, 384 * cell : 384 * (cell + 1)].astype(int) for cell in range(3))
    assert np.abs(alone[20:] - tracker[20:]).sum(axis=-1).astype(bool).sum() > 200
    assert np.abs(fit[20:] - tracker[20:]).sum(axis=-1).astype(bool).sum() > 2000


def test_the_command_reports_drawn_clips(
    drawn: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = DrawnClip("apart", "webcam", skin=1, seed=0)
    monkeypatch.setattr(touching, "CLIPS", (clip,))
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(DEMO, clips / "apart_webcam.mp4")
    save_take(drawn, clips / "apart_webcam.truth.npz")
    report = tmp_path / "report.json"
    arguments = ["evaluate", "touching", "--clips", clips, "--untouched", "--report", report]
    assert main([*map(str, arguments), "--pictures", str(tmp_path / "pictures")]) == 0
    figures = json.loads(report.read_text())
    for stage in ("seen", "fitted"):
        assert set(figures[stage]) == {"apart webcam", "all apart", "all"}
        assert figures[stage]["all"]["both_found"] > 90
        assert figures[stage]["all"]["right_side"] == 100.0
        assert figures[stage]["all"]["pa_all_mm"] < 15
    assert figures["processor_ms"]["apart webcam"] > 1
    assert (tmp_path / "pictures" / "apart_webcam.png").is_file()
    assert "snapped" in capsys.readouterr().out


@pytest.fixture(scope="session")
def untouched(real: Path) -> dict[str, TouchingFigures]:
    return measure_stills(real, two_hands=False)


def test_the_untouched_network_reads_the_rear_praying_hand_from_the_front_one(
    untouched: dict[str, TouchingFigures],
) -> None:
    praying = [name for name in untouched if "pray" in name]
    assert len(praying) == 2
    front, rear = sorted((untouched[name] for name in praying), key=lambda figures: figures.snapped)
    assert front.snapped == 0.0
    assert rear.snapped > 75.0
    (single,) = (figures for name, figures in untouched.items() if "pray" not in name)
    assert single.error_2d < 5.0


def test_the_default_reads_the_praying_pair_and_the_single_hand_better_than_the_untouched_network(
    real: Path, untouched: dict[str, TouchingFigures]
) -> None:
    now = measure_stills(real)
    for name, before in untouched.items():
        for field in ("wrist_all_mm", "pa_all_mm", "error_2d", "snapped"):
            assert getattr(now[name], field) <= getattr(before, field), (name, field)
