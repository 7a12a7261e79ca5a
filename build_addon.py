"""Build, try and test the add-on: demo | test | zip | rigs. Standard library only, one file.

The first call makes a Python environment in `.venv` from the lock file of the running Python; later calls
re-use it. Nothing here imports dir_core, addon or any installed package: their work is done by processes
that run inside the environment. The syntax stays at Python 3.8, so that an older Python gets a sentence
instead of a SyntaxError.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
LOCKS = ROOT / "locks"

PYTHONS = {(3, 11): "4.5", (3, 13): "5.2"}
"""Pythons for which Blender is published as a module and a lock file is kept here, each with its Blender LTS."""

BLENDERS = {"4.2": (3, 11), "4.5": (3, 11), "5.0": (3, 11), "5.2": (3, 13)}
"""Blenders that the add-on is tested with, each with its Python; locks/blender-*.txt says which release."""

MACHINES = {"Linux": ("x86_64",), "Windows": ("AMD64",), "Darwin": ("arm64",)}
"""Platforms for which every locked package has a wheel."""

SYSTEM_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libSM.so.6": "libsm6",
    "libXi.so.6": "libxi6",
    "libXfixes.so.3": "libxfixes3",
    "libXrender.so.1": "libxrender1",
    "libxkbcommon.so.0": "libxkbcommon0",
}
"""Shared libraries that Blender's module loads on Linux, each with its Debian package."""

MANIFEST = "blender_manifest.toml"

EXTENSION_PLATFORMS = {
    "linux-x64": ("manylinux", "x86_64"),
    "windows-x64": ("win", "amd64"),
    "macos-arm64": ("macosx", "arm64"),
}
"""Platforms in Blender's words, each with how the platform tag of its wheels begins and ends."""

WHEEL_LOCK = LOCKS / "extension-wheels.sha256"
"""The wheels that travel inside the extension, in the format of sha256sum."""

WHEEL_CACHE = ROOT / "build" / "wheels"
"""Where they are kept once they have been downloaded; git ignores it."""

RELEASE_PYTHON = (3, 11)
"""Builds zips with a library that Blender 4.2 can open: it cannot read the files of 5.0 and later."""

DEMO_VIDEO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"
DEMO_TRUTH = ROOT / "blender_assets" / "demo" / "two_hands.truth.npz"

SUITE_SECONDS = {"blender": 1800, "gui": 3600}
"""The tests inside Blender are killed after this: its module can hang at interpreter exit."""

STAMP = "two_hand_capture.json"
"""File inside the environment that says what is installed there."""

USER_ERROR = 2
"""Exit code of everything that the user can put right."""


class BuildError(Exception):
    """Something the user can put right; the message is one sentence."""

    exit_code = USER_ERROR


class DownloadError(BuildError):
    """Something is neither here nor to be had from the network."""


class StepError(BuildError):
    """A process ended with an error and has said why itself."""

    def __init__(self, title: str, exit_code: int) -> None:
        super().__init__(f'The step "{title}" ended with exit code {exit_code}.')
        self.exit_code = exit_code if exit_code > 0 else 1


# --------------------------------------------------------------------------------------------------
# The environment
# --------------------------------------------------------------------------------------------------


def python_problem(version: Sequence[int], system: str, machine: str) -> str | None:
    """One sentence that says why this Python cannot be used, or None if it can."""
    if tuple(version[:2]) not in PYTHONS:
        good = " or ".join(f"Python {major}.{minor} (Blender {name} LTS)" for (major, minor), name in PYTHONS.items())
        return (
            f"Python {version[0]}.{version[1]} cannot load Blender as a module, "
            f"run build_addon.py with {good}, for example: python3.11 build_addon.py demo"
        )
    if machine not in MACHINES.get(system, ()):
        good = ", ".join(f"{name} ({'/'.join(machines)})" for name, machines in MACHINES.items())
        return f"Blender is not published as a module for {system} ({machine}), run build_addon.py on one of: {good}."
    return None


class Interpreter(NamedTuple):
    """A Python that environments are made with."""

    command: str
    version: tuple[int, int]


def running_python() -> Interpreter:
    """The base of the Python that runs this script, because the script may run in an environment that is emptied."""
    return Interpreter(getattr(sys, "_base_executable", None) or sys.executable, sys.version_info[:2])


def find_python(version: tuple[int, int], named: Sequence[Path] = ()) -> Interpreter:
    """A Python of a version: one that was named, the running one, one on PATH or one of pyenv's.

    Raises:
        BuildError: there is none.
    """
    name = f"python{version[0]}.{version[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [str(path) for path in named]
    found += [running_python().command, shutil.which(name) or ""]
    found += [str(path) for path in sorted(pyenv.glob(f"{version[0]}.{version[1]}.*/bin/{name}"), reverse=True)]
    for command in filter(None, found):
        # pyenv puts stand-ins on PATH that only complain, so each has to answer for itself.
        if interpreter_version(Path(command), needs="ensurepip") == list(version):
            return Interpreter(command, version)
    raise BuildError(
        f"There is no {name} that can make environments on PATH or in {pyenv}, install it (with its venv package) "
        f"or name one: --python /path/to/{name}"
    )


