"""Captures inside Blender without a window: started, queued, cancelled, killed, found again, added to their scene."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import bpy
import gpu
import numpy as np
import pytest
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Matrix

import addon
from addon import capture_job, capture_preview, footage_view, log, painter, preferences, takes, ticker
from addon.operators import capture as operators
from dir_core.capture import capture_take
from dir_core.conventions import SIDES
from dir_core.errors import FootageError, OutputError, SettingsError
from dir_core.rotations import from_rotation_vector
from dir_core.take import load_take, save_take, take_digest
from dir_core.worker.protocol import CANCEL, LOCK, PAUSE, Event, JobLock, JobRequest
from tests.takes import make_take

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"
MOVIES = ROOT / "tests" / "data" / "footage"
PATIENCE = 60.0

# Speaks the worker's protocol and does nothing else: a line of events for every word of its orders.
STAND_IN = """
import json, os, signal, sys, time
from dataclasses import asdict
from pathlib import Path
from dir_core.worker.job import EventLog
from dir_core.worker.protocol import Event, JobError, JobLock
folder, orders = Path(sys.argv[1]), sys.argv[2:]
lock = JobLock(folder)
assert lock.acquire()
events = EventLog(folder)
for order in orders:
    if order == "half":
        events.tell(Event(time=time.time(), stage="tracking", frame=43, total=100, frames_per_second=50.0,
                          seconds_left=1.1, warnings=("It is dark.",)))
    elif order == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif order == "fail":
        events.end(Event(time=time.time(), stage="ended", error=JobError("footage", "It is gone.", "Put it back.")))
    elif order == "done":
        (folder / "result.npz").write_bytes(b"a take")
        events.end(Event(time=time.time(), stage="ended", done=True))
    elif order == "wait":
        sys.stdin.read()
        sys.exit(131)
    elif order == "obey":
        while not (folder / "cancel").exists():
            time.sleep(0.01)
        sys.exit(130)
    elif order == "hang":
        time.sleep(60)
"""


@pytest.fixture(autouse=True)
def registered(empty_file, monkeypatch, tmp_path) -> Iterator[None]:
    """The add-on with a user folder of its own; whatever a test leaves running is killed."""

    def user_folder(name: str = "") -> Path:
        (tmp_path / "user" / name).mkdir(parents=True, exist_ok=True)
        return tmp_path / "user" / name

    monkeypatch.setattr(log, "user_folder", user_folder)
    monkeypatch.setattr(preferences, "user_folder", user_folder)
    addon.register()
    yield
    workers = [job._process for job in capture_job.jobs() if job._process]
    addon.unregister()
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def scene():
    bpy.context.scene.render.fps = 30
    footage_view.use_footage(bpy.context.scene, footage_view.load_footage(DEMO))
    footage_view.set_render_size(bpy.context.scene, (640, 480))
    return bpy.context.scene


@pytest.fixture
def stand_in(monkeypatch) -> Callable[..., None]:
    """`stand_in("half", "wait")`: workers from now on do that instead of capturing."""

    def order(*orders: str) -> None:
        def start(_python: str, folder: Path, _paths: object) -> "subprocess.Popen[bytes]":
            for flag in (CANCEL, PAUSE):
                (folder / flag).unlink(missing_ok=True)
            command = [sys.executable, "-c", STAND_IN, str(folder), *orders]
            return subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)

        monkeypatch.setattr(capture_job, "start_worker", start)

    return order


def start(scene, **settings) -> capture_job.Job:
    request = JobRequest(str(DEMO), operators.make_settings(scene))
    order = capture_job.order_from(scene, settings.pop("clip", DEMO.name), 1, settings.pop("build", False))
    return capture_job.add_job(scene, request, order)


def tick_until(condition: Callable[[], object], what: str) -> None:
    """What the timer does in a window."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        capture_job._step()
        time.sleep(0.01)


def short(scene, seconds: float) -> None:
    capture = scene.two_hands.capture
    capture.use_range, capture.first, capture.last = True, 1, 1 + round(30 * seconds)


# --- settings ------------------------------------------------------------------------------------------------


