"""What goes wrong outside: full disks, lost footage, damaged takes, broken runtimes. One sentence, and nothing is lost.

Everything goes through the add-on's operators, as a user would meet it.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import cv2
import numpy as np
import pytest

import addon
from addon import capture_job, clean_job, gpu_runtime, log, takes
from addon.operators import capture as operators
from dir_core.capture import capture_take
from dir_core.take import load_take, take_digest
from dir_core.worker.protocol import CHUNKS, RESULT
from tests.blender.stage import DEMO, ROOT, add_hands, load_footage, use_own_user_folder, write_take
from tests.blender.undo import differences, file_state

if sys.platform == "win32":
    pytest.skip("the ways to break things are those of POSIX", allow_module_level=True)

Patch = pytest.MonkeyPatch

FRAMES = 70
"""So many that the take is larger than each of the three chunks it is made from."""

PATIENCE = 120.0


@pytest.fixture(autouse=True)
def registered(empty_file: None, monkeypatch: Patch, tmp_path: Path) -> Iterator[None]:
    """The add-on with a user folder of its own; whatever a test leaves running is killed."""
    use_own_user_folder(monkeypatch, tmp_path / "user")
    addon.register()
    yield
    workers = [job._process for job in capture_job.jobs() if job._process]
    addon.unregister()
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def scene() -> Any:
    """A scene that is about to capture a part of the demonstration clip and to build nothing."""
    return ask_for_part(load_footage())


def ask_for_part(scene: Any) -> Any:
    capture = scene.two_hands.capture
    capture.use_range, capture.first, capture.last, capture.use_hands = True, 1, FRAMES, False
    return scene


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the take that an undisturbed capture gives."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon.register()
    settings = operators.make_settings(ask_for_part(load_footage()))
    addon.unregister()
    return take_digest(capture_take(DEMO, settings).take)


def told(call: Callable[..., object], **values: object) -> str:
    """The sentence with which an operator refuses; one, in one line, and no defect."""
    with pytest.raises(RuntimeError) as error:
        call(**values)
    sentence = str(error.value).removeprefix("Error: ").strip()
    assert "\n" not in sentence
    assert "defect" not in sentence
    assert re.fullmatch(r"\S.{10,}\.", sentence), sentence
    assert log.last_mistake().sentence == sentence
    return sentence


def arrived() -> Any:
    """The take of the only row."""
    (row,) = bpy.context.scene.two_hands.takes
    return takes.load_raw(row)


def only_job() -> capture_job.Job:
    (job,) = capture_job.jobs()
    return job


def chunks(job: capture_job.Job) -> list[str]:
    return sorted(path.name for path in (job.folder / CHUNKS).glob("0*.npz"))


def restart() -> None:
    """Blender ends and is started again."""
    addon.unregister()
    addon.register()


def tick_until(condition: Callable[[], object], what: str) -> None:
    """What the timer does in a window."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        capture_job._step()
        time.sleep(0.01)


def kill_worker() -> None:
    only_job()._process.kill()


def meanwhile(patch: Patch, act: Callable[[], object]) -> None:
    """Do something once the next capture has finished its first chunk."""
    drain = capture_job.drain

    def drain_and_act() -> None:
        tick_until(lambda: chunks(only_job()), "the first chunk")
        act()
        drain()

    patch.setattr(capture_job, "drain", drain_and_act)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of this process and of those it starts cannot become longer than so many bytes: as a full disk, for all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- the disk ------------------------------------------------------------------------------------------------


def test_a_disk_without_room_for_a_job(scene: Any) -> None:
    before = file_state()
    with room_for(0):
        assert "Cannot write" in told(bpy.ops.hands.capture)
    assert capture_job.jobs() == ()
    assert [path.name for path in capture_job.jobs_folder().iterdir() if path.name != "sessions"] == []
    assert [line for line in differences(before, file_state()) if "two_hands.uid" not in line] == []


@pytest.mark.parametrize(("size", "count"), [(8_000, 0), (85_000, 3)], ids=["a chunk", "the result"])
def test_a_disk_that_is_full_while_a_capture_runs(scene: Any, digest: str, size: int, count: int) -> None:
    with room_for(size):
        assert "File too large; choose another folder" in told(bpy.ops.hands.capture)
    job = only_job()
    assert job.phase == "failed"
    assert not (job.folder / RESULT).exists()
    kept = chunks(job)
    assert len(kept) == count
    restart()
    assert chunks(only_job()) == kept
    assert bpy.ops.hands.resume_capture(job=job.name) == {"FINISHED"}
    assert take_digest(arrived()) == digest