def missing_libraries() -> dict[str, str]:
    """Shared libraries that Blender's module needs and this Linux lacks, each with its Debian package."""
    if platform.system() != "Linux":
        return {}
    missing = {}
    for library, package in SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = package
    return missing


def check_machine() -> None:
    """Fail at once, before anything is installed, if this machine cannot run Blender's module."""
    problem = python_problem(sys.version_info[:2], platform.system(), platform.machine())
    if problem:
        raise BuildError(problem)
    missing = missing_libraries()
    if missing:
        sudo = "" if getattr(os, "geteuid", lambda: 0)() == 0 else "sudo "
        raise BuildError(
            f"Blender needs the system libraries {', '.join(missing)}; on Debian or Ubuntu install them with: "
            f"{sudo}apt-get install --no-install-recommends {' '.join(missing.values())}"
        )


def environment_folder() -> Path:
    """Where the environment lives: `.venv`, or TWO_HAND_CAPTURE_VENV for those who keep one per Python."""
    chosen = os.environ.get("TWO_HAND_CAPTURE_VENV")
    return Path(chosen).resolve() if chosen else ROOT / ".venv"


def environment_python(folder: Path) -> Path:
    """The interpreter inside an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def lock_file(with_tests: bool) -> Path:
    """The lock file for the running Python."""
    return LOCKS / f"python{sys.version_info[0]}.{sys.version_info[1]}{'-test' if with_tests else ''}.txt"


def blender_lock(blender: str) -> Path:
    """The lock file of a Blender that is only tested with: its module, what a capture needs, and pytest."""
    return LOCKS / f"blender-{blender}.txt"


def included_locks(path: Path) -> list[Path]:
    """A lock file and the ones it includes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [path, *(path.parent / line[3:].strip() for line in lines if line.startswith("-r "))]


def lock_hash(path: Path) -> str:
    """Hash of a lock file together with the lock files it includes."""
    digest = hashlib.sha256()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            digest.update(lock_hash(path.parent / line[3:].strip()).encode())
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def read_stamp(folder: Path) -> dict[str, Any]:
    """What an earlier run noted about an environment; empty if this script did not make it."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(folder: Path, finished: bool, locks: dict[str, str]) -> None:
    """Note what is installed, whole or not at all; `finished` False marks an installation under way."""
    stamp = {"finished": finished, "locks": locks}
    temporary = folder / f"{STAMP}.new"
    temporary.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    temporary.replace(folder / STAMP)


def interpreter_version(python: Path, needs: str = "pip") -> list[int]:
    """(major, minor) of an interpreter, empty if it does not run or lacks the module it needs."""
    if not python.exists():
        return []
    command = [str(python), "-I", "-c", f"import sys, {needs}; print(*sys.version_info[:2])"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(word) for word in result.stdout.split()] if result.returncode == 0 else []


def plan_environment(folder: Path, lock: Path, version: tuple[int, int] = sys.version_info[:2]) -> str:
    """What has to be done to an environment: "nothing", "install" into it, or "make" it (again).

    Raises:
        BuildError: the folder holds something that this script did not make and cannot use.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "make"
    stamp = read_stamp(folder)
    usable = interpreter_version(environment_python(folder)) == list(version)
    if not stamp:
        if usable:
            return "install"
        raise BuildError(
            f"{folder} holds something that build_addon.py did not make for Python "
            f"{version[0]}.{version[1]}, remove or rename it and run this again."
        )
    if not usable or not stamp.get("finished"):
        return "make"
    return "nothing" if stamp.get("locks", {}).get(lock.name) == lock_hash(lock) else "install"


def prepare_environment(with_tests: bool) -> Path:
    """Make the environment, or bring it up to date with its lock file; return its interpreter.

    Raises:
        BuildError: this Python or machine cannot be used, or the packages cannot be installed.
    """
    check_machine()
    folder = environment_folder()
    if with_tests:
        holds = "Blender and the test tools; about 1 GB, or 4 GB where torch comes with CUDA"
    else:
        holds = "Blender as a module and the libraries around it; about 0.5 GB"
    with only_one_at_a_time(folder):
        bring_up_to_date(folder, lock_file(with_tests), holds, running_python())
    return environment_python(folder)


