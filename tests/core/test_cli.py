"""What a user meets at the command line: every mistake is one sentence and an exit code, and nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dir_core.cli import main
from dir_core.take import load_take, save_take

ROOT = Path(__file__).parents[2]
FOOTAGE = ROOT / "tests" / "data" / "footage"
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def assert_one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0, message
    assert message.startswith("error: ")
    assert message.endswith(".")
    return message


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def bad_footage(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "video.mp4"
    match request.param:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("This is no video at all.\n" * 20)
        case "empty":
            path.touch()
        case "truncated":
            path.write_bytes((FOOTAGE / "truncated_index_lost.mp4").read_bytes())
        case "cut off":
            path.write_bytes((FOOTAGE / "truncated_index_first.mp4").read_bytes())
        case "sound":
            path.write_bytes((FOOTAGE / "audio_only.m4a").read_bytes())
    return path


@pytest.mark.parametrize(
    "bad_footage", ["missing", "folder", "text", "empty", "truncated", "cut off", "sound"], indirect=True
)
def test_footage_that_cannot_be_read(bad_footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("capture", bad_footage, "-o", out / "take.npz") == 2
    assert str(bad_footage) in assert_one_sentence(capsys)
    assert files_of(out) == []


def test_a_video_without_hands_is_a_valid_take_and_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("capture", FOOTAGE / "constant_25.mp4", "-o", tmp_path / "take.npz") == 0
    assert "warning: No hand was found in constant_25.mp4" in capsys.readouterr().err
    take = load_take(tmp_path / "take.npz")
    for hand in (take.left, take.right):
        assert not hand.observed.any()
        assert not hand.confidence.any()


def test_one_frame_is_enough(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path / "take.npz") == 0
    assert len(load_take(tmp_path / "take.npz")) == 1
    assert "INFO" not in capfd.readouterr().err  # no chatter of libraries between our sentences


def test_unicode_and_spaces_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "手 и руки, ein Ördner"
    folder.mkdir()
    video = folder / "vidéo №1.mp4"
    video.write_bytes((FOOTAGE / "one_frame.mp4").read_bytes())
    assert run("capture", video, "-o", folder / "тэйк 1.npz") == 0
    assert load_take(folder / "тэйк 1.npz").meta["source"]["name"] == "vidéo №1.mp4"


def test_output_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path / "nowhere" / "take.npz") == 2
    assert "nowhere" in assert_one_sentence(capsys)


def test_output_that_is_a_folder_gets_a_take_named_like_the_footage(tmp_path: Path) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path) == 0
    assert files_of(tmp_path) == ["one_frame.npz"]


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder that nobody can write to")
def test_output_where_nobody_may_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", "/proc/take.npz") == 2
    assert "/proc" in assert_one_sentence(capsys)


@pytest.mark.parametrize(
    "options",
    [
        ["--hand-length", "185"],
        ["--field-of-view", "0"],
        ["--focal-length", "-5"],
        ["--start", "3", "--end", "1"],
        ["--estimator", "magic"],
        ["--hand-model", "no such folder"],
    ],
)
def test_options_that_cannot_work(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path / "take.npz", *options) == 2
    assert_one_sentence(capsys)
    assert files_of(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        ["train", "landmarks", "--minutes", "1", "--mix", "other.tflite"],
        ["train", "landmarks", "--minutes", "1", "--write", "missing/x.tflite"],
        ["synthetic", "pictures", "drawn", "--processes", "0"],
    ],
)
def test_training_that_cannot_work(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*options) == 2
    assert_one_sentence(capsys)
    assert not files_of(tmp_path)


def test_damaged_takes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    for command in (["evaluate", tmp_path / "bad.npz"], ["preview", tmp_path / "bad.npz", "-o", tmp_path / "p.mp4"]):
        assert run(*command) == 2
        assert "bad.npz" in assert_one_sentence(capsys)
    assert files_of(tmp_path) == ["bad.npz"]


def test_an_interrupted_capture_goes_on_with_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    command = ["capture", FOOTAGE / "one_frame.mp4", "-o", tmp_path / "take.npz"]
    with monkeypatch.context() as patch:
        patch.setattr("dir_core.capture.fit_hands", interrupt)
        assert run(*command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert files_of(tmp_path) == [".take.npz.parts"]
    with monkeypatch.context() as patch:
        patch.setattr("dir_core.detection.tracker.HandTracker.follow", interrupt)  # the frame is known already
        assert run(*command) == 0
    assert files_of(tmp_path) == ["take.npz"]


def test_python_m_dir_core_ends_with_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dir_core", "capture", "nothing.mp4", "-o", str(tmp_path / "t.npz")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ")


@pytest.fixture(scope="module")
def demo_take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "take.npz"
    assert run("capture", DEMO, "-o", path, "--report", path.with_suffix(".json")) == 0
    return path


def test_the_demo_clip_is_captured_within_its_bars(demo_take: Path, tmp_path: Path) -> None:
    report = tmp_path / "evaluation.json"
    assert run("evaluate", demo_take, "--truth", DEMO.with_suffix(".truth.npz"), "--report", report) == 0
    import json

    figures = json.loads(report.read_text())
    assert figures["both_observed"] >= 0.95
    assert figures["pa_mpjpe_mm"] <= 12
    assert figures["reprojection_percent"] <= 4


def test_the_preview_shows_every_frame(demo_take: Path, tmp_path: Path) -> None:
    import cv2

    movie, sheet = tmp_path / "p.mp4", tmp_path / "s.png"
    assert run("preview", demo_take, "--footage", DEMO, "-o", movie, "--sheet", sheet) == 0
    reader = cv2.VideoCapture(str(movie))
    frames = 0
    while reader.read()[0]:
        frames += 1
    assert frames == len(load_take(demo_take))
    assert cv2.imread(str(sheet)).std() > 10


def test_the_hand_is_drawn_where_it_was_seen(demo_take: Path, tmp_path: Path) -> None:
    import cv2

    from dir_core.footage import open_footage
    from dir_core.hand_model import open_hand_models
    from dir_core.preview import draw_hands

    take = load_take(demo_take)
    with open_footage(DEMO) as footage:
        frame = next(iter(footage))
    drawn = draw_hands(frame.image.copy(), take, open_hand_models(), 0)
    changed = np.abs(drawn.astype(int) - frame.image).sum(axis=-1) > 60
    points = np.concatenate([hand.keypoints_2d[0] for hand in (take.left, take.right)])
    hull = np.zeros(changed.shape, np.uint8)
    for hand in (take.left, take.right):
        cv2.fillConvexPoly(hull, cv2.convexHull(hand.keypoints_2d[0].astype(np.int32)), 1)
    rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
    assert changed[rows, columns].mean() > 0.8
    assert changed[hull == 1].mean() > 0.5
    assert changed[cv2.dilate(hull, np.ones((81, 81))) == 0].mean() < 0.01


def test_capturing_twice_gives_the_same_take(demo_take: Path, tmp_path: Path) -> None:
    assert run("capture", DEMO, "-o", tmp_path / "again.npz", "--end", "0.5") == 0
    assert run("capture", DEMO, "-o", tmp_path / "twice.npz", "--end", "0.5") == 0
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "twice.npz").read_bytes()
    assert len(load_take(tmp_path / "again.npz")) < len(load_take(demo_take))


def test_a_range_keeps_source_times_and_frames(tmp_path: Path) -> None:
    assert run("capture", DEMO, "-o", tmp_path / "t.npz", "--start", "1", "--end", "1.2") == 0
    take = load_take(tmp_path / "t.npz")
    assert take.frame[0] == 30
    assert take.time[0] == pytest.approx(1.0, abs=0.02)
    assert take.time[-1] <= 1.21


def test_a_step_keeps_source_times_and_frames(demo_take: Path, tmp_path: Path) -> None:
    assert run("capture", DEMO, "-o", tmp_path / "t.npz", "--start", "0.5", "--end", "1.5", "--step", "4") == 0
    take, whole = load_take(tmp_path / "t.npz"), load_take(demo_take)
    assert take.frame.tolist() == [*range(15, 46, 4)]
    assert np.array_equal(take.time, whole.time[take.frame])
    off = np.linalg.norm(take.right.keypoints_2d - whole.right.keypoints_2d[take.frame], axis=-1)
    assert off.mean() < 5  # pixels of 1280


def test_a_step_that_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("capture", DEMO, "-o", tmp_path / "t.npz", "--step", "0") == 2
    assert "A step of 0 frames" in assert_one_sentence(capsys)


def test_a_longer_hand_is_placed_farther_away(demo_take: Path, tmp_path: Path) -> None:
    assert run("capture", DEMO, "-o", tmp_path / "t.npz", "--end", "0.5", "--hand-length", "20.35") == 0
    near, far = load_take(demo_take), load_take(tmp_path / "t.npz")
    ratio = far.right.translation[:10, 2] / near.right.translation[:10, 2]
    assert ratio == pytest.approx(1.1, abs=0.02)


def test_mirrored_footage_gives_the_same_hands(demo_take: Path, tmp_path: Path) -> None:
    from dir_core import rotations
    from dir_core.evaluation.metrics import evaluate_take
    from dir_core.footage import open_footage
    from dir_core.hand_model import open_hand_models

    folder = tmp_path / "selfie"
    folder.mkdir()
    import cv2

    with open_footage(DEMO, end=0.9) as footage:
        for frame in footage:
            cv2.imwrite(str(folder / f"{frame.index:04d}.png"), cv2.cvtColor(frame.image[:, ::-1], cv2.COLOR_RGB2BGR))
    assert run("capture", folder, "--frame-rate", "30", "--mirrored", "-o", tmp_path / "t.npz") == 0
    selfie, plain = load_take(tmp_path / "t.npz"), load_take(demo_take)
    for side in ("left", "right"):
        a, b = selfie.hand(side), plain.hand(side)
        rows = slice(0, len(selfie) - 3)  # the plain clip is longer, so only its last frames are smoothed otherwise
        turn = np.degrees(rotations.angle_between(a.rotation, b.rotation[: len(selfie)]))[rows]
        assert np.median(turn) < 6  # the network itself is not quite symmetric
        assert np.abs(a.translation - b.translation[: len(selfie)])[rows].max() < 0.03
    assert evaluate_take(selfie, open_hand_models()).reprojection_percent < 4


def test_saved_takes_are_loaded_bit_for_bit(demo_take: Path, tmp_path: Path) -> None:
    save_take(load_take(demo_take), tmp_path / "copy.npz")
    assert (tmp_path / "copy.npz").read_bytes() == demo_take.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ["capture", DEMO, "--estimator", "dir", "--checkpoint", DEMO, "-o", "never.npz"],
        ["evaluate", "interhand", "--data", ".", "--checkpoint", DEMO],
        ["benchmark", "network"],
    ],
)
def test_without_torch_the_network_says_what_is_missing(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    assert run(*command) == 2
    assert "needs torch" in assert_one_sentence(capsys)
