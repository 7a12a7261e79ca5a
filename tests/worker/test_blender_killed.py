"""Blender is killed while it captures: no worker is left, half a file is never a take, and the capture goes on."""

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dir_core.capture import capture_take
from dir_core.take import load_take, take_digest
from dir_core.worker.protocol import RESULT, Event, EventReader, is_running, read_request
from tests.worker.test_worker import processes_of

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"
FRAMES = 70
PATIENCE = 120.0
"""Seconds after which the test has failed; a busy machine takes long to start Blender."""

ORPHAN_TIME = 10.0
"""Seconds that a worker may outlive its Blender."""

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs Blender as a module"),
    pytest.mark.skipif(sys.platform == "win32", reason="kills by POSIX signals"),
]

# Opens the file that asks, and captures, resumes or adds, whatever there is to do; says what take came of it.
BLENDER = """
import os, sys
import bpy
import addon
from addon import capture_job, footage_view, takes
from dir_core.take import take_digest

blend, footage, last = sys.argv[1:]
addon.register()
if os.path.exists(blend):
    bpy.ops.wm.open_mainfile(filepath=blend)
    scene = bpy.context.scene
else:
    scene = bpy.context.scene
    scene.render.fps = 30
    footage_view.use_footage(scene, footage_view.load_footage(capture_job.Path(footage)))
    capture = scene.two_hands.capture
    capture.use_range, capture.first, capture.last, capture.use_hands = True, 1, int(last), False
    bpy.ops.wm.save_as_mainfile(filepath=blend)
jobs = capture_job.jobs()
phase = jobs[0].phase if jobs else "none"
print(phase, flush=True)
if not jobs:
    bpy.ops.hands.capture()
elif phase == "finished":
    bpy.ops.hands.add_captured(job=jobs[0].name)
else:
    bpy.ops.hands.resume_capture(job=jobs[0].name)
assert not capture_job.jobs()
print(take_digest(takes.load_raw(takes.active_take(scene))), flush=True)
addon.unregister()
os._exit(0)
"""


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the worker told that it is in a stage and that so many frames are done."""

    stage: str
    frame: int
    delay: float

    def has_come(self, event: Event) -> bool:
        return event.stage == self.stage and event.frame >= self.frame


def random_moments() -> list[Moment]:
    """One in each part of a capture's life, in their order: what is finished is not done again."""
    rng = np.random.default_rng(11)
    length = {"started": 0.5, "preparing": 0.3, "tracking": 0.1, "fitting": 0.1, "ended": 0.1}
    return [
        Moment(stage, int(rng.integers(FRAMES)) if stage == "tracking" else 0, rng.uniform(0, longest))
        for stage, longest in length.items()
    ]


class Profile:
    """The user's folders of all the Blenders that are killed, and the file that asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blend = folder / "shot.blend"

    def start(self) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", BLENDER, str(self.blend), str(DEMO), str(FRAMES)]
        settings = {**os.environ, "BLENDER_USER_RESOURCES": str(self.folder / "user")}
        return subprocess.Popen(words, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)

    def jobs(self) -> list[Path]:
        return [path.parent for path in self.folder.glob("user/**/jobs/*/request.json")]

    def takes(self) -> list[Path]:
        return list((self.folder / "hands").glob("*"))


def kill_at(moment: Moment, blender: "subprocess.Popen[str]", profile: Profile) -> int:
    """Kill -9 once the moment has come, if Blender has not ended by then; gives the worker's process id, 0 without."""
    known = {job: EventReader(job, from_end=True) for job in profile.jobs()}
    worker, end = 0, time.monotonic() + PATIENCE
    while blender.poll() is None:
        events = []
        for job in profile.jobs():
            events += known.setdefault(job, EventReader(job)).read()
        worker = next((event.pid for event in events if event.pid), worker)
        if any(map(moment.has_come, events)):
            time.sleep(moment.delay)
            break
        assert time.monotonic() < end, f"{moment} did not come"
        time.sleep(0.002)
    blender.kill()
    blender.wait()
    return worker


def test_killed_at_five_random_moments(tmp_path: Path) -> None:
    profile, digest, kills = Profile(tmp_path), "", 0
    for moment in random_moments():
        blender = profile.start()
        worker = kill_at(moment, blender, profile)
        kills += blender.returncode == -9
        end = time.monotonic() + ORPHAN_TIME
        while any(map(is_running, profile.jobs())) or (worker and processes_of(SimpleNamespace(pid=worker))):
            assert time.monotonic() < end, "the worker outlived its Blender"
            time.sleep(0.05)
        for job in profile.jobs():
            request = read_request(job)
            digest = digest or take_digest(capture_take(request.footage, request.settings).take)
            if (job / RESULT).exists():
                assert take_digest(load_take(job / RESULT)) == digest
        for path in profile.takes():
            assert take_digest(load_take(path)) == digest
    assert kills >= 4  # Blender may have ended by itself before the last one
    blender = profile.start()
    said, _ = blender.communicate(timeout=PATIENCE)
    assert said.split()[-1] == digest
    assert blender.returncode == 0
    assert not profile.jobs()
    assert all(take_digest(load_take(path)) == digest for path in profile.takes())