def prepare_blender(blender: str, python: Interpreter) -> Path:
    """The interpreter of an environment with a certain Blender and the test tools.

    That of the running Python is the usual one, others lie beside it.

    Raises:
        BuildError: this machine cannot be used, or the packages cannot be installed.
    """
    if blender == PYTHONS.get(sys.version_info[:2]):
        return prepare_environment(with_tests=True)
    check_machine()
    usual = environment_folder()
    folder = usual.with_name(f"{usual.name}-blender-{blender}")
    with only_one_at_a_time(folder):
        bring_up_to_date(folder, blender_lock(blender), f"Blender {blender} and pytest; about 1 GB", python)
    return environment_python(folder)


@contextlib.contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait while another process prepares the same environment; the system lifts the lock if that one dies."""
    user = getattr(os, "getuid", lambda: 0)()
    name = hashlib.sha256(f"{user} {folder}".encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"two_hand_capture-{name}.lock").open("a") as file:
        told = False
        while not try_lock(file.fileno()):
            if not told:
                say(f"Waiting for another build_addon.py that is preparing {folder} ...")
            told = True
            time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415  Windows only

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415  not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def bring_up_to_date(folder: Path, lock: Path, holds: str, base: Interpreter) -> None:
    """Do to an environment what has to be done, saying what and how long it took."""
    python = environment_python(folder)
    plan = plan_environment(folder, lock, base.version)
    if plan == "nothing":
        return
    if plan == "make":
        with timed_step(f"Making the Python environment {folder}"):
            make_environment(folder, base)
    installed = {} if plan == "make" else read_stamp(folder).get("locks", {})
    write_stamp(folder, False, installed)
    with timed_step(f"Installing {lock.name} ({holds})"):
        install_packages(python, lock, folder / "install.log")
    with timed_step("Loading Blender once"):
        probe_blender(python)
    # A lock file installed earlier no longer holds if this one changed what it includes.
    write_stamp(folder, True, {each.name: lock_hash(each) for each in included_locks(lock)})


def make_environment(folder: Path, base: Interpreter | None = None) -> None:
    """Make an empty environment with pip, in place of whatever an earlier attempt has left there.

    Args:
        folder: where.
        base: the Python it is made with, by default the one that runs this script.
    """
    base = base or running_python()
    if not interpreter_version(Path(base.command), needs="ensurepip"):
        raise BuildError(
            "This Python cannot make environments, on Debian or Ubuntu install them with: "
            f"apt-get install python{base.version[0]}.{base.version[1]}-venv"
        )
    try:
        # The stamp comes first and stays, so that a folder left half-made is known as our own.
        folder.mkdir(parents=True, exist_ok=True)
        write_stamp(folder, False, {})
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != STAMP:
                entry.unlink()
    except OSError as error:
        raise BuildError(f"Cannot write into {folder}: {error.strerror}; remove it or free its files.") from error
    result = subprocess.run([base.command, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        print_last_lines(result.stdout + result.stderr)
        raise BuildError(f"Cannot make a Python environment in {folder}, see the lines above.")


def install_packages(python: Path, lock: Path, log: Path) -> None:
    """Install a lock file; what pip says goes to a log, its end is shown only when it fails."""
    command = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # Python compiles what is imported when it is imported; doing it for all of Blender's files doubles the time.
    command += ["--no-compile", "--progress-bar", "off", "-r", str(lock)]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            cwd=ROOT,
        )
        try:
            started = time.monotonic()
            while True:
                try:
                    exit_code = process.wait(timeout=20)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {time.monotonic() - started:4.0f} s  {last_pip_line(log)}")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if exit_code:
        print_last_lines(log.read_text(encoding="utf-8", errors="replace"))
        raise BuildError(
            f"The packages of {lock.name} could not be installed: check the network, the free disk space and the "
            f"lines above, then run the same command again (the whole log is {log})."
        )


def last_pip_line(log: Path) -> str:
    """What pip is busy with, in its own words."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    good = [line.strip() for line in lines if line.strip().startswith(("Collecting", "Downloading", "Installing"))]
    # "Installing collected packages:" goes on with the names of all of them.
    return good[-1].partition(": ")[0][:100] if good else "working"


def probe_blender(python: Path) -> None:
    """Load Blender's module once; a library that is missing shows here and not in the middle of the work."""
    # os._exit, because Blender's module may crash or hang at interpreter exit.
    command = [str(python), "-c", "import os, bpy; print(bpy.app.version_string, flush=True); os._exit(0)"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean_environment(), cwd=ROOT, timeout=300
        )
    except subprocess.TimeoutExpired:
        raise BuildError("Blender's module did not load within five minutes, run the same command again.") from None
    if result.returncode:
        print_last_lines(result.stdout + result.stderr)
        raise BuildError(
            "Blender's module does not load: install the system library that the last line names, "
            "then run the same command again."
        )


def clean_environment() -> dict[str, str]:
    """Environment variables for a child: nothing of another Python installation, text as UTF-8."""
    foreign = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}


# --------------------------------------------------------------------------------------------------
# Running and telling
# --------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print at once, so that the order with the output of child processes holds."""
    print(text, flush=True)