def test_the_properties_become_settings(scene):
    capture = scene.two_hands.capture
    scene.two_hands.footage.start = 11
    scene.render.fps = 24
    capture.use_range, capture.first, capture.last, capture.step = True, 35, 58, 3
    capture.mirrored, capture.use_box, capture.box = True, True, (10, 20.04, 300, 200)
    settings = operators.make_settings(scene)
    assert settings.start == pytest.approx(1.0)
    assert 47 / 24 < settings.end < 48 / 24
    assert settings.step == 3
    assert settings.mirrored
    assert settings.box == (10.0, 20.0, 300.0, 200.0)
    assert settings.hand_length == 0.185
    assert settings.focal_length == pytest.approx(320 / np.tan(np.radians(30)))
    assert settings.frame_rate is None
    assert settings.device == "auto"


def test_without_a_range_everything_is_captured(scene):
    settings = operators.make_settings(scene)
    assert (settings.start, settings.end, settings.step, settings.box) == (None, None, 1, None)


def test_numbered_pictures_are_captured_at_their_rate(scene):
    footage_view.use_footage(scene, footage_view.load_footage(MOVIES / "sequence"))
    scene.two_hands.footage.picture_rate = 12.5
    assert operators.make_settings(scene).frame_rate == pytest.approx(12.5)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"use_range": True, "first": 20, "last": 10}, "ends on frame 10, before it begins"),
        ({"use_range": True, "first": -20, "last": 0}, "before the footage begins on frame 1"),
        ({"use_box": True}, "The start box is empty"),
    ],
)
def test_wrong_settings_are_said_at_once_and_start_nothing(scene, values, sentence):
    for name, value in values.items():
        setattr(scene.two_hands.capture, name, value)
    with pytest.raises(RuntimeError, match=sentence):
        bpy.ops.hands.capture()
    assert capture_job.jobs() == ()
    assert sentence in log.last_mistake().sentence


def test_the_button_says_why_it_is_grey(scene):
    assert operators.why_not(bpy.context) == ""
    scene.two_hands.footage.clip = None
    assert operators.why_not(bpy.context) == "Load the footage first"
    with pytest.raises(RuntimeError, match="Load the footage first"):
        bpy.ops.hands.capture()


@pytest.fixture
def chosen(monkeypatch) -> SimpleNamespace:
    """The add-on's preferences, which are not there where it was not installed."""
    values = {"checkpoint": "", "hands_folder": "", "hands_found": "", "runtime_source": "SETUP", "runtime_python": ""}
    chosen = SimpleNamespace(**values)
    monkeypatch.setattr(operators, "preferences", lambda _context: chosen)
    return chosen


def test_the_dir_network_says_what_it_lacks_and_whose_weights_it_takes(scene, chosen, tmp_path):
    scene.two_hands.capture.estimator = "dir"
    assert "set it up in the add-on's preferences" in operators.why_not(bpy.context)
    assert operators.weights_in_use(bpy.context)[0].startswith("No weights are chosen.")
    chosen.checkpoint = str(tmp_path / "mine.safetensors")
    assert operators.weights_in_use(bpy.context) == (
        "Weights: mine.safetensors.",
        "Nobody has looked into this file yet.",
    )
    chosen.hands_folder = str(tmp_path)
    scene.two_hands.capture.device = "cpu"
    settings = operators.make_settings(scene)
    assert (settings.estimator, settings.device) == ("dir", "cpu")
    assert (settings.checkpoint, settings.hand_model) == (chosen.checkpoint, None)


def test_hands_of_the_users_own_are_fitted_and_named(scene, chosen, tmp_path):
    assert operators.make_settings(scene).hand_model is None
    assert "commercial work included" in operators.weights_in_use(bpy.context)[-1]
    chosen.hands_folder, chosen.hands_found = str(tmp_path), "MANO, research use only."
    assert operators.make_settings(scene).hand_model == str(tmp_path)
    assert operators.weights_in_use(bpy.context)[-1] == "Hands: MANO, research use only."


def test_footage_that_has_gone_is_said_before_anything_starts(scene):
    scene.two_hands.footage.clip.filepath = str(MOVIES / "gone.mp4")
    with pytest.raises(FootageError, match="relink it"):
        operators.footage_path(scene.two_hands.footage.clip)


