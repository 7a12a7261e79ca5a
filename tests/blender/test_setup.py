"""Setting the runtime of the DIR network up inside Blender, without a window: what is told, what a capture may use."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

import addon
from addon import gpu_runtime, log, preferences, processes, ticker
from addon.panels import setup as panel
from dir_core.errors import GpuRuntimeError
from dir_core.worker import runtime
from dir_core.worker.runtime import SelfTest, SetupProgress
from dir_core.worker.runtime_setup import bundled_pip

DATA = Path(__file__).parents[1] / "data" / "dir_network"


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The preferences of the add-on, with a folder of its own and online access."""
    monkeypatch.setattr(gpu_runtime, "folder", lambda: tmp_path / "gpu")
    (tmp_path / "gpu").mkdir()
    addon.register()
    entry = bpy.context.preferences.addons.new()
    entry.module = "addon"
    bpy.context.preferences.system.use_online_access = True
    yield preferences.preferences(bpy.context)
    bpy.context.preferences.system.use_online_access = False
    bpy.context.preferences.addons.remove(entry)
    addon.unregister()


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks with nothing but pip in them; what the environment lacks, the self-test finds in Blender's folders."""
    folder = tmp_path / "locks"
    folder.mkdir()
    pip = bundled_pip()
    digest = hashlib.sha256(pip.read_bytes()).hexdigest()
    name = f"{runtime._platform()}-cpu-cp{sys.version_info[0]}{sys.version_info[1]}.txt"
    (folder / name).write_text(f"pip @ http://127.0.0.1:9/{pip.name} --hash=sha256:{digest}  # {pip.stat().st_size}\n")
    monkeypatch.setattr(runtime, "LOCKS", folder)
    return folder


def keep_pip() -> None:
    """Put the only file of the lock where a download would have put it."""
    wheels = gpu_runtime.folder() / runtime.WHEELS
    wheels.mkdir()
    shutil.copy(bundled_pip(), wheels)


def test_landmarks_need_nothing(chosen: Any) -> None:
    assert gpu_runtime.worker_python("landmarks", chosen) == processes.own_python()
    assert gpu_runtime.worker_python("landmarks", None) == processes.own_python()


def test_without_a_runtime_the_way_to_one_is_told(chosen: Any) -> None:
    with pytest.raises(GpuRuntimeError, match="set it up in the add-on's preferences"):
        gpu_runtime.worker_python("dir", chosen)
    assert "set it up" in gpu_runtime.missing_for_dir(chosen)
    assert "set it up" in gpu_runtime.missing_for_dir(None)


def test_offline_nothing_can_be_set_up(chosen: Any) -> None:
    bpy.context.preferences.system.use_online_access = False
    assert not bpy.ops.hands.set_up_runtime.poll()
    bpy.context.preferences.system.use_online_access = True
    assert bpy.ops.hands.set_up_runtime.poll()
    assert not bpy.ops.hands.test_runtime.poll()
    assert not bpy.ops.hands.remove_runtime.poll()
    assert not bpy.ops.hands.cancel_runtime.poll()
    assert not bpy.ops.hands.check_weights.poll()


def test_an_index_that_cannot_be_reached_is_one_sentence(chosen: Any, locks: Path) -> None:
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:9 cannot be reached, check the network"):
        bpy.ops.hands.set_up_runtime()
    gpu_runtime.set_up("cpu")  # as with a window: nobody waits, the panel says it and knows the log
    with pytest.raises(GpuRuntimeError, match="cannot be reached"):
        gpu_runtime.drain()
    mistake = log.last_mistake()
    assert mistake is not None
    assert mistake.log == gpu_runtime.log_file()
    assert mistake.log.is_file()
    assert gpu_runtime.status().state == "none"
    assert gpu_runtime.task() is None


def test_set_up_test_use_and_remove(chosen: Any, locks: Path) -> None:
    pytest.importorskip("torch")
    keep_pip()
    gpu_runtime._forget()
    assert gpu_runtime.status().state == "unfinished"
    assert bpy.ops.hands.set_up_runtime() == {"FINISHED"}
    status = gpu_runtime.status()
    assert status.state == "ready"
    assert "agrees with the reference" in status.sentence
    python, folders = gpu_runtime.worker_python("dir", chosen)
    assert Path(python).is_relative_to(gpu_runtime.folder())
    assert folders == processes.own_python()[1]
    assert "Choose the weights" in gpu_runtime.missing_for_dir(chosen)

    # A file deleted by hand: found at the next look, told, and repaired.
    Path(python).unlink()
    gpu_runtime._forget()
    assert gpu_runtime.status().state == "broken"
    with pytest.raises(GpuRuntimeError, match="is gone, repair it"):
        gpu_runtime.worker_python("dir", chosen)
    keep_pip()
    assert bpy.ops.hands.set_up_runtime() == {"FINISHED"}
    assert gpu_runtime.status().state == "ready"

    assert bpy.ops.hands.remove_runtime() == {"FINISHED"}
    assert gpu_runtime.status().state == "none"
    assert not runtime.environments(gpu_runtime.folder())