def test_jobs_that_have_no_folder_to_lie_in(scene: Any) -> None:
    shutil.rmtree(capture_job.jobs_folder())
    (log.user_folder() / "jobs").write_text("no folder", "utf-8")
    assert "jobs: File exists; make room" in told(bpy.ops.hands.capture)
    restart()
    assert capture_job.jobs() == ()
    (log.user_folder() / "jobs").unlink()


def test_a_takes_folder_that_cannot_be_written(scene: Any, digest: str, tmp_path: Path) -> None:
    (tmp_path / "hands").write_text("no folder", "utf-8")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert "choose another folder" in told(bpy.ops.hands.capture)
    job = only_job()
    assert job.phase == "finished"
    assert not list(tmp_path.glob("*.npz"))
    restart()
    assert only_job().phase == "finished"
    (tmp_path / "hands").unlink()
    assert bpy.ops.hands.add_captured(job=job.name) == {"FINISHED"}
    assert take_digest(arrived()) == digest
    assert capture_job.jobs() == ()
    assert [path.name for path in (tmp_path / "hands").iterdir()] == ["two_hands.npz"]


def test_a_takes_folder_on_a_full_disk(scene: Any, digest: str, tmp_path: Path, monkeypatch: Patch) -> None:
    """Elsewhere than the jobs, so that the take is copied and cannot only be renamed."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))

    def is_elsewhere(self: Path, target: Path) -> None:
        if self.name == RESULT:
            raise OSError(18, "Invalid cross-device link")
        replace(self, target)

    replace = Path.replace
    monkeypatch.setattr(Path, "replace", is_elsewhere)
    deliver = capture_job._move_result

    def without_room(job: capture_job.Job, folder: Path) -> Path:
        with room_for(4_000):
            return deliver(job, folder)

    with monkeypatch.context() as patch:
        patch.setattr(capture_job, "_move_result", without_room)
        assert "File too large; choose another folder" in told(bpy.ops.hands.capture)
    assert list((tmp_path / "hands").iterdir()) == []
    job = only_job()
    assert (job.folder / RESULT).is_file()
    assert bpy.ops.hands.add_captured(job=job.name) == {"FINISHED"}
    assert take_digest(arrived()) == digest
    assert not job.folder.exists()


def test_a_clean_take_that_finds_no_room(tmp_path: Path) -> None:
    raw = write_take(tmp_path / "raw.npz")
    add_hands(raw)
    before, whole = file_state(), raw.read_bytes()
    (tmp_path / "clean.npz").write_bytes(b"an earlier one")
    clean_take = bpy.ops.hands.save_clean_take
    clean_job.clean_take_of(takes.active_take(bpy.context.scene))  # in a process that began with room
    with room_for(2_000):
        assert "File too large" in told(clean_take, filepath=str(tmp_path / "clean.npz"))
    assert (tmp_path / "clean.npz").read_bytes() == b"an earlier one"
    assert sorted(path.name for path in tmp_path.glob("*.npz*")) == ["clean.npz", "raw.npz"]
    assert not list(tmp_path.glob(".*.npz*"))
    assert raw.read_bytes() == whole
    assert not differences(before, file_state())
    assert clean_take(filepath=str(tmp_path / "clean.npz")) == {"FINISHED"}
    assert load_take(tmp_path / "clean.npz").meta["history"]


# --- footage and jobs that go away ---------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Real hands as numbered pictures: those are opened one by one, a video only once."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    video = cv2.VideoCapture(str(DEMO))
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), video.read()[1])
    return folder


def test_footage_that_is_deleted_while_it_is_captured(pictures: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    scene = load_footage(pictures)
    scene.two_hands.capture.use_hands = False
    settings = operators.make_settings(scene)
    whole = take_digest(capture_take(operators.footage_path(scene.two_hands.footage.clip), settings).take)
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: pictures.rename(tmp_path / "gone"))
        sentence = told(bpy.ops.hands.capture)
    assert str(pictures) in sentence
    job = only_job()
    assert job.phase == "failed"
    assert len(chunks(job)) == 1
    assert "two_hands" not in sentence
    assert str(pictures) in told(bpy.ops.hands.resume_capture, job=job.name)
    assert len(chunks(job)) == 1
    (tmp_path / "gone").rename(pictures)
    assert bpy.ops.hands.resume_capture(job=job.name) == {"FINISHED"}
    assert take_digest(arrived()) == whole


def test_a_job_folder_that_is_removed_while_it_runs(scene: Any, digest: str, monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: shutil.rmtree(capture_job.jobs_folder()))
        assert "was removed while it ran, capture it again" in told(bpy.ops.hands.capture)
    assert capture_job.jobs() == ()
    assert bpy.ops.hands.capture() == {"FINISHED"}
    assert take_digest(arrived()) == digest


def test_a_file_that_is_saved_closed_and_opened_while_a_capture_runs(
    scene: Any, digest: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    path = tmp_path / "shot.blend"
    with monkeypatch.context() as patch:
        patch.setattr(capture_job, "drain", lambda: None)
        bpy.ops.hands.capture()
    tick_until(lambda: chunks(only_job()), "the first chunk")
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert only_job().is_active
    tick_until(lambda: only_job().phase == "finished", "the end")
    for _ in range(5):
        capture_job._state.looked = 0.0
        capture_job._step()
    assert not len(bpy.context.scene.two_hands.takes)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    tick_until(lambda: not capture_job.jobs(), "the take's arrival")
    assert take_digest(arrived()) == digest


# --- takes ---------------------------------------------------------------------------------------------------


def as_newer_version(path: Path) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays["meta"]))
    arrays["meta"] = np.array(json.dumps({**meta, "schema": "two-hand-take/2"}))
    np.savez(path, **arrays)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (as_newer_version, "update this program"),
        (cut_off, "capture the clip again"),
        (emptied, "capture the clip again"),
    ],
)
def test_a_take_that_cannot_be_read(spoil: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    """It is refused before anything changes; a row that has it already keeps its hands, keys and corrections."""
    good = write_take(tmp_path / "good.npz")
    add_hands(good)
    bad = write_take(tmp_path / "bad.npz")
    spoil(bad)
    whole, before = bad.read_bytes(), file_state()
    for call in (bpy.ops.hands.add_take, bpy.ops.hands.relink_take):
        sentence = told(call, filepath=str(bad))
        assert words in sentence
        assert str(bad) in sentence
    spoil(good)
    for call, values in (
        (bpy.ops.hands.key_hands, {}),
        (bpy.ops.hands.edit_take, {"kind": "drop"}),
        (bpy.ops.hands.save_clean_take, {"filepath": str(tmp_path / "clean.npz")}),
    ):
        assert words in told(call, **values)
    assert not differences(before, file_state())
    assert bad.read_bytes() == whole
    assert not (tmp_path / "clean.npz").exists()


def test_a_take_that_is_gone_can_be_relinked_and_loses_nothing(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take.npz")
    add_hands(path)
    before = file_state()
    path.rename(tmp_path / "moved.npz")
    for call in (bpy.ops.hands.key_hands, bpy.ops.hands.edit_take):
        assert "relink it" in told(call)
    assert not differences(before, file_state())
    assert bpy.ops.hands.relink_take(filepath=str(tmp_path / "moved.npz")) == {"FINISHED"}
    assert bpy.ops.hands.key_hands() == {"FINISHED"}


# --- runtimes ------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch: Patch, tmp_path: Path) -> Path:
    """The program that runs workers instead of Blender's Python; it is not there yet."""
    folders = gpu_runtime.own_python()[1]
    monkeypatch.setattr(gpu_runtime, "own_python", lambda: (str(tmp_path / "python"), folders))
    return tmp_path / "python"


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0, "set the runtime up again"),
        ("#!/bin/sh\nexit 0\n", 0o644, "Permission denied; set the runtime up again"),
        ("#!/no/such/program\n", 0o755, "set the runtime up again"),
        ("no program\n", 0o755, "set the runtime up again"),
        ("#!/bin/sh\necho broken >&2\nexit 3\n", 0o755, "(code 3), see its log and resume"),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "(signal 11), see its log and resume"),
    ],
    ids=["missing", "no right to run it", "no interpreter", "no program", "ends at once", "crashes at once"],
)
def test_a_worker_that_cannot_start(text: str | None, mode: int, words: str, scene: Any, runtime: Path) -> None:
    if text is not None:
        runtime.write_text(text, "utf-8")
        runtime.chmod(mode)
    assert words in told(bpy.ops.hands.capture)
    job = only_job()
    assert job.phase == "failed"
    assert not job.is_active
    assert words in told(bpy.ops.hands.resume_capture, job=job.name)
    restart()
    assert (only_job().name, only_job().phase) == (job.name, "stopped")