def test_presets_keep_properties_that_exist(scene):
    for value in operators.HANDS_OT_capture_preset_add.preset_values:
        assert scene.path_resolve(value.removeprefix("bpy.context.scene.")) is not None


# --- a worker's life -----------------------------------------------------------------------------------------


def test_clips_are_captured_one_after_the_other(scene, stand_in):
    stand_in("half", "obey")
    first, second = start(scene), start(scene)
    tick_until(lambda: first.progress, "the first capture")
    assert (first.phase, second.phase) == ("running", "waiting")
    assert first.sentence() == "43 / 100 frames, 50 fps, 1 s left"
    assert first.factor == 0.43
    assert first.warnings == ("It is dark.",)
    capture_job.cancel_job(first)
    tick_until(lambda: second.progress, "the second capture")
    assert first.phase == "cancelled"
    assert first.sentence() == "Cancelled at 43%"
    capture_job.cancel_job(second)
    tick_until(lambda: second.phase == "cancelled", "the cancelling")


def test_a_capture_that_waits_can_be_cancelled(scene, stand_in):
    stand_in("obey")
    first, second = start(scene), start(scene)
    tick_until(lambda: first.is_active, "the first capture")
    capture_job.cancel_job(second)
    assert capture_job.jobs() == (first,)
    assert not second.folder.exists()


def test_pause_and_resume_are_told_to_the_worker(scene, stand_in):
    stand_in("half", "wait")
    job = start(scene)
    tick_until(lambda: job.progress, "the start")
    bpy.ops.hands.pause_capture(job=job.name)
    assert (job.folder / PAUSE).exists()
    assert job.sentence() == "Paused at 43%"
    bpy.ops.hands.resume_capture.poll()
    capture_job.resume_job(job)
    assert not (job.folder / PAUSE).exists()
    assert job.phase == "running"


@pytest.mark.parametrize(
    ("orders", "code"), [(("hang",), -signal.SIGTERM), (("deaf", "half", "hang"), -signal.SIGKILL)]
)
def test_a_worker_that_does_not_listen_is_ended(scene, stand_in, monkeypatch, orders, code):
    monkeypatch.setattr(capture_job, "_PATIENCE", 0.3)
    stand_in(*orders)
    job = start(scene)
    tick_until(lambda: (job.folder / LOCK).exists() and (job.progress or "half" not in orders), "the start")
    worker = job._process
    capture_job.cancel_job(job)
    assert job.sentence() == "Cancelling ..."
    tick_until(lambda: job.phase == "cancelled", "the end")
    assert worker.returncode == code


def test_a_mistake_is_a_sentence_with_a_log_and_can_be_resumed(scene, stand_in):
    stand_in("half", "fail")
    job = start(scene)
    tick_until(lambda: job.phase == "failed", "the mistake")
    assert job.error.sentence == "It is gone."
    assert log.last_mistake() == log.Mistake("It is gone. Put it back.", job.log)
    stand_in("obey")
    capture_job.resume_job(job)
    tick_until(lambda: job.is_active, "going on")
    assert job.error is None


def test_a_python_that_cannot_be_started_is_a_sentence(scene, monkeypatch, tmp_path):
    monkeypatch.setattr(capture_job.gpu_runtime, "own_python", lambda: (str(tmp_path / "python"), ()))
    job = start(scene)
    tick_until(lambda: job.phase == "failed", "the mistake")
    assert "set the runtime up again" in job.error.sentence


def test_a_killed_worker_stops_and_nothing_else(scene, stand_in):
    stand_in("half", "hang")
    job = start(scene)
    tick_until(lambda: job.progress, "the start")
    job._process.kill()
    tick_until(lambda: job.phase == "stopped", "the stop")
    assert job.sentence() == "Stopped at 43%"
    assert "signal 9" in log.last_mistake().sentence
    assert job.folder.is_dir()


def test_discarding_asks_for_a_worker_that_has_ended(scene, stand_in):
    stand_in("obey")
    job = start(scene)
    tick_until(lambda: job.is_active, "the start")
    with pytest.raises(OutputError, match="cancel it first"):
        capture_job.discard_job(job)
    capture_job.cancel_job(job)
    tick_until(lambda: job.phase == "cancelled", "the end")
    assert bpy.ops.hands.discard_capture(job=job.name) == {"FINISHED"}
    assert capture_job.jobs() == ()
    assert not job.folder.exists()


