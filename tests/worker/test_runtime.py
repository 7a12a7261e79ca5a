"""The GPU runtime: made from a small index on this machine by the same process and the same pip as the real one."""

import dataclasses
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from dir_core.errors import GpuRuntimeError
from dir_core.worker import runtime, runtime_setup
from dir_core.worker.protocol import is_running
from dir_core.worker.runtime import (
    LOCKS,
    REMOVE,
    RUNTIME,
    SELF_TEST,
    SETUP_LOG,
    WHEELS,
    RuntimeStatus,
    SelfTest,
    cancel_setup,
    detect_build,
    environments,
    find_runtime,
    nvidia_driver,
    possible_builds,
    read_lock,
    read_progress,
    start_checkpoint_check,
    start_self_test,
    start_setup,
)

ROOT = Path(__file__).parents[2]
PATIENCE = 90  # seconds after which a process is killed and the test has failed
REAL = "TWO_HAND_CAPTURE_REAL_RUNTIME"
"""Environment variable: the build that is really downloaded and installed, such as cpu."""

BUILD = "cpu"
SMALL = [ROOT]
"""Folders with dir_core alone: the self-test then says at once that numpy is missing."""
FULL = [ROOT, Path(np.__file__).parents[1]]
"""Folders with everything, torch too."""

Setup = subprocess.Popen[bytes]


