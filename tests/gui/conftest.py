"""What every windowed test may ask for: a Blender, the zip, a take, and `play`. No test data here."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import build_addon
from tests.gui.windowed import SCREEN, GuiError, Outcome, WindowedBlender, find_blender, play

OUTPUT = build_addon.ROOT / "out" / "gui"
"""Pictures, results and logs of the last run, a folder for each test; git ignores it."""

PLATFORM = "linux-x64"


@pytest.fixture(scope="session")
def blender() -> WindowedBlender:
    """A Blender that can have a window."""
    try:
        return find_blender()
    except GuiError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def extension(blender: WindowedBlender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip that users install, built from this checkout."""
    python = Path(sys.executable)
    wheels = build_addon.fetch_wheels(python, PLATFORM)
    (path,) = build_addon.build_extension(python, tmp_path_factory.mktemp("dist"), {PLATFORM: wheels})
    return path


@pytest.fixture(scope="session")
def demo_take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw take of the demonstration clip."""
    path = tmp_path_factory.mktemp("take") / "two_hands.npz"
    command = [sys.executable, "-m", "dir_core", "capture", str(build_addon.DEMO_VIDEO), "-o", str(path)]
    subprocess.run(command, cwd=build_addon.ROOT, check=True, timeout=300, capture_output=True)
    return path


@pytest.fixture
def run_scenario(blender: WindowedBlender, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """`run_scenario(file, seconds=..., profile=..., **values)`: plays tests/gui/FILE.py, however it goes.

    Each call without `profile` meets a Blender that was just installed.
    """

    def run(
        scenario: str | Path,
        *,
        seconds: float = 300.0,
        online: bool = False,
        profile: Path | None = None,
        screen: tuple[int, int] = SCREEN,
        **values: object,
    ) -> Outcome:
        file = Path(__file__).with_name(f"{scenario}.py") if isinstance(scenario, str) else scenario
        folder = OUTPUT / request.node.name / file.stem
        home = profile or tmp_path / "profile"
        return play(blender, file, folder, home, values, seconds=seconds, online=online, screen=screen)

    return run


@pytest.fixture
def play_scenario(run_scenario: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """The same for a scenario that has to succeed: its own failure is that of the test."""

    def play_well(scenario: str | Path, **options: object) -> Outcome:
        outcome = run_scenario(scenario, **options)
        if outcome.error:
            pytest.fail(f"{outcome.error}\n\n{outcome.log[-4000:]}", pytrace=False)
        return outcome

    return play_well