def test_a_python_of_the_user_is_tested_before_it_is_used(chosen: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    chosen.runtime_source = gpu_runtime.OWN
    with pytest.raises(GpuRuntimeError, match="Choose the Python that has torch"):
        gpu_runtime.worker_python("dir", chosen)
    chosen.runtime_python = sys.executable
    with pytest.raises(GpuRuntimeError, match="has not been tested yet"):
        gpu_runtime.worker_python("dir", chosen)
    assert bpy.ops.hands.test_runtime() == {"FINISHED"}
    assert gpu_runtime.worker_python("dir", chosen)[0] == sys.executable
    test = gpu_runtime.own_test(sys.executable)
    assert test is not None
    assert torch.__version__ in test.sentence

    no_python = tmp_path / "no_python"
    no_python.write_text("#!/bin/sh\nexit 3\n")
    no_python.chmod(0o755)
    chosen.runtime_python = str(no_python)
    with pytest.raises(RuntimeError, match="exit code 3"):
        bpy.ops.hands.test_runtime()
    with pytest.raises(GpuRuntimeError, match="exit code 3"):
        gpu_runtime.worker_python("dir", chosen)
    chosen.runtime_python = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="There is no Python program"):
        bpy.ops.hands.test_runtime()


def test_weights_are_looked_into_as_soon_as_they_are_chosen(chosen: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from dir_core.network.checkpoint import save_checkpoint
    from dir_core.worker.self_test import made_up_network

    ours = tmp_path / "ours.safetensors"
    save_checkpoint(made_up_network(), ours)
    chosen.runtime_source, chosen.runtime_python = gpu_runtime.OWN, sys.executable
    good = SelfTest(sys.executable, "cpu", "CPU", "2.13.0", 5.0, 1e-7)
    (gpu_runtime.folder() / "own_self_test.json").write_bytes(runtime.to_json(good))
    gpu_runtime._forget()
    chosen.checkpoint = str(ours)
    assert gpu_runtime.task() == "weights"
    gpu_runtime.drain()
    assert gpu_runtime.weights_sentence(str(ours)).startswith("Weights trained by this project")
    assert gpu_runtime.missing_for_dir(chosen) == ""
    ours.write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="is damaged or not a file of weights"):
        bpy.ops.hands.check_weights()
    assert "is damaged" in gpu_runtime.missing_for_dir(chosen)
    gpu_runtime._forget()
    assert "is damaged" in gpu_runtime.weights_sentence(str(ours)), "known again after a restart"


def test_a_folder_of_hands_is_recognised(chosen: Any, tmp_path: Path) -> None:
    for side in ("LEFT", "RIGHT"):
        shutil.copy(DATA / f"MANO_{side}.synthetic.npz", tmp_path / f"MANO_{side}.npz")
    chosen.hands_folder = str(tmp_path)
    assert "both hands" in chosen.hands_found
    assert gpu_runtime.hands_folder(chosen) == str(tmp_path)
    (tmp_path / "MANO_LEFT.npz").unlink()
    chosen.hands_folder = str(tmp_path)
    assert "There is no left hand model" in chosen.hands_found
    chosen.hands_folder = ""
    assert chosen.hands_found == ""
    assert gpu_runtime.hands_folder(chosen) is None


def test_a_cancelled_setup_is_no_mistake(chosen: Any, locks: Path) -> None:
    gpu_runtime.set_up("cpu")
    assert gpu_runtime.task() == "setup"
    assert not bpy.ops.hands.set_up_runtime.poll()
    with pytest.raises(GpuRuntimeError, match="wait for it"):
        gpu_runtime.set_up("cpu")
    assert bpy.ops.hands.cancel_runtime() == {"FINISHED"}
    gpu_runtime.drain()
    assert gpu_runtime.task() is None
    assert log.last_mistake() is None
    assert gpu_runtime.status().state in ("none", "unfinished")


def test_nothing_runs_on_when_the_addon_is_switched_off(chosen: Any, locks: Path) -> None:
    gpu_runtime.set_up("cpu")
    process = gpu_runtime._state.process
    assert process is not None
    gpu_runtime.unregister()
    assert process.wait(20) != 0
    ticker.unregister()


def test_looking_costs_nothing_while_nothing_happens(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_runtime.status()
    monkeypatch.setattr(runtime, "find_runtime", lambda *_: pytest.fail("looked at files"))
    monkeypatch.setattr(runtime, "detect_build", lambda: pytest.fail("looked at files"))
    gpu_runtime.status()
    gpu_runtime.detected_build()
    gpu_runtime.missing_for_dir(chosen)


def test_progress_is_told_in_words() -> None:
    words = panel.progress_words(SetupProgress("downloading", 500_000_000, 2_760_000_000, 23_000_000.0, 98.3))
    assert words == "Downloading 0.50 of 2.76 GB, 23 MB/s, 1:38 left"
    assert panel.progress_words(SetupProgress("testing")) == "Testing the network"


def test_what_is_said_survives_damaged_files(chosen: Any) -> None:
    for name in ("weights.json", "own_self_test.json", "runtime.json"):
        (gpu_runtime.folder() / name).write_text("{")
    gpu_runtime._forget()
    assert gpu_runtime.status().state == "broken"
    assert gpu_runtime.weights_sentence("x") == ""
    (gpu_runtime.folder() / "weights.json").write_text(json.dumps([1]))
    gpu_runtime._forget()
    assert gpu_runtime.weights_sentence("x") == ""