def test_a_runtime_that_breaks_while_it_captures_and_is_repaired(
    scene: Any, digest: str, runtime: Path, monkeypatch: Patch
) -> None:
    """The log that is named says what the worker said."""
    good = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    runtime.write_text(good, "utf-8")
    runtime.chmod(0o755)
    with monkeypatch.context() as patch:
        meanwhile(patch, kill_worker)
        assert "(signal 9), resume it" in told(bpy.ops.hands.capture)
    job, kept = only_job(), chunks(only_job())
    assert kept
    runtime.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n", "utf-8")
    assert "(code 127)" in told(bpy.ops.hands.resume_capture, job=job.name)
    assert "no such library" in job.log.read_text("utf-8")
    assert chunks(job) == kept
    runtime.write_text(good, "utf-8")
    assert bpy.ops.hands.resume_capture(job=job.name) == {"FINISHED"}
    assert take_digest(arrived()) == digest


@pytest.fixture
def chosen(monkeypatch: Patch) -> SimpleNamespace:
    """The add-on's preferences, which are not there where it was not installed."""
    chosen = SimpleNamespace(
        runtime_source="SETUP", runtime_python="", checkpoint="weights.pth", hands_folder="", takes_folder=""
    )
    for where in (capture_job, operators):
        monkeypatch.setattr(where, "preferences", lambda _: chosen)
    return chosen


