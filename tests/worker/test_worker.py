"""The worker as a process of its own: it is killed, cancelled, paused and orphaned, and ends with the same take."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
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
    PREVIEW,
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
SHORT = JobRequest(REQUEST.footage, CaptureSettings(end=1.3))
SHORT_FRAMES = 40
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


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the worker told that it is in this stage and that so many frames are done."""

    stage: str
    frame: int
    delay: float

    def has_come(self, event: Event) -> bool:
        return event.stage == self.stage and event.frame >= self.frame


def random_moments(count: int) -> list[Moment]:
    """Moments of a worker's whole life, however fast the machine is."""
    rng = np.random.default_rng(8)
    length = {"started": 0.5, "preparing": 0.3, "tracking": 0.25, "fitting": 0.2, "writing": 0.02}
    chosen = rng.choice(list(length), count, p=[0.1, 0.1, 0.5, 0.2, 0.1])
    return [Moment(stage, int(rng.integers(SHORT_FRAMES)), rng.uniform(0, length[stage])) for stage in chosen]


def kill_at(moment: Moment, worker: Worker, reader: EventReader) -> int | None:
    """Kill -9; gives the number of frames that were done, None if the worker had ended before."""
    done, end = 0, time.monotonic() + PATIENCE
    while worker.poll() is None:
        events = reader.read()
        done = max([done, *(event.frame for event in events)])
        if any(map(moment.has_come, events)):
            time.sleep(moment.delay)
            break
        assert time.monotonic() < end, "the worker hangs"
        time.sleep(0.002)
    if worker.poll() is not None:
        return None
    worker.kill()
    worker.wait(PATIENCE)
    return max([done, *(event.frame for event in reader.read())])


def processes_of(worker: Worker) -> list[str]:
    """What is left of the worker's session; it began one of its own. Empty where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            found += [str(status)] if int(fields[3]) == worker.pid and fields[0] != "Z" else []
    return found


def test_killed_at_twenty_random_moments(tmp_path: Path, start: Callable[[Path], Worker]) -> None:
    digest = take_digest(capture_take(SHORT.footage, SHORT.settings).take)
    folder, jobs, kills = tmp_path / "0", 1, 0
    make_job(folder, SHORT)
    moments = iter(random_moments(60))  # a fast worker has ended before some of them
    while kills < 20:
        moment = next(moments)
        finished = chunks(folder)
        worker = start(folder)
        done = kill_at(moment, worker, EventReader(folder, from_end=True))
        kills += done is not None
        assert not processes_of(worker)
        assert not is_running(folder)
        assert job_state(folder) in ("new", "stopped", "done")
        if (folder / RESULT).exists():  # whole, also if it was killed right after
            assert result_digest(folder) == digest
            folder, jobs = tmp_path / str(jobs), jobs + 1
            make_job(folder, SHORT)
        elif done is not None:
            assert chunks(folder) >= finished
            assert done - CHUNK * chunks(folder) <= CHUNK  # no more than a chunk is lost
            shown = PreviewReader(folder)
            assert [shown.read() is not None for _ in range(chunks(folder))].count(
                False
            ) <= 1  # written after the chunk
    assert start(folder).wait(PATIENCE) == 0
    assert result_digest(folder) == digest
    assert not list(folder.glob(".*"))
    assert not (folder / CHUNKS).exists()
    assert not (folder / PREVIEW).exists()
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
