"""The captures: which are wanted, which one runs, what became of the others. No panels, no drawing.

A job belongs to the program and not to a .blend: it is a folder of the user's, so that undo, another file, a crash or
the end of Blender never take it away. What runs is a process of its own; here it is only started and looked at, a
little on every tick.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import bpy

from dir_core.errors import HandCaptureError, OutputError, TakeError
from dir_core.take import write_whole
from dir_core.worker.protocol import (
    CANCEL,
    LOG,
    PAUSE,
    RESULT,
    Event,
    EventReader,
    JobError,
    JobLock,
    JobRequest,
    is_running,
    job_state,
    make_job,
    read_request,
    seconds_since_heartbeat,
    set_flag,
    start_worker,
)

from . import gpu_runtime, log, painter, takes, ticker
from .preferences import preferences, takes_folder
from .properties import SCENE_PROPERTY

Phase = Literal["waiting", "running", "paused", "cancelling", "stopped", "cancelled", "failed", "finished", "foreign"]
"""waiting: for its turn. stopped: its worker or its Blender was killed. finished: its take is not in a scene yet.
foreign: another Blender works on it."""

ORDER: Final = "job.json"

_TICK: Final = 0.1  # seconds between two looks at a running job
_SLOW_TICK: Final = 1.0  # where only others are waited for
_PATIENCE: Final = 3.0  # seconds before a worker that was asked to end is terminated, and again before it is killed
_HANGS: Final = 30.0  # seconds without a sign of life; decoding and fitting leave the heartbeat its thread
_NICENESS: Final = 5  # of the worker: Blender stays smooth also where every core computes
_TAIL: Final = 1 << 16  # bytes of an earlier run's events that surely hold its last progress
_ROOM: Final = 4096  # bytes of the smallest file on most disks
_SESSIONS: Final = "sessions"


@dataclass(frozen=True)
class Order:
    """Who asked for a job, and what becomes of its result; job.json beside the request.

    Attributes:
        clip: name of the footage, for the user.
        session: the running Blender that takes care of it.
        blend: path of the file that asked, "" if it was not saved yet.
        scene: name of the scene that asked.
        scene_uid: its `two_hands.uid`, which also a renamed file still has.
        start: scene frame of the footage's time 0.
        build: whether hands are built and keyed when it is done.
        take: where the take was put when it was finished, "" before.
    """

    clip: str
    session: str = ""
    blend: str = ""
    scene: str = ""
    scene_uid: str = ""
    start: int = 1
    build: bool = True
    take: str = ""


@dataclass(eq=False)
class Job:
    """One capture as it is now; panels read it, only this module changes it.

    Attributes:
        folder: of the job.
        request: what to capture.
        order: for whom.
        phase: see Phase.
        progress: the last event about progress; None before.
        warnings: sentences of the worker.
        error: why it did not end with a take.
        seconds: how long its workers of this session have run.
    """

    folder: Path
    request: JobRequest
    order: Order
    phase: Phase
    progress: Event | None = None
    warnings: tuple[str, ...] = ()
    error: JobError | None = None
    seconds: float = 0.0
    _scene_session: int = 0  # session_uid of the scene that asked: undo keeps it, another file never has it
    _process: "subprocess.Popen[bytes] | None" = None
    _reader: EventReader | None = None
    _begun: float = 0.0  # monotonic, when its worker was started
    _spoke: bool = False  # whether that worker has told anything
    _ending: float = 0.0  # monotonic, when its worker was asked to end
    _refused: bool = False  # whether its take could not be added; then the user decides

    @property
    def name(self) -> str:
        """Of its folder: what operators call it by."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """What the worker wrote."""
        return self.folder / LOG

    @property
    def factor(self) -> float:
        """Share of the frames that are done, 0..1."""
        done = self.progress
        if done is None or not done.total:
            return 0.0
        return min(done.frame / done.total, 1.0)

    @property
    def is_active(self) -> bool:
        """Whether a worker of this Blender is on it."""
        return self._process is not None

    def sentence(self) -> str:
        """How it stands, for the user."""
        if self.phase == "running":
            return _progress_sentence(self.progress)
        words = {
            "waiting": "Waits for its turn",
            "cancelling": "Cancelling ...",
            "foreign": f"Another Blender captures it, {self.factor:.0%}",
            "finished": "Finished",
        }
        at = f" at {self.factor:.0%}" if self.factor else ""
        return words.get(self.phase, f"{self.phase.capitalize()}{at}")


@dataclass
class _State:
    jobs: list[Job] = field(default_factory=list)
    session: str = ""
    lock: JobLock | None = None
    report: str = ""
    looked: float = 0.0  # monotonic, of the last look at what others do


_state = _State()
_listeners: Final[list[Callable[[Job], None]]] = []


def jobs() -> tuple[Job, ...]:
    """Every job that is not done with, in the order in which they were wanted."""
    return tuple(_state.jobs)


def find_job(name: str) -> Job:
    """The job of this name.

    Raises:
        OutputError: there is none any more.
    """
    for job in _state.jobs:
        if job.name == name:
            return job
    raise OutputError("This capture is not there any more, it was finished or discarded.")


def active_job() -> Job | None:
    """The job on which a worker of this Blender is."""
    return next((job for job in _state.jobs if job.is_active), None)


def last_report() -> str:
    """What the last finished capture brought, in numbers; "" once another one begins."""
    return _state.report


def listen_to_starts(listener: Callable[[Job], None]) -> None:
    """Call `listener` whenever a worker was started for a job."""
    if listener not in _listeners:
        _listeners.append(listener)


def scene_of(job: Job) -> Any | None:
    """The scene that asked for a job, if its file is open."""
    scenes = list(bpy.data.scenes)
    for scene in scenes:
        if job._scene_session and scene.session_uid == job._scene_session:
            return scene
    known = [scene for scene in scenes if getattr(scene, SCENE_PROPERTY).uid == job.order.scene_uid != ""]
    if not known and job.order.blend and bpy.data.filepath == job.order.blend:
        known = scenes
    named = [scene for scene in known if scene.name == job.order.scene]
    return next(iter(named or known[:1]), None)


def jobs_folder() -> Path:
    """Where the job folders lie.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        return log.user_folder("jobs")
    except OSError as error:
        where = error.filename or "the folder of captures"
        raise OutputError(f"Cannot make {where}: {error.strerror}; make room for it.") from error


