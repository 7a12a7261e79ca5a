"""The files of a job folder, as Blender reads and writes them; no worker runs here."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dir_core.capture_settings import CaptureSettings
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.worker import protocol
from dir_core.worker.job import EventLog
from dir_core.worker.protocol import (
    CANCEL,
    EVENTS,
    LOCK,
    LOG,
    PAUSE,
    PREVIEW,
    REQUEST,
    RESULT,
    Event,
    EventReader,
    JobError,
    JobLock,
    JobRequest,
    PreviewClip,
    PreviewHand,
    PreviewReader,
    job_state,
    make_job,
    preview_path,
    read_request,
    seconds_since_heartbeat,
    set_flag,
    start_worker,
    worker_command,
    worker_environment,
    write_preview,
)

REQUESTED = JobRequest(
    str(Path("/films/Hände und Füße.mp4").absolute()),
    CaptureSettings(start=0.5, mirrored=True, estimator="dir", checkpoint="w.pth", box=(1.0, 2.0, 30.0, 40.0)),
    "Hände",
)


def event(frame: int) -> Event:
    return Event(time=1.0, stage="tracking", frame=frame, total=9)


def assert_sentence(error: pytest.ExceptionInfo[HandCaptureError]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "Errno" not in text
    return text


# --- request -------------------------------------------------------------------------------------------------


def test_a_request_comes_back_as_it_was(tmp_path: Path) -> None:
    make_job(tmp_path / "new" / "job", REQUESTED)
    assert read_request(tmp_path / "new" / "job") == REQUESTED
    assert json.loads((tmp_path / "new" / "job" / REQUEST).read_text("utf-8"))["schema"] == "two-hand-job/1"


def test_the_digest_follows_all_that_the_result_depends_on() -> None:
    others = [
        replace(REQUESTED, footage=REQUESTED.footage + "x"),
        replace(REQUESTED, settings=replace(REQUESTED.settings, hand_length=0.2)),
        replace(REQUESTED, settings=replace(REQUESTED.settings, box=(1.0, 2.0, 30.0, 41.0))),
    ]
    assert len({REQUESTED.digest, *(other.digest for other in others)}) == 4
    assert replace(REQUESTED, output="another name").digest == REQUESTED.digest
    assert JobRequest.from_json(REQUESTED.to_json()).digest == REQUESTED.digest


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:40],
        lambda text: "[]",
        lambda text: text.replace("two-hand-job/1", "two-hand-job/9"),
        lambda text: text.replace("mirrored", "turned"),
        lambda text: text.replace('"start": 0.5', '"start": "soon"'),
        lambda text: text.replace('"start": 0.5', '"start": -1'),
        lambda text: text.replace('"footage": "', '"footage": "not/absolute'),
        lambda text: text.replace('"footage"', '"film"'),
    ],
)
def test_a_request_that_cannot_be_is_one_sentence(spoil: object, tmp_path: Path) -> None:
    (tmp_path / REQUEST).write_text(spoil(REQUESTED.to_json()), "utf-8")  # type: ignore[operator]
    with pytest.raises(SettingsError) as error:
        read_request(tmp_path)
    assert_sentence(error)


def test_a_folder_without_request_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no readable"):
        read_request(tmp_path)


# --- events --------------------------------------------------------------------------------------------------


def test_events_come_back_as_they_were() -> None:
    events = [
        event(3),
        Event(time=2.5, stage="ended", error=JobError("footage", "Größe fehlt.", "Hinweis.")),
        replace(event(4), frames_per_second=12.5, seconds_left=3.0, warnings=("ein Wort\nzwei", "noch eins")),
        Event(time=3.0, stage="started", pid=77),
        Event(time=4.0, stage="ended", done=True),
    ]
    for each in events:
        assert "\n" not in each.to_json()
        assert Event.from_json(each.to_json()) == each


@pytest.mark.parametrize("line", ["", "{", "7", "null", "{}", '{"stage": "tracking"}', '{"error": 5, "warnings": []}'])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own is one
        Event.from_json(line)


def test_only_new_events_are_read(tmp_path: Path) -> None:
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    assert reader.read() == []
    log.tell(event(1))
    log.tell(event(2))
    assert reader.read() == [event(1), event(2)]
    assert reader.read() == []
    late = EventReader(tmp_path, from_end=True)
    log.tell(event(3))
    assert reader.read() == late.read() == [event(3)]


def test_a_half_written_line_waits_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / EVENTS
    whole = f"{event(1).to_json()}\n{Event(time=1, stage='ended', warnings=('é',)).to_json()}\n".encode()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        reader = EventReader(tmp_path)
        assert len(reader.read()) == (cut >= first)
        path.write_bytes(whole)
        assert len(reader.read()) == 2 - (cut >= first)


def test_the_line_of_a_killed_worker_does_not_spoil_the_next(tmp_path: Path) -> None:
    EventLog(tmp_path).tell(event(1))
    reader = EventReader(tmp_path)
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(event(2).to_json().encode()[:31])
    assert reader.read() == [event(1)]
    EventLog(tmp_path).tell(event(3))
    assert reader.read() == [event(3)]


def test_the_events_of_another_job_in_the_folder_are_read_from_their_beginning(tmp_path: Path) -> None:
    make_job(tmp_path, REQUESTED)
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    for number in range(5):
        log.tell(event(number))
    assert len(reader.read()) == 5
    make_job(tmp_path, replace(REQUESTED, settings=CaptureSettings()))
    EventLog(tmp_path).tell(event(8))
    assert reader.read() == [event(8)]


def test_a_run_ends_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    assert log.end(Event(time=1, stage="ended", done=True))
    assert not log.end(Event(time=2, stage="ended", error=JobError("cancelled", "Too late.")))
    log.tell(event(3))
    assert [each.done for each in EventReader(tmp_path).read()] == [True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_events_on_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / EVENTS).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left") as error:
        EventLog(tmp_path).tell(event(1))
    assert_sentence(error)
    assert EventLog(tmp_path).end(Event(time=1, stage="ended", error=JobError("output", "The disk is full.")))
    assert "The disk is full." in capsys.readouterr().err


def test_the_last_event_gets_the_room_of_the_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chunk(tmp_path, 0, 0)
    log = EventLog(tmp_path)
    log.tell(event(1))
    write = EventLog._write

    def full(self: EventLog, one: Event) -> None:
        if (tmp_path / PREVIEW).exists():
            raise OutputError("Cannot write events.ndjson: No space left on device; make room for it.")
        write(self, one)

    monkeypatch.setattr(EventLog, "_write", full)
    with pytest.raises(OutputError):
        log.tell(event(2))
    last = Event(time=1, stage="ended", error=JobError("output", "The disk is full."))
    assert log.end(last)
    assert EventReader(tmp_path).read() == [event(1), last]


# --- state ---------------------------------------------------------------------------------------------------


def test_the_state_of_a_job(tmp_path: Path) -> None:
    make_job(tmp_path, REQUESTED)
    assert job_state(tmp_path) == "new"
    lock = JobLock(tmp_path)
    assert lock.acquire()
    assert job_state(tmp_path) == "running"
    log = EventLog(tmp_path)
    log.tell(Event(time=1, stage="started", pid=1))
    lock.release()
    assert job_state(tmp_path) == "stopped"
    log.end(Event(time=1, stage="ended", error=JobError("footage", "There is no footage.")))
    assert job_state(tmp_path) == "failed"
    set_flag(tmp_path, CANCEL, True)  # also if the worker was terminated before it saw the flag
    assert job_state(tmp_path) == "cancelled"
    set_flag(tmp_path, CANCEL, False)
    EventLog(tmp_path).end(Event(time=1, stage="ended", error=JobError("cancelled", "Cancelled.")))
    assert job_state(tmp_path) == "cancelled"
    (tmp_path / RESULT).touch()
    assert job_state(tmp_path) == "done"
    make_job(tmp_path, REQUESTED)  # the same request keeps its result
    assert job_state(tmp_path) == "done"
    make_job(tmp_path, replace(REQUESTED, settings=CaptureSettings()))
    assert job_state(tmp_path) == "new"


def test_the_state_is_read_from_the_end_of_long_events(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for number in range(600):
        log.tell(event(number))
    assert (tmp_path / EVENTS).stat().st_size > protocol._TAIL
    log.end(Event(time=1, stage="ended", error=JobError("defect", "Ä.")))
    assert job_state(tmp_path) == "failed"


def test_one_lock_for_one_folder(tmp_path: Path) -> None:
    first, second = JobLock(tmp_path), JobLock(tmp_path)
    assert first.acquire()
    assert not second.acquire(patience=0.1)
    for refused in (lambda: make_job(tmp_path, REQUESTED), lambda: start_worker(sys.executable, tmp_path)):
        with pytest.raises(OutputError, match="Another worker captures") as error:
            refused()
        assert_sentence(error)
    first.release()
    assert second.acquire(patience=0.1)
    second.release()


def test_the_heartbeat_is_the_age_of_the_last_touch(tmp_path: Path) -> None:
    assert seconds_since_heartbeat(tmp_path) == float("inf")
    lock = JobLock(tmp_path)
    lock.acquire()
    os.utime(tmp_path / LOCK, (1e9, 1e9))
    assert seconds_since_heartbeat(tmp_path) > 1e8
    lock.touch()
    assert seconds_since_heartbeat(tmp_path) < 60
    lock.release()


def test_flags_come_and_go(tmp_path: Path) -> None:
    for name in (CANCEL, PAUSE):
        set_flag(tmp_path, name, True)
        set_flag(tmp_path, name, True)
        assert (tmp_path / name).exists()
        set_flag(tmp_path, name, False)
        set_flag(tmp_path, name, False)
        assert not (tmp_path / name).exists()


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "job" / LOG).mkdir(parents=True)
    (tmp_path / "job" / LOCK).mkdir()
    for step in (
        lambda: make_job(tmp_path / "file" / "job", REQUESTED),
        lambda: set_flag(tmp_path / "missing", PAUSE, True),
        lambda: start_worker(sys.executable, tmp_path / "job"),
        lambda: JobLock(tmp_path / "job").acquire(),
    ):
        with pytest.raises(OutputError) as error:
            step()
        assert str(tmp_path) in assert_sentence(error)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", read_only)  # root may write everywhere
    with pytest.raises(OutputError, match="Read-only file system") as error:
        make_job(tmp_path / "another", REQUESTED)
    assert_sentence(error)


def test_what_is_not_there_need_not_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    set_flag(tmp_path, PAUSE, True)
    monkeypatch.setattr(Path, "unlink", read_only)
    set_flag(tmp_path, CANCEL, False)
    with pytest.raises(OutputError, match="Read-only file system"):
        set_flag(tmp_path, PAUSE, False)


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    make_job(tmp_path, REQUESTED)
    with pytest.raises(SettingsError, match="no python") as error:
        start_worker(tmp_path / "no python", tmp_path)
    assert_sentence(error)


# --- starting ------------------------------------------------------------------------------------------------


def test_the_command_is_isolated_from_the_user() -> None:
    folder = Path("/jobs/one").absolute()
    assert worker_command("py", folder) == ["py", "-I", "-X", "utf8", "-m", "dir_core.worker", str(folder)]
    assert worker_command("py", folder, ["/here"])[:4] == ["py", "-I", "-X", "utf8"]
    assert worker_command("py", folder, ["/here"])[-4:] == ["dir_core.worker", str(folder), "--", "/here"]


def test_the_environment_holds_nothing_for_another_python() -> None:
    given = {
        "PATH": "/bin",
        "PYTHONPATH": "/x",
        "PythonHome": "/y",
        "PYTHONUSERBASE": "/z",
        "VIRTUAL_ENV": "/v",
        "LANG": "C",
    }
    assert worker_environment(given) == {"PATH": "/bin", "LANG": "C"}


# --- previews ------------------------------------------------------------------------------------------------


def write_chunk(folder: Path, number: int, first: int, count: int = 3) -> PreviewClip:
    rng = np.random.default_rng(number)

    def hand() -> PreviewHand:
        return PreviewHand(
            rotation=rng.normal(size=(count, 16, 4)).astype(np.float32),
            translation=rng.normal(size=(count, 3)).astype(np.float32),
            keypoints_2d=rng.normal(size=(count, 21, 2)).astype(np.float32),
            confidence=rng.uniform(size=(count, 21)).astype(np.float32),
            observed=rng.uniform(size=count) > 0.3,
        )

    frame = np.arange(first, first + count)
    clip = PreviewClip(frame / 30, frame, np.eye(3, dtype=np.float32), np.array([640, 480]), hand(), hand())
    write_preview(preview_path(folder / PREVIEW, number), clip)
    return clip


def assert_same(read: PreviewClip | None, written: PreviewClip) -> None:
    assert read is not None
    assert len(read) == len(written)
    for name in ("time", "frame", "camera_matrix", "image_size"):
        assert np.array_equal(getattr(read, name), getattr(written, name)), name
    for side in ("left", "right"):
        for name, array in vars(getattr(written, side)).items():
            assert np.array_equal(getattr(getattr(read, side), name), array), name


def test_previews_are_read_once_and_in_order(tmp_path: Path) -> None:
    reader = PreviewReader(tmp_path)
    assert reader.read() is None
    second = write_chunk(tmp_path, 1, 3)
    assert reader.read() is None
    first = write_chunk(tmp_path, 0, 0)
    assert_same(reader.read(), first)
    assert_same(reader.read(), second)
    assert reader.read() is None
    assert_same(PreviewReader(tmp_path).read(), first)


def test_a_damaged_preview_is_left_out(tmp_path: Path) -> None:
    write_chunk(tmp_path, 0, 0)
    path = preview_path(tmp_path / PREVIEW, 0)
    whole = path.read_bytes()
    for spoilt in (b"", whole[:700], whole[:300] + bytes(400) + whole[700:], b"PK\x03\x04 nothing"):
        path.write_bytes(spoilt)
        reader = PreviewReader(tmp_path)
        assert reader.read() is None
        later = write_chunk(tmp_path, 1, 3)
        assert_same(reader.read(), later)
        preview_path(tmp_path / PREVIEW, 1).unlink()


def test_another_request_takes_the_previews_away(tmp_path: Path) -> None:
    make_job(tmp_path, REQUESTED)
    write_chunk(tmp_path, 0, 0)
    make_job(tmp_path, REQUESTED)
    assert PreviewReader(tmp_path).read() is not None
    make_job(tmp_path, replace(REQUESTED, settings=CaptureSettings()))
    assert PreviewReader(tmp_path).read() is None
