"""`python -I -m dir_core.worker.runtime_setup FOLDER BUILD LOCKS [PATH ...]`: makes or removes the GPU runtime.

Runs in Blender's own Python and leaves that untouched: everything goes into a virtual environment in FOLDER, as
runtime.py describes it. pip downloads, wheel by wheel, and what has the locked hash is unpacked here: so every byte is
counted, a setup that was ended goes on where it was, and paths longer than Windows allows are no obstacle.

The environment is the runtime only when runtime.json names it, and that is written last. When the flag `cancel` appears
or the parent is gone, the process ends within a moment and so does the process it started.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dir_core.errors import GpuRuntimeError, HandCaptureError
from dir_core.take import write_whole
from dir_core.worker.protocol import CANCEL, HEARTBEAT, JobLock, python_command, worker_environment
from dir_core.worker.runtime import (
    PROGRESS,
    REMOVE,
    RUNTIME,
    SCHEMA,
    SELF_TEST,
    SETUP_LOG,
    WHEELS,
    Lock,
    LockedFile,
    SetupProgress,
    Stage,
    environment_python,
    environments,
    is_downloaded,
    needed_space,
    read_lock,
    read_self_test,
    site_packages,
    to_json,
)

_POLL = 0.1  # seconds between two looks at the flag
_TELL_PERIOD = 0.2  # seconds between two writings of progress.json
_RATE_WINDOW = 15.0  # seconds over which the speed is measured
_REQUIREMENT = "one.txt"  # what pip is asked for, in wheels/
_PIECE = 1 << 20  # bytes read at once
_TIMEOUT, _RETRIES = 30, 3  # seconds without an answer, and how often pip asks again
_ROOM = 50_000_000  # bytes that have to stay free besides what is installed

_DEFECT_EXIT = 1
_STOPPED_EXIT = 130

# pip, run from its wheel. It watches its standard input, as the worker does: it would outlive a killed parent.
_PIP_WITH_PARENT = (
    "import os, runpy, sys, threading\n"
    "def watch():\n"
    "    while os.read(0, 4096):\n"
    "        pass\n"
    "    os._exit(131)\n"
    "threading.Thread(target=watch, daemon=True).start()\n"
    "sys.path.insert(0, sys.argv.pop(1))\n"
    "runpy.run_module('pip', run_name='__main__')\n"
)

_OFFLINE = (
    "nameresolution",
    "name resolution",
    "resolve",
    "getaddrinfo",
    "newconnectionerror",
    "connection-failed",
    "connection refused",
    "unreachable",
    "timed out",
    "connection broken",
)
_DISK_FULL = ("no space left", "not enough space on the disk")


class StoppedError(Exception):
    """The user cancelled, or nobody waits for the runtime any more."""


class Watch:
    """Knows whether to go on, and ends the running child as soon as not."""

    def __init__(self, folder: Path, lock: JobLock):
        """Begin to watch the flag `cancel` of a folder and standard input, and to touch the lock."""
        self.stopped = False
        self._flag = folder / CANCEL
        self._lock = lock
        self._child: subprocess.Popen[str] | None = None
        threading.Thread(target=self._follow_parent, name="parent", daemon=True).start()
        threading.Thread(target=self._follow_flag, name="cancel", daemon=True).start()

    def check(self) -> None:
        """Raise StoppedError if there is no reason to go on."""
        if self.stopped:
            raise StoppedError

    def run(self, command: Sequence[str | os.PathLike[str]], hear: Callable[[str], None]) -> int:
        """Run a child to its end and give its exit code back; `hear` gets every line that it prints.

        Raises:
            StoppedError: the child was ended, because there is no reason to go on.
            OSError: it cannot be started.
        """
        self.check()
        with subprocess.Popen(  # noqa: S603 - the command is ours
            [os.fspath(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=worker_environment() | {"PIP_CONFIG_FILE": os.devnull, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # its own children end with it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ) as child:
            self._child = child
            self._end_child()
            for line in child.stdout or ():
                hear(line)
            code = child.wait()
            self._child = None
        self.check()
        return code

    def _follow_parent(self) -> None:
        with suppress(OSError):  # there never was a standard input
            while os.read(0, 4096):
                pass
        self._stop()

    def _follow_flag(self) -> None:
        beat = 0.0
        while not self._flag.exists():
            if time.monotonic() - beat >= HEARTBEAT:
                beat = time.monotonic()
                self._lock.touch()
            time.sleep(_POLL)
        self._stop()

    def _stop(self) -> None:
        self.stopped = True
        self._end_child()

    def _end_child(self) -> None:
        child = self._child
        if self.stopped and child is not None:
            with suppress(OSError):
                if sys.platform == "win32":
                    child.kill()
                else:
                    os.killpg(child.pid, signal.SIGKILL)


class Progress:
    """Writes progress.json, whole and not too often."""

    def __init__(self, folder: Path):
        self._path = folder / PROGRESS
        self._stage: Stage = "making"
        self._told = -_TELL_PERIOD
        self._recent: deque[tuple[float, int]] = deque()

    def enter(self, stage: Stage) -> None:
        """A stage begins."""
        self._stage = stage
        self._recent.clear()
        self._write(SetupProgress(stage))

    def count(self, done: int, total: int) -> None:
        """So many bytes are done."""
        now = time.monotonic()
        self._recent.append((now, done))
        while now - self._recent[0][0] > _RATE_WINDOW and len(self._recent) > 2:
            self._recent.popleft()
        if now - self._told < _TELL_PERIOD and done < total:
            return
        self._told = now
        (begin, first), (end, last) = self._recent[0], self._recent[-1]
        rate = (last - first) / (end - begin) if end > begin else 0.0
        left = (total - done) / rate if rate > 0 else None
        self._write(SetupProgress(self._stage, done, total, round(rate), None if left is None else round(left, 1)))

    def end(self, error: str = "", cancelled: bool = False) -> None:
        """The setup is over, with a runtime unless there is an error."""
        self._write(SetupProgress("ended", error=error, cancelled=cancelled))

    def _write(self, progress: SetupProgress) -> None:
        for _ in range(10):  # Windows refuses to replace a file in the instant in which Blender reads it
            try:
                write_whole(self._path, to_json(progress))
                return
            except HandCaptureError:
                time.sleep(0.02)
        print(f"Cannot write {self._path}: {progress}", flush=True)


def set_up(lock: Lock, folder: Path, paths: Sequence[str], watch: Watch, progress: Progress) -> None:
    """Make the environment of a lock and declare it the runtime.

    Raises:
        GpuRuntimeError: one sentence, why not; what was the runtime before still is, unless it is this very one.
        StoppedError: there is no reason to go on.
    """
    environment = folder / lock.environment
    _check_space(needed_space(lock, folder), folder)
    progress.enter("making")
    _forget(environment, folder)
    try:
        python = make_environment(environment, watch)
        progress.enter("downloading")
        download(lock, folder, python, watch, progress)
        progress.enter("installing")
        install(lock, folder, environment, watch, progress)
        stamp = {
            "schema": SCHEMA,
            "environment": environment.name,
            "build": lock.build,
            "python": sys.version_info[:2],
            "base": _base_python(),
            "lock": lock.digest,
            "size": sum(path.lstat().st_size for path in environment.rglob("*")),
        }
        progress.enter("testing")
        answer = folder / SELF_TEST
        answer.unlink(missing_ok=True)
        try_environment(python, lock.build, answer, paths, watch)
    except BaseException:
        shutil.rmtree(_long(environment), ignore_errors=True)
        raise
    write_whole(folder / RUNTIME, json.dumps(stamp, indent=1).encode())
    for left_over in [folder / WHEELS, *(path for path in environments(folder) if path != environment)]:
        shutil.rmtree(_long(left_over), ignore_errors=True)
    test = read_self_test(answer)
    if test is not None and test.error:
        raise GpuRuntimeError(test.error)


def remove(folder: Path, progress: Progress) -> None:
    """Remove everything that a setup has made; first its name, so that half of it is never taken for a runtime.

    Raises:
        GpuRuntimeError: something cannot be removed.
    """
    progress.enter("removing")
    try:
        (folder / RUNTIME).unlink(missing_ok=True)
        (folder / SELF_TEST).unlink(missing_ok=True)
        for path in (folder / WHEELS, *environments(folder)):
            if path.exists():
                shutil.rmtree(_long(path))
    except OSError as error:
        raise GpuRuntimeError(
            f"Cannot remove {error.filename}: {error.strerror}; end what uses it and try again."
        ) from error


def make_environment(environment: Path, watch: Watch) -> Path:
    """Make an empty environment with the base interpreter of this process; returns its interpreter.

    Raises:
        GpuRuntimeError: this Python cannot make environments.
    """
    said: list[str] = []
    if watch.run([_base_python(), "-I", "-m", "venv", "--without-pip", environment], said.append) != 0:
        print(*said, sep="", flush=True)
        if _disk_is_full("".join(said)):
            raise GpuRuntimeError(f"The disk of {environment.parent} is full, make room and set up again.")
        raise GpuRuntimeError(_without_venv())
    return environment_python(environment)


def bundled_pip() -> Path:
    """The wheel of pip that every Python carries for its environments; a distribution may keep it elsewhere.

    Raises:
        GpuRuntimeError: this one does not.
    """
    spec = importlib.util.find_spec("ensurepip")
    folders = [Path(spec.origin).parent / "_bundled"] if spec and spec.origin else []
    folders.append(Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or os.devnull))
    for folder in folders:
        for wheel in sorted(folder.glob("pip-*.whl")):
            return wheel
    raise GpuRuntimeError(_without_venv())


def _without_venv() -> str:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"The Python of this Blender ({_base_python()}) cannot make environments; install its venv and ensurepip "
        f"(Debian: apt install python{version}-venv) or choose another Python."
    )


def download(lock: Lock, folder: Path, python: Path, watch: Watch, progress: Progress) -> None:
    """Download what is not there yet, the locked pip first, because only a new one counts bytes.

    Raises:
        GpuRuntimeError: there is no network, the disk is full, or a file is not the one that is locked.
    """
    wheels = folder / WHEELS
    wheels.mkdir(exist_ok=True)
    done = 0
    # The large ones first, so that the speed and the time left mean something early.
    for file in (lock.files[0], *sorted(lock.files[1:], key=lambda file: -file.size)):
        if not is_downloaded(file, folder):
            command = _pip_download(python, wheels / lock.files[0].name, wheels)
            _download_one(file, wheels, command, watch, _counter(progress, done, file.size, lock.download_size))
        done += file.size
        progress.count(done, lock.download_size)


def _counter(progress: Progress, done: int, size: int, total: int) -> Callable[[int], None]:
    return lambda count: progress.count(done + min(count, size), total)


def _pip_download(python: Path, pip: Path, wheels: Path) -> list[str]:
    """The command that downloads what one.txt asks for, free of the user's configuration.

    Args:
        python: of the environment.
        pip: where the wheel of the locked pip is to be; while it is not there, the one of Python downloads it.
        wheels: where files go.
    """
    has_pip = pip.exists()
    command = [
        str(python),
        "-I",
        "-X",
        "utf8",
        "-c",
        _PIP_WITH_PARENT,
        str(pip if has_pip else bundled_pip()),
        "--isolated",
    ]
    command += ["download", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-index", "--no-deps"]
    command += ["--timeout", str(_TIMEOUT), "--retries", str(_RETRIES), "--progress-bar", "raw" if has_pip else "off"]
    return [*command, "--require-hashes", "-d", str(wheels), "-r", str(wheels / _REQUIREMENT)]


def _download_one(
    file: LockedFile, wheels: Path, command: Sequence[str], watch: Watch, count: Callable[[int], None]
) -> None:
    said: list[str] = []

    def hear(line: str) -> None:
        words = line.split()
        if words[:1] == ["Progress"] and len(words) == 4:
            count(int(words[1]))
        else:
            said.append(line)
            print(line, end="", flush=True)

    requirement = wheels / _REQUIREMENT
    requirement.write_text(f"{file.package} @ {file.url} --hash=sha256:{file.sha256}\n", encoding="utf-8")
    code = watch.run(command, hear)
    requirement.unlink(missing_ok=True)
    if code != 0:
        raise GpuRuntimeError(_download_sentence(file, "".join(said), wheels))


def _download_sentence(file: LockedFile, said: str, wheels: Path) -> str:
    """Why pip could not download a file."""
    host = file.url.split("/")[2] or file.url
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"{file.name} from {host} is not the file that this add-on knows and was thrown away; "
            "update the add-on, or try another network."
        )
    if _disk_is_full(said):
        return f"The disk of {wheels} is full, make room and set up again; what is downloaded stays."
    if "certificate" in said.lower():
        return f"The certificate of {host} is not trusted on this computer, ask who runs the network."
    if any(word in said.lower() for word in _OFFLINE):
        return f"{host} cannot be reached, check the network and set up again; what is downloaded stays."
    return f"{file.name} could not be downloaded from {host}, the log says why; what is downloaded stays."


def install(lock: Lock, folder: Path, environment: Path, watch: Watch, progress: Progress) -> None:
    """Check the hash of every wheel and unpack it.

    Raises:
        GpuRuntimeError: a file is not the one that is locked, or the disk is full.
    """
    wheels = [folder / WHEELS / file.name for file in lock.files[1:]]
    total = 0
    try:
        for file, wheel in zip(lock.files[1:], wheels, strict=True):
            if _sha256(wheel, watch) != file.sha256:
                wheel.unlink()
                raise GpuRuntimeError(f"{wheel} was damaged and is removed, set up again to download it anew.")
            with zipfile.ZipFile(wheel) as archive:
                total += sum(member.file_size for member in archive.infolist())
        _check_space(total, folder)
        target, done = _long(site_packages(environment)), 0
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    watch.check()
                    path = Path(archive.extract(member, target))
                    if member.external_attr >> 16 & 0o111 and not member.is_dir():
                        path.chmod(0o755)  # programs such as the compiler of triton
                    done += member.file_size
                    progress.count(done, total)
    except (OSError, zipfile.BadZipFile) as error:
        raise GpuRuntimeError(f"Cannot unpack into {environment}: {error}; make room and set up again.") from error


def try_environment(python: Path, build: str, answer: Path, paths: Sequence[str], watch: Watch) -> None:
    """Run the self-test; its answer goes into a file, also if it is bad.

    Raises:
        GpuRuntimeError: it ended without an answer.
    """
    command = python_command(python, "dir_core.worker.self_test", ["device", build, answer, python], paths)
    code = watch.run(command, lambda line: print(line, end="", flush=True))
    if read_self_test(answer) is None:
        raise GpuRuntimeError(f"The self-test of the runtime ended without an answer (exit code {code}), see the log.")


def _check_space(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _ROOM:
        raise GpuRuntimeError(
            f"The runtime needs {(needed + _ROOM) / 1e9:.1f} GB on the disk of {folder}, where {free / 1e9:.1f} GB are "
            "free: make room and set up again."
        )


def _forget(environment: Path, folder: Path) -> None:
    """Remove an environment, and before that its claim to be the runtime.

    Raises:
        GpuRuntimeError: it cannot be removed.
    """
    try:
        named = json.loads((folder / RUNTIME).read_text("utf-8"))["environment"]
    except FileNotFoundError:
        named = None
    except (OSError, ValueError, KeyError, TypeError):
        named = environment.name  # damaged: it is worth nothing
    try:
        if named == environment.name:
            (folder / RUNTIME).unlink()
        if environment.exists():
            shutil.rmtree(_long(environment))
    except OSError as error:
        raise GpuRuntimeError(f"Cannot remove {environment}: {error.strerror}; end what uses it.") from error


def _sha256(path: Path, watch: Watch) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            watch.check()
            digest.update(piece)
    return digest.hexdigest()


def _base_python() -> str:
    """The interpreter below any environment that this process runs in."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _long(path: Path) -> str:
    """A path that Windows accepts beyond 260 letters."""
    return f"\\\\?\\{path.absolute()}" if sys.platform == "win32" else str(path)


def _disk_is_full(text: str) -> bool:
    return any(words in text.lower() for words in _DISK_FULL)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks and return the exit code; progress.json ends with what came of it."""
    folder, build, locks, paths = Path(arguments[0]), arguments[1], Path(arguments[2]), arguments[3:]
    lock = JobLock(folder)
    if not lock.acquire():
        print(f"Another setup works in {folder}.", file=sys.stderr)
        return HandCaptureError.exit_code
    progress = Progress(folder)
    watch = Watch(folder, lock)
    try:
        if build == REMOVE:
            remove(folder, progress)
        else:
            set_up(read_lock(build, locks), folder, paths, watch, progress)
    except StoppedError:
        progress.end("The setup was cancelled; what is downloaded stays for the next one.", cancelled=True)
        return _STOPPED_EXIT
    except HandCaptureError as error:
        print(error, file=sys.stderr)
        progress.end(str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        progress.end(f"A defect of this program ended the setup ({type(error).__name__}), {SETUP_LOG} says where.")
        return _DEFECT_EXIT
    progress.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