# --- what the user asks for ----------------------------------------------------------------------------------


def order_from(scene: Any, clip: str, start: int, build: bool) -> Order:
    """The order of a scene; it gets an identity that saving and loading keep."""
    hands = getattr(scene, SCENE_PROPERTY)
    others = {getattr(other, SCENE_PROPERTY).uid for other in bpy.data.scenes if other != scene}
    if not hands.uid or hands.uid in others:  # a copied scene has that of its original
        hands.uid = uuid.uuid4().hex
    return Order(clip=clip, blend=bpy.data.filepath, scene=scene.name, scene_uid=hands.uid, start=start, build=build)


def add_job(scene: Any, request: JobRequest, order: Order) -> Job:
    """Add a job behind those that are there; it starts when its turn comes.

    Raises:
        OutputError: its folder cannot be written.
    """
    folder = jobs_folder() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    job = Job(folder, request, order, "waiting", _scene_session=scene.session_uid)
    try:
        make_job(folder, request)
        _write_order(job, session=_session())
    except OutputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _state.jobs.append(job)
    _state.report = ""
    ticker.follow(_step)
    return job


def pause_job(job: Job) -> None:
    """Let a running worker wait after the frame it works on.

    Raises:
        OutputError: its folder cannot be written.
    """
    set_flag(job.folder, PAUSE, True)
    job.phase = "paused"


def resume_job(job: Job) -> None:
    """Let a paused worker go on, or a job that ended early have another turn.

    Raises:
        OutputError: its folder cannot be written, or another Blender works on it.
    """
    if job.is_active:
        set_flag(job.folder, PAUSE, False)
        job.phase = "running"
        return
    if _is_foreign(job):
        raise OutputError("Another Blender works on this capture, wait for it or cancel it there.")
    _write_order(job, session=_session())
    job.phase, job.error, job.warnings = "waiting", None, ()
    _state.report = ""
    ticker.follow(_step)


def cancel_job(job: Job) -> None:
    """Let a worker end: it is asked, then terminated, then killed. What is finished stays; a waiting job goes.

    Raises:
        OutputError: its folder cannot be written.
    """
    if not job.is_active:
        discard_job(job)
        return
    set_flag(job.folder, CANCEL, True)
    job.phase, job._ending = "cancelling", time.monotonic()


def discard_job(job: Job) -> None:
    """Delete a job on which no worker is, with everything it has captured.

    Raises:
        OutputError: a worker is on it, here or in another Blender.
    """
    if job.is_active or _is_foreign(job):
        raise OutputError("This capture runs, cancel it first.")
    _remove(job)


