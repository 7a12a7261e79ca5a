"""Begin a capture and quit in the middle of it. Played by scenario_capture_survives in a Blender of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def steps(gui: Gui) -> Steps:
    """Say which process must not outlive this one, then leave."""
    file = Path(__file__).with_name("scenario_capture_survives.py")
    spec = importlib.util.spec_from_file_location("scenario_capture_survives", file)
    assert spec is not None
    assert spec.loader is not None
    first = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(first)
    assert not first.room("capture_job").jobs()
    yield from first.load_and_capture(gui)
    job = first.room("capture_job").active_job()
    gui.note("job", str(job.folder))
    gui.note("worker", job._process.pid)