# --- other sessions ------------------------------------------------------------------------------------------


def restart() -> None:
    """Blender ends and is started again."""
    addon.unregister()
    addon.register()


def test_a_blender_that_ends_takes_its_worker_along_and_finds_the_job_again(scene, stand_in):
    stand_in("half", "wait")
    job = start(scene)
    tick_until(lambda: job.progress, "the start")
    worker = job._process
    restart()
    assert worker.wait(PATIENCE) == 131
    (found,) = capture_job.jobs()
    capture_job._look_at_others()  # the worker may have ended a moment after the restart
    assert (found.name, found.phase, found.order.clip) == (job.name, "stopped", DEMO.name)
    assert found.sentence() == "Stopped at 43%"
    stand_in("obey")
    capture_job.resume_job(found)
    tick_until(lambda: found.is_active, "going on")


def test_a_job_that_waited_is_found_again_and_does_not_start_by_itself(scene):
    job = start(scene)
    restart()
    (found,) = capture_job.jobs()
    assert (found.name, found.phase) == (job.name, "stopped")
    assert not ticker.is_followed(capture_job._step)


def test_what_another_blender_works_on_is_left_to_it(scene):
    job = start(scene)
    capture_job._write_order(job, session="another")
    other = JobLock(capture_job.jobs_folder() / "sessions" / "another")
    (capture_job.jobs_folder() / "sessions" / "another").mkdir()
    assert other.acquire()
    restart()
    (found,) = capture_job.jobs()
    assert found.phase == "foreign"
    assert found.sentence() == "Another Blender captures it, 0%"
    for act in (capture_job.resume_job, capture_job.discard_job):
        with pytest.raises(OutputError):
            act(found)
    other.release()
    capture_job._look_at_others()
    assert found.phase == "stopped"


def test_a_job_that_another_blender_has_finished_leaves_the_list(scene):
    job = start(scene)
    job.phase = "foreign"
    capture_job.shutil.rmtree(job.folder)
    capture_job._look_at_others()
    assert capture_job.jobs() == ()


def test_a_damaged_note_loses_who_asked_but_not_the_capture(scene):
    job = start(scene)
    (job.folder / capture_job.ORDER).write_text("{", "utf-8")
    restart()
    (found,) = capture_job.jobs()
    assert found.order == capture_job.Order(DEMO.name)


def test_nothing_of_the_addon_is_left_when_it_goes(scene, stand_in):
    stand_in("wait")
    job = start(scene)
    tick_until(lambda: job.is_active, "the start")
    worker = job._process
    handlers = len(bpy.app.handlers.load_post)
    restart()
    assert len(bpy.app.handlers.load_post) == handlers
    assert worker.wait(PATIENCE) == 131
    addon.unregister()
    assert capture_job._after_loading not in bpy.app.handlers.load_post
    assert not ticker.is_followed(capture_job._step)
    addon.register()


# --- the whole way -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the take that a capture in one piece gives."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon.register()
    scene = bpy.context.scene
    scene.render.fps = 30
    footage_view.use_footage(scene, footage_view.load_footage(DEMO))
    short(scene, 2.4)
    settings = operators.make_settings(scene)
    addon.unregister()
    return take_digest(capture_take(DEMO, settings).take)


def test_a_capture_from_the_button_to_the_keys(scene, tmp_path):
    short(scene, 1.0)
    scene.two_hands.footage.start = 1
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert bpy.ops.hands.capture() == {"FINISHED"}
    assert capture_job.jobs() == ()
    item = takes.active_take(scene)
    assert takes.raw_path(item) == tmp_path / "hands" / "two_hands.npz"
    assert item.frames == len(load_take(takes.raw_path(item))) == 31
    assert {f"Hand {side.title()}" for side in SIDES} <= {item.name for item in scene.objects}
    assert "Captured 31 frames of two_hands.mp4" in capture_job.last_report()
    assert "left hand seen in 100%" in capture_job.last_report()
    assert [path.name for path in capture_job.jobs_folder().iterdir()] == ["sessions"]


