"""The GPU runtime as Blender sees it: what can be set up, what is there, and how to start the processes around it.

The runtime is a virtual environment with torch, in a folder of the user's:

runtime.json      names the environment that is the runtime; written last, so that nothing unfinished is taken for one
BUILD-DIGEST/     an environment, made from the lock file whose digest it is named after
wheels/           what was downloaded, until the environment is finished
self_test.json    what the last self-test said
progress.json     how far the running or the last setup came
setup.log, cancel, lock

The work is done by runtime_setup.py and self_test.py in processes of their own. No torch here.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from dir_core.errors import GpuRuntimeError
from dir_core.worker.protocol import CANCEL, is_running, python_command, set_flag, start_child

LOCKS = Path(__file__).parent / "locks"
"""The lock files that travel with the program; see locks/README.md of the repository."""

RUNTIME = "runtime.json"
PROGRESS = "progress.json"
SELF_TEST = "self_test.json"
WHEELS = "wheels"
SETUP_LOG = "setup.log"
REMOVE = "remove"
"""What stands in place of a build when the runtime is to be removed."""

SCHEMA = "two-hand-runtime/1"

BUILDS = {"cuda": "NVIDIA GPU", "mps": "Apple GPU", "cpu": "CPU"}
"""What torch can be built for, as the user reads it."""

LICENCES = {
    "cuda": "PyTorch (BSD-3-Clause) with NVIDIA's CUDA libraries (NVIDIA's own licence)",
    "mps": "PyTorch (BSD-3-Clause)",
    "cpu": "PyTorch (BSD-3-Clause)",
}

OLDEST_DRIVER = 580
"""Linux: the first NVIDIA driver that runs the CUDA 13 of the locked torch."""

UNPACKED = {"cuda": 2.0, "mps": 4.0, "cpu": 4.0}
"""Bytes on disk for each byte downloaded, at most: on Linux CUDA took 1.8 and CPU 3.7."""

Stage = Literal["making", "downloading", "installing", "testing", "removing", "ended"]
State = Literal["none", "running", "unfinished", "ready", "broken"]

_PLATFORMS = {
    ("linux", "x86_64"): "linux-x64",
    ("win32", "amd64"): "windows-x64",
    ("darwin", "arm64"): "macos-arm64",
}
_ENVIRONMENT_NAME = 8  # letters of the digest; Windows has little room in a path


@dataclass(frozen=True)
class LockedFile:
    """One file of a lock.

    Attributes:
        package: its name.
        url: where it is.
        sha256: of the file, in hexadecimal.
        size: bytes.
    """

    package: str
    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def version(self) -> str:
        """The package's version, as in the name of its dist-info folder."""
        return self.name.split("-")[1]


@dataclass(frozen=True)
class Lock:
    """Everything one build consists of.

    Attributes:
        build: "cuda", "mps" or "cpu".
        files: in the order of the lock file; the first is pip.
        digest: SHA-256 over the lock file, the identity of what it makes.
    """

    build: str
    files: tuple[LockedFile, ...]
    digest: str

    @property
    def download_size(self) -> int:
        """Bytes to download."""
        return sum(file.size for file in self.files)

    @property
    def environment(self) -> str:
        """Name of the folder that it becomes."""
        return f"{self.build}-{self.digest[:_ENVIRONMENT_NAME]}"