def print_last_lines(text: str, count: int = 12) -> None:
    """Show the end of what a failed process said."""
    for line in text.rstrip().splitlines()[-count:]:
        print(f"  | {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def timed_step(title: str) -> Iterator[None]:
    """Say what is being done, and afterwards how long it took."""
    say(f"{title} ...")
    started = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")


def run_step(title: str, command: Sequence[str | Path], output: int | None = None) -> None:
    """Run one process of the way from video to .blend; its standard output goes where `subprocess` takes `output`.

    Raises:
        StepError: it failed; its own sentence is already on stderr.
    """
    with timed_step(title):
        words = [str(word) for word in command]
        result = subprocess.run(words, stdout=output, check=False, env=clean_environment(), cwd=ROOT)
        if result.returncode:
            raise StepError(title, result.returncode)


# --------------------------------------------------------------------------------------------------
# demo
# --------------------------------------------------------------------------------------------------


def demo(video: Path | None, output: Path | None) -> None:
    """A video in; a raw and a clean take, a .blend, a preview video, pictures and a table of numbers out."""
    check_machine()
    own_clip = video is None
    video = check_video(DEMO_VIDEO if video is None else video)
    folder = claim_output_folder(output or ROOT / "out" / video.stem, video)
    truth = DEMO_TRUTH if own_clip and DEMO_TRUTH.exists() else None
    started = time.monotonic()
    python = prepare_environment(with_tests=False)

    take, clean = folder / "take.npz", folder / "clean.npz"
    core: list[str | Path] = [python, "-m", "dir_core"]
    sheet: list[str | Path] = ["--sheet", folder / "contact_sheet.png"]
    known: list[str | Path] = ["--truth", truth] if truth else []
    run_step(
        "Capturing both hands",
        [*core, "capture", video, "-o", take, "--report", folder / "capture.json"],
    )
    run_step(
        "Cleaning up",
        [*core, "clean", take, "-o", clean, "--report", folder / "clean.json", "--plot", folder / "curves.png"],
        output=subprocess.DEVNULL,
    )
    run_step(
        "Building the hands in Blender",
        [python, "-m", "addon", clean, "-o", folder / "hands.blend", "--footage", video],
    )
    run_step(
        "Drawing the preview",
        [*core, "preview", clean, "--footage", video, "-o", folder / "preview.mp4", *sheet],
    )
    run_step(
        "Measuring",
        [*core, "evaluate", clean, *known, "--report", folder / "evaluation.json"],
        output=subprocess.DEVNULL,  # the same figures are in the table below
    )
    say()
    reports = [read_report(folder / f"{name}.json") for name in ("capture", "clean", "evaluation")]
    for line in report_lines(*reports):
        say(line)
    say()
    say(f"Written, {time.monotonic() - started:.0f} s in all:")
    for path in sorted(folder.iterdir()):
        if path.name != "demo.json":
            say(f"  {path}  ({size_text(path.stat().st_size)})")


def check_video(video: Path) -> Path:
    """The absolute path of a video, or of a folder of images, that exists.

    Raises:
        BuildError: it does not, or is empty.
    """
    if not video.exists():
        if video == DEMO_VIDEO:
            raise BuildError("The demonstration clip is not part of this checkout yet, give a video of your own.")
        raise BuildError(f"There is no video at {video}, check the path.")
    if video.is_dir() and not any(video.iterdir()):
        raise BuildError(f"{video} is an empty folder, give a video or a folder of images.")
    if video.is_file() and video.stat().st_size == 0:
        raise BuildError(f"{video} is empty, copy the video again.")
    return video.resolve()


def claim_output_folder(folder: Path, video: Path) -> Path:
    """Make the output folder, or take the one that an earlier demo of the same video has made.

    Raises:
        BuildError: the folder holds files of something else, or cannot be written.
    """
    folder = folder.resolve()
    note = folder / "demo.json"
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder} is a file, give a folder for the results with -o.")
    try:
        if folder.exists() and any(folder.iterdir()):
            try:
                earlier = json.loads(note.read_text(encoding="utf-8"))["video"]
            except (OSError, ValueError, KeyError, TypeError):
                earlier = None
            if earlier != str(video):
                raise BuildError(f"{folder} already holds other files, give an empty folder with -o.")
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"video": str(video)}), encoding="utf-8")
    except OSError as error:
        raise BuildError(f"Cannot write into {folder}: {error.strerror}; give another folder with -o.") from error
    return folder


