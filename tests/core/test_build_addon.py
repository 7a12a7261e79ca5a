"""build_addon.py as a user meets it: its sentences, the environment it re-uses, the folders it keeps out of."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

import build_addon

SCRIPT = build_addon.ROOT / "build_addon.py"
SECONDS_TO_COMPLAIN = 10


def run_script(
    *arguments: object, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        timeout=60,
    )


def other_pythons() -> list[str]:
    """Interpreters on this machine that cannot load Blender as a module."""
    found = [shutil.which(f"python3.{minor}") for minor in (8, 9, 10, 12, 14)]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.[891]*/bin/python")]
    good = []
    for python in filter(None, found):
        question = [python, "-c", "import sys; print(*sys.version_info[:2])"]
        answer = subprocess.run(question, capture_output=True, text=True, check=False)
        version = tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else ()
        if version >= (3, 8) and version not in build_addon.PYTHONS:
            good.append(python)
    return good


def assert_one_sentence(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == build_addon.USER_ERROR
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_every_other_python_gets_a_sentence_that_names_the_good_ones() -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no Python but the right one on this machine")
    for python in pythons:
        assert_one_sentence(run_script("demo", python=python), "3.11", "3.13")


@pytest.mark.parametrize(
    ("version", "system", "machine", "word"),
    [
        ((3, 10), "Linux", "x86_64", "Python 3.10 cannot load"),
        ((3, 12), "Darwin", "arm64", "Python 3.12 cannot load"),
        ((3, 11), "Linux", "aarch64", "Linux (aarch64)"),
        ((3, 13), "Darwin", "x86_64", "Darwin (x86_64)"),
        ((3, 11), "FreeBSD", "amd64", "FreeBSD (amd64)"),
    ],
)
def test_what_cannot_work_is_said(version: tuple[int, int], system: str, machine: str, word: str) -> None:
    problem = build_addon.python_problem(version, system, machine)
    assert problem is not None
    assert word in problem


@pytest.mark.parametrize("version", [(3, 11), (3, 13)])
@pytest.mark.parametrize(("system", "machine"), [("Linux", "x86_64"), ("Windows", "AMD64"), ("Darwin", "arm64")])
def test_what_works_is_let_through(version: tuple[int, int], system: str, machine: str) -> None:
    assert build_addon.python_problem(version, system, machine) is None


def test_a_missing_video_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    started = time.monotonic()
    environment = {"TWO_HAND_CAPTURE_VENV": str(tmp_path / "venv")}
    assert_one_sentence(run_script("demo", tmp_path / "nothing.mp4", **environment), "There is no video at")
    (tmp_path / "empty").mkdir()
    assert_one_sentence(run_script("demo", tmp_path / "empty", **environment), "is an empty folder")
    (tmp_path / "empty.mp4").touch()
    assert_one_sentence(run_script("demo", tmp_path / "empty.mp4", **environment), "is empty")
    assert time.monotonic() - started < SECONDS_TO_COMPLAIN
    assert not (tmp_path / "venv").exists()


def test_a_foreign_output_folder_is_left_alone(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"video")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    result = run_script("demo", video, "-o", folder, TWO_HAND_CAPTURE_VENV=str(tmp_path / "venv"))
    assert_one_sentence(result, "already holds other files", "-o")
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_zip_cannot_go_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_script("zip", "-o", tmp_path / "file", TWO_HAND_CAPTURE_VENV=str(tmp_path / "venv"))
    assert_one_sentence(result, "Cannot write into", "-o")
    assert not (tmp_path / "venv").exists()


def test_an_output_folder_is_taken_again_for_the_same_video_only(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "手"
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert build_addon.claim_output_folder(folder, first) == folder
    assert build_addon.claim_output_folder(folder, first) == folder
    with pytest.raises(build_addon.BuildError, match="already holds other files"):
        build_addon.claim_output_folder(folder, second)
    (tmp_path / "file").touch()
    with pytest.raises(build_addon.BuildError, match="is a file"):
        build_addon.claim_output_folder(tmp_path / "file", first)


def test_the_environment_is_made_once_and_again_only_when_needed(tmp_path: Path) -> None:
    """One real environment, through every state it can be found in."""
    folder = tmp_path / "venv"
    lock = tmp_path / "python.txt"
    lock.write_text("numpy==1.26.4\n")
    assert build_addon.plan_environment(folder, lock) == "make"
    folder.mkdir()
    assert build_addon.plan_environment(folder, lock) == "make", "an empty folder is as good as none"

    build_addon.write_stamp(folder, False, {})
    (folder / "lib").mkdir()
    (folder / "lib" / "half a package").touch()
    assert build_addon.plan_environment(folder, lock) == "make", "interrupted while it was made"

    build_addon.make_environment(folder)
    assert not (folder / "lib" / "half a package").exists()
    assert build_addon.environment_python(folder).exists()
    assert build_addon.plan_environment(folder, lock) == "make", "interrupted before the packages were complete"

    build_addon.write_stamp(folder, True, {lock.name: build_addon.lock_hash(lock)})
    assert build_addon.plan_environment(folder, lock) == "nothing"

    lock.write_text("numpy==1.26.3\n")
    assert build_addon.plan_environment(folder, lock) == "install", "the lock file has changed"
    build_addon.write_stamp(folder, True, {lock.name: build_addon.lock_hash(lock)})

    (folder / build_addon.STAMP).write_text("{ half a stam")
    assert build_addon.plan_environment(folder, lock) == "install", "not ours, but this Python runs in it"

    build_addon.write_stamp(folder, True, {lock.name: build_addon.lock_hash(lock)})
    build_addon.environment_python(folder).unlink()
    assert build_addon.plan_environment(folder, lock) == "make", "its Python is gone"
    (folder / build_addon.STAMP).unlink()
    with pytest.raises(build_addon.BuildError, match="did not make"):
        build_addon.plan_environment(folder, lock)
    assert folder.exists()


def test_two_runs_do_not_prepare_one_environment_at_once(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(build_addon.ROOT)!r})
import build_addon
with build_addon.only_one_at_a_time(Path({str(tmp_path)!r})):
    print("in", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    waiter = None
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        waiter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert waiter.stdout is not None
        assert waiter.stdout.readline().startswith("Waiting for another build_addon.py")
        holder.kill()
        assert waiter.stdout.readline() == "in\n", "a run that was killed does not block the next one"
    finally:
        for process in filter(None, (holder, waiter)):
            process.kill()
            process.communicate()


def fake_python(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
def test_a_python_is_found_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (other,) = set(build_addon.PYTHONS) - {sys.version_info[:2]}
    name = f"python{other[0]}.{other[1]}"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert build_addon.find_python(sys.version_info[:2]) == build_addon.running_python()
    with pytest.raises(build_addon.BuildError, match=f"There is no {name}"):
        build_addon.find_python(other)
    kept = fake_python(
        tmp_path / "pyenv" / "versions" / f"{other[0]}.{other[1]}.9" / "bin" / name, f"{other[0]} {other[1]}"
    )
    assert build_addon.find_python(other) == (str(kept), other)
    fake_python(tmp_path / "bin" / name, "stand-in: command not found; exit 127")
    assert build_addon.find_python(other) == (str(kept), other), "a stand-in of pyenv's does not count"
    on_path = fake_python(tmp_path / "bin" / name, f"{other[0]} {other[1]}")
    assert build_addon.find_python(other) == (str(on_path), other)
    named = fake_python(tmp_path / "mine", f"{other[0]} {other[1]}")
    assert build_addon.find_python(other, [named]) == (str(named), other)


def test_a_missing_python_is_told_before_any_environment_is_made(tmp_path: Path) -> None:
    (other,) = set(build_addon.PYTHONS) - {sys.version_info[:2]}
    result = run_script(
        "test",
        "--all-blenders",
        TWO_HAND_CAPTURE_VENV=str(tmp_path / "venv"),
        PATH=str(tmp_path / "bin"),
        PYENV_ROOT=str(tmp_path / "pyenv"),
    )
    assert_one_sentence(result, f"There is no python{other[0]}.{other[1]}", "--python")
    assert not list(tmp_path.iterdir())


def test_every_other_blender_gets_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_addon, "find_python", lambda version, _named: build_addon.Interpreter("python", version))
    days = []
    for day in range(1, 4):
        monkeypatch.setattr(time, "gmtime", lambda day=day: time.struct_time((2026, 1, day, 0, 0, 0, 0, day, 0)))
        found = build_addon.another_blender([])
        assert found is not None
        assert found[1].version == build_addon.BLENDERS[found[0]]
        days.append(found[0])
    assert sorted(days) == sorted(set(build_addon.BLENDERS) - {build_addon.PYTHONS[sys.version_info[:2]]})


def test_a_blender_without_a_python_gives_its_day_to_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(version: tuple[int, int], _named: object) -> build_addon.Interpreter:
        if version != sys.version_info[:2]:
            raise build_addon.BuildError("There is no such Python.")
        return build_addon.Interpreter("python", version)

    monkeypatch.setattr(build_addon, "find_python", find)
    names = []
    for day in range(1, 4):
        monkeypatch.setattr(time, "gmtime", lambda day=day: time.struct_time((2026, 1, day, 0, 0, 0, 0, day, 0)))
        found = build_addon.another_blender([])
        names.append(found and found[0])
    same = {name for name, version in build_addon.BLENDERS.items() if version == sys.version_info[:2]}
    assert set(names) == (same - set(build_addon.PYTHONS.values()) or {None})
    assert "is left out: There is no such Python." in capsys.readouterr().out


@pytest.mark.parametrize("blender", build_addon.BLENDERS)
def test_a_blender_is_tested_with_the_packages_that_go_with_its_python(blender: str) -> None:
    def pins(*locks: Path) -> dict[str, str]:
        lines = [line for lock in locks for line in lock.read_text().splitlines() if "==" in line]
        return dict(line.split(" ;")[0].split("==") for line in lines if not line.startswith("#"))

    major, minor = build_addon.BLENDERS[blender]
    usual = [build_addon.LOCKS / f"python{major}.{minor}{kind}.txt" for kind in ("", "-test")]
    locked = pins(build_addon.blender_lock(blender))
    assert locked["bpy"].startswith(f"{blender}.")
    assert {"numpy", "scipy", "opencv-python-headless", "ai-edge-litert", "pytest"} <= locked.keys()
    shared = pins(*usual)
    own = blender in build_addon.PYTHONS.values()
    differing = {name for name in locked.keys() & shared.keys() if locked[name] != shared[name]}
    assert differing == (set() if own else {"bpy"})


def test_an_environment_without_pip_is_not_usable(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = build_addon.environment_python(tmp_path / "bare")
    assert build_addon.interpreter_version(python) == []


def test_a_lock_that_includes_another_changes_with_it(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("a==1\n")
    (tmp_path / "test.txt").write_text("-r base.txt\nb==1\n")
    before = build_addon.lock_hash(tmp_path / "test.txt")
    (tmp_path / "base.txt").write_text("a==2\n")
    assert build_addon.lock_hash(tmp_path / "test.txt") != before


@pytest.mark.parametrize("lock", sorted(build_addon.LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_every_locked_package_is_pinned_exactly(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines
    for line in lines:
        name, _, version = line.split(" ;")[0].partition("==")
        assert name, line
        assert version.strip("0123456789.") == "" != version, line


def test_the_packages_that_are_installed_are_the_locked_ones() -> None:
    """The environment of this very test run."""
    from importlib.metadata import version

    for line in build_addon.lock_file(with_tests=False).read_text().splitlines():
        name, _, wanted = line.partition("==")
        if wanted and not line.startswith("#") and " ;" not in line:
            assert version(name).split("+")[0] == wanted, name


def test_a_failed_installation_shows_the_end_of_pips_log_and_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "broken.txt"
    lock.write_text("numpy==no-such-version\n")
    with pytest.raises(build_addon.BuildError, match="could not be installed") as caught:
        build_addon.install_packages(Path(sys.executable), lock, tmp_path / "install.log")
    assert "\n" not in str(caught.value)
    shown = capfd.readouterr().err.splitlines()
    assert 0 < len(shown) <= 12
    assert any("no-such-version" in line for line in shown)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux finds these libraries on the system")
def test_a_missing_system_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build_addon.SYSTEM_LIBRARIES, "libno_such_thing.so.9", "libnosuchthing9")
    assert build_addon.missing_libraries() == {"libno_such_thing.so.9": "libnosuchthing9"}
    with pytest.raises(build_addon.BuildError, match=r"apt-get install --no-install-recommends libnosuchthing9$"):
        build_addon.check_machine()


def test_a_hanging_process_is_killed_with_its_children(tmp_path: Path) -> None:
    child = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    started = time.monotonic()
    assert build_addon.run_killable([sys.executable, "-c", parent], 1.0) is None
    assert time.monotonic() - started < SECONDS_TO_COMPLAIN
    time.sleep(3)
    assert not (tmp_path / "alive").exists()
    assert build_addon.run_killable([sys.executable, "-c", "raise SystemExit(7)"], 30.0) == 7


@pytest.mark.parametrize(
    ("source", "counts", "problem"),
    [
        ("def test_a(): pass\ndef test_b(): assert 0", (1, 1, 0), ""),
        ("import pytest\ndef test_a(): pytest.skip('x')\ndef test_b(): pass", (1, 0, 1), ""),
        ("nothing = 1", (0, 0, 0), "no tests"),
        ("import os\ndef test_a(): os._exit(0)", (0, 0, 0), "ended without a report"),
        ("import os\ndef test_a(): os._exit(139)", (0, 0, 0), "exit code 139"),
        ("import time\ndef test_a(): time.sleep(60)", (0, 0, 0), "killed after 5 s"),
    ],
)
def test_every_end_of_a_test_run_is_counted(
    tmp_path: Path, source: str, counts: tuple[int, int, int], problem: str
) -> None:
    (tmp_path / "test_one.py").write_text(source)
    arguments = [str(tmp_path / "test_one.py"), "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    got, said = build_addon.run_pytest(Path(sys.executable), arguments, 5.0 if problem.startswith("killed") else 60.0)
    assert got == counts
    assert problem in said
    assert bool(problem) == bool(said)


def test_the_table_shows_a_dash_for_what_was_not_measured() -> None:
    capture = {"frames": 120, "seconds": 4.0, "wall_seconds": 6.0, "frames_per_second": 20.0, "warnings": ["dark"]}
    evaluation = {"both_observed": 0.975, "left_observed": None, "pa_mpjpe_mm": None, "mpjpe_mm": None}
    table = dict(line.split("  ", 1) for line in build_addon.report_lines(capture, {}, evaluation)[:-1])
    table = {name.strip(): value.strip() for name, value in table.items()}
    assert table["both hands seen"] == "97.5 % of frames"
    assert table["capture speed"] == "20.0 frames per second"
    assert table["left hand seen"] == table["reprojection error, pixels"] == "–"
    assert not [name for name in table if "MPJPE" in name or "jitter" in name]
    clean = {"left": {"jitter_before": 0.123, "jitter_after": 0.02}, "right": {"jitter_before": None}}
    jitter = [line for line in build_addon.report_lines(capture, clean, evaluation) if "jitter" in line]
    assert len(jitter) == 1
    assert jitter[0].endswith("0.12 % of its length, cleaned 0.02 %")
    assert build_addon.report_lines(capture, {}, {"pa_mpjpe_mm": 5.123})[-2].endswith("5.12 mm")
    assert build_addon.report_lines(capture, {}, {})[-1] == "warning: dark"


def test_wheels_and_platform_are_named_before_the_first_table_of_the_manifest() -> None:
    import tomllib

    manifest = 'id = "x"\ntags = ["A", "B"]\n\n[permissions]\nfiles = "Read"\n'
    wheels = ["b-1-py3-none-any.whl", "c-2-cp311-cp311-win_amd64.whl"]
    expected = tomllib.loads(manifest) | {"wheels": [f"./wheels/{name}" for name in wheels]}
    assert tomllib.loads(build_addon.name_wheels(manifest, wheels, None)) == expected
    named = tomllib.loads(build_addon.name_wheels(manifest, wheels, "windows-x64"))
    assert named == expected | {"platforms": ["windows-x64"]}


@pytest.mark.parametrize("platform_name", build_addon.EXTENSION_PLATFORMS)
def test_every_platform_has_one_wheel_of_each_package_for_both_pythons(platform_name: str) -> None:
    locked = build_addon.read_wheel_lock(platform_name)
    for version in build_addon.PYTHONS:
        tag = f"cp{version[0]}{version[1]}"
        packages = [name.split("-")[0] for name in locked if f"-{tag}-{tag}-" in name or "-abi3-" in name]
        assert sorted(packages) == ["ai_edge_litert", "opencv_python_headless", "scipy"]
    assert all(len(digest) == 64 and int(digest, 16) for digest in locked.values())


def test_every_locked_wheel_belongs_to_one_platform() -> None:
    lines = [line for line in build_addon.WHEEL_LOCK.read_text().splitlines() if not line.startswith("#")]
    names = [name for each in build_addon.EXTENSION_PLATFORMS for name in build_addon.read_wheel_lock(each)]
    assert sorted(names) == sorted(line.split()[1] for line in lines)


def write_tiny_wheel(folder: Path, content: str) -> Path:
    """A wheel that a registry could hold."""
    path = folder / "tiny-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", content)
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


def test_wheels_are_downloaded_once_and_believed_by_their_hash_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands in for the registry; pip, the lock file and the cache are real."""
    registry, cache, lock = tmp_path / "registry", tmp_path / "cache", tmp_path / "wheels.sha256"
    registry.mkdir()
    wheel = write_tiny_wheel(registry, "one = 1")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"# why\n\n{digest}  {wheel.name}\n{digest}  other-1.0-cp313-cp313-win_amd64.whl\n")
    monkeypatch.setattr(build_addon, "WHEEL_LOCK", lock)
    monkeypatch.setattr(build_addon, "WHEEL_CACHE", cache)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))

    def fetch() -> list[Path]:
        return build_addon.fetch_wheels(Path(sys.executable), "linux-x64")

    assert fetch() == [cache / wheel.name]
    assert (cache / wheel.name).read_bytes() == wheel.read_bytes()

    (cache / wheel.name).write_bytes(b"damaged")
    fetch()
    assert (cache / wheel.name).read_bytes() == wheel.read_bytes(), "fetched again"

    write_tiny_wheel(registry, "two = 2")
    fetch()  # nobody asked the registry, where another file has come under the name
    (cache / wheel.name).unlink()
    with pytest.raises(build_addon.BuildError, match="is not the file that"):
        fetch()
    assert not (cache / wheel.name).exists()

    wheel.unlink()
    with pytest.raises(build_addon.DownloadError, match="could not be downloaded: check the network") as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert "tiny" in (cache / "download.log").read_text()
    assert [path.name for path in cache.iterdir()] == ["download.log"]


def test_unknown_words_are_refused_except_for_pytest() -> None:
    result = run_script("zip", "--fast")
    assert result.returncode == 2
    assert "--fast" in result.stderr
    assert json.dumps("demo") not in result.stderr
