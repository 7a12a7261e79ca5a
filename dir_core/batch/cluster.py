"""Captures clips on a Ray cluster, one task a clip. Ray is imported here alone and only when it is asked for.

A task runs the same job as a process of this machine does, in a folder of its own on its machine. What it has to tell,
events and finished parts, goes through an actor to the driver, which writes it into the clip's job folder: so a task
whose worker was lost goes on in another one with what was finished, and the take comes back as bytes. Only the footage,
the weights and the hand model have to be readable on every machine, under the same path.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dir_core
from dir_core.batch.local import cores
from dir_core.batch.run import LostError, StoppedError
from dir_core.capture_settings import CaptureSettings
from dir_core.errors import SettingsError
from dir_core.take import write_whole
from dir_core.worker.job import EventLog, run_job
from dir_core.worker.protocol import CHUNKS, LOG, REQUEST, RESULT, Event, EventReader, JobError

_NEWS_PERIOD = 0.5  # seconds between two messages of a task, and between two questions of the driver
_PATIENCE = 5.0  # seconds for an answer of the board
_OBJECT_STORE = 200_000_000  # bytes, on this machine; a take of a minute is 3 MB
_MOST_AT_ONCE = 200  # clips that the driver follows; a cluster that grows does so while tasks wait
_PROGRAM = ("dir_core", "blender_assets")  # goes to the machines of a cluster, so that all run the same
_NOT_SENT = ("__pycache__", "demo")

Files = dict[str, bytes]
"""Name inside a job folder -> content."""


def need_ray() -> Any:
    """Ray, if it is installed.

    Raises:
        SettingsError: it is not.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it shall report to nobody
    try:
        import ray
    except ImportError as error:
        raise SettingsError(f"--engine ray needs Ray ({error}), install it with: pip install ray") from error
    return ray


class Board:
    """An actor through which tasks tell their news to the driver. What is lost with it is only news."""

    def __init__(self) -> None:
        self._news: dict[str, list[tuple[list[str], Files]]] = {}

    def tell(self, job: str, lines: list[str], files: Files) -> None:
        """Leave new events and new files of a job."""
        self._news.setdefault(job, []).append((lines, files))

    def hear(self, job: str) -> list[tuple[list[str], Files]]:
        """Take what is new of a job."""
        return self._news.pop(job, [])


def capture_there(files: Files, board: Any, job: str) -> tuple[str, list[str], Files]:
    """The task: run a job in a folder of its own.

    Args:
        files: what is there of the job folder: the request and finished parts.
        board: handle of the `Board`.
        job: name of this attempt.

    Returns:
        Name of the machine, last events, last files: the take or the log among them.
    """
    ray = need_ray()
    with tempfile.TemporaryDirectory(prefix="two_hand_capture_") as home:
        folder = Path(home)
        _write_files(folder, files)
        events = EventLog(folder)
        events.tell(Event(time=time.time(), stage="started", pid=os.getpid()))
        courier = Courier(folder, files)
        ended = threading.Event()
        told: list[Any] = []  # what becomes of the last message

        def tell_news() -> None:
            while not ended.wait(_NEWS_PERIOD):
                lines, new = courier.collect()
                if lines or new:
                    told[:] = [board.tell.remote(job, lines, new)]

        telling = threading.Thread(target=tell_news, name="news", daemon=True)
        telling.start()
        try:
            with (folder / LOG).open("w", encoding="utf-8") as log, contextlib.redirect_stderr(log):
                run_job(folder, events)
        finally:
            ended.set()
            telling.join()
        with contextlib.suppress(ray.exceptions.RayError):  # the driver asks for the last time once this task is over
            ray.get(told, timeout=_PATIENCE)
        lines, new = courier.collect()
        last = {name: (folder / name).read_bytes() for name in (RESULT, LOG) if (folder / name).exists()}
        return socket.gethostname(), lines, new | last


class Courier:
    """Finds what is new in a job folder."""

    def __init__(self, folder: Path, known: Mapping[str, bytes]):
        """Begin with files that the driver knows already."""
        self._folder = folder
        self._reader = EventReader(folder)
        self._known = set(known)

    def collect(self) -> tuple[list[str], Files]:
        """New events as lines, and new parts."""
        lines = [event.to_json() for event in self._reader.read()]
        files = {name: path.read_bytes() for name, path in _parts(self._folder) if name not in self._known}
        self._known |= files.keys()
        return lines, files