def read_report(path: Path) -> dict[str, Any]:
    """A report that a step has written; empty if it has not."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def report_lines(capture: dict[str, Any], clean: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    """The table a person reads at the end of a demo; a number that was not measured is a dash."""

    def number(report: dict[str, Any], key: str, pattern: str, factor: float = 1.0) -> str:
        value = report.get(key)
        return pattern.format(value * factor) if isinstance(value, (int, float)) else "–"

    rows = [
        ("frames", number(capture, "frames", "{:.0f}")),
        ("length of the clip", number(capture, "seconds", "{:.2f} s")),
        ("capture", number(capture, "wall_seconds", "{:.1f} s")),
        ("capture speed", number(capture, "frames_per_second", "{:.1f} frames per second")),
        ("left hand seen", number(evaluation, "left_observed", "{:.1f} % of frames", 100)),
        ("right hand seen", number(evaluation, "right_observed", "{:.1f} % of frames", 100)),
        ("both hands seen", number(evaluation, "both_observed", "{:.1f} % of frames", 100)),
        ("reprojection error", number(evaluation, "reprojection_percent", "{:.2f} % of hand length")),
        ("reprojection error, pixels", number(evaluation, "reprojection_px", "{:.2f} px")),
    ]
    for side in ("left", "right"):
        hand = clean.get(side) or {}
        if hand.get("jitter_before") is not None:
            before, after = (number(hand, f"jitter_{when}", "{:.2f}") for when in ("before", "after"))
            rows.append((f"jitter of the {side} hand", f"{before} % of its length, cleaned {after} %"))
    if evaluation.get("pa_mpjpe_mm") is not None:
        rows.append(("PA-MPJPE against truth", number(evaluation, "pa_mpjpe_mm", "{:.2f} mm")))
    if evaluation.get("mpjpe_mm") is not None:
        rows.append(("MPJPE against truth, wrist root", number(evaluation, "mpjpe_mm", "{:.2f} mm")))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    return lines + [f"warning: {text}" for text in capture.get("warnings") or []]


def size_text(size: int) -> str:
    """A file size as people write it."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


# --------------------------------------------------------------------------------------------------
# test
# --------------------------------------------------------------------------------------------------


class Tally:
    """What was run so far: a line each for the table, and the number of tests."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []
        self.passed = self.failed = self.skipped = 0

    def check(self, title: str, command: Sequence[str]) -> None:
        """Run a checker, which is clean or has failed."""
        started = time.monotonic()
        say(f"{title} ...")
        clean = subprocess.run(command, check=False, env=clean_environment(), cwd=ROOT).returncode == 0
        self.rows.append((title, "clean" if clean else "FAILED", time.monotonic() - started))
        self.failed += not clean

    def suite(self, python: Path, name: str, arguments: Sequence[str], on: str = "") -> None:
        """Run a folder of tests with an environment's interpreter.

        Paths among the arguments choose tests, the rest goes to pytest; nothing is run if all paths lead elsewhere.
        """
        folder = ROOT / "tests" / name
        chosen = [word for word in arguments if (ROOT / word.split("::")[0]).exists()]
        options = [word for word in arguments if word not in chosen]
        paths = [word for word in chosen if (ROOT / word.split("::")[0]).resolve() in (folder, *folder.rglob("*"))]
        if chosen and not paths:
            return
        started = time.monotonic()
        title = f"tests/{name}{on}"
        say(f"pytest {title} ...")
        seconds = SUITE_SECONDS.get(name)
        counts, problem = run_pytest(python, [*(paths or [f"tests/{name}"]), *options], seconds)
        # With -k or -m one of the runs may rightly have nothing to do; that none had is caught in the end.
        if problem == "no tests" and options:
            problem = ""
        self.passed, self.skipped = self.passed + counts[0], self.skipped + counts[2]
        self.failed += counts[1] + bool(problem)
        text = problem or f"{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped"
        self.rows.append((title, text, time.monotonic() - started))

    def tell(self) -> int:
        """Print the table; return the exit code."""
        if not self.passed + self.failed + self.skipped:
            self.rows.append(("tests", "no test was run", 0.0))
            self.failed += 1
        say()
        width = max(len(title) for title, _, _ in self.rows)
        for title, text, seconds in self.rows:
            say(f"{title:<{width}} {text:<40} {seconds:7.1f} s")
        say(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def test(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run what was asked for, print a table, return the exit code; `arguments` are paths of tests and pytest's own."""
    tally = Tally()
    if options.gui:
        test_gui(tally, arguments)
    elif options.blender or options.all_blenders:
        blenders = [options.blender] if options.blender else list(BLENDERS)
        # All of them before the first environment is made.
        pythons = {blender: find_python(BLENDERS[blender], options.python) for blender in blenders}
        for blender, python in pythons.items():
            test_blender(tally, blender, python, arguments)
    else:
        another = another_blender(options.python) if options.another else None
        test_everything(tally, arguments)
        if another:
            test_blender(tally, *another, arguments)
    return tally.tell()


