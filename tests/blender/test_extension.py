"""The zips that users install: built, judged by Blender's own tool, installed into an empty Blender and used."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

import build_addon
from dir_core.take import save_take
from tests.takes import make_take

INSTALL_SECONDS = 120
CAPTURE_SECONDS = 120

PLATFORM = {"linux": "linux-x64", "win32": "windows-x64", "darwin": "macos-arm64"}[sys.platform]

OLDEST_NUMPY = "1.24.3"
"""What official builds for Python 3.11 bundled first (their versions.cmake); the wheels have to live with it."""

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
        bpy.ops.hands.add_take.get_rna_type()
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
said["result"] = sorted(bpy.ops.hands.add_take(filepath=take))
said["armatures"] = sum(each.type == "ARMATURE" for each in bpy.context.scene.objects)
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.two_hand_capture")
said["disabled"] = has_operator()
with open(answer, "w") as file:
    json.dump(said, file)
os._exit(0)  # bpy can crash or hang in Python's own exit
"""


INSTALL_ONLY = """
import os, sys
import bpy
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
import dir_core
print(dir_core.__file__, flush=True)
os._exit(0)  # bpy can crash or hang in Python's own exit
"""

CAPTURE_BY_BUTTON = """
import json, os, sys
import bpy

footage, answer = sys.argv[1:]
bpy.ops.preferences.addon_enable(module="bl_ext.user_default.two_hand_capture")
scene = bpy.context.scene
scene.render.fps = 30
bpy.ops.hands.load_footage(filepath=footage)
capture = scene.two_hands.capture
capture.use_range, capture.first, capture.last = True, 1, 40
result = bpy.ops.hands.capture()
(take,) = scene.two_hands.takes
hands = (take.keying.left, take.keying.right)
with open(answer, "w") as file:
    json.dump(
        {
            "result": sorted(result),
            "frames": take.frames,
            "seen": [take.seen_left, take.seen_right],
            "keyed": [list(hand.animation_data.action.frame_range) for hand in hands],
        },
        file,
    )
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.two_hand_capture")
os._exit(0)  # bpy can crash or hang in Python's own exit
"""

CAPTURE = """
import json, sys

def stay_offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"asked for the network: {event} {arguments}")

sys.addaudithook(stay_offline)
site, numpy_folder, footage, answer = sys.argv[1:]
sys.path.insert(0, site)
sys.path.append(numpy_folder)

from dir_core.capture import CaptureSettings, capture_take
from dir_core.clean import clean_take
from dir_core.hand_model import open_hand_models
import numpy

take = capture_take(footage, CaptureSettings()).take
clean = clean_take(take, open_hand_models())
said = {side: float(clean.take.hand(side).observed.mean()) for side in ("left", "right")}
said["modules"] = {
    name: module.__file__
    for name, module in sys.modules.items()
    if "." not in name and name not in sys.stdlib_module_names and getattr(module, "__file__", None)
}
said["numpy"] = numpy.__version__
with open(answer, "w") as file:
    json.dump(said, file)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = build_addon.build_extension(Path(sys.executable), tmp_path_factory.mktemp("dist"), {})
    return path


@pytest.fixture(scope="module")
def full_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The zip of this platform with all its wheels."""
    python = Path(sys.executable)
    try:
        wheels = build_addon.fetch_wheels(python, PLATFORM)
    except build_addon.DownloadError as error:
        pytest.skip(str(error))
    (path,) = build_addon.build_extension(python, tmp_path_factory.mktemp("dist"), {PLATFORM: wheels})
    yield path
    path.unlink()  # pytest keeps the folders of its last three runs