class Index(http.server.ThreadingHTTPServer):
    """A folder of files over HTTP that remembers what was asked for, and can stop answering in the middle of one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.forget()
        super().__init__(("127.0.0.1", 0), Answer)

    def forget(self) -> None:
        self.asked, self.stalls = [], ""
        self.stalled, self.go_on = threading.Event(), threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        index, name = self.server, self.path[1:]
        index.asked.append(name)
        content = (index.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if name == index.stalls:
            index.stalled.set()
            index.go_on.wait(PATIENCE)
        self.wfile.write(content[half:])

    def log_message(self, *_words: object) -> None:
        pass


def write_wheel(folder: Path, name: str, padding: int) -> Path:
    """A wheel with one module, one program and some bytes that do not compress."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    program = zipfile.ZipInfo(f"{name}/bin/program")
    program.external_attr = 0o100755 << 16
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "answer = 42\n")
        wheel.writestr(f"{name}/padding.bin", np.random.default_rng(0).bytes(padding))
        wheel.writestr(program, "#!/bin/sh\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked pip and two packages of nothing much."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = read_lock(BUILD).files[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    result = subprocess.run([*command, f"pip=={pip.version}"], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"pip {pip.version} could not be downloaded: {result.stderr.strip().splitlines()[-1]}")
    assert hashlib.sha256((folder / pip.name).read_bytes()).hexdigest() == pip.sha256
    write_wheel(folder, "large", 3_000_000)
    write_wheel(folder, "small", 10_000)
    return folder


@pytest.fixture(scope="module")
def server(wheels: Path) -> Iterator[Index]:
    with Index(wheels) as index, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        threading.Thread(target=index.serve_forever, daemon=True).start()
        yield index
        index.shutdown()


@pytest.fixture
def index(server: Index) -> Iterator[Index]:
    server.forget()
    yield server
    server.go_on.set()


def write_lock(index: Index, folder: Path) -> Path:
    """A folder with a lock of the files of the index, for the build of the tests."""
    folder.mkdir()
    lines = ["# a lock"]
    for path in sorted(index.folder.glob("*.whl"), key=lambda path: (not path.name.startswith("pip-"), path.name)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        package = path.name.split("-")[0]
        lines.append(f"{package} @ {index.url(path.name)} --hash=sha256:{digest}  # {path.stat().st_size}")
    name = f"{runtime._platform()}-{BUILD}-cp{sys.version_info[0]}{sys.version_info[1]}.txt"
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def locks(index: Index, tmp_path: Path) -> Path:
    return write_lock(index, tmp_path / "locks")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "Die Laufzeit"


@pytest.fixture
def start(folder: Path, locks: Path) -> Iterator[Callable[..., Setup]]:
    started: list[Setup] = []

    def start_one(build: str = BUILD, paths: list[Path] = SMALL) -> Setup:
        started.append(start_setup(sys.executable, folder, build, paths, locks))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def wait(process: Setup) -> int:
    return process.wait(PATIENCE)


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def lock_path(locks: Path) -> Path:
    (path,) = locks.iterdir()
    return path


def children_of(folder: Path) -> list[str]:
    """Processes that run an interpreter inside the folder."""
    result = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in result.stdout.splitlines() if line.startswith(str(folder))]


# What can be set up


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_lock_that_travels_is_whole(path: Path) -> None:
    files = [runtime._read_line(line) for line in path.read_text().splitlines() if not line.startswith("#")]
    names = [file.package for file in files]
    assert names[0] == "pip"
    assert len(set(names)) == len(names)
    assert {"torch", "numpy", "safetensors"} <= set(names)
    versions = {file.package: file.version for file in files}
    assert versions["torch"].split("+")[0] == "2.13.0"
    for file in files:
        assert file.url.startswith(("https://files.pythonhosted.org/", "https://download.pytorch.org/"))
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 1000
        assert file.name.endswith(".whl")
    cuda_needs_nvidia = "linux" in path.name and "cuda" in path.name
    assert any(name.startswith("nvidia-") for name in names) == cuda_needs_nvidia


def test_the_locks_hold_the_versions_that_the_tests_run_with() -> None:
    wanted = {}
    for name in (f"python{sys.version_info[0]}.{sys.version_info[1]}{part}.txt" for part in ("", "-test")):
        for line in (ROOT / "locks" / name).read_text().splitlines():
            if "==" in line and not line.startswith("#"):
                package, version = line.split(" ")[0].split("==")
                wanted[package.lower().replace("_", "-")] = version
    for build in possible_builds():
        for file in read_lock(build).files[1:]:
            if file.package in wanted:
                assert file.version.split("+")[0] == wanted[file.package], file.package


def test_every_supported_computer_has_its_builds() -> None:
    assert possible_builds("linux", "x86_64") == ("cuda", "cpu")
    assert possible_builds("win32", "AMD64") == ("cuda", "cpu")
    assert possible_builds("darwin", "arm64") == ("mps",)
    assert possible_builds("linux", "riscv64") == ()
    assert detect_build()[0] in possible_builds()


def test_an_unknown_python_is_told_what_to_do() -> None:
    with pytest.raises(GpuRuntimeError, match=r"no CPU runtime for Python 3\.99 .*choose a Python of your own"):
        read_lock("cpu", LOCKS, (3, 99))


@pytest.mark.skipif(sys.platform == "win32", reason="looks at a library instead")
def test_the_nvidia_driver_is_found_by_its_version_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nvidia_driver(tmp_path) is None
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version")
    assert nvidia_driver(tmp_path) == 580
    version.write_text("nothing that is known\n")
    assert nvidia_driver(tmp_path) == 0
    monkeypatch.setattr(runtime, "possible_builds", lambda: ("cuda", "cpu"))
    for driver, build in ((None, "cpu"), (535, "cpu"), (0, "cuda"), (580, "cuda")):
        monkeypatch.setattr(runtime, "nvidia_driver", lambda driver=driver: driver)
        assert detect_build()[0] == build


# The whole way


def test_a_setup_ends_with_a_runtime_that_is_proved(
    start: Callable[..., Setup], folder: Path, locks: Path, index: Index
) -> None:
    pytest.importorskip("torch")
    process = start(paths=FULL)
    stages = []
    while process.poll() is None:
        progress = read_progress(folder)
        if progress and progress.stage not in stages:
            stages.append(progress.stage)
            assert find_runtime(folder, locks).state == "running"
        time.sleep(0.01)
    log = (folder / SETUP_LOG).read_text()
    assert process.returncode == 0, log
    assert [stage for stage in stages if stage != "ended"] == ["making", "downloading", "installing", "testing"]
    status = find_runtime(folder, locks)
    assert status.state == "ready"
    assert status.build == BUILD
    assert status.python is not None
    assert status.python.is_relative_to(folder)
    assert status.size > 3_000_000
    assert status.self_test is not None
    assert status.self_test.deviation < 1e-5
    assert status.self_test.frames_per_second > 0
    assert "agrees with the reference" in status.sentence
    code = "import small, large, os; print(small.answer, os.access(small.__path__[0] + '/bin/program', os.X_OK))"
    result = subprocess.run([status.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "42 True\n"
    assert not (folder / WHEELS).exists()
    assert sorted(index.asked) == sorted(path.name for path in index.folder.glob("*.whl"))


@pytest.fixture(scope="module")
def made(server: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    wait(start_setup(sys.executable, place / "runtime", BUILD, SMALL, write_lock(server, place / "locks")))
    return place / "runtime"


def pass_test(folder: Path) -> None:
    """Write what a good self-test writes, so that nothing but the files speaks."""
    (environment,) = environments(folder)
    good = SelfTest(str(runtime.environment_python(environment)), BUILD, "CPU", "2.13.0", 5.0, 1e-7)
    (folder / SELF_TEST).write_bytes(runtime.to_json(good))


@pytest.fixture
def finished(made: Path, folder: Path, locks: Path) -> Path:
    shutil.copytree(made, folder, symlinks=True)
    pass_test(folder)
    assert find_runtime(folder, locks).state == "ready"
    return folder


def test_a_runtime_that_fails_its_test_is_broken(start: Callable[..., Setup], folder: Path, locks: Path) -> None:
    assert wait(start()) == GpuRuntimeError.exit_code
    status = find_runtime(folder, locks)
    assert status.state == "broken"
    assert status.python is None
    assert "cannot load numpy" in status.sentence
    progress = read_progress(folder)
    assert progress is not None
    assert progress.error == status.sentence


def test_what_is_broken_is_told_in_one_sentence(finished: Path, locks: Path, tmp_path: Path) -> None:
    def state_after(damage: Callable[[], object]) -> RuntimeStatus:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.move(finished, copy)
        shutil.copytree(copy, finished, symlinks=True)
        damage()
        status = find_runtime(finished, locks)
        shutil.rmtree(finished)
        shutil.move(copy, finished)
        return status

    (environment,) = environments(finished)
    packages = runtime.site_packages(environment)
    stamp = finished / RUNTIME
    for damage, words in (
        (lambda: shutil.rmtree(packages / "small-1.0.dist-info"), "small is missing"),
        (lambda: runtime.environment_python(environment).unlink(), "is gone"),
        (lambda: shutil.rmtree(environment), "is gone"),
        (lambda: stamp.write_text("{"), "damaged"),
        (lambda: stamp.write_text("[1]"), "damaged"),
        (lambda: change(stamp, "two-hand-runtime/1", "two-hand-runtime/9"), "another version"),
        (lambda: change(stamp, '"base": "', '"base": "/nowhere'), "/nowhere"),
        ((finished / SELF_TEST).unlink, "has not been tested"),
    ):
        status = state_after(damage)
        assert status.state == "broken", words
        assert words in status.sentence
        assert "repair" in status.sentence
        assert status.python is None
    other = (sys.version_info[0], sys.version_info[1] + 1)
    assert "was made for Python" in find_runtime(finished, locks, other).sentence
    change(lock_path(locks), "# a lock", "# another lock")
    status = find_runtime(finished, locks)
    assert status.state == "broken"
    assert "another version of the add-on" in status.sentence


def test_a_broken_runtime_is_repaired(finished: Path, start: Callable[..., Setup], locks: Path) -> None:
    (environment,) = environments(finished)
    shutil.rmtree(runtime.site_packages(environment) / "small-1.0.dist-info")
    (finished / RUNTIME).write_text("{")
    wait(start())
    pass_test(finished)
    assert find_runtime(finished, locks).state == "ready"


def test_a_new_lock_replaces_the_old_environment(finished: Path, start: Callable[..., Setup], locks: Path) -> None:
    (old,) = environments(finished)
    change(lock_path(locks), "# a lock", "# another lock")
    wait(start())
    (new,) = environments(finished)
    assert new != old


def test_a_setup_that_fails_leaves_the_runtime_as_it_was(
    finished: Path, start: Callable[..., Setup], locks: Path
) -> None:
    before = lock_path(locks).read_text()
    change(lock_path(locks), "http://127.0.0.1", "http://nowhere.invalid")
    wait(start())
    lock_path(locks).write_text(before)
    assert find_runtime(finished, locks).state == "ready"


def test_removing_leaves_nothing(finished: Path, start: Callable[..., Setup], locks: Path) -> None:
    assert wait(start(REMOVE)) == 0
    assert find_runtime(finished, locks).state == "none"
    assert not environments(finished)


# What can go wrong


def test_offline_is_one_clear_sentence(start: Callable[..., Setup], folder: Path, locks: Path) -> None:
    change(lock_path(locks), "http://127.0.0.1", "http://nowhere.invalid")
    assert wait(start()) == GpuRuntimeError.exit_code
    progress = read_progress(folder)
    assert progress is not None
    assert "nowhere.invalid" in progress.error
    assert "cannot be reached, check the network" in progress.error
    assert find_runtime(folder, locks).state == "none"


def test_a_refused_connection_is_the_same_sentence(start: Callable[..., Setup], folder: Path, locks: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        change(
            lock_path(locks), f":{urlsplit(read_lock(BUILD, locks).files[0].url).port}/", f":{nobody.getsockname()[1]}/"
        )
        wait(start())
    progress = read_progress(folder)
    assert progress is not None
    assert "cannot be reached, check the network" in progress.error


def test_a_file_with_another_hash_is_not_installed(start: Callable[..., Setup], folder: Path, locks: Path) -> None:
    digest = read_lock(BUILD, locks).files[1].sha256
    change(lock_path(locks), digest, "0" * 64)
    assert wait(start()) == GpuRuntimeError.exit_code
    progress = read_progress(folder)
    assert progress is not None
    assert "is not the file that this add-on knows" in progress.error
    assert not environments(folder)
    assert not list((folder / WHEELS).glob("large*"))


def test_a_kept_file_that_was_damaged_is_thrown_away(
    start: Callable[..., Setup], folder: Path, locks: Path, index: Index
) -> None:
    wheel = read_lock(BUILD, locks).files[1]
    (folder / WHEELS).mkdir(parents=True)
    (folder / WHEELS / wheel.name).write_bytes(bytes(wheel.size))
    wait(start())
    progress = read_progress(folder)
    assert progress is not None
    assert "was damaged and is removed" in progress.error
    assert wheel.name not in index.asked
    wait(start())
    assert index.asked.count(wheel.name) == 1
    assert len(environments(folder)) == 1


def test_a_cancelled_setup_ends_at_once_and_goes_on_later(
    start: Callable[..., Setup], folder: Path, locks: Path, index: Index
) -> None:
    index.stalls = "small-1.0-py3-none-any.whl"
    process = start()
    assert index.stalled.wait(PATIENCE)
    begin = time.monotonic()
    cancel_setup(folder)
    assert wait(process) == runtime_setup._STOPPED_EXIT
    assert time.monotonic() - begin < 5
    wait_until(lambda: not children_of(folder))
    progress = read_progress(folder)
    assert progress is not None
    assert progress.cancelled
    status = find_runtime(folder, locks)
    assert status.state == "unfinished"
    assert status.python is None
    assert not environments(folder)
    index.stalls = ""
    wait(start())
    assert index.asked.count("large-1.0-py3-none-any.whl") == 1
    assert find_runtime(folder, locks).build == BUILD


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
@pytest.mark.parametrize("way", ["killed", "parent gone"])
def test_a_setup_that_is_lost_leaves_no_process_and_no_runtime(
    start: Callable[..., Setup], folder: Path, locks: Path, index: Index, way: str
) -> None:
    index.stalls = "small-1.0-py3-none-any.whl"
    process = start()
    assert index.stalled.wait(PATIENCE)
    assert children_of(folder)
    if way == "killed":
        os.kill(process.pid, signal.SIGKILL)
    elif process.stdin is not None:
        process.stdin.close()
    wait(process)
    wait_until(lambda: not children_of(folder))
    assert not is_running(folder)
    assert find_runtime(folder, locks).state == "unfinished"
    index.stalls = ""
    wait(start())
    assert find_runtime(folder, locks).build == BUILD
    assert len(environments(folder)) == 1


def test_one_setup_at_a_time(start: Callable[..., Setup], folder: Path, index: Index) -> None:
    index.stalls = "small-1.0-py3-none-any.whl"
    start()
    assert index.stalled.wait(PATIENCE)
    with pytest.raises(GpuRuntimeError, match="being set up already"):
        start()


def test_a_full_disk_is_told_before_anything_is_done(
    folder: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000_000))
    watch = runtime_setup.Watch.__new__(runtime_setup.Watch)
    progress = runtime_setup.Progress(folder)
    with pytest.raises(GpuRuntimeError, match=r"needs 0\.1 GB on the disk of .*where 0\.0 GB are free"):
        runtime_setup.set_up(read_lock(BUILD, locks), folder, [], watch, progress)
    assert not environments(folder)


def test_a_python_without_venv_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'ensurepip is not available'; exit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(runtime_setup, "_base_python", lambda: str(bare))
    watch = runtime_setup.Watch.__new__(runtime_setup.Watch)
    watch.stopped, watch._child = False, None
    with pytest.raises(GpuRuntimeError, match="cannot make environments; install its venv and ensurepip"):
        runtime_setup.make_environment(tmp_path / "environment", watch)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GpuRuntimeError, match="Cannot write into"):
        start_setup(sys.executable, tmp_path / "file" / "runtime", BUILD)


# The self-test


def test_a_python_without_torch_is_named(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    bare = sys._base_executable
    wait(start_self_test(bare, answer, "cpu", SMALL))
    test = runtime.read_self_test(answer)
    assert test is not None
    assert "cannot load" in test.sentence


def test_what_is_no_python_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GpuRuntimeError, match="choose a Python program"):
        start_self_test(tmp_path / "nothing", tmp_path / "answer.json", "cpu")


def test_the_reference_is_what_the_paper_s_network_finds() -> None:
    pytest.importorskip("torch")
    from dir_core.worker import self_test

    stored = np.array(json.loads(self_test.REFERENCE.read_text()))
    assert stored.shape == (2, 21, 3)
    np.testing.assert_allclose(self_test.reference(), stored, atol=1e-7)
    assert np.abs(np.diff(stored, axis=1)).max() > 0.01, "a network that says nothing would pass"


def test_a_device_that_calculates_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from dir_core.worker import self_test

    network = self_test.made_up_network()
    with torch.no_grad():
        network.backbone.conv1.weight.mul_(1.5)
    monkeypatch.setattr(self_test, "made_up_network", lambda: network)
    with pytest.raises(GpuRuntimeError, match="does not calculate right"):
        self_test.try_device("cpu")


def test_a_gpu_that_is_not_there_is_one_sentence() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    from dir_core.worker import self_test

    with pytest.raises(GpuRuntimeError, match="finds no usable NVIDIA GPU"):
        self_test.try_device("cuda")


def test_weights_are_described(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from dir_core.network.checkpoint import save_checkpoint
    from dir_core.worker.self_test import made_up_network

    ours, damaged = tmp_path / "ours.safetensors", tmp_path / "damaged.pth"
    save_checkpoint(made_up_network(), ours)
    damaged.write_bytes(b"PK no weights")
    answer = tmp_path / "answer.json"
    assert wait(start_checkpoint_check(sys.executable, answer, ours, SMALL)) == 0
    ours.unlink()
    assert json.loads(answer.read_text())["sentence"].startswith("Weights trained by this project")
    assert wait(start_checkpoint_check(sys.executable, answer, damaged, SMALL)) == 2
    assert "is damaged or not a file of weights" in json.loads(answer.read_text())["error"]


@pytest.mark.skipif(REAL not in os.environ, reason=f"downloads hundreds of megabytes; set {REAL}=cpu, cuda or mps")
def test_the_real_runtime(tmp_path: Path) -> None:
    build = os.environ[REAL]
    begin = time.monotonic()
    code = start_setup(sys.executable, tmp_path, build, FULL).wait()
    status = find_runtime(tmp_path)
    print(f"\n{time.monotonic() - begin:.0f} s, {read_lock(build).download_size / 1e6:.0f} MB downloaded, {status}")
    assert code == 0, (tmp_path / SETUP_LOG).read_text()
    assert status.state == "ready"
    assert dataclasses.asdict(status)["self_test"]["deviation"] < 1e-3