def test_everything(tally: Tally, arguments: Sequence[str]) -> None:
    """The checkers and every test that needs no window, with the running Python and its Blender."""
    python = prepare_environment(with_tests=True)
    for title, command in (
        ("ruff check", ["ruff", "check", "--quiet", "."]),
        ("ruff format", ["ruff", "format", "--quiet", "--check", "."]),
        ("mypy", ["mypy", "--no-error-summary"]),
    ):
        tally.check(title, [str(python), "-m", *command])
    for name in ("core", "worker", "blender"):
        tally.suite(python, name, arguments)


def test_blender(tally: Tally, blender: str, base: Interpreter, arguments: Sequence[str]) -> None:
    """The tests that Blender's version matters to; those of the worker once for each Python."""
    python = prepare_blender(blender, base)
    for name in ("worker", "blender") if blender in PYTHONS.values() else ("blender",):
        tally.suite(python, name, arguments, f" on Blender {blender}")


def another_blender(named: Sequence[Path]) -> tuple[str, Interpreter] | None:
    """One Blender besides that of the running Python, another one each day, among those that there is a Python for."""
    others = [name for name in BLENDERS if name != PYTHONS.get(sys.version_info[:2])]
    first = time.gmtime().tm_yday % len(others)
    for blender in others[first:] + others[:first]:
        try:
            python = find_python(BLENDERS[blender], named)
        except BuildError as error:
            say(f"Blender {blender} is left out: {error}")
        else:
            say(f"Today's other Blender is {blender}.")
            return blender, python
    return None


def test_gui(tally: Tally, arguments: Sequence[str]) -> None:
    """The tests in a Blender with a window; pictures of each are in out/gui afterwards."""
    python = prepare_environment(with_tests=True)
    run_step("Looking for a Blender with a window", [python, ROOT / "tests" / "gui" / "windowed.py"])
    tally.suite(python, "gui", arguments)
    say(f"Pictures and logs are in {ROOT / 'out' / 'gui'}")


def run_pytest(python: Path, arguments: Sequence[str], seconds: float | None) -> tuple[tuple[int, int, int], str]:
    """Run pytest in its own process, killed with its children after `seconds`.

    Returns:
        (passed, failed, skipped) and, if the run itself went wrong, what happened.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(python), "-m", "pytest", *arguments, f"--junitxml={report}"]
        exit_code = run_killable(command, seconds)
        reported, counts = report.exists(), read_junit(report)
    if exit_code is None:
        return counts, f"killed after {seconds:.0f} s"
    if exit_code == 5:
        return counts, "no tests"
    if exit_code == 0 and not reported:
        return counts, "pytest ended without a report"
    if exit_code == 0 or (exit_code == 1 and counts[1]):
        return counts, ""
    return counts, f"pytest ended with exit code {exit_code}"


def run_killable(command: Sequence[str], seconds: float | None) -> int | None:
    """Run a process in a group of its own and kill the whole group after `seconds`; None if it was killed."""
    process = subprocess.Popen(command, env=clean_environment(), cwd=ROOT, start_new_session=os.name != "nt")
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also after a normal end: a test may have left a Blender behind.
        if os.name == "nt":
            if process.poll() is None:
                subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_junit(report: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of a JUnit report; zeros if the run did not live to write one."""
    try:
        suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314  pytest has just written it
    except (OSError, ElementTree.ParseError):
        return 0, 0, 0
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


# --------------------------------------------------------------------------------------------------
# zip
# --------------------------------------------------------------------------------------------------


def zip_extension(output: Path | None, platforms: Sequence[str]) -> list[Path]:
    """Write the extension that Blender installs, one zip per platform; without platforms the light one."""
    folder = (output or ROOT / "dist").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"Cannot write into {folder}: {error.strerror}; give another folder with -o.") from error
    python = prepare_environment(with_tests=False)
    bundles = {platform: fetch_wheels(python, platform) for platform in platforms}
    with timed_step("Building the extension"):
        paths = build_extension(python, folder, bundles)
    for path in paths:
        say(f"{path}  ({size_text(path.stat().st_size)})")
    if sys.version_info[:2] != RELEASE_PYTHON:
        major, minor = RELEASE_PYTHON
        say(
            "The asset library inside was made by a newer Blender, which Blender 4.2 cannot read: "
            f"build what you publish with Python {major}.{minor}."
        )
    return paths