@dataclass(frozen=True)
class SetupProgress:
    """How far a setup is.

    Attributes:
        stage: what it does now.
        done, total: bytes; total 0 where nobody knows.
        bytes_per_second: over the last seconds, 0 while unknown.
        seconds_left: of this stage; None while unknown.
        error: one sentence, why it ended without a runtime.
        cancelled: the user ended it.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    error: str = ""
    cancelled: bool = False


@dataclass(frozen=True)
class SelfTest:
    """What a self-test said.

    Attributes:
        python: the interpreter it ran in.
        device: "cuda", "mps" or "cpu".
        name: of the device, as the user knows it.
        torch: its version.
        frames_per_second: of the DIR network on that device.
        deviation: largest distance of a key point from the stored reference, metres.
        error: one sentence, why the runtime cannot be used.
    """

    python: str
    device: str = ""
    name: str = ""
    torch: str = ""
    frames_per_second: float = 0.0
    deviation: float = 0.0
    error: str = ""

    @property
    def sentence(self) -> str:
        """The result in one line."""
        if self.error:
            return self.error
        return (
            f"{self.name}: {self.frames_per_second:.3g} frames/s with torch {self.torch}, "
            f"agrees with the reference to {self.deviation:.0e} m"
        )


@dataclass(frozen=True)
class RuntimeStatus:
    """What there is of a runtime.

    Attributes:
        state: "none"; "running" during a setup; "unfinished" after one that was killed or cancelled; "ready"; "broken".
        sentence: for the user.
        python: the interpreter of a ready runtime, else None.
        environment: a complete environment, tested or not, else None.
        build: that is there, else "".
        size: bytes on disk.
        self_test: the last one of a complete environment.
    """

    state: State
    sentence: str = ""
    python: Path | None = None
    environment: Path | None = None
    build: str = ""
    size: int = 0
    self_test: SelfTest | None = None


# --- what can be set up ------------------------------------------------------------------------------------------


def possible_builds(system: str = sys.platform, machine: str = platform.machine()) -> tuple[str, ...]:
    """The builds that exist for a computer, the one that every such computer can run last."""
    return tuple(build for build in BUILDS if any(LOCKS.glob(f"{_platform(system, machine)}-{build}-*.txt")))


def _platform(system: str = sys.platform, machine: str = platform.machine()) -> str:
    """The computer in the words of the lock files."""
    return _PLATFORMS.get((system, machine.lower()), f"{system}-{machine}")


def detect_build() -> tuple[str, str]:
    """The build that suits this computer ("" if there is none), and why in words; only looks at a few files."""
    builds = possible_builds()
    if not builds:
        return "", f"There is no runtime for {platform.system()} on {platform.machine()}"
    if "mps" in builds:
        return "mps", "Apple silicon found"
    driver = nvidia_driver()
    if driver is None:
        return "cpu", "no NVIDIA driver found"
    if 0 < driver < OLDEST_DRIVER:
        return "cpu", f"the NVIDIA driver {driver} is older than {OLDEST_DRIVER}, update it for the GPU"
    return "cuda", f"NVIDIA driver {driver} found" if driver else "NVIDIA driver found"


def nvidia_driver(root: Path = Path("/"), windows: str | None = os.environ.get("SYSTEMROOT")) -> int | None:
    """Major version of the NVIDIA driver, 0 if there is one of unknown version, None if there is none."""
    if sys.platform == "win32":
        return 0 if windows and (Path(windows) / "System32" / "nvcuda.dll").is_file() else None
    try:
        words = (root / "proc/driver/nvidia/version").read_text("utf-8", "replace").split()
    except OSError:
        return 0 if (root / "usr/lib/wsl/lib/libcuda.so.1").exists() else None  # a Linux inside Windows
    versions = [int(word.split(".")[0]) for word in words if word.replace(".", "").isdigit() and "." in word]
    return versions[0] if versions else 0


def read_lock(build: str, locks: Path = LOCKS, version: Sequence[int] = sys.version_info[:2]) -> Lock:
    """The lock of a build for this computer and a Python.

    Raises:
        GpuRuntimeError: there is none.
    """
    path = locks / f"{_platform()}-{build}-cp{version[0]}{version[1]}.txt"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise GpuRuntimeError(
            f"There is no {BUILDS.get(build, build)} runtime for Python {version[0]}.{version[1]} on "
            f"{platform.system()} ({platform.machine()}), choose a Python of your own that has torch."
        ) from error
    files = tuple(_read_line(line) for line in text.splitlines() if line and not line.startswith("#"))
    return Lock(build, files, hashlib.sha256(text.encode()).hexdigest())


def _read_line(line: str) -> LockedFile:
    """Read `package @ url --hash=sha256:... # size`, a line that pip understands too."""
    package, _, url, sha256, _, size = line.split()
    return LockedFile(package, url, sha256.removeprefix("--hash=sha256:"), int(size))


def needed_space(lock: Lock, folder: Path) -> int:
    """Bytes that a setup will take on the disk of `folder`, less what is downloaded already."""
    kept = sum(file.size for file in lock.files if is_downloaded(file, folder))
    return round((1 + UNPACKED[lock.build]) * lock.download_size) - kept


def is_downloaded(file: LockedFile, folder: Path) -> bool:
    """Whether a file lies in `wheels/` in its full size; its hash is checked when it is unpacked."""
    try:
        return (folder / WHEELS / file.name).stat().st_size == file.size
    except OSError:
        return False


# --- what is there -----------------------------------------------------------------------------------------------


def find_runtime(folder: Path, locks: Path = LOCKS, version: Sequence[int] = sys.version_info[:2]) -> RuntimeStatus:
    """What there is in a folder; a handful of small files are looked at, no process is started.

    Args:
        folder: of the runtime.
        locks: where the lock files are.
        version: of the Python that the extension's packages are for.
    """
    if is_running(folder):
        return RuntimeStatus("running")
    try:
        stamp = json.loads((folder / RUNTIME).read_text("utf-8"))
        known = {name: stamp[name] for name in ("schema", "environment", "build", "python", "base", "lock", "size")}
    except FileNotFoundError:
        return _without_runtime(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        return RuntimeStatus("broken", f"{RUNTIME} of the GPU runtime is damaged ({error}), repair the runtime.")
    environment = folder / str(known["environment"])
    python = environment_python(environment)
    problem = _problem(known, environment, locks, version)
    if problem:
        return RuntimeStatus("broken", problem, build=str(known["build"]), size=int(known["size"]))
    test = read_self_test(folder / SELF_TEST)
    if test is None or Path(test.python) != python:
        test = SelfTest(str(python), error="The GPU runtime has not been tested yet, test it or repair it.")
    state: State = "broken" if test.error else "ready"
    return RuntimeStatus(
        state,
        test.sentence,
        python if state == "ready" else None,
        environment,
        str(known["build"]),
        int(known["size"]),
        test,
    )


def _without_runtime(folder: Path) -> RuntimeStatus:
    left_over = any((folder / WHEELS).glob("*.whl")) or any(environments(folder))
    if not left_over:
        return RuntimeStatus("none", "No GPU runtime is set up")
    return RuntimeStatus("unfinished", "A setup was not finished; setting up goes on with what is downloaded")


def _problem(stamp: dict[str, Any], environment: Path, locks: Path, version: Sequence[int]) -> str:
    """One sentence if the environment is not what its stamp says, or not what this add-on needs; else ""."""
    if stamp["schema"] != SCHEMA:
        return "The GPU runtime was made by another version of the add-on, repair it."
    if list(stamp["python"]) != list(version):
        made = ".".join(map(str, stamp["python"]))
        return f"The GPU runtime was made for Python {made}, this Blender has {version[0]}.{version[1]}: repair it."
    try:
        lock = read_lock(stamp["build"], locks, version)
    except GpuRuntimeError as error:
        return str(error)
    if lock.digest != stamp["lock"]:
        return "The GPU runtime was made by another version of the add-on, repair it."
    for program in (environment_python(environment), Path(stamp["base"])):
        if not program.exists():
            return f"{program} of the GPU runtime is gone, repair it."
    return _missing_package(lock, environment)


def _missing_package(lock: Lock, environment: Path) -> str:
    try:
        present = {path.name.lower() for path in site_packages(environment).iterdir()}
    except OSError:
        present = set()
    gone = [file.package for file in lock.files[1:] if dist_info(file) not in present]
    return f"{gone[0]} is missing in the GPU runtime, repair it." if gone else ""


def dist_info(file: LockedFile) -> str:
    """Name of the folder that an installed package leaves, in small letters."""
    return "-".join(file.name.split("-")[:2]).lower() + ".dist-info"


def environments(folder: Path) -> list[Path]:
    """Every environment in the folder, finished or not."""
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.name.partition("-")[0] in BUILDS and path.is_dir()]
    return []


def environment_python(environment: Path) -> Path:
    """The interpreter of an environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def site_packages(environment: Path) -> Path:
    """Where an environment of this Python's version keeps its packages."""
    if sys.platform == "win32":
        return environment / "Lib" / "site-packages"
    return environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def read_progress(folder: Path) -> SetupProgress | None:
    """What the running or the last setup said, None if it has said nothing."""
    with suppress(OSError, ValueError, TypeError):
        return SetupProgress(**json.loads((folder / PROGRESS).read_text("utf-8")))
    return None