# --- the clock -----------------------------------------------------------------------------------------------


def _step() -> float | None:
    """One look at everything; says when the next one is due."""
    before = _look(_state.jobs)
    for job in list(_state.jobs):
        if job.is_active:
            _follow_worker(job)
    now = time.monotonic()
    if now - _state.looked >= _SLOW_TICK:
        _state.looked = now
        _look_at_others()
        _deliver_finished()
    if active_job() is None:
        waiting = next((job for job in _state.jobs if job.phase == "waiting"), None)
        if waiting:
            _start(waiting)
    if _look(_state.jobs) != before:
        painter.repaint("SIDEBAR", "STATUS")
    if any(job.is_active or job.phase == "waiting" for job in _state.jobs):
        return _TICK
    return _SLOW_TICK if any(job.phase in ("finished", "foreign") for job in _state.jobs) else None


def drain(seconds: float = 3600.0) -> None:
    """Do everything that the timer would do until no job runs or waits; for a Blender without a window.

    Raises:
        OutputError: it takes longer than `seconds`.
    """
    give_up = time.monotonic() + seconds
    while any(job.is_active or job.phase == "waiting" for job in _state.jobs):
        if time.monotonic() > give_up:
            raise OutputError(f"The capture takes longer than {seconds:g} s, it goes on in the background.")
        _step()
        time.sleep(_TICK / 2)
    _deliver_finished()


def _look(wanted: Iterable[Job]) -> list[Any]:
    """What panels show of the jobs, to see whether they have to be drawn again."""
    return [(job.name, job.phase, job.progress, job.warnings, job.error) for job in wanted]


def _start(job: Job) -> None:
    job._reader = EventReader(job.folder, from_end=True)
    try:
        python, paths = gpu_runtime.worker_python(job.request.settings.estimator, preferences(bpy.context))
        job._process = start_worker(python, job.folder, paths)
    except HandCaptureError as error:
        _fail(job, JobError("runtime", str(error)))
        return
    if hasattr(os, "setpriority"):
        with suppress(OSError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, job._process.pid, _NICENESS)
    job.phase, job.error, job.warnings = "running", None, ()
    job._begun, job._ending, job._spoke = time.monotonic(), 0.0, False
    for listener in _listeners:
        listener(job)


def _follow_worker(job: Job) -> None:
    assert job._process is not None
    assert job._reader is not None
    code = job._process.poll()  # before reading: what an ended worker wrote is all there
    for event in job._reader.read():
        _take_event(job, event)
    if code is not None:
        _settle(job, code)
    elif job._ending:
        waited = time.monotonic() - job._ending
        if waited > 2 * _PATIENCE:
            job._process.kill()
        elif waited > _PATIENCE:
            job._process.terminate()


def _take_event(job: Job, event: Event) -> None:
    job._spoke = True
    job.warnings += event.warnings
    job.error = event.error
    if event.stage not in ("started", "ended"):
        # Stages without frames keep the count of those before.
        kept = job.progress
        if kept and not event.total:
            event = replace(event, frame=kept.frame, total=kept.total)
        job.progress = event


def _settle(job: Job, code: int) -> None:
    """A worker has ended: what became of its job."""
    _let_go(job)
    job.seconds += time.monotonic() - job._begun
    if not job.folder.is_dir():
        _remove(job)
        job.phase = "failed"
        log.note_mistake(f"The folder of the capture of {job.order.clip} was removed while it ran, capture it again.")
    elif (job.folder / RESULT).is_file():
        job.phase, job.error = "finished", None
        _state.looked = 0.0  # its take is added at once
    elif job._ending or (job.error and job.error.code == "cancelled"):
        job.phase, job.error = "cancelled", None
    elif job.error:
        _fail(job, job.error)
    else:
        how = f"signal {-code}" if code < 0 else f"code {code}"
        lack = _lack_of_room(job.folder)
        if lack:
            _fail(job, JobError("output", f"Cannot write {job.folder}: {lack}; make room and resume."))
        elif not job._spoke:
            sentence = f"The worker for {job.order.clip} ended before it could begin ({how}), see its log and resume."
            _fail(job, JobError("runtime", sentence))
        else:
            sentence = f"The capture of {job.order.clip} was ended from outside ({how}), resume it."
            _fail(job, JobError("killed", sentence))
            job.phase = "stopped"