def build_extension(python: Path, folder: Path, bundles: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Build the extension in `folder` with an environment's interpreter.

    dir_core and blender_assets travel as a wheel named in the manifest: Blender unpacks it beside its other
    packages, so `import dir_core` means the same inside Blender, in the worker and on the command line.
    Everything is built from a copy, the source folders stay as they are.

    Args:
        python: the environment's interpreter.
        folder: where the zips go; it exists.
        bundles: the wheels that go along for each platform; without any platform, one light zip for all.

    Returns:
        `two_hand_capture-<version>-<platform>.zip` in the order of `bundles`, or `two_hand_capture-<version>.zip`.

    Raises:
        BuildError: the add-on is incomplete, or Blender's tool rejects it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        staged = stage_extension(python, Path(temporary))
        tool = find_extension_tool(python)
        if not bundles:
            return [pack_extension(python, tool, staged, folder)]
        paths = []
        for platform_name, wheels in bundles.items():
            one = Path(temporary) / platform_name
            shutil.copytree(staged, one)
            paths.append(pack_extension(python, tool, one, folder, platform_name=platform_name, wheels=wheels))
            shutil.rmtree(one)
    return paths


def stage_extension(python: Path, folder: Path) -> Path:
    """Everything that is the same on each platform, as the folder that Blender's tool packs."""
    if not (ROOT / "addon" / MANIFEST).exists():
        raise BuildError(f"addon/{MANIFEST} is missing, check out the whole repository.")
    wheel = build_wheel(python, folder)
    staged = folder / "addon"
    shutil.copytree(ROOT / "addon", staged, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copy2(ROOT / "LICENSE", staged)
    check_manifest((staged / MANIFEST).read_text(encoding="utf-8"), wheel)
    (staged / "wheels").mkdir()
    shutil.copy2(wheel, staged / "wheels")
    # A folder of its own, because Blender takes whole folders as asset libraries.
    (staged / "assets").mkdir()
    library = staged / "assets" / "two_hands.blend"
    run_quietly([python, "-m", "addon", "--rest", "-o", library], "build the asset library")
    return staged


def pack_extension(
    python: Path,
    tool: Path,
    staged: Path,
    folder: Path,
    *,
    platform_name: str | None = None,
    wheels: Sequence[Path] = (),
) -> Path:
    """Let Blender's tool pack and judge a staged extension, with the wheels of one platform."""
    for wheel in wheels:
        shutil.copy2(wheel, staged / "wheels")
    manifest = (staged / MANIFEST).read_text(encoding="utf-8")
    names = sorted(wheel.name for wheel in (staged / "wheels").iterdir())
    (staged / MANIFEST).write_text(name_wheels(manifest, names, platform_name), encoding="utf-8")
    version = read_version(manifest)
    # The names that `blender --command extension build --split-platforms` gives.
    ending = f"-{platform_name.replace('-', '_')}" if platform_name else ""
    path = folder / f"two_hand_capture-{version}{ending}.zip"
    # Built aside and renamed, so that a rejected extension never takes the place of a good one.
    built = path.with_name(f".{path.name}")
    try:
        run_quietly([python, tool, "build", "--source-dir", staged, "--output-filepath", built], "build the extension")
        run_quietly([python, tool, "validate", built], "validate the extension")
        built.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            built.unlink()
    return path


def read_wheel_lock(platform_name: str) -> dict[str, str]:
    """The wheels that go along on a platform: file name -> SHA-256."""
    begin, end = EXTENSION_PLATFORMS[platform_name]
    wheels = {}
    for line in WHEEL_LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            digest, name = line.split()
            tag = Path(name).stem.split("-")[-1]
            if tag == "any" or (tag.startswith(begin) and tag.endswith(end)):
                wheels[name] = digest
    return wheels


def fetch_wheels(python: Path, platform_name: str) -> list[Path]:
    """The wheels that go along on a platform, downloaded unless an earlier run has, and what the lock file says.

    Raises:
        DownloadError: there is no network.
        BuildError: what came is another file than the lock file names.
    """
    locked = read_wheel_lock(platform_name)
    missing = [name for name, digest in locked.items() if file_hash(WHEEL_CACHE / name) != digest]
    if missing:
        WHEEL_CACHE.mkdir(parents=True, exist_ok=True)
        with timed_step(f"Downloading wheels for {platform_name} into {WHEEL_CACHE} (once)"):
            for name in missing:
                download_wheel(python, name, locked[name])
    return [WHEEL_CACHE / name for name in locked]


def download_wheel(python: Path, name: str, digest: str) -> None:
    """Fetch one wheel, whole and verified or not at all."""
    package, version, tag, abi, platforms = Path(name).stem.split("-")
    with tempfile.TemporaryDirectory(dir=WHEEL_CACHE) as temporary:
        command = [str(python), "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--retries", "1"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", temporary]
        command += ["--implementation", tag[:2], "--python-version", tag[2:], "--abi", abi]
        for each in platforms.split("."):
            command += ["--platform", each]
        command.append(f"{package}=={version}")
        result = subprocess.run(command, capture_output=True, check=False, env=clean_environment(), cwd=ROOT)
        if result.returncode:
            log = WHEEL_CACHE / "download.log"
            log.write_bytes(result.stdout + result.stderr)
            raise DownloadError(
                f"{name} is not in {WHEEL_CACHE} and could not be downloaded: check the network and the free disk "
                f"space (pip's own words are in {log}) and run the same command again, or build without wheels by "
                "zip --light."
            )
        path = Path(temporary) / name
        if file_hash(path) != digest:
            raise BuildError(f"What was downloaded as {name} is not the file that locks/{WHEEL_LOCK.name} names.")
        path.replace(WHEEL_CACHE / name)


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file, None if there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def build_wheel(python: Path, folder: Path) -> Path:
    """Build the pure-Python wheel of dir_core and blender_assets from a copy of the sources."""
    source, wheels = folder / "source", folder / "wheels"
    source.mkdir()
    # The scripts that made the assets need torch and Blender; whoever wants them has the repository.
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "build_*.py", "demo", "second_hand")
    for name in ("dir_core", "blender_assets"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    run_quietly(
        [python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source],
        "build the wheel of dir_core",
    )
    return next(wheels.glob("*.whl"))


def check_manifest(manifest: str, wheel: Path) -> None:
    """The version of the extension has to be the one of dir_core."""
    version = read_version(manifest)
    if f"-{version}-" not in wheel.name:
        raise BuildError(f"addon/{MANIFEST} has version {version}, the wheel is {wheel.name}: align them.")


def read_version(manifest: str) -> str:
    """The extension's version in the manifest's text."""
    import tomllib  # noqa: PLC0415  part of the standard library only since Python 3.11

    return str(tomllib.loads(manifest)["version"])


def name_wheels(manifest: str, wheels: Sequence[str], platform_name: str | None) -> str:
    """The manifest's text with wheels and platform named in it, before the first table as TOML wants it."""
    lines = manifest.splitlines()
    first_table = next((row for row, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    added = [f'platforms = ["{platform_name}"]'] if platform_name else []
    added += ["wheels = [", *(f'  "./wheels/{name}",' for name in wheels), "]", ""]
    return "\n".join(lines[:first_table] + added + lines[first_table:]) + "\n"


def find_extension_tool(python: Path) -> Path:
    """Blender's own command line tool for extensions, part of its module."""
    command = [str(python), "-c", "import importlib.util as u; print(u.find_spec('bpy').submodule_search_locations[0])"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment(), cwd=ROOT)
    return next(Path(result.stdout.strip()).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))


def run_quietly(command: Sequence[str | Path], purpose: str) -> None:
    """Run a tool whose words matter only when it fails."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=clean_environment(), cwd=ROOT
    )
    if result.returncode:
        print_last_lines(result.stdout + result.stderr)
        raise BuildError(f"Could not {purpose}, see the lines above.")


# --------------------------------------------------------------------------------------------------
# rigs
# --------------------------------------------------------------------------------------------------


def rigs(output: Path | None) -> None:
    """Write a .blend with both hand rigs in rest pose, marked as assets."""
    path = (output or ROOT / "dist" / "two_hands.blend").resolve()
    if path.suffix != ".blend":
        raise BuildError(f"{path} is no .blend file, give a name that ends in .blend with -o.")
    python = prepare_environment(with_tests=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    run_step("Building both hand rigs in rest pose", [python, "-m", "addon", "--rest", "-o", path])
    say(f"{path}  ({size_text(path.stat().st_size)})")


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The four commands."""
    parser = argparse.ArgumentParser(prog="build_addon.py", description="Build, try and test the add-on.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | test | zip | rigs")
    command = commands.add_parser("demo", help="capture a video and build a .blend with both hands from it")
    command.add_argument("video", nargs="?", type=Path, help="without one, the clip that comes with the project")
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder for the results (out/NAME)")
    command = commands.add_parser(
        "test", help="run the checkers and all tests; more arguments go to pytest", allow_abbrev=False
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--blender", choices=tuple(BLENDERS), help="only the tests inside Blender, on this one")
    which.add_argument("--all-blenders", action="store_true", help=f"the same on all of them: {', '.join(BLENDERS)}")
    which.add_argument("--another", action="store_true", help="everything, and one more Blender, another one each day")
    which.add_argument("--gui", action="store_true", help="the tests in a Blender with a window (Linux)")
    command.add_argument(
        "--python", type=Path, action="append", default=[], metavar="PATH", help="a Python to make environments with"
    )
    command = commands.add_parser("zip", help="build the extension that Blender installs")
    command.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder for the zips (dist)")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--platform", choices=tuple(EXTENSION_PLATFORMS), help="one platform instead of all")
    which.add_argument("--light", action="store_true", help="one small zip that imports takes but cannot capture")
    command = commands.add_parser("rigs", help="write a .blend asset library with both hand rigs in rest pose")
    command.add_argument("-o", "--output", type=Path, metavar="FILE.blend", help="(dist/two_hands.blend)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        if options.command == "demo":
            demo(options.video, options.output)
        elif options.command == "test":
            return test(options, rest)
        elif options.command == "zip":
            platforms = [options.platform] if options.platform else list(EXTENSION_PLATFORMS)
            zip_extension(options.output, [] if options.light else platforms)
        else:
            rigs(options.output)
    except BuildError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
