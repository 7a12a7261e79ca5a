"""The driver itself: what a scenario does right or wrong arrives outside, and nothing is left behind."""

import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gui import windowed
from tests.gui.windowed import GuiError, Outcome, WindowedBlender, find_blender, png_of, prepare


@pytest.fixture
def run_lines(run_scenario: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    """Play a scenario whose steps are given as lines."""

    def run(*lines: str, **options: object) -> Outcome:
        folder = tmp_path / "scenario"
        folder.mkdir()
        head = "import os, signal, time\nimport bpy\ndef steps(gui):\n"
        (folder / "lines.py").write_text(head + "".join(f"    {line}\n" for line in lines))
        return run_scenario(folder / "lines.py", **options)

    return run


def test_keys_clicks_and_drags_arrive(run_lines: Callable[..., Outcome]) -> None:
    """On the factory's file: a click beside the cube deselects it, a box selects it, G X 2 moves it, back and forth."""
    outcome = run_lines(
        "def selected(): return sorted(item.name for item in bpy.data.objects if item.select_get())",
        "region = gui.region()",
        "yield from gui.click(region.x + 150, region.y + 40)",
        "gui.note('clicked', selected())",
        "yield from gui.drag((region.x + 120, region.y + 20), (region.x + 600, region.y + 560))",
        "gui.note('boxed', selected())",
        "for key, text in (('G', ''), ('X', ''), ('TWO', '2'), ('RET', '')):",
        "    yield from gui.key(key, text)",
        "gui.note('moved', list(bpy.data.objects['Cube'].location))",
        "yield from gui.undo()",
        "gui.note('undone', list(bpy.data.objects['Cube'].location))",
        "yield from gui.redo()",
        "gui.note('redone', list(bpy.data.objects['Cube'].location))",
    )
    assert not outcome.error, outcome.error
    assert outcome.notes["clicked"] == []
    assert "Cube" in outcome.notes["boxed"]
    assert outcome.notes["moved"] == outcome.notes["redone"] == [2.0, 0.0, 0.0]
    assert outcome.notes["undone"] == [0.0, 0.0, 0.0]


def test_a_stall_shows_in_the_figures(run_lines: Callable[..., Outcome]) -> None:
    outcome = run_lines(
        "with gui.stalls('calm'):",
        "    yield 1.0",
        "with gui.stalls('stalled'):",
        "    yield 0.5",
        "    time.sleep(0.3)",
        "    yield 0.5",
        "with gui.stalls('computing'):",
        "    yield 0.1",
        "    start = time.thread_time()",
        "    while time.thread_time() < start + 0.3: pass",
        "    yield 0.1",
    )
    assert not outcome.error, outcome.error
    assert outcome.stalls["calm"]["count"] >= 1
    assert outcome.stalls["stalled"]["worst"] >= 300
    assert outcome.stalls["computing"]["cpu_worst"] >= 299


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["yield 0.1", "assert bpy.data.objects['Cube'].name == 'Sphere'"], "== 'Sphere'"),
        (["yield lambda: False, 0.5"], "did not come true"),
        (["yield 0.1", "os.kill(os.getpid(), signal.SIGKILL)", "yield 1"], "in the middle of the scenario"),
    ],
    ids=["assertion", "timeout", "killed"],
)
def test_each_way_to_fail_is_told(run_lines: Callable[..., Outcome], lines: list[str], said: str) -> None:
    outcome = run_lines("gui.note('came', 'this far')", *lines)
    assert said in outcome.error
    assert outcome.notes == {"came": "this far"}
    if "Traceback" in outcome.error:
        assert [path.name for path in outcome.pictures] == ["failed.png"]
        assert outcome.pictures[0].stat().st_size > 1000


def test_what_is_killed_takes_its_children_along(blender: WindowedBlender, tmp_path: Path) -> None:
    """Also children in a session of their own, as a worker process may be."""
    if blender.root is None:
        pytest.skip("Blender is the one on PATH, what it starts is not kept apart")
    script = f"setsid sh -c 'sleep 4; touch {tmp_path}/child' & touch {tmp_path}/parent; sleep 600"
    command = ["timeout", "-s", "KILL", "2", *blender.command(["sh", "-c", script], [tmp_path], online=False)]
    assert subprocess.run(command, check=False).returncode in (137, -9)
    time.sleep(4)
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]


def test_a_root_leaves_no_mount_behind(blender: WindowedBlender) -> None:
    if blender.root is None:
        pytest.skip("Blender is the one on PATH, there is no root")
    mounts = Path("/proc/self/mounts").read_text()
    command = blender.command(["sh", "-c", "ls /proc/self/status /dev/null && ls /tmp && exit 7"], [], online=False)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 7
    assert result.stdout.split() == ["/dev/null", "/proc/self/status"], "an empty /tmp of its own"
    assert Path("/proc/self/mounts").read_text() == mounts


def test_without_any_blender_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_HAND_CAPTURE_GUI_ROOT", str(tmp_path / "root"))
    with pytest.raises(GuiError, match="no Blender with a window"):
        find_blender()
    monkeypatch.setattr(windowed, "may_isolate", lambda: False)
    with pytest.raises(GuiError, match="no Blender with a window"):
        prepare()
    assert not list(tmp_path.iterdir())


def test_a_user_who_may_not_mount_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    for name in ("blender", "Xvfb", "xvfb-run"):
        (tmp_path / "usr" / "bin" / name).touch()
    monkeypatch.setenv("TWO_HAND_CAPTURE_GUI_ROOT", str(tmp_path))
    monkeypatch.setattr(windowed, "may_isolate", lambda: False)
    with pytest.raises(GuiError, match="a root that may mount"):
        find_blender()
    monkeypatch.setattr(windowed, "may_isolate", lambda: True)
    assert find_blender() == WindowedBlender(tmp_path)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_HAND_CAPTURE_GUI_ROOT", str(tmp_path))
    monkeypatch.setattr(windowed, "may_isolate", lambda: True)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(GuiError):
        prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_picture_of_the_screen_keeps_size_and_colours() -> None:
    width, height, line = 3, 2, 16
    fields = [0] * 25
    fields[0], fields[4], fields[5], fields[11], fields[12], fields[19] = 104, width, height, 32, line, 1
    pixel = bytes([10, 20, 200, 0])  # blue, green, red, unused
    dump = struct.pack(">25I", *fields) + b"name" + bytes(12) + (pixel * width + bytes(line - 4 * width)) * height
    png = png_of(dump)
    assert struct.unpack(">II", png[16:24]) == (width, height)
    start = png.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", png[start - 8 : start - 4])
    assert zlib.decompress(png[start : start + length]) == (b"\0" + bytes([200, 20, 10]) * width) * height