class RayEngine:
    """Tasks of a cluster."""

    def __init__(self, settings: CaptureSettings, address: str | None, jobs: int | None):
        """Join a cluster, or start one on this machine that ends with this process.

        Args:
            settings: of all clips; they say whether a task needs a GPU.
            address: of a cluster, or "auto"; None for the one in RAY_ADDRESS, else for one on this machine.
            jobs: clips at once; None for as many as the cluster has cores for.

        Raises:
            SettingsError: Ray is missing, or there is no cluster.
        """
        self._ray = ray = need_ray()
        address = address or os.environ.get("RAY_ADDRESS")
        program = Path(dir_core.__file__).parents[1]
        quiet = {"log_to_driver": False, "logging_level": "error"}
        try:
            if address:
                with tempfile.TemporaryDirectory(prefix="two_hand_capture_") as sent:
                    for part in _PROGRAM:
                        shutil.copytree(program / part, Path(sent, part), ignore=shutil.ignore_patterns(*_NOT_SENT))
                    ray.init(address, runtime_env={"working_dir": sent}, **quiet)
                self.jobs = jobs or _MOST_AT_ONCE
            else:
                self.jobs = jobs or cores()
                ray.init(
                    "local",
                    num_cpus=self.jobs,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE,
                    runtime_env={"env_vars": {"PYTHONPATH": str(program)}},
                    **quiet,
                )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"at {address}" if address else "on this machine"
            raise SettingsError(f"No Ray cluster can be used {where} ({_first_line(error)}), check it.") from error
        wants_gpu = settings.estimator == "dir" and settings.device in ("auto", "cuda")
        gpus = 1 if wants_gpu and ray.cluster_resources().get("GPU", 0) else 0
        # Ray's own attempts would begin again with what was finished when the clip was first sent.
        self._task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(capture_there)
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()

    def close(self) -> None:
        """Leave the cluster; one that was started on this machine ends."""
        self._ray.shutdown()

    def capture(self, folder: Path, on_event: Callable[[Event], None], stop: threading.Event) -> JobError | None:
        """See `Engine.capture`."""
        ray, job, last = self._ray, uuid.uuid4().hex, None
        events = EventLog(folder)

        def follow(event: Event) -> None:
            events.tell(event)
            on_event(event)

        files = {REQUEST: (folder / REQUEST).read_bytes(), **dict(_read_parts(folder))}
        task = self._task.remote(files, self._board, job)
        try:
            while not ray.wait([task], timeout=_NEWS_PERIOD)[0]:
                self._hear(job, folder, follow)
                if stop.is_set():
                    raise StoppedError
            self._hear(job, folder, follow)
            machine, lines, files = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            return JobError("task", f"The task could not run on the cluster: {_last_line(error)}.")
        except (ray.exceptions.RuntimeEnvSetupError, ray.exceptions.TaskUnschedulableError) as error:
            return JobError("task", f"The cluster cannot take the task: {_first_line(error)}.")
        except ray.exceptions.RayError as error:
            raise LostError(f"The worker of the cluster that captured it was lost ({type(error).__name__}).") from error
        except BaseException:
            ray.cancel(task, force=True)
            raise
        _write_files(folder, files)
        for last in map(Event.from_json, lines):
            follow(last)
        if last is None or last.stage != "ended":
            raise LostError(f"The task on {machine} ended without a word.")
        if last.error is not None and last.error.code == "footage":
            return JobError("footage", f"{last.error.sentence.removesuffix('.')} (as {machine} sees it).")
        return last.error

    def _hear(self, job: str, folder: Path, on_event: Callable[[Event], None]) -> None:
        """Write down and pass on what a task has told since the last time."""
        try:
            news = self._ray.get(self._board.hear.remote(job), timeout=_PATIENCE)
        except self._ray.exceptions.RayError:  # the board is lost or late; only news
            return
        for lines, files in news:
            _write_files(folder, files)
            for line in lines:
                on_event(Event.from_json(line))


def _parts(folder: Path) -> Iterator[tuple[str, Path]]:
    """The finished parts in a job folder, and what says whose they are; unfinished files begin with a dot."""
    for path in sorted((folder / CHUNKS).glob("[!.]*")):
        yield f"{CHUNKS}/{path.name}", path


def _read_parts(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name, path in _parts(folder):
        yield name, path.read_bytes()


def _write_files(folder: Path, files: Files) -> None:
    """Write files into a job folder, each whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_whole(folder / name, data)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
