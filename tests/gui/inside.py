"""Plays a scenario inside a Blender that has a window. Blender starts this file; windowed.py starts Blender.

A scenario is a file with a generator `steps(gui)`. It asserts, and it yields to let Blender go on:

    yield 0.5                          wait half a second
    yield job_is_done, 60              wait until job_is_done() is true; after 60 s the scenario has failed
    yield from gui.picture("done")     everything of Gui that takes time is a generator, too

What was seen is in result.json after every step, so that a Blender which hangs or dies still says how far it came.
Only bpy and the standard library: nothing of the repository is there, the add-on has to come from its zip.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import itertools
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import bpy

TICK = 0.01
"""Seconds between two looks at what a scenario waits for."""

METER_TICK = 0.005
"""Seconds between two calls of a stall meter; Blender's main loop itself sleeps 5 ms when it has nothing to do."""

PASSES = 3
"""Passes of Blender's main loop after which an event was handled and the window drawn again, however slow they are."""

Steps = Generator[Any, None, None]


class Gui:
    """What a scenario can do. Positions are window pixels, x right, y up."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder = folder
        self.values = values
        self.result: dict[str, Any] = {
            "blender": bpy.app.version_string,
            "finished": False,
            "error": "",
            "notes": {},
            "stalls": {},
            "pictures": [],
        }

    def note(self, name: str, value: Any) -> None:
        """Tell the test outside something, as JSON."""
        self.result["notes"][name] = value
        self.save_result()

    def save_result(self) -> None:
        """Write result.json, whole or not at all."""
        new = self.folder / "result.json.new"
        new.write_text(json.dumps(self.result, indent=1), encoding="utf-8")
        new.replace(self.folder / "result.json")

    # What is where --------------------------------------------------------------------------------

    def window(self) -> Any:
        """Blender's first window."""
        return bpy.context.window_manager.windows[0]

    def area(self, kind: str = "VIEW_3D") -> Any:
        """The largest area of a kind."""
        areas = [area for area in self.window().screen.areas if area.type == kind]
        return max(areas, key=lambda area: area.width * area.height)

    def region(self, kind: str = "WINDOW", area: str = "VIEW_3D") -> Any:
        """A region of an area: WINDOW, UI (the sidebar), HEADER, ..."""
        return next(region for region in self.area(area).regions if region.type == kind)

    def within(self, area: str = "VIEW_3D", region: str = "WINDOW") -> Any:
        """The context of a region, for operators: `with gui.within(): bpy.ops...`."""
        return bpy.context.temp_override(
            window=self.window(), area=self.area(area), region=self.region(region, area), scene=self.window().scene
        )

    def middle(self, region: str = "WINDOW", area: str = "VIEW_3D") -> tuple[int, int]:
        """The middle of a region."""
        found = self.region(region, area)
        return found.x + found.width // 2, found.y + found.height // 2

    def pass_by(self, seconds: float = 0.2) -> Steps:
        """Let Blender handle what was sent and draw it."""
        for _ in range(PASSES):
            yield 0.0
        yield seconds

    # What a hand does -----------------------------------------------------------------------------

    def move(self, x: int, y: int) -> Steps:
        """Move the mouse."""
        self.window().event_simulate(type="MOUSEMOVE", value="NOTHING", x=x, y=y)
        yield from self.pass_by(0.02)

    def click(self, x: int, y: int, button: str = "LEFTMOUSE") -> Steps:
        """Move there, press and release."""
        yield from self.drag((x, y), (x, y), button)

    def drag(self, start: tuple[int, int], end: tuple[int, int], button: str = "LEFTMOUSE", moves: int = 4) -> Steps:
        """Press at the start, move to the end, release there."""
        yield from self.move(*start)
        self.window().event_simulate(type=button, value="PRESS", x=start[0], y=start[1])
        yield from self.pass_by(0.02)
        for row in range(1, moves + 1) if end != start else ():
            yield from self.move(*(round(a + (b - a) * row / moves) for a, b in zip(start, end, strict=True)))
        self.window().event_simulate(type=button, value="RELEASE", x=end[0], y=end[1])
        yield from self.pass_by()

    def key(self, name: str, text: str = "", *, ctrl: bool = False, shift: bool = False, alt: bool = False) -> Steps:
        """Press and release a key over the 3D view, `name` as in event types ("Z", "RET"), `text` if it writes one."""
        x, y = self.middle()
        yield from self.move(x, y)
        held = {"ctrl": ctrl, "shift": shift, "alt": alt, "x": x, "y": y}
        letter = {"unicode": text} if text else {}
        self.window().event_simulate(type=name, value="PRESS", **letter, **held)
        yield from self.pass_by(0.02)
        self.window().event_simulate(type=name, value="RELEASE", **held)
        yield from self.pass_by()

    def drop_file(self, path: str, area: str = "VIEW_3D") -> Steps:
        """Drop a file on an area. No other program is there to drag it, so this begins where Blender takes the drop."""
        file = Path(path)
        with self.within(area):
            bpy.ops.wm.drop_import_file("INVOKE_DEFAULT", True, directory=str(file.parent), files=[{"name": file.name}])
        yield from self.pass_by()

    # What most scenarios need ---------------------------------------------------------------------

    def install_extension(self, path: str) -> Steps:
        """Install the zip as a user does from the disk, switch it on and keep that for the next start."""
        with self.within():
            bpy.ops.extensions.package_install_files(repo="user_default", filepath=path, enable_on_install=True)
            bpy.ops.wm.save_userpref()
        yield lambda: "bl_ext.user_default.two_hand_capture" in bpy.context.preferences.addons, 30

    def open_sidebar(self, tab: str) -> Steps:
        """Show the sidebar of the 3D view with a tab."""
        self.area().spaces.active.show_region_ui = True
        yield from self.pass_by()
        self.region("UI").active_panel_category = tab
        self.area().tag_redraw()
        yield from self.pass_by()
        assert self.region("UI").active_panel_category == tab

    def undo(self) -> Steps:
        """Ctrl Z over the 3D view."""
        yield from self.key("Z", ctrl=True)

    def redo(self) -> Steps:
        """Shift Ctrl Z over the 3D view."""
        yield from self.key("Z", ctrl=True, shift=True)

    # What is looked at ----------------------------------------------------------------------------

    def picture(self, name: str) -> Steps:
        """Redraw everything and keep a picture of the whole screen, NAME.png in the scenario's folder."""
        for area in self.window().screen.areas:
            area.tag_redraw()
        yield from self.pass_by()
        self.take_picture(name)

    def take_picture(self, name: str) -> None:
        """Keep what the screen shows now; windowed.py makes a PNG of it, which would take too long here."""
        shutil.copyfile(self.folder / "display" / "Xvfb_screen0", self.folder / f"{name}.xwd")
        self.result["pictures"].append(f"{name}.png")
        self.save_result()

    @contextlib.contextmanager
    def stalls(self, name: str) -> Iterator[None]:
        """Measure how long Blender's main thread stays away: milliseconds between two calls of a timer.

        The result has under `name` "p50", "p95", "worst" and "count", and "cpu_p95" and "cpu_worst": how much of it the
        main thread was computing itself, which other programs on the machine hardly change. A Blender that does
        nothing, on a machine that does nothing else, has a p95 of 5.
        """
        calls = [(time.perf_counter(), time.thread_time())]

        def tick() -> float:
            calls.append((time.perf_counter(), time.thread_time()))
            return METER_TICK

        bpy.app.timers.register(tick, persistent=True)
        try:
            yield
        finally:
            bpy.app.timers.unregister(tick)
            tick()
            pairs = list(itertools.pairwise(calls))
            wall, cpu = (sorted(1000 * (later[k] - call[k]) for call, later in pairs) for k in (0, 1))
            wanted = {"p50": (wall, 0.5), "p95": (wall, 0.95), "worst": (wall, 1.0)}
            wanted |= {"cpu_p95": (cpu, 0.95), "cpu_worst": (cpu, 1.0)}
            figures = {name: round(gaps[round(share * (len(gaps) - 1))], 1) for name, (gaps, share) in wanted.items()}
            self.result["stalls"][name] = {**figures, "count": len(pairs)}
            self.save_result()