def read_self_test(path: Path) -> SelfTest | None:
    """What a self-test wrote, None if it has written nothing."""
    with suppress(OSError, ValueError, TypeError):
        return SelfTest(**json.loads(path.read_text("utf-8")))
    return None


# --- processes ---------------------------------------------------------------------------------------------------


def start_setup(
    python: str | os.PathLike[str],
    folder: Path,
    build: str,
    paths: Sequence[str | os.PathLike[str]] = (),
    locks: Path = LOCKS,
) -> "subprocess.Popen[bytes]":
    """Start to set the runtime up, or with build REMOVE to remove it.

    Keep the process: while its `stdin` stays open it knows that its parent lives.

    Args:
        python: of Blender; the environment is made with it.
        folder: of the runtime.
        build: see BUILDS.
        paths: folders of dir_core and its packages.
        locks: where the lock files are.

    Raises:
        GpuRuntimeError: another setup runs, or nothing can be started or written.
    """
    if is_running(folder):
        raise GpuRuntimeError("The GPU runtime is being set up already, wait for it or cancel it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROGRESS).unlink(missing_ok=True)
        set_flag(folder, CANCEL, False)
    except OSError as error:
        raise GpuRuntimeError(f"Cannot write into {folder}: {error.strerror}; free it and try again.") from error
    arguments = [folder.absolute(), build, locks.absolute(), *paths]
    return start_process(python, "dir_core.worker.runtime_setup", arguments, paths, folder / SETUP_LOG)


def cancel_setup(folder: Path) -> None:
    """Ask a setup to end; what is downloaded stays.

    Raises:
        OutputError: the folder cannot be written.
    """
    set_flag(folder, CANCEL, True)


def start_self_test(
    python: str | os.PathLike[str], answer: Path, device: str, paths: Sequence[str | os.PathLike[str]] = ()
) -> "subprocess.Popen[bytes]":
    """Start the self-test of an interpreter; read its answer with `read_self_test` when the process has ended.

    Raises:
        GpuRuntimeError: it cannot be started.
    """
    with suppress(OSError):
        answer.unlink(missing_ok=True)
    arguments = ["device", device, str(answer.absolute()), os.fspath(python)]
    return start_process(python, "dir_core.worker.self_test", arguments, paths, answer.with_suffix(".log"))


def start_checkpoint_check(
    python: str | os.PathLike[str], answer: Path, checkpoint: Path, paths: Sequence[str | os.PathLike[str]] = ()
) -> "subprocess.Popen[bytes]":
    """Start to look into a file of weights; the answer is one sentence in the file `answer`.

    Raises:
        GpuRuntimeError: it cannot be started.
    """
    with suppress(OSError):
        answer.unlink(missing_ok=True)
    arguments = ["checkpoint", str(checkpoint.absolute()), str(answer.absolute())]
    return start_process(python, "dir_core.worker.self_test", arguments, paths, answer.with_suffix(".log"))


def start_process(
    python: str | os.PathLike[str],
    module: str,
    arguments: Sequence[str | os.PathLike[str]],
    paths: Sequence[str | os.PathLike[str]],
    log: Path,
) -> "subprocess.Popen[bytes]":
    """Start a module of this program; what it prints begins a new log.

    Raises:
        GpuRuntimeError: the log cannot be written, or the interpreter cannot be started.
    """
    try:
        output = log.open("wb")
    except OSError as error:
        raise GpuRuntimeError(f"Cannot write {log}: {error.strerror}; free it and try again.") from error
    with output:
        try:
            return start_child(
                python_command(python, module, arguments, paths),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=log.parent,
            )
        except OSError as error:
            raise GpuRuntimeError(
                f"Cannot start {os.fspath(python)}: {error.strerror}; choose a Python program."
            ) from error


def to_json(values: Any) -> bytes:
    """A dataclass of this file as the content of its JSON file."""
    return json.dumps(asdict(values), indent=1, ensure_ascii=False).encode()
