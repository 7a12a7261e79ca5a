"""A capture outlives the file that asked: save, new file, open again; and a Blender that quits leaves no worker.

The second Blender is started from within the first, which looks afterwards whether a process was left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps

ADD_ON = "bl_ext.user_default.two_hand_capture"


def room(name: str) -> Any:
    """A module of the installed add-on."""
    return sys.modules[f"{ADD_ON}.{name}"]


def rows() -> Any:
    """The takes of the scene."""
    return bpy.context.scene.two_hands.takes


def digest_of_row() -> str:
    """Of the only take in the list; equal takes have equal ones."""
    (row,) = rows()
    return str(row.content)


def load_and_capture(gui: Gui) -> Steps:
    """Footage, and a capture of it that has begun."""
    capture_job = room("capture_job")
    with gui.within():
        assert bpy.ops.hands.load_footage("EXEC_DEFAULT", True, filepath=gui.values["footage"]) == {"FINISHED"}
        assert bpy.ops.hands.capture("EXEC_DEFAULT", True) == {"FINISHED"}
    yield lambda: capture_job.active_job() and capture_job.active_job().factor > 0.2, 120


def steps(gui: Gui) -> Steps:
    """A capture and three files; then another Blender that quits too early."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    path = str(gui.folder / "asked.blend")
    yield from load_and_capture(gui)
    capture_job = room("capture_job")
    with gui.within():
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.read_homefile()
    yield from gui.pass_by()  # its window has to be drawn once before it can be asked for anything
    assert capture_job.active_job(), "the capture was over before the file was closed"
    before = capture_job.active_job().progress.frame
    yield from gui.open_sidebar("Hands")
    yield lambda: not capture_job.active_job() or capture_job.active_job().progress.frame > before, 60
    yield lambda: not capture_job.active_job(), 300
    yield 3.0  # time enough to add the take to the wrong file
    (job,) = capture_job.jobs()
    assert job.phase == "finished", job.error
    assert not len(rows())
    yield from gui.picture("1_waits_for_its_file")
    with gui.within():
        bpy.ops.wm.open_mainfile(filepath=path)
    yield from gui.pass_by()
    yield lambda: len(rows()) == 1, 30
    assert not capture_job.jobs()
    assert {"Hand Left", "Hand Right"} <= set(bpy.data.objects.keys())
    gui.note("digest", digest_of_row())
    yield from gui.open_sidebar("Hands")
    yield from gui.picture("2_arrived")
    yield from watch_another_blender(gui)


def watch_another_blender(gui: Gui) -> Steps:
    """It begins a capture and quits as a user does; its worker has to end, and what it captured has to stay."""
    folder = gui.folder / "second"
    folder.mkdir()
    (folder / "display").symlink_to(gui.folder / "display")
    (folder / "values.json").write_text(json.dumps(gui.values), encoding="utf-8")
    inside, scenario = gui.values["inside"], Path(__file__).with_name("scenario_capture_left.py")
    words = [bpy.app.binary_path, "-noaudio", "--enable-event-simulate", "--python", inside, "--"]
    with (folder / "blender.log").open("wb") as log:
        blender = subprocess.Popen([*words, str(scenario), str(folder), "200"], stdout=log, stderr=log)
    try:
        yield lambda: blender.poll() is not None, 200
    finally:
        blender.kill()
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["finished"], result
    assert not result["error"], result["error"]
    assert blender.returncode == 0
    ended = time.monotonic()
    yield lambda: not is_alive(result["notes"]["worker"]), 10
    gui.note("seconds to the worker's end", round(time.monotonic() - ended, 2))
    job = Path(result["notes"]["job"])
    assert not (job / "result.npz").exists()
    assert list((job / "chunks").glob("0*.npz"))


def is_alive(number: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