@pytest.fixture(scope="module")
def installed(full_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which an empty Blender has unpacked the wheels of that zip."""
    resources = tmp_path_factory.mktemp("blender")
    said = run_isolated(INSTALL_ONLY, full_archive, seconds=INSTALL_SECONDS, BLENDER_USER_RESOURCES=str(resources))
    folder = Path(said.splitlines()[-1]).parents[1]
    assert folder.is_relative_to(resources)
    yield folder
    shutil.rmtree(resources)  # half a gigabyte


def run_isolated(script: str, *arguments: object, flags: str = "-I", seconds: int, **environment: str) -> str:
    """What a script prints that sees nothing of this repository."""
    result = subprocess.run(
        [sys.executable, *flags.split(), "-c", script, *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=Path(sys.executable).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def folder_with_numpy(version: str, folder: Path) -> Path:
    """A folder with nothing but NumPy in it: Blender's own, or a version from the registry."""
    if version == "Blender's":
        for source in Path(np.__file__).parents[1].glob("numpy*"):
            (folder / source.name).symlink_to(source)
        return folder
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run(
        [*command, "--target", str(folder), f"numpy=={version}"], capture_output=True, text=True, check=False
    )
    if result.returncode:
        pytest.skip(f"numpy {version} could not be installed: {result.stderr.strip().splitlines()[-1]}")
    return folder


def test_the_zip_holds_the_addon_and_its_wheel_and_nothing_else(archive: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        names = set(content.namelist())
        manifest = tomllib.loads(content.read("blender_manifest.toml").decode())
    version = manifest["version"]
    assert archive.name == f"two_hand_capture-{version}.zip"
    assert manifest["id"] == "two_hand_capture"
    (wheel,) = manifest["wheels"]
    assert wheel.removeprefix("./") in names
    assert "platforms" not in manifest
    assert {"__init__.py", "registration.py", "operators/rig.py", "LICENSE", "assets/two_hands.blend"} <= names
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
            if path.suffix in (".py", ".npz", ".tflite", ".json", ".md")
            if not {"demo", "second_hand"} & set(path.parts)
            if not path.name.startswith("build_")
        }
        assert wanted <= names
    assert not [
        name
        for name in names
        if "/demo/" in name or "second_hand" in name or "build_" in name or name.endswith((".pyc", ".mp4"))
    ]


def test_the_source_manifest_names_no_wheel() -> None:
    """The wheel's name carries the version, so it is written when the zip is built."""
    assert "wheels" not in tomllib.loads((build_addon.ROOT / "addon" / "blender_manifest.toml").read_text("utf-8"))


def test_installed_into_an_empty_blender_it_imports_a_take(
    archive: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    save_take(make_take(models), tmp_path / "clip.npz")
    answer = tmp_path / "answer.json"
    resources = tmp_path / "blender"
    resources.mkdir()
    run_isolated(
        INSTALL,
        archive,
        tmp_path / "clip.npz",
        answer,
        seconds=INSTALL_SECONDS,
        BLENDER_USER_RESOURCES=str(resources),
    )
    said = json.loads(answer.read_text())
    assert not said["before"]
    assert said["installed"]
    assert Path(said["dir_core"]).is_relative_to(resources), "the wheel's dir_core, not the repository's"
    assert said["result"] == ["FINISHED"]
    assert said["armatures"] == 2
    assert not said["disabled"]


def test_the_asset_library_in_the_zip_offers_both_hands(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        library = content.extract("assets/two_hands.blend", tmp_path)
        catalogues = content.read("assets/blender_assets.cats.txt").decode()
    with bpy.data.libraries.load(library, assets_only=True) as (offered, wanted):
        wanted.collections = offered.collections
    armatures = {each.name: sum(item.type == "ARMATURE" for item in each.all_objects) for each in wanted.collections}
    assert armatures == {"Two Hands": 2, "Hand Left": 1, "Hand Right": 1}
    assert all(each.asset_data.catalog_id in catalogues for each in wanted.collections)


def test_the_zip_of_a_platform_holds_its_wheels_unmodified(full_archive: Path) -> None:
    with zipfile.ZipFile(full_archive) as content:
        manifest = tomllib.loads(content.read("blender_manifest.toml").decode())
        packed = {
            Path(name).name: hashlib.sha256(content.read(name)).hexdigest()
            for name in content.namelist()
            if name.endswith(".whl")
        }
    assert full_archive.name == f"two_hand_capture-{manifest['version']}-{PLATFORM.replace('-', '_')}.zip"
    assert manifest["platforms"] == [PLATFORM]
    assert sorted(manifest["wheels"]) == sorted(f"./wheels/{name}" for name in packed)
    locked = build_addon.read_wheel_lock(PLATFORM)
    assert {name: packed.get(name) for name in locked} == locked
    (own,) = set(packed) - set(locked)
    assert own.startswith("two_hand_capture-")


@pytest.mark.parametrize("numpy_version", ["Blender's", OLDEST_NUMPY])
def test_installed_into_an_empty_blender_it_captures_offline(
    installed: Path, tmp_path: Path, numpy_version: str
) -> None:
    """What a worker sees: Blender's Python and NumPy, the extension's packages, nothing else, no network."""
    if numpy_version == OLDEST_NUMPY and sys.version_info[:2] != (3, 11):
        pytest.skip(f"numpy {OLDEST_NUMPY} exists for Python 3.11 only")
    (tmp_path / "numpy").mkdir()
    beside = folder_with_numpy(numpy_version, tmp_path / "numpy")
    answer = tmp_path / "answer.json"
    run_isolated(CAPTURE, installed, beside, build_addon.DEMO_VIDEO, answer, flags="-I -S", seconds=CAPTURE_SECONDS)
    said = json.loads(answer.read_text())
    assert min(said["left"], said["right"]) > 0.95
    assert said["numpy"] == (np.__version__ if numpy_version == "Blender's" else numpy_version)
    modules = {name: Path(file) for name, file in said["modules"].items() if not name.startswith("_")}
    assert modules.pop("numpy").is_relative_to(beside)
    assert {"scipy", "cv2", "ai_edge_litert", "dir_core"} <= modules.keys()
    strangers = {name for name, file in modules.items() if not file.is_relative_to(installed)}
    assert not strangers


def test_installed_into_an_empty_blender_it_captures_by_its_button(installed: Path, tmp_path: Path) -> None:
    """The add-on itself, from the footage to keyed hands; where its files lie is Blender's business."""
    resources = next(parent for parent in installed.parents if (parent / "extensions").is_dir())
    answer = tmp_path / "answer.json"
    run_isolated(
        CAPTURE_BY_BUTTON,
        build_addon.DEMO_VIDEO,
        answer,
        seconds=CAPTURE_SECONDS,
        BLENDER_USER_RESOURCES=str(resources),
    )
    said = json.loads(answer.read_text())
    assert said == {"result": ["FINISHED"], "frames": 40, "seen": [1.0, 1.0], "keyed": [[1.0, 40.0], [1.0, 40.0]]}
