"""A job inside this process: mistakes are one sentence, what was finished stays, going on gives the same take."""

import functools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dir_core import rotations
from dir_core.capture import capture_take
from dir_core.capture_settings import CaptureSettings
from dir_core.conventions import SIDES
from dir_core.detection.tracker import HandTracker
from dir_core.errors import OutputError
from dir_core.footage import Frame, open_footage
from dir_core.landmarks import HandLandmarkTrack, LandmarkClip
from dir_core.parts import Parts
from dir_core.take import load_take, take_digest, write_whole
from dir_core.worker import job as worker_job
from dir_core.worker.__main__ import main
from dir_core.worker.job import EventLog, run_job
from dir_core.worker.protocol import (
    CHUNKS,
    LOCK,
    PAUSE,
    PREVIEW,
    RESULT,
    Event,
    EventReader,
    JobError,
    JobRequest,
    PreviewReader,
    job_state,
    make_job,
    set_flag,
)

DEMO = Path(__file__).parents[2] / "blender_assets" / "demo" / "two_hands.mp4"
FRAMES, CHUNK = 12, 8
RATE = 30.0


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dir_core.detection.clip_tracking._CHUNK", CHUNK)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real hands as pictures, small ones; a few, because most tests look at all of them more than once."""
    folder = tmp_path_factory.mktemp("footage") / "pictures"
    folder.mkdir()
    with open_footage(DEMO, end=FRAMES / RATE - 0.01) as footage:
        for frame in footage:
            picture = cv2.resize(frame.image, None, fx=0.5, fy=0.5)
            cv2.imwrite(str(folder / f"{frame.index:02d}.jpg"), picture[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def digest(pictures: Path) -> str:
    """Of the take that a capture in one piece gives; the path of the pictures is a part of it."""
    return capture_digest(pictures)


def capture_digest(pictures: Path, **choices: Any) -> str:
    return take_digest(capture_take(pictures, CaptureSettings(frame_rate=RATE, **choices)).take)


def make(folder: Path, pictures: Path, **choices: Any) -> Path:
    make_job(folder, JobRequest(str(pictures), CaptureSettings(frame_rate=RATE, **choices)))
    return folder


@pytest.fixture
def job(pictures: Path, tmp_path: Path) -> Path:
    return make(tmp_path / "job", pictures)


def run(folder: Path) -> tuple[int, list[Event]]:
    reader = EventReader(folder, from_end=True)
    return run_job(folder, EventLog(folder)), reader.read()


def run_to_error(folder: Path, code: str) -> JobError:
    """The error with which a run ends; a sentence, and no result."""
    exit_code, events = run(folder)
    error = events[-1].error
    assert error is not None
    assert (error.code, events[-1].stage, events[-1].done) == (code, "ended", False)
    assert exit_code == (1 if code == "defect" else 2)
    assert error.sentence.endswith(".")
    assert error.hint.endswith(".")
    assert "\n" not in error.sentence
    assert not (folder / RESULT).exists()
    assert job_state(folder) == "failed"
    return error


def result_digest(folder: Path) -> str:
    return take_digest(load_take(folder / RESULT))


def at_frame(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Do something as soon as so many frames are done."""
    count = worker_job.Progress.count

    def and_act(self: worker_job.Progress, done: int, expected: int) -> None:
        count(self, done, expected)
        if done == number:
            act()

    monkeypatch.setattr(worker_job.Progress, "count", and_act)


def interrupt() -> None:
    raise KeyboardInterrupt


def stop_at(folder: Path, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_frame(patch, number, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder)


# --- footage and disk ----------------------------------------------------------------------------------------


def test_footage_that_is_deleted(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = Path(shutil.copytree(pictures, tmp_path / "copied"))
    digest, job = capture_digest(copied), make(tmp_path / "job", copied)
    last = copied / f"{FRAMES - 1}.jpg"
    with monkeypatch.context() as patch:  # the decoder is a few frames ahead
        patch.setattr("dir_core.footage._QUEUE_LENGTH", 1)
        at_frame(patch, CHUNK, last.unlink)
        assert str(last) in run_to_error(job, "footage").sentence
    assert [path.name for path in (job / CHUNKS).glob("0*")] == ["000000.npz"]
    for path in copied.iterdir():
        path.unlink()
    assert str(copied) in run_to_error(job, "footage").sentence
    assert (job / CHUNKS / "000000.npz").exists()
    shutil.copytree(pictures, copied, dirs_exist_ok=True)
    assert run(job)[0] == 0
    assert result_digest(job) == digest


def test_footage_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, job = tmp_path / "clip.mp4", tmp_path / "job"
    shutil.copy(DEMO, clip)
    whole, settings = clip.read_bytes(), CaptureSettings(end=1.0)
    digest = take_digest(capture_take(clip, settings).take)
    make_job(job, JobRequest(str(clip), settings))
    with monkeypatch.context() as patch:
        patch.setattr("dir_core.footage._QUEUE_LENGTH", 1)
        at_frame(patch, CHUNK + 2, lambda: clip.write_bytes(whole[: len(whole) // 8]))
        assert str(clip) in run_to_error(job, "footage").sentence
    assert (job / CHUNKS / "000000.npz").exists()
    clip.write_bytes(whole)
    assert run(job)[0] == 0
    assert result_digest(job) == digest


def fill_disk(monkeypatch: pytest.MonkeyPatch, where: str, name: str) -> None:
    """Writing a file of this name fails as on a full disk."""

    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            monkeypatch.setattr("tempfile.NamedTemporaryFile", no_space)
        write_whole(path, data)

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, write)


@pytest.mark.parametrize(
    ("where", "name"),
    [("dir_core.parts.write_whole", "000001.npz"), ("dir_core.take.write_whole", RESULT)],
)
def test_a_full_disk(where: str, name: str, job: Path, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fill_disk(patch, where, name)
        error = run_to_error(job, "output")
    assert "No space left on device" in error.sentence
    assert name in error.sentence
    assert "000000.npz" in os.listdir(job / CHUNKS)  # noqa: PTH208
    assert run(job)[0] == 0
    assert result_digest(job) == digest


def test_a_folder_that_became_read_only(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def read_only(self: Path, *arguments: Any, **choices: Any) -> None:
        if self.name == CHUNKS:
            raise OSError(30, "Read-only file system")
        mkdir(self, *arguments, **choices)

    monkeypatch.setattr(Path, "mkdir", read_only)  # root may write everywhere
    assert "Read-only file system" in run_to_error(job, "output").sentence


def test_what_a_killed_worker_left_half_written_is_put_away(job: Path, digest: str) -> None:
    (job / f".{RESULT}.x7").write_bytes(b"half")
    assert job_state(job) == "new"
    assert run(job)[0] == 0
    assert result_digest(job) == digest
    assert not list(job.glob(".*"))


# --- chunks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["garbage", "cut", "empty", "another request", "another place", "without seal"])
def test_a_damaged_or_foreign_chunk_is_made_again(
    kind: str, job: Path, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(job, CHUNK + 2)
    path = job / CHUNKS / "000000.npz"
    whole = path.read_bytes()
    match kind:
        case "garbage":
            path.write_bytes(whole[:2000] + bytes(3000) + whole[5000:])
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "another request":
            parts = Parts(tmp_path / "foreign", {"another": "request"})
            with np.load(path) as archive:
                parts.save(0, {name: archive[name] for name in archive.files if name != "seal"})
            (tmp_path / "foreign" / "000000.npz").replace(path)
        case "another place":
            path.replace(job / CHUNKS / "000001.npz")
        case "without seal":
            with np.load(path) as archive:
                np.savez(path, **{name: archive[name] for name in archive.files if name != "seal"})
    followed: list[float] = []
    follow = HandTracker.follow

    def note(self: HandTracker, image: Any, time: float) -> Any:
        followed.append(time)
        return follow(self, image, time)

    monkeypatch.setattr(HandTracker, "follow", note)
    assert run(job)[0] == 0
    assert len(followed) == FRAMES
    assert result_digest(job) == digest


def test_a_good_chunk_is_believed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests above would say nothing: what is in a sealed chunk does reach the result."""
    stop_at(job, CHUNK + 2)
    path = job / CHUNKS / "000000.npz"
    with np.load(path) as archive:
        touching = np.ones_like(archive["touching"])
        arrays = {name: archive[name] for name in archive.files} | {"touching": touching}
    np.savez(path, **arrays)
    _, events = run(job)
    assert any(f"touch or overlap in {CHUNK} frames" in warning for event in events for warning in event.warnings)


def test_another_request_in_the_folder_starts_anew(job: Path, pictures: Path) -> None:
    stop_at(job, CHUNK + 2)
    assert (job / CHUNKS / "000000.npz").exists()
    make(job, pictures, hand_length=0.2)
    assert not (job / CHUNKS).exists()
    assert run(job)[0] == 0
    assert result_digest(job) == capture_digest(pictures, hand_length=0.2)


def test_a_capture_with_a_step_goes_on_to_the_same_take(tmp_path: Path) -> None:
    settings = CaptureSettings(start=0.1, end=1.5, step=4)
    make_job(tmp_path, JobRequest(str(DEMO), settings))
    stop_at(tmp_path, CHUNK + 2)
    assert (tmp_path / CHUNKS / "000000.npz").exists()
    code, events = run(tmp_path)
    assert code == 0
    assert result_digest(tmp_path) == take_digest(capture_take(DEMO, settings).take)
    frames = load_take(tmp_path / RESULT).frame.tolist()
    assert frames == [*range(3, 46, 4)]
    assert {event.total for event in events if event.frame} == {len(frames)}


def test_looking_on_sees_the_hands(job: Path) -> None:
    stop_at(job, CHUNK + 2)
    reader = PreviewReader(job)
    clip = reader.read()
    assert clip is not None
    assert reader.read() is None
    assert run(job)[0] == 0
    assert not (job / PREVIEW).exists()
    take = load_take(job / RESULT)
    assert np.array_equal(clip.time, take.time[:CHUNK])
    assert np.array_equal(clip.frame, take.frame[:CHUNK])
    assert np.array_equal(clip.camera_matrix, take.camera_matrix)
    assert np.array_equal(clip.image_size, take.image_size)
    for side in SIDES:
        shown, final = clip.hand(side), take.hand(side)
        assert final.observed[:CHUNK].mean() > 0.9
        for name in ("keypoints_2d", "confidence", "observed"):
            assert np.array_equal(getattr(shown, name), getattr(final, name)[:CHUNK]), name
        seen = shown.observed
        turn = rotations.angle_between(shown.rotation.astype(float), final.rotation[:CHUNK].astype(float))[seen]
        assert np.degrees(np.median(turn)) < 8
        assert np.linalg.norm(shown.translation - final.translation[:CHUNK], axis=-1)[seen].max() < 0.05


def test_previews_of_finished_chunks_come_back(job: Path) -> None:
    stop_at(job, CHUNK + 2)
    first = PreviewReader(job).read()
    shutil.rmtree(job / PREVIEW)
    stop_at(job, CHUNK + 3)
    again = PreviewReader(job).read()
    assert first is not None
    assert again is not None
    assert all(np.array_equal(array, getattr(again.left, name)) for name, array in vars(first.left).items())


def test_a_preview_on_a_full_disk_does_not_end_the_capture(
    job: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.parent.name == PREVIEW:
            raise OutputError(f"Cannot write {path}: No space left on device; choose another folder.")
        write_whole(path, data)

    monkeypatch.setattr("dir_core.worker.protocol.write_whole", full)
    code, events = run(job)
    assert code == 0
    assert result_digest(job) == digest
    (warning,) = [warning for event in events for warning in event.warnings]
    assert "No space left on device" in warning


# --- warnings, pause, defects --------------------------------------------------------------------------------


class SmallMemory:
    """An estimator that has to retreat in the middle of a clip."""

    name, licence, digest, hand_models = "landmarks", "CC0-1.0", "0" * 64, None

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def estimate(
        self, frames: Iterable[Frame], on_frame: Callable[[int], None] | None = None, parts: Parts | None = None
    ) -> LandmarkClip:
        times = []
        for frame in frames:
            times.append(frame.time)
            if len(times) == 4:
                self.warnings.append("Memory of cuda ran out, the batch went down to 4.")
            if len(times) == 8:
                self.warnings.append("Memory of cuda ran out for a single picture, the capture went on on the CPU.")
            if on_frame:
                on_frame(len(times))
        count = len(times)
        empty = functools.partial(np.zeros, dtype=np.float32)
        hands = [
            HandLandmarkTrack(empty((count, 21, 2)), empty((count, 21, 3)), empty((count, 21)), np.zeros(count, bool))
            for _ in range(2)
        ]
        return LandmarkClip(np.array(times), np.arange(count), hands[0], hands[1], np.zeros(count, bool))


def test_memory_that_runs_out_is_told_while_it_happens(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dir_core.capture.make_estimator", lambda *_, **__: SmallMemory())
    monkeypatch.setattr(worker_job, "_EVENT_PERIOD", 0.0)
    code, events = run(job)
    assert code == 0
    told = [(event.stage, event.frame, warning) for event in events for warning in event.warnings]
    assert [stage for stage, _, _ in told[:2]] == ["tracking", "tracking"]
    assert [frame for _, frame, _ in told[:2]] == [3, 7]
    assert ["batch went down to 4" in told[0][2], "went on on the CPU" in told[1][2]] == [True, True]
    assert "No hand was found" in told[2][2]
    assert len(told) == 3


def test_a_pause_is_told_and_costs_no_speed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dir_core.capture.make_estimator", lambda *_, **__: SmallMemory())
    monkeypatch.setattr(worker_job, "_EVENT_PERIOD", 0.0)
    at_frame(monkeypatch, 5, lambda: set_flag(job, PAUSE, True))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            set_flag(job, PAUSE, False)

    monkeypatch.setattr("dir_core.worker.job.time.sleep", wait)
    _, events = run(job)
    paused = [event for event in events if event.stage == "paused"]
    assert [event.frame for event in paused] == [6]
    assert paused[0].seconds_left is None
    assert len(waits) == 4
    assert events[-1].done


def test_a_defect_tells_its_traceback_to_the_log_alone(
    job: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of the program")

    monkeypatch.setattr("dir_core.capture.fit_hands", break_down)
    error = run_to_error(job, "defect")
    assert "secret" not in error.sentence + error.hint
    log = capfd.readouterr().err
    assert "Traceback" in log
    assert "a secret of the program" in log
    assert (job / CHUNKS / "000001.npz").exists()


def test_a_runtime_that_lacks_a_library(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'ai_edge_litert'", name="ai_edge_litert")

    monkeypatch.setattr("dir_core.detection.landmark_network.load_interpreter", missing)
    assert "ai_edge_litert" in run_to_error(job, "runtime").sentence


def test_settings_that_cannot_work_and_requests_that_are_damaged(job: Path, pictures: Path) -> None:
    make(job, pictures, estimator="guess")
    assert "'guess'" in run_to_error(job, "settings").sentence
    (job / "request.json").write_text("{")
    assert "request.json" in run_to_error(job, "settings").sentence


@pytest.mark.parametrize("arguments", [[], ["no folder"], ["{job}", "two"]])
def test_a_wrong_call_is_one_sentence(arguments: list[str], job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.format(job=job) for word in arguments]) == 2
    assert capsys.readouterr().err == "Give the folder of one job.\n"


def test_a_job_folder_that_cannot_be_written(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / LOCK).mkdir()
    assert main([str(job)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("Cannot write ")
    assert message.count("\n") == 1