def test_a_killed_capture_goes_on_to_the_same_take(scene, digest):
    short(scene, 2.4)
    job = start(scene)
    tick_until(lambda: job.progress and job.progress.frame >= 32, "the first part")
    os.kill(job._process.pid, signal.SIGKILL)
    tick_until(lambda: job.phase == "stopped", "the stop")
    restart()
    (found,) = capture_job.jobs()
    assert found.factor >= 32 / 73
    assert bpy.ops.hands.resume_capture(job=found.name) == {"FINISHED"}
    assert capture_job.jobs() == ()
    assert take_digest(takes.load_raw(takes.active_take(scene))) == digest


def finished(scene, models, **order) -> capture_job.Job:
    """A job whose worker has ended with a take."""
    job = start(scene, **order)
    take = make_take(models, count=5)
    save_take(take, job.folder / "result.npz")
    job.phase = "finished"
    return job


def test_a_take_waits_for_the_file_that_asked(scene, models, tmp_path):
    path = tmp_path / "shot.blend"
    job = finished(scene, models)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    capture_job._deliver_finished()
    assert capture_job.jobs() == (job,)
    assert not len(bpy.context.scene.two_hands.takes)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    capture_job._deliver_finished()
    assert capture_job.jobs() == ()
    assert takes.raw_path(takes.active_take(bpy.context.scene)).parent == tmp_path / "hands"


def test_a_take_can_be_added_to_another_scene(scene, models, tmp_path):
    job = finished(scene, models)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert bpy.ops.hands.add_captured(job=job.name) == {"FINISHED"}
    assert capture_job.jobs() == ()
    assert takes.raw_path(takes.active_take(bpy.context.scene)).is_file()


def test_undo_does_not_lose_the_scene_that_asked(scene, models):
    bpy.ops.ed.undo_push(message="before")
    job = finished(scene, models)
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert bpy.context.scene.two_hands.uid == ""
    assert capture_job.scene_of(job) == bpy.context.scene


def test_a_copied_scene_does_not_get_the_take_of_its_original(scene, models):
    job = finished(scene, models)
    copied = scene.copy()
    assert copied.two_hands.uid == scene.two_hands.uid
    job._scene_session = 0  # as after opening the file again
    assert capture_job.scene_of(job) == scene
    assert capture_job.order_from(copied, "clip", 1, True).scene_uid != job.order.scene_uid


def test_a_take_that_cannot_be_kept_stays_with_its_job(scene, models, monkeypatch, tmp_path):
    job = finished(scene, models)
    (tmp_path / "file").write_text("no folder", "utf-8")
    monkeypatch.setattr(capture_job, "takes_folder", lambda _context: tmp_path / "file")
    capture_job._deliver_finished()
    assert capture_job.jobs() == (job,)
    assert (job.folder / "result.npz").is_file()
    assert "choose another folder" in log.last_mistake().sentence


def test_a_take_that_cannot_be_added_is_not_lost(scene, models, tmp_path):
    job = finished(scene, models)
    (job.folder / "result.npz").write_bytes(b"no take")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    capture_job._deliver_finished()
    assert capture_job.jobs() == (job,)
    restart()
    (found,) = capture_job.jobs()
    assert found.phase == "finished"
    assert Path(found.order.take).read_bytes() == b"no take"


# --- the box, the preview, the log ---------------------------------------------------------------------------


def camera_view(scene, *, zoom: float, shift: tuple[float, float]) -> tuple[SimpleNamespace, SimpleNamespace]:
    """A region of 900 x 500 pixels and a view through the footage's camera, zoomed and moved."""
    camera = footage_view.camera_of(scene)
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    lens = camera.calc_matrix_camera(graph, x=900, y=500)
    window = Matrix.Translation((*shift, 0.0)) @ Matrix.Diagonal((zoom, zoom, 1.0, 1.0)) @ lens
    view = SimpleNamespace(perspective_matrix=window @ camera.matrix_world.inverted())
    return SimpleNamespace(width=900, height=500), SimpleNamespace(region_3d=view)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("zoom", "shift"), [(1.0, (0.0, 0.0)), (0.4, (0.3, -0.2)), (2.5, (-0.5, 0.4))])
