"""The worker as a process of its own: it is killed, cancelled, paused and orphaned, and ends with the same take."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dir_core.capture import capture_take
from dir_core.capture_settings import CaptureSettings
from dir_core.take import load_take, take_digest
from dir_core.worker.protocol import (
    CANCEL,
    CHUNKS,
    LOG,
    PAUSE,
    RESULT,
    Event,
    EventReader,
    JobRequest,
    PreviewReader,
    is_running,
    job_state,
    make_job,
    seconds_since_heartbeat,
    set_flag,
    start_worker,
    worker_command,
    worker_environment,
)

ROOT = Path(__file__).parents[2]
REQUEST = JobRequest(str(ROOT / "blender_assets" / "demo" / "two_hands.mp4"), CaptureSettings(end=2.9))
FRAMES, CHUNK = 88, 32
PATIENCE = 40  # seconds after which a process is killed and the test has failed

Worker = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the take that a capture in one piece gives."""
    return take_digest(capture_take(REQUEST.footage, REQUEST.settings).take)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "Ein Auftrag"
    make_job(folder, REQUEST)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[[Path], Worker]]:
    started: list[Worker] = []

    def begin(folder: Path) -> Worker:
        started.append(start_worker(sys.executable, folder, [ROOT]))
        return started[-1]

    yield begin
    for worker in started:
        worker.kill()
        worker.communicate()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


def chunks(folder: Path) -> int:
    return len(list((folder / CHUNKS).glob("0*.npz")))


def result_digest(folder: Path) -> str:
    return take_digest(load_take(folder / RESULT))


def last_event(folder: Path) -> Event:
    return EventReader(folder).read()[-1]


def test_a_job_from_start_to_end(job: Path, start: Callable[[Path], Worker], digest: str) -> None:
    worker = start(job)
    reader, seen = EventReader(job), PreviewReader(job)
    events, rows = [], []
    while worker.poll() is None:
        events += reader.read()
        clip = seen.read()
        rows += [] if clip is None else clip.frame.tolist()
        time.sleep(0.01)
    events += reader.read()
    assert worker.returncode == 0, (job / LOG).read_text("utf-8")
    assert result_digest(job) == digest
    assert rows == list(range(len(rows)))
    assert len(rows) >= 2 * CHUNK  # the last one may be gone before it is read
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["started", "preparing", "tracking", "fitting", "writing", "ended"]
    assert events[0].pid == worker.pid
    assert events[-1].done
    assert not any(event.error or event.warnings for event in events)
    moving = [event for event in events if event.stage == "tracking" and event.frame]
    assert [event.frame for event in moving] == sorted({event.frame for event in moving})
    assert moving[-1].frame == FRAMES
    assert abs(moving[0].total - FRAMES) <= 1
    assert moving[-1].frames_per_second > 1
    assert moving[len(moving) // 2].seconds_left is not None
    assert job_state(job) == "done"
    assert sorted(path.name for path in job.iterdir()) == [
        "events.ndjson",
        "lock",
        "request.json",
        "result.npz",
        "worker.log",
    ]
    assert (job / LOG).read_text("utf-8") == ""

    before = (job / RESULT).stat().st_mtime_ns
    assert start(job).wait(PATIENCE) == 0  # nothing is left to do
    assert last_event(job).done
    assert (job / RESULT).stat().st_mtime_ns == before


def test_killed_at_random_moments(tmp_path: Path, start: Callable[[Path], Worker], digest: str) -> None:
    rng = np.random.default_rng(8)
    kills, number = 0, 0
    while True:
        folder = tmp_path / str(number)
        make_job(folder, REQUEST)
        while not (folder / RESULT).exists():
            worker, finished = start(folder), chunks(folder)
            reader, delay = EventReader(folder, from_end=True), rng.uniform(0.05, 2.2)
            try:
                worker.wait(PATIENCE if kills >= 6 else delay)
            except subprocess.TimeoutExpired:
                assert kills < 6, "the worker hangs"
                worker.kill()
                worker.wait(PATIENCE)
                kills += 1
                done = max([event.frame for event in reader.read()], default=0)
                assert job_state(folder) in ("new", "stopped", "done")
                if not (folder / RESULT).exists():
                    assert chunks(folder) >= finished
                    assert done - CHUNK * chunks(folder) <= CHUNK
        assert result_digest(folder) == digest, f"after {kills} kills"
        if kills >= 6:
            break
        number += 1
    assert start(folder).wait(PATIENCE) == 0
    assert not list(folder.glob(".*"))
    assert job_state(folder) == "done"


def test_cancel_and_resume(job: Path, start: Callable[[Path], Worker], digest: str) -> None:
    worker = start(job)
    wait_for(lambda: chunks(job) > 0, "the first chunk")
    begin = time.monotonic()
    set_flag(job, CANCEL, True)
    assert worker.wait(PATIENCE) == 130
    assert time.monotonic() - begin < 3
    assert job_state(job) == "cancelled"
    error = last_event(job).error
    assert error is not None
    assert error.code == "cancelled"
    assert error.sentence.endswith(".")
    assert "resume" in error.hint
    assert not (job / RESULT).exists()
    kept = chunks(job)
    assert kept > 0
    times = [path.stat().st_mtime_ns for path in sorted((job / CHUNKS).glob("0*.npz"))]
    worker = start(job)
    wait_for(lambda: last_event(job).frame > CHUNK, "going on")
    again = [path.stat().st_mtime_ns for path in sorted((job / CHUNKS).glob("0*.npz"))]
    assert again[:kept] in (times, [])  # used, not made again; gone once the job is done
    assert worker.wait(PATIENCE) == 0
    assert result_digest(job) == digest


def test_pause_and_a_second_worker(job: Path, start: Callable[[Path], Worker], digest: str) -> None:
    worker = start(job)
    set_flag(job, PAUSE, True)
    wait_for(lambda: any(event.stage == "paused" for event in EventReader(job).read()), "the pause")
    paused_at = last_event(job).frame
    assert paused_at < FRAMES
    assert job_state(job) == "running"

    second = subprocess.run(
        worker_command(sys.executable, job, [ROOT]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=worker_environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 2
    assert second.stderr.startswith("Another worker captures in ")
    assert second.stderr.count("\n") == 1

    time.sleep(1.2)
    assert (last_event(job).stage, last_event(job).frame) == ("paused", paused_at)
    assert seconds_since_heartbeat(job) < 1.2 + PATIENCE / 10
    assert worker.poll() is None
    set_flag(job, PAUSE, False)
    assert worker.wait(PATIENCE) == 0
    assert result_digest(job) == digest


@pytest.mark.skipif(sys.platform == "win32", reason="looks for the orphan by POSIX signals")
def test_no_orphan_stays_when_the_parent_is_killed(job: Path, start: Callable[[Path], Worker], digest: str) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from dir_core.worker.protocol import PAUSE, set_flag, start_worker\n"
        f"worker = start_worker(sys.executable, Path({str(job)!r}), [{str(ROOT)!r}])\n"
        f"set_flag(Path({str(job)!r}), PAUSE, True)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        try:
            wait_for(lambda: is_running(job), "the start")
            parent.kill()
            parent.wait(PATIENCE)
            end = time.monotonic() + 10
            while is_running(job) and time.monotonic() < end:
                time.sleep(0.05)
            assert not is_running(job)
        finally:
            parent.kill()
            if is_running(job):
                os.kill(pid, signal.SIGKILL)
    assert job_state(job) == "stopped"
    assert start(job).wait(PATIENCE) == 0
    assert result_digest(job) == digest