def _lack_of_room(folder: Path) -> str:
    """Why nothing can be written into a folder, "" if something can: on a full disk a worker cannot say so itself."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _fail(job: Job, error: JobError) -> None:
    job.phase, job.error = "failed", error
    log.note_mistake(" ".join(part for part in (error.sentence, error.hint) if part), job.log)


def _let_go(job: Job) -> None:
    """Close the pipe by which a worker knows that its Blender lives."""
    process, job._process, job._reader = job._process, None, None
    if process is not None and process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def seconds_silent(job: Job) -> float:
    """For how long a running worker has given no sign of life, 0 while that is nothing to worry about."""
    silent = seconds_since_heartbeat(job.folder)
    return silent if job.is_active and _HANGS < silent < float("inf") else 0.0


# --- the take of a finished job ------------------------------------------------------------------------------


def _deliver_finished() -> None:
    """Give finished takes to the scenes that asked for them, where that is possible now."""
    for job in list(_state.jobs):
        if job.phase != "finished" or job._refused:
            continue
        scene = scene_of(job)
        if scene is None:
            continue
        try:
            if bpy.app.background:
                deliver(job, bpy.context, scene)
                continue
            window = _window_of(scene)
            if window is None:
                continue
            with bpy.context.temp_override(window=window, scene=scene, view_layer=window.view_layer):
                if bpy.ops.hands.add_take.poll():
                    deliver(job, bpy.context, scene)
        except HandCaptureError as error:
            log.note_mistake(str(error), job.log)
        except Exception:  # the other captures go on
            job._refused = True
            log.LOGGER.exception("The take of %s could not be added", job.folder)
            log.note_mistake("A defect of the add-on kept a take from being added, it waits in the list of captures.")


def deliver(job: Job, context: Any, scene: Any, *, select: bool = False) -> None:
    """Put the take of a finished job where takes are kept, and add it to a scene: one undo step.

    Args:
        job: a finished one.
        context: whose scene is `scene`.
        scene: gets the take.
        select: whether its hands are selected; not while the user works on something else.

    Raises:
        OutputError: the folder of the takes cannot be written; the job stays.
        TakeError: the take cannot be added; it stays, and so does the job.
    """
    job._refused = True  # until it has worked: not to be tried again and again by itself
    path = _move_result(job, takes_folder(context))
    try:
        result = bpy.ops.hands.add_take(
            "EXEC_DEFAULT",
            True,  # an undo step, although it was no click
            filepath=str(path),
            footage=job.request.footage,
            start=job.order.start,
            build=job.order.build,
            use_selection=select,
        )
    except RuntimeError as error:
        raise TakeError(str(error).removeprefix("Error: ").strip()) from error
    if "FINISHED" not in result:
        raise TakeError(f"The take {path} could not be added to the scene, try it again.")
    _state.report = _report(job, scene)
    log.LOGGER.info(_state.report)
    _remove(job)


def _report(job: Job, scene: Any) -> str:
    item = takes.active_take(scene)
    assert item is not None  # it was added just now
    speed = f" in {_duration(job.seconds)}" if job.seconds else ""
    return (
        f"Captured {item.frames:,} frames of {job.order.clip}{speed}: "
        f"left hand seen in {item.seen_left:.0%}, right hand in {item.seen_right:.0%}."
    )


def _move_result(job: Job, folder: Path) -> Path:
    """Move the result to an unused name in the folder of the takes, whole or not at all."""
    if job.order.take and Path(job.order.take).is_file():
        return Path(job.order.take)
    result = job.folder / RESULT
    try:
        path = takes.free_path(folder, Path(job.order.clip).stem)
        _write_order(job, take=str(path))  # first: whatever happens next, the take is found again
        try:
            result.replace(path)
        except OSError:  # on another disk
            write_whole(path, result.read_bytes())
            result.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror or error}; choose another takes folder.") from error
    return path


def _window_of(scene: Any) -> Any | None:
    """A window that shows the scene and in which the user is not in the middle of something."""
    for window in bpy.context.window_manager.windows:
        if window.scene == scene and not ticker.is_user_busy(window):
            return window
    return None


# --- folders -------------------------------------------------------------------------------------------------


def _session() -> str:
    """The name of this running Blender; others see by a lock whether it still runs."""
    if _state.lock is None:
        name = uuid.uuid4().hex
        folder = jobs_folder() / _SESSIONS / name
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"Cannot make {folder}: {error.strerror}; make room for it.") from error
        lock = JobLock(folder)
        lock.acquire()
        _state.session, _state.lock = name, lock
    return _state.session


def _is_foreign(job: Job) -> bool:
    """Whether another running Blender takes care of a job."""
    if job.order.session == _state.session != "":
        return False
    if is_running(job.folder):
        return True
    return bool(job.order.session) and is_running(jobs_folder() / _SESSIONS / job.order.session)


def _look_at_others() -> None:
    """What other Blenders do with the jobs that they take care of."""
    for job in list(_state.jobs):
        if job.phase != "foreign":
            continue
        order = _read_order(job.folder, job.request)
        if not job.folder.is_dir():
            _state.jobs.remove(job)
        else:
            job.order = order
            job.progress = _last_progress(job.folder)
            job.phase = _phase_on_disk(job)


def _scan() -> None:
    """Find the jobs that earlier sessions left, and those of other Blenders."""
    for folder in sorted(jobs_folder().iterdir()):
        if not (folder / ORDER).is_file():
            continue
        try:
            request = read_request(folder)
        except HandCaptureError as error:
            log.LOGGER.warning("%s: %s", folder, error)
            continue
        job = Job(folder, request, _read_order(folder, request), "stopped")
        job.progress = _last_progress(folder)
        job.phase = _phase_on_disk(job)
        _state.jobs.append(job)
    for session in (jobs_folder() / _SESSIONS).glob("*"):
        if not is_running(session):
            shutil.rmtree(session, ignore_errors=True)


def _phase_on_disk(job: Job) -> Phase:
    if _is_foreign(job):
        return "foreign"
    if job.order.take and Path(job.order.take).is_file():
        return "finished"
    state = job_state(job.folder)
    ended: dict[str, Phase] = {"done": "finished", "cancelled": "cancelled", "failed": "failed"}
    return ended.get(state, "stopped")


def _last_progress(folder: Path) -> Event | None:
    reader = EventReader(folder)
    reader.skip_to_last(_TAIL)
    counted = [event for event in reader.read() if event.total]
    return counted[-1] if counted else None


def _write_order(job: Job, **changes: Any) -> None:
    order = replace(job.order, **changes)
    write_whole(job.folder / ORDER, json.dumps(asdict(order), indent=1, ensure_ascii=False).encode())
    job.order = order


def _read_order(folder: Path, request: JobRequest) -> Order:
    """What job.json says; a damaged one loses who asked but not the capture."""
    try:
        return Order(**json.loads((folder / ORDER).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Order(Path(request.footage).name)


def _remove(job: Job) -> None:
    shutil.rmtree(job.folder, ignore_errors=True)
    if job in _state.jobs:
        _state.jobs.remove(job)


# --- words ---------------------------------------------------------------------------------------------------


def _progress_sentence(event: Event | None) -> str:
    if event is None:
        return "Starting ..."
    words = {"preparing": "Loading the networks ...", "fitting": "Fitting the hands ...", "writing": "Writing ..."}
    if event.stage in words:
        return words[event.stage]
    counted = f"{event.frame:,} / {event.total:,} frames" if event.total else "Reading the footage ..."
    speed = f", {event.frames_per_second:.0f} fps" if event.frames_per_second else ""
    left = f", {_duration(event.seconds_left)} left" if event.seconds_left is not None else ""
    return counted + speed + left


def _duration(seconds: float) -> str:
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- Blender -------------------------------------------------------------------------------------------------


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_loading(*_: Any) -> None:
    """The scene that waits for a take may be open now."""
    if _state.jobs:
        ticker.follow(_step)


def register() -> None:
    """Find the jobs that earlier sessions left; none of them starts by itself."""
    try:
        _scan()
    except (OSError, OutputError) as error:
        log.LOGGER.warning("Cannot read the jobs folder: %s", error)
    bpy.app.handlers.load_post.append(_after_loading)
    if any(job.phase in ("finished", "foreign") for job in _state.jobs):
        ticker.follow(_step, first=_SLOW_TICK)


def unregister() -> None:
    """Let every worker end by itself: it sees its pipe close, and its job goes on another day."""
    bpy.app.handlers.load_post.remove(_after_loading)
    for job in _state.jobs:
        _let_go(job)
    if _state.lock is not None:
        _state.lock.release()
    _state.jobs.clear()
    _state.session, _state.lock, _state.report = "", None, ""
    _listeners.clear()