def test_a_drawn_box_lies_where_the_footage_is_seen(scene, zoom, shift, mirrored):
    region, space = camera_view(scene, zoom=zoom, shift=shift)
    scene.two_hands.capture.mirrored = mirrored
    camera = footage_view.camera_of(scene)
    focal = footage_view.camera_matrix_of(scene)[0][0, 0]
    width, height = scene.two_hands.footage.clip.size

    def seen(x: float, y: float) -> tuple[float, float]:
        across = width - x if mirrored else x  # the camera sees the real hands, the file their mirror image
        ray = ((across - width / 2) / focal, (height / 2 - y) / focal, -1.0)
        return tuple(
            location_3d_to_region_2d(
                region, space.region_3d, camera.matrix_world @ Matrix.Translation(ray).to_translation()
            )
        )

    box = operators.box_from_drag(scene, region, space, seen(400, 350), seen(100, 50))
    assert box == pytest.approx((100, 50, 300, 300), abs=0.02)
    scene.two_hands.capture.box = box
    corners = operators.box_in_region(scene, region, space)
    expected = sorted([seen(100, 50), seen(400, 350)])
    assert np.allclose(sorted(corners), expected, atol=0.05)


def test_a_box_beside_the_footage_is_refused_and_one_over_its_edge_is_cut(scene):
    region, space = camera_view(scene, zoom=0.3, shift=(0.0, 0.0))
    left, bottom, right, top = operators.frame_in_region(scene, region, space)
    with pytest.raises(SettingsError, match="beside the footage"):
        operators.box_from_drag(scene, region, space, (0, 0), (left - 5, bottom))
    box = operators.box_from_drag(scene, region, space, (left - 50, top + 50), (right + 50, bottom - 50))
    assert box == pytest.approx((0, 0, 640, 480))


def test_the_preview_poses_hands_as_the_hand_model_does(models):
    turn = np.random.default_rng(3)
    for side in SIDES:
        rotation = from_rotation_vector(turn.normal(0.0, 0.4, (1, 16, 3)))
        wrist = np.array([[0.1, -0.05, 0.5]])
        skin = capture_preview.make_skin(models[side])
        points, normals = capture_preview.pose_skin(skin, rotation[0], wrist[0], 1.1)
        assert np.abs(points - models[side].pose(rotation, wrist, None, 1.1).vertices[0]).max() < 1e-6
        corners = points[skin.faces].astype(np.float64)
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        agree = np.einsum("fi,fi->f", across, normals[skin.faces].mean(axis=1)) > 0
        assert agree.mean() > 0.98


def test_the_preview_moves_steadily_between_parts():
    pace, shown, now = capture_preview.Pace(), [], 0.0
    for tick in range(200):
        if tick % 12 == 0:  # 32 rows at once, every 0.6 s
            pace.add(32, now)
        now += 0.05
        shown.append(pace.move(0.05))
    steps = np.diff(shown)[40:]
    assert steps.min() >= 2
    assert steps.max() <= 4
    assert shown[-1] >= 32 * 16


def test_the_preview_ends_at_the_last_row_and_can_skip():
    pace = capture_preview.Pace()
    pace.add(10, 0.0)
    assert pace.move(100.0) == 9
    pace.skip(10)
    assert pace.rows == 0
    pace.add(10, 1.0)
    assert pace.move(0.01) == 0


def test_the_preview_stands_in_front_of_the_footage_camera(scene):
    seen = capture_preview._camera_axes(scene) @ Matrix.Translation((0.1, 0.2, 0.5)).to_translation()
    camera = footage_view.camera_of(scene)
    local = camera.matrix_world.inverted() @ seen
    assert tuple(local) == pytest.approx((0.1, -0.2, -0.5), abs=1e-6)
    scene.two_hands.footage.camera = None
    assert tuple(capture_preview._camera_axes(scene) @ Matrix.Translation((0.1, 0.2, 0.5)).to_translation()) == (
        pytest.approx((0.1, 0.5, -0.2), abs=1e-6)
    )