def test_a_runtime_that_breaks_before_its_turn(scene: Any, chosen: SimpleNamespace, monkeypatch: Patch) -> None:
    """Poll has seen a good runtime; when the capture's turn comes it is gone, and comes back."""
    scene.two_hands.capture.estimator = "dir"
    assert "set it up in the add-on's preferences" in refusal(bpy.ops.hands.capture)
    assert capture_job.jobs() == ()
    with monkeypatch.context() as patch:
        patch.setattr(gpu_runtime, "missing_for_dir", lambda _: "")
        sentence = told(bpy.ops.hands.capture)
    assert "set it up in the add-on's preferences" in sentence
    assert only_job().phase == "failed"
    chosen.runtime_source = gpu_runtime.OWN
    assert "Choose the Python" in told(bpy.ops.hands.resume_capture, job=only_job().name)
    assert only_job().request.settings.checkpoint.endswith("weights.pth")


def refusal(call: Callable[..., object]) -> str:
    """Why a button is grey."""
    with pytest.raises(RuntimeError) as error:
        call()
    return str(error.value)


# A Blender of its own, whose folder of captures is a small disk that gets more room later.
SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
import bpy
import addon
from addon import capture_job, footage_view, takes
from dir_core.take import take_digest

footage, last, size = sys.argv[1:]
addon.register()
disk = capture_job.jobs_folder()
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
scene = bpy.context.scene
scene.render.fps = 30
clip = footage_view.load_footage(Path(footage))
footage_view.set_render_size(scene, tuple(clip.size))
footage_view.use_footage(scene, clip)
capture = scene.two_hands.capture
capture.use_range, capture.first, capture.last, capture.use_hands = True, 1, int(last), False
try:
    bpy.ops.hands.capture()
except RuntimeError as error:
    print("told:", error, flush=True)
kept = sum(len(list((job.folder / "chunks").glob("0*.npz"))) for job in capture_job.jobs())
print("kept:", kept, flush=True)
subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
jobs = capture_job.jobs()
if jobs:
    bpy.ops.hands.resume_capture(job=jobs[0].name)
else:
    bpy.ops.hands.capture()
print("digest:", take_digest(takes.load_raw(takes.active_take(scene))), flush=True)
addon.unregister()
os._exit(0)
"""


@pytest.mark.parametrize(
    ("size", "kept"),
    [(4, 0), (8, 0), (16, 0), (64, 0), (320, 3)],
    ids=["the job", "the start", "events", "a chunk", "the result"],
)
def test_a_real_disk_that_is_full(digest: str, size: int, kept: int, tmp_path: Path) -> None:
    """Where a small disk can be had; unlike a limit for files it also takes the room for events and logs."""
    apart = ["unshare", "--mount", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no disk to a test")
    words = [*apart, sys.executable, "-c", SMALL_DISK, str(DEMO), str(FRAMES), str(size)]
    settings = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path)}
    run = subprocess.run(words, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=PATIENCE, check=False)
    said = dict(line.split(": ", 1) for line in run.stdout.splitlines() if ": " in line)
    assert run.returncode == 0, run.stderr
    assert "No space left on device" in said["told"]
    assert int(said["kept"]) == kept
    assert said["digest"] == digest