class Player:
    """Advances a scenario from a timer and leaves Blender when it is over."""

    def __init__(self, gui: Gui, steps: Steps) -> None:
        self.gui = gui
        self.steps = steps
        self.condition: Callable[[], Any] | None = None
        self.deadline = 0.0

    def tick(self) -> float | None:
        """One look: go on, keep waiting, or end."""
        try:
            if self.condition is not None and self.condition():
                self.wait_for(next(self.steps))
            elif time.monotonic() >= self.deadline:
                if self.condition is not None:
                    self.steps.throw(TimeoutError("what this step waits for did not come true"))
                self.wait_for(next(self.steps))
        except StopIteration:
            self.end("")
            return None
        except BaseException:  # whatever a scenario does, the test outside has to hear of it
            self.end(traceback.format_exc())
            return None
        return TICK

    def wait_for(self, request: Any) -> None:
        """Note what the scenario waits for: seconds, or (condition, seconds)."""
        self.condition, seconds = request if isinstance(request, tuple) else (None, request)
        self.deadline = time.monotonic() + seconds

    def end(self, error: str) -> None:
        """Say how it went and quit as a user does, so that a hang at exit shows, too."""
        self.gui.result.update(finished=True, error=error)
        if error:
            self.gui.take_picture("failed")
        self.gui.save_result()
        with self.gui.within():
            bpy.ops.wm.quit_blender()


def main(scenario: str, folder: str, seconds: str) -> None:
    """Load the scenario and start it with the main loop."""
    # Shortly before the test outside kills this process, its log says where Python was.
    faulthandler.dump_traceback_later(max(float(seconds) - 3, 1))
    bpy.context.preferences.view.show_splash = False
    spec = importlib.util.spec_from_file_location("scenario", scenario)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gui = Gui(Path(folder), json.loads((Path(folder) / "values.json").read_text(encoding="utf-8")))
    gui.save_result()
    # Persistent, because a scenario may open another file.
    bpy.app.timers.register(Player(gui, module.steps(gui)).tick, first_interval=1.0, persistent=True)


main(*sys.argv[sys.argv.index("--") + 1 :])
