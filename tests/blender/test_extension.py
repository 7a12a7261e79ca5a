"""The zip that users install: built, judged by Blender's own tool, installed into an empty Blender and used."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import build_addon
from dir_core.take import save_take
from tests.takes import make_take

INSTALL_SECONDS = 120

INSTALL = """
import json, os, sys

class Wall:
    '''Blender itself ships none of these.'''
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("scipy", "cv2", "torch", "ai_edge_litert"):
            raise ModuleNotFoundError(f"{name} is not part of Blender", name=name)

sys.meta_path.insert(0, Wall())
import bpy

def has_operator():
    try:
        bpy.ops.hands.import_take.get_rna_type()
    except (KeyError, AttributeError):
        return False
    return True

archive, take, answer = sys.argv[1:]
said = {"before": has_operator()}
bpy.ops.extensions.package_install_files(repo="user_default", filepath=archive, enable_on_install=True)
said["installed"] = has_operator()
import dir_core
said["dir_core"] = dir_core.__file__
said["version"] = dir_core.__version__
said["result"] = sorted(bpy.ops.hands.import_take(filepath=take))
said["armatures"] = sum(each.type == "ARMATURE" for each in bpy.context.scene.objects)
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.two_hand_capture")
said["disabled"] = has_operator()
with open(answer, "w") as file:
    json.dump(said, file)
os._exit(0)  # bpy can crash or hang in Python's own exit
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_addon.build_extension(Path(sys.executable), tmp_path_factory.mktemp("dist"))


def test_the_zip_holds_the_addon_and_its_wheel_and_nothing_else(archive: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        names = set(content.namelist())
        manifest = tomllib.loads(content.read("blender_manifest.toml").decode())
    version = manifest["version"]
    assert archive.name == f"two_hand_capture-{version}.zip"
    assert manifest["id"] == "two_hand_capture"
    (wheel,) = manifest["wheels"]
    assert wheel.removeprefix("./") in names
    assert {"__init__.py", "registration.py", "operators/rig.py", "LICENSE"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "dir_core"))]


def test_the_wheel_holds_the_package_and_every_asset_it_reads(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        (wheel,) = (name for name in content.namelist() if name.endswith("-py3-none-any.whl"))
        content.extract(wheel, tmp_path)
    with zipfile.ZipFile(tmp_path / wheel) as content:
        names = set(content.namelist())
    for folder in ("dir_core", "blender_assets"):
        wanted = {
            path.relative_to(build_addon.ROOT).as_posix()
            for path in (build_addon.ROOT / folder).rglob("*")
            if path.suffix in (".py", ".npz", ".tflite", ".json", ".md") and "demo" not in path.parts
            if not path.name.startswith("build_")
        }
        assert wanted <= names
    assert not [name for name in names if "/demo/" in name or "build_" in name or name.endswith((".pyc", ".mp4"))]


def test_the_source_manifest_names_no_wheel() -> None:
    """The wheel's name carries the version, so it is written when the zip is built."""
    assert "wheels" not in tomllib.loads((build_addon.ROOT / "addon" / "blender_manifest.toml").read_text("utf-8"))


def test_installed_into_an_empty_blender_it_imports_a_take(
    archive: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    save_take(make_take(models), tmp_path / "clip.npz")
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-I", "-c", INSTALL, str(archive), str(tmp_path / "clip.npz"), str(answer)]
    resources = tmp_path / "blender"
    resources.mkdir()
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(resources)}
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
    )
    assert result.returncode == 0, result.stdout + result.stderr
    said = json.loads(answer.read_text())
    assert not said["before"]
    assert said["installed"]
    assert Path(said["dir_core"]).is_relative_to(resources), "the wheel's dir_core, not the repository's"
    assert said["result"] == ["FINISHED"]
    assert said["armatures"] == 2
    assert not said["disabled"]