def test_the_preview_is_drawn_with_the_colours_of_the_sides(scene, models, monkeypatch):
    """Seen from the footage's camera: the left hand, at its right, bluish; the right one reddish; nothing elsewhere."""
    if hasattr(gpu, "init"):
        gpu.init()
    else:
        scene.render.engine, scene.camera = "BLENDER_WORKBENCH", footage_view.camera_of(scene)
        bpy.ops.render.render()
    try:
        screen = gpu.types.GPUOffScreen(160, 120)
    except (RuntimeError, SystemError) as error:
        pytest.skip(f"nothing can be drawn here: {error}")
    capture_preview.prepare()
    flat = np.tile([1.0, 0.0, 0.0, 0.0], (16, 1))
    meshes = {}
    for side, across in (("left", 0.15), ("right", -0.15)):
        points, normals = capture_preview.pose_skin(capture_preview._skins[side], flat, np.array([across, 0, 0.8]), 1.0)
        meshes[side] = points, capture_preview.shade(normals, capture_preview._COLOURS[side])
    show = SimpleNamespace(job=start(scene), meshes=meshes, batches={})
    monkeypatch.setattr(capture_preview, "_show", show)
    camera = footage_view.camera_of(scene)
    lens = camera.calc_matrix_camera(bpy.context.evaluated_depsgraph_get(), x=160, y=120)

    def draw() -> np.ndarray:
        with screen.bind():
            buffer = gpu.state.active_framebuffer_get()
            buffer.clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
            with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
                gpu.matrix.load_projection_matrix(lens)
                gpu.matrix.load_matrix(camera.matrix_world.inverted())
                capture_preview._draw()
            return np.array(buffer.read_color(0, 0, 160, 120, 4, 0, "FLOAT").to_list())

    try:
        picture = draw()
        scene.two_hands.capture.use_preview = False
        assert not draw().any()
    finally:
        screen.free()
    drawn = picture[..., 3] > 0
    assert 0.02 < drawn.mean() < 0.3
    red, blue = picture[:, :80][drawn[:, :80]], picture[:, 80:][drawn[:, 80:]]
    assert (red[:, 0] > red[:, 2]).all()
    assert (blue[:, 2] > blue[:, 0]).all()
    assert len(red) == pytest.approx(len(blue), rel=0.1)
    assert red[:, 0].std() > 0.02  # it is lit, not flat


def test_drawing_rests_for_twice_as_long_as_it_takes(monkeypatch):
    """A part at a time; the next one when Blender has drawn for 0.3 s and rested for 0.6 s."""
    now, drawn = [100.0], []
    monkeypatch.setattr(painter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(painter, "_tag", lambda _window, part: drawn.append(part))
    monkeypatch.setattr(painter, "_windows", lambda: [None])
    painter._State.wanted.update({"SIDEBAR": None, "VIEW": None})
    assert painter._paint() == 0.0
    assert drawn == ["SIDEBAR"]
    now[0] += 0.3
    assert painter._paint() == pytest.approx(0.6)
    now[0] += 0.61
    assert painter._paint() == 0.0
    assert drawn == ["SIDEBAR", "VIEW"]
    now[0] += 0.001
    assert painter._paint() is None


def test_the_end_of_a_log_is_shown_also_if_it_is_not_there(tmp_path):
    path = tmp_path / "worker.log"
    assert operators.last_lines(path) == [f"Cannot read {path}: No such file or directory."]
    path.write_text("", "utf-8")
    assert operators.last_lines(path) == ["The log is empty."]
    path.write_bytes(b"\xff\n" + "\n".join(map(str, range(9000))).encode())
    assert operators.last_lines(path, 2) == ["8998", "8999"]


def test_progress_reads_as_a_sentence():
    event = Event(time=0, stage="tracking", frame=412, total=1800, frames_per_second=56.2, seconds_left=200.0)
    job = capture_job.Job(Path("x"), JobRequest("/x"), capture_job.Order("x"), "running", event)
    assert job.sentence() == "412 / 1,800 frames, 56 fps, 3 min 20 s left"
    assert capture_job._duration(7300) == "2 h 1 min"
    assert capture_job._duration(0.2) == "1 s"


def test_the_note_beside_the_request_says_who_asked(scene):
    job = start(scene)
    note = json.loads((job.folder / "job.json").read_text("utf-8"))
    assert note["scene"] == scene.name
    assert note["scene_uid"] == scene.two_hands.uid != ""
    assert note["session"] == capture_job._state.session != ""
