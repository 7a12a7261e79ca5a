"""Many clips on a Ray cluster of two processes: the takes of a capture one after the other, also after a kill."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from dir_core.batch.clips import find_clips
from dir_core.cli import main
from dir_core.worker.protocol import EventReader

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"),
]

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"

SECONDS = 300
"""After this a batch is killed; it takes 30."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of a third of a second and a long one, which gets behind its first part."""
    folder = tmp_path_factory.mktemp("clips")
    reader = cv2.VideoCapture(str(DEMO))
    pictures = [reader.read()[1] for _ in range(150)]
    size = pictures[0].shape[1], pictures[0].shape[0]
    for number, frames in enumerate([120, *[10] * 7], start=1):
        writer = cv2.VideoWriter(str(folder / f"clip {number}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
        for picture in pictures[4 * (number - 1) :][:frames]:
            writer.write(picture)
        writer.release()
    return folder


@pytest.fixture(scope="module")
def one_after_the_other(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each clip gives when it is captured alone."""
    folder = tmp_path_factory.mktemp("alone")
    for clip in find_clips([clips], folder):
        assert main(["capture", str(clip.footage), "-o", str(folder / f"{clip.name}.npz")]) == 0
    return takes_in(folder)


def takes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def processes_of(home: Path) -> dict[int, str]:
    """Command lines of the running processes that name a folder or have it in their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and str(home).encode() in command + (folder / "environ").read_bytes():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


@pytest.fixture
def ray_home() -> Iterator[Path]:
    """A folder for Ray with a short name, as sockets lie in it; whatever still runs from it afterwards is a leak."""
    home = Path(tempfile.mkdtemp(prefix="thc_ray_", dir="/tmp"))
    yield home
    give_up = time.monotonic() + 20
    while (left := processes_of(home)) and time.monotonic() < give_up:
        time.sleep(0.2)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)
    assert not left


def environment_in(home: Path) -> dict[str, str]:
    """One in which Ray keeps to a folder and finds neither this program nor another cluster."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    return {**kept, "RAY_TMPDIR": str(home), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def batch(home: Path, clips: Path, output: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`capture` on a cluster of its own."""
    command = [sys.executable, "-m", "dir_core", "capture", clips, "-o", output, "--engine", "ray", "--jobs", "2"]
    process = subprocess.Popen(
        [*map(str, command), *options, "--report", str(output.with_suffix(".json"))],
        cwd=ROOT,
        env=environment_in(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_part(output: Path, process: "subprocess.Popen[str]") -> Path:
    """The job folder of the long clip once a part of it has come back."""
    job = output / ".clip 1.npz.job" / "capture"
    give_up = time.monotonic() + SECONDS
    while not list(job.glob("chunks/*.npz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return job


def test_eight_clips_on_two_processes_one_of_them_killed(
    clips: Path, one_after_the_other: dict[str, bytes], ray_home: Path, tmp_path: Path
) -> None:
    output = tmp_path / "takes"
    with batch(ray_home, clips, output) as process:
        job = wait_for_part(output, process)
        worker = EventReader(job).read()[0].pid
        assert "capture_there" in processes_of(ray_home)[worker]
        os.kill(worker, signal.SIGKILL)
        said = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, said
    assert len(one_after_the_other) == 8
    assert takes_in(output) == one_after_the_other
    assert sorted(path.name for path in output.iterdir()) == sorted(one_after_the_other)
    rows = json.loads(output.with_suffix(".json").read_text())["clips"]
    assert [row["state"] for row in rows] == ["captured"] * 8


def test_a_stopped_batch_leaves_no_process_and_goes_on_here(
    clips: Path, one_after_the_other: dict[str, bytes], ray_home: Path, tmp_path: Path
) -> None:
    output = tmp_path / "takes"
    with batch(ray_home, clips, output) as process:
        job = wait_for_part(output, process)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 130, said
    assert "goes on from here" in said
    assert processes_of(ray_home) == {}
    assert list(job.glob("chunks/*.npz"))
    assert main(["capture", str(clips), "-o", str(output), "--jobs", "1"]) == 0
    assert takes_in(output) == one_after_the_other


def test_a_cluster_elsewhere_gets_the_program_sent(
    clips: Path, one_after_the_other: dict[str, bytes], ray_home: Path, tmp_path: Path
) -> None:
    """The cluster is started where nothing of this program can be found."""
    start = "import ray; print(ray.init('local', num_cpus=2, include_dashboard=False).address_info['gcs_address'])"
    cluster = subprocess.Popen(
        [sys.executable, "-c", f"{start}; input()"],
        cwd=ray_home,
        env=environment_in(ray_home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address = next(line.strip() for line in cluster.stdout if ":" in line and " " not in line.strip())
        (tmp_path / "clips.txt").write_text(f"{clips / 'clip 2.mp4'}\n{clips / 'nowhere.mp4'}\n")
        with batch(ray_home, tmp_path / "clips.txt", tmp_path / "takes", "--address", address) as process:
            said = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 3, said
        assert f"nowhere.mp4, check the path (as {socket.gethostname()} sees it)." in said
        assert takes_in(tmp_path / "takes") == {"clip 2.npz": one_after_the_other["clip 2.npz"]}
    finally:
        cluster.communicate("over\n", timeout=SECONDS)


def test_a_cluster_that_is_not_there_is_one_sentence(clips: Path, ray_home: Path, tmp_path: Path) -> None:
    with batch(ray_home, clips, tmp_path / "takes", "--address", "auto") as process:
        said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 2
    assert said.startswith("error: No Ray cluster can be used at auto (")
    assert said.count("\n") == 1
