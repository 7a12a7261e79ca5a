"""Files that leave Blender and come back: what moves, when, and what is left of the file that was open."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import addon_utils
import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix, Quaternion
from mathutils.kdtree import KDTree

import addon
from addon import export, exporters, keying, layers
from dir_core import rotations
from dir_core.errors import OutputError, SettingsError
from dir_core.retargeting.rig_map import known_rig_maps
from tests.blender.stage import add_hands, use_own_user_folder, write_take
from tests.blender.test_retarget import body_action, build_rig, key_captured, retarget_now
from tests.blender.undo import differences, file_state

RATES = {"24": (24, 1.0), "25": (25, 1.0), "29.97": (30, 1.001), "60": (60, 1.0)}
"""Frame rates as Blender has them: a whole number and what it is divided by."""

KINDS = list(exporters.FORMATS)
ANGLE = 0.05  # degrees
DISTANCE = 1e-4  # metres
TIME = 1e-3  # seconds

Places = dict[str, Any]
"""Bone -> its transforms in the world on every frame, and at rest: [K, 2, 4, 4]."""


@pytest.fixture(autouse=True)
def registered(empty_file: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The add-on, with a user folder of its own."""
    use_own_user_folder(monkeypatch, tmp_path / "user")
    addon.register()
    yield
    addon.unregister()


def set_rate(rate: tuple[int, float]) -> None:
    render = bpy.context.scene.render
    render.fps, render.fps_base = rate


def keyed_hands(folder: Path, rate: tuple[int, float] = (24, 1.0)) -> list[Any]:
    """Both hands of a take at a frame rate that the take does not have."""
    set_rate(rate)
    item = add_hands(write_take(folder / "take.npz"))
    return [item.keying.left, item.keying.right]


def keyed_character(models: Any) -> tuple[Any, Any]:
    """A rig with a body action, the hands on their layer, and a mesh on bones of both; and its mesh."""
    rig_map = next(each for each in known_rig_maps() if each.name == "Mixamo")
    place = Matrix.LocRotScale((0.3, -0.2, 0.1), Quaternion((1, 0.2, 0.1, 0.3)).normalized(), (0.5,) * 3)
    rig = build_rig(np.random.default_rng(3), models, rig_map, matrix=place)
    armatures = key_captured(models)
    body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    retarget_now(rig, armatures, rig_map)
    item = bpy.context.scene.two_hands.takes.add()
    item.name = "shot"
    item.keying.left, item.keying.right = armatures["left"], armatures["right"]
    bpy.context.scene.two_hands.retarget.target = rig
    data = bpy.data.meshes.new("Body")
    data.from_pydata([(0, 0, 1), (0, 0.1, 1), (0.1, 0, 1.1), (0.6, 0, 1.2)], [], [(0, 1, 2), (1, 2, 3)])
    mesh = bpy.data.objects.new("Body", data)
    bpy.context.scene.collection.objects.link(mesh)
    mesh.parent = rig
    mesh.modifiers.new("Armature", "ARMATURE").object = rig
    for row, bone in enumerate(("hips", "chest", rig_map.hands["left"].wrist, rig_map.hands["right"].wrist)):
        mesh.vertex_groups.new(name=bone).add((row,), 1.0, "REPLACE")
    bpy.context.view_layer.update()
    return rig, mesh


def see(scene: Any, frames: Any, armatures: list[Any]) -> Places:
    """Where the bones of armatures are on frames [K], which may lie between whole ones."""
    seen: dict[str, list[Any]] = {}
    for frame in np.asarray(frames, float):
        whole = int(np.floor(frame))
        scene.frame_set(whole, subframe=float(frame - whole))
        for armature in armatures:
            world = armature.matrix_world
            for bone in armature.pose.bones:
                pair = [np.array(world @ bone.matrix), np.array(world @ bone.bone.matrix_local)]
                seen.setdefault(bone.name, []).append(pair)
    return {name: np.array(pairs) for name, pairs in seen.items()}


def turns(places: Any) -> Any:
    """Rotations since rest in the world [K, 4]; importers may lay the axes of a bone as they like."""
    axes = places[..., :3, :3] / np.linalg.norm(places[..., :3, :3], axis=-2, keepdims=True)
    return rotations.from_matrix(axes[:, 0] @ axes[:, 1].transpose(0, 2, 1))


def come_back(path: Path, kind: str, rate: tuple[int, float], importer: str = "") -> tuple[list[Any], float]:
    """Import a file into an empty scene; returns its armatures, and how many frames a second has there."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for module in ("io_scene_fbx", "io_scene_gltf2", "io_anim_bvh"):
        addon_utils.enable(module, default_set=False)
    set_rate(rate if kind != "BVH" else (12, 1.0))
    per_second = rate[0] / rate[1]
    if importer == "wm.fbx_import":
        bpy.ops.wm.fbx_import(filepath=str(path), anim_offset=0.0)
    elif kind == "FBX":
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
        per_second = rate[0]  # this importer counts in whole frames a second
    elif kind in ("GLB", "GLTF"):
        set_rate((rate[0], 1.0))  # this importer multiplies by the base of a rate where it should divide
        per_second = rate[0]
        bpy.ops.import_scene.gltf(filepath=str(path), bone_heuristic="BLENDER")
    elif kind == "BVH":
        bpy.ops.import_anim.bvh(filepath=str(path), update_scene_fps=True)
        render = bpy.context.scene.render
        assert render.fps / render.fps_base == pytest.approx(per_second, rel=1e-6)
    else:
        bpy.ops.wm.usd_import(filepath=str(path))  # one frame per time code, whatever the rate
    return [item for item in bpy.data.objects if item.type == "ARMATURE"], per_second


def assert_same_motion(before: Places, after: Places, kind: str) -> None:
    """Every bone turns and lies as before, on every frame."""
    for name, places in before.items():
        there = after[name_in(kind, name)]
        off = rotations.multiply(rotations.inverse(turns(places)), turns(there))
        angle = np.degrees(2 * np.arctan2(np.linalg.norm(off[:, 1:], axis=1), np.abs(off[:, 0])))
        assert angle.max() < ANGLE, name
        distance = np.linalg.norm(places[:, 0, :3, 3] - there[:, 0, :3, 3], axis=1)
        assert distance.max() < DISTANCE, name


def name_in(kind: str, name: str) -> str:
    """What a bone is called in a file: USD knows letters, digits and underscores only, BVH no spaces."""
    if kind == "USD":
        return "".join(each if each.isalnum() else "_" for each in name)
    return "_".join(name.split()) if kind == "BVH" else name


def skins() -> list[Any]:
    return [item for item in bpy.data.objects if item.type == "MESH" and item.vertex_groups]


def skin_points(frame: float, meshes: list[Any]) -> Any:
    """Vertices [V, 3] in the world of meshes, as they are deformed on a frame."""
    bpy.context.scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
    graph = bpy.context.evaluated_depsgraph_get()
    points = []
    for skin in meshes:
        evaluated = skin.evaluated_get(graph)
        points += [evaluated.matrix_world @ vertex.co for vertex in evaluated.data.vertices]
    return np.array(points)


def largest_gap(points: Any, others: Any) -> float:
    """How far the farthest of points [V, 3] is from the nearest of others [W, 3]; files may split vertices."""
    tree = KDTree(len(others))
    for row, point in enumerate(others):
        tree.insert(point, row)
    tree.balance()
    return max(tree.find(point)[2] for point in points)


def key_range() -> Any:
    """The first and the last frame with a key."""
    ranges = np.array([tuple(action.frame_range) for action in bpy.data.actions])
    return np.array([ranges[:, 0].min(), ranges[:, 1].max()])


def path_in(folder: Path, kind: str) -> Path:
    return folder / f"hands{exporters.FORMATS[kind].suffixes[0]}"


def export_now(path: Path, kind: str, **settings: Any) -> None:
    """Press the button."""
    chosen = bpy.context.scene.two_hands.export
    chosen.format = kind
    for name, value in settings.items():
        setattr(chosen, name, value)
    assert bpy.ops.hands.export(filepath=str(path)) == {"FINISHED"}


# --- there and back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_both_hands_come_back(tmp_path: Path, kind: str, rate: tuple[int, float]) -> None:
    armatures = keyed_hands(tmp_path, rate)
    first, last = export.keyed_frames(armatures)
    frames = np.arange(first, last + 1)
    assert len(frames) >= 10
    before = see(bpy.context.scene, frames, armatures)
    points = skin_points(last, skins())
    path = path_in(tmp_path, kind)
    export_now(path, kind)

    found, per_second = come_back(path, kind, rate)
    assert sum(len(armature.data.bones) for armature in found) == (33 if kind == "BVH" else 32)
    seconds = frames * rate[1] / rate[0]
    assert np.abs(key_range() / per_second - seconds[[0, -1]]).max() < TIME
    assert_same_motion(before, see(bpy.context.scene, seconds * per_second, found), kind)
    if kind == "BVH":
        assert not skins()
        return
    assert sorted(name_in("USD", skin.name) for skin in skins()) == ["Hand_Left_Skin", "Hand_Right_Skin"]
    assert all(len(skin.vertex_groups) == 16 for skin in skins())
    # Engines read four weights a vertex, so glTF carries four.
    assert largest_gap(points, skin_points(seconds[-1] * per_second, skins())) < (
        5e-4 if kind in ("GLB", "GLTF") else DISTANCE
    )


@pytest.mark.skipif("fbx_import" not in dir(bpy.ops.wm), reason="this Blender has one importer of FBX only")
@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_fbx_comes_back_through_the_other_importer(tmp_path: Path, rate: tuple[int, float]) -> None:
    armatures = keyed_hands(tmp_path, rate)
    first, last = export.keyed_frames(armatures)
    frames = np.arange(first, last + 1)
    before = see(bpy.context.scene, frames, armatures)
    export_now(tmp_path / "hands.fbx", "FBX")
    found, per_second = come_back(tmp_path / "hands.fbx", "FBX", rate, "wm.fbx_import")
    seconds = frames * rate[1] / rate[0]
    assert np.abs(key_range() / per_second - seconds[[0, -1]]).max() < TIME
    assert_same_motion(before, see(bpy.context.scene, seconds * per_second, found), "FBX")


@pytest.mark.parametrize("kind", KINDS)
def test_a_rig_comes_back_with_body_and_hands(models: Any, tmp_path: Path, kind: str) -> None:
    rig, mesh = keyed_character(models)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 8
    frames = np.arange(1, 9)
    before = see(scene, frames, [rig])
    moved = {name for name, places in before.items() if np.ptp(places[:, 0], axis=0).max() > 1e-3}
    assert {"hips", "chest", "mixamorig:LeftHandIndex2"} <= moved
    points = skin_points(8, [mesh])
    path = path_in(tmp_path, kind)
    export_now(path, kind, content="RIG", range="SCENE")

    found, per_second = come_back(path, kind, (24, 1.0))
    assert len(found) == 1
    assert_same_motion(before, see(bpy.context.scene, frames * per_second / 24, found), kind)
    if kind != "BVH":
        assert largest_gap(points, skin_points(8, skins())) < DISTANCE


@pytest.mark.parametrize("kind", ["GLB", "BVH"])
def test_what_is_seen_with_all_layers_leaves(tmp_path: Path, kind: str) -> None:
    armatures = keyed_hands(tmp_path)
    layers.add_layer(armatures)
    place = keying.place_of(armatures[0])
    bend = np.array([Euler((0.4, 0.1, 0.0)).to_quaternion()] * 2)
    keying.key_bones(place, np.array([1, 10]), rotations={"index1.L": bend})
    plain = keying.key_number(armatures[1], "location", np.array([1.0, 10.0]), np.array([0.0, 0.2]), name="Walk")
    assert plain
    frames = np.arange(1, 11)
    before = see(bpy.context.scene, frames, armatures)
    export_now(path_in(tmp_path, kind), kind, range="TAKE")
    found, per_second = come_back(path_in(tmp_path, kind), kind, (24, 1.0))
    assert_same_motion(before, see(bpy.context.scene, frames * per_second / 24, found), kind)


def test_hands_before_a_moving_camera_stand_where_they_are_seen(tmp_path: Path) -> None:
    armatures = keyed_hands(tmp_path)
    camera = bpy.data.objects.new("Camera", None)
    bpy.context.scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler, camera.scale = (1, 2, 3), (0.5, 0.4, 0.3), (2, 2, 2)
    keying.key_number(camera, "location", np.array([1.0, 10.0]), np.array([1.0, 1.5]), name="Move")
    for armature in armatures:
        armature.parent = camera
    frames = np.arange(1, 11)
    before = see(bpy.context.scene, frames, armatures)
    for kind in ("GLB", "BVH", "USD", "FBX"):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
        export_now(path_in(tmp_path, kind), kind)
        found, per_second = come_back(path_in(tmp_path, kind), kind, (24, 1.0))
        assert_same_motion(before, see(bpy.context.scene, frames * per_second / 24, found), kind)
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))


# --- the files -----------------------------------------------------------------------------------------------


def read_gltf(path: Path) -> Any:
    """The description of a .glb or .gltf file."""
    content = path.read_bytes()
    if path.suffix == ".glb":
        content = content[20 : 20 + struct.unpack_from("<I", content, 12)[0]]
    return json.loads(content)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_gltf_has_one_clip_with_true_times(tmp_path: Path, rate: tuple[int, float]) -> None:
    armatures = keyed_hands(tmp_path, rate)
    bpy.context.scene.two_hands.takes[0].name = "Take One"
    export_now(tmp_path / "hands.gltf", "GLTF")
    found = read_gltf(tmp_path / "hands.gltf")
    (clip,) = found["animations"]
    assert clip["name"] == "Take One"
    times = [found["accessors"][sampler["input"]] for sampler in clip["samplers"]]
    first, last = (frame * rate[1] / rate[0] for frame in export.keyed_frames(armatures))
    assert min(each["min"][0] for each in times) == pytest.approx(first, abs=1e-6)
    assert max(each["max"][0] for each in times) == pytest.approx(last, abs=1e-6)
    names = {node["name"] for node in found["nodes"]}
    assert {"Hand Left", "Hand Right", "wrist.L", "thumb3.R"} <= names
    assert [(tmp_path / buffer["uri"]).stat().st_size for buffer in found["buffers"]] == [
        buffer["byteLength"] for buffer in found["buffers"]
    ]


def test_bvh_is_upright_in_a_world_with_y_up(tmp_path: Path) -> None:
    (left, _) = keyed_hands(tmp_path)
    export_now(tmp_path / "hands.bvh", "BVH")
    lines = (tmp_path / "hands.bvh").read_text("utf-8").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ROOT")] == ["root"]
    row = next(row for row, line in enumerate(lines) if "JOINT index2.L" in line)
    bones = left.data.bones
    x, y, z = bones["index2.L"].head_local - bones["index1.L"].head_local
    np.testing.assert_allclose([float(each) for each in lines[row + 2].split()[1:]], (x, z, -y), atol=2e-6)


def test_a_file_of_another_ending_keeps_its_name(tmp_path: Path) -> None:
    assert exporters.fitting_path(tmp_path / "shot.v2", "FBX") == tmp_path / "shot.v2.fbx"
    assert exporters.fitting_path(tmp_path / "shot.FBX", "FBX") == tmp_path / "shot.FBX"
    assert exporters.fitting_path(tmp_path / "shot.usda", "USD") == tmp_path / "shot.usda"


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_usd_says_its_axes_units_and_rate(tmp_path: Path, rate: tuple[int, float]) -> None:
    first, last = export.keyed_frames(keyed_hands(tmp_path, rate))
    export_now(tmp_path / "shot.usda", "USD")
    text = (tmp_path / "shot.usda").read_text("utf-8")
    facts = dict(re.findall(r"^ {4}(\w+) = (\S+)$", text, re.MULTILINE))
    assert (facts["upAxis"], facts["metersPerUnit"]) == ('"Y"', "1")
    assert (int(facts["startTimeCode"]), int(facts["endTimeCode"])) == (first, last)
    assert float(facts["timeCodesPerSecond"]) == pytest.approx(rate[0] / rate[1], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_skeletons_without_a_mesh_have_their_rest_pose(tmp_path: Path, kind: str) -> None:
    (left, right) = keyed_hands(tmp_path)
    bpy.context.scene.frame_set(6)
    before = see(bpy.context.scene, [1, 5, 9], [left, right])
    export_hands([left, right], path_in(tmp_path, kind), kind, span=(1, 9))
    found, _ = come_back(path_in(tmp_path, kind), kind, (24, 1.0))
    assert_same_motion(before, see(bpy.context.scene, [1, 5, 9], found), kind)


@pytest.mark.parametrize("kind", ["FBX", "GLB", "USD"])
def test_bones_below_a_stretched_one_lie_where_they_are_seen(tmp_path: Path, kind: str) -> None:
    (left, _) = keyed_hands(tmp_path)
    left.pose.bones["index1.L"].scale = (1.0, 1.6, 0.8)
    left.data.bones["index2.L"].inherit_scale = "NONE"
    before = see(bpy.context.scene, [1, 4, 8], [left])
    export_hands([left], path_in(tmp_path, kind), kind, span=(1, 8))
    found, _ = come_back(path_in(tmp_path, kind), kind, (24, 1.0))
    after = see(bpy.context.scene, [1, 4, 8], found)
    for name, places in before.items():
        there = after[name_in(kind, name)][:, 0]
        assert np.abs(places[:, 0, :3, 3] - there[:, :3, 3]).max() < DISTANCE, name
        along = [
            each[:, :3, 1] / np.linalg.norm(each[:, :3, 1], axis=1, keepdims=True) for each in (places[:, 0], there)
        ]
        assert np.degrees(np.arccos(np.clip(np.sum(along[0] * along[1], axis=1), -1, 1))).max() < ANGLE, name


def test_armatures_that_share_their_bones_keep_their_names(tmp_path: Path) -> None:
    (left, _) = keyed_hands(tmp_path)
    twin = left.copy()
    bpy.context.scene.collection.objects.link(twin)
    twin.location.x = 1.0
    bpy.context.view_layer.update()
    before = everything()
    export_hands([left, twin], path_in(tmp_path, "GLB"), "GLB")
    assert not differences(before, everything())
    names = [node["name"] for node in read_gltf(path_in(tmp_path, "GLB"))["nodes"]]
    assert {left.name, twin.name} <= set(names)


def test_bones_that_are_scaled_away_do_not_stop_an_export(tmp_path: Path) -> None:
    (left, right) = keyed_hands(tmp_path)
    left.pose.bones["index2.L"].scale = (0.0, 0.0, 0.0)
    before = see(bpy.context.scene, [1, 2, 3], [right])
    for kind in ("BVH", "GLB"):
        export_hands([left, right], path_in(tmp_path, kind), kind)
    found, _ = come_back(path_in(tmp_path, "GLB"), "GLB", (24, 1.0))
    assert_same_motion(before, see(bpy.context.scene, [1, 2, 3], found), "GLB")


# --- what is left --------------------------------------------------------------------------------------------


def everything() -> dict[str, Any]:
    """The state of the file, and of what shows it."""
    window = bpy.context.window_manager.windows[0]
    state = file_state()
    state["window"] = (window.scene.name, window.view_layer.name, bpy.context.mode)
    state["users"] = [(block.name, block.users) for kind in (bpy.data.meshes, bpy.data.materials) for block in kind]
    state["add-ons"] = sorted(name for name in bpy.context.preferences.addons.keys())  # noqa: SIM118 - no set of names
    return state


@pytest.mark.parametrize("fails", [False, True], ids=["written", "failing"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_open_file_stays_as_it_is(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, fails: bool
) -> None:
    rig, _ = keyed_character(models)
    scene = bpy.context.scene
    scene.view_layers.new("Other")
    bpy.context.window.view_layer = scene.view_layers["Other"]
    scene.frame_set(5, subframe=0.25)
    scene.frame_start, scene.frame_end = 2, 4
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="POSE")
    if fails:
        write = exporters._WRITERS[kind]

        def stop(*values: Any) -> set[str]:
            write(*values)
            raise RuntimeError("stopped")

        monkeypatch.setattr(exporters, "_WRITERS", {kind: stop})
    path = path_in(tmp_path, kind)
    path.write_text("of before")
    there = set(tmp_path.iterdir())
    scene.two_hands.export.format = kind
    scene.two_hands.export.content, scene.two_hands.export.range = "RIG", "SCENE"
    before = everything()
    if fails:
        with pytest.raises(RuntimeError, match="Blender's exporter could not write"):
            bpy.ops.hands.export(filepath=str(path))
        assert path.read_text() == "of before"
        assert set(tmp_path.iterdir()) == there
    else:
        assert bpy.ops.hands.export(filepath=str(path)) == {"FINISHED"}
        assert path.stat().st_size > 1000
    assert not differences(before, everything())


def test_an_exporter_that_is_switched_off_is_on_only_for_the_export(tmp_path: Path) -> None:
    keyed_hands(tmp_path)
    addon_utils.disable("io_scene_fbx", default_set=False)
    export_now(tmp_path / "hands.fbx", "FBX")
    assert not addon_utils.check("io_scene_fbx")[1]
    assert (tmp_path / "hands.fbx").stat().st_size > 1000


# --- what cannot be done -------------------------------------------------------------------------------------


def export_hands(
    armatures: list[Any], path: Path, kind: str = "BVH", span: tuple[int, int] = (1, 3)
) -> export.Exported:
    return export.export_armatures(bpy.context, dict.fromkeys(armatures, ()), path, kind, span=span, name="shot")


def test_hidden_hands_are_told(tmp_path: Path) -> None:
    left, right = keyed_hands(tmp_path)
    left.hide_viewport = True
    done = export_hands([left, right], tmp_path / "hands.bvh")
    assert done.armatures == 1
    assert done.notes == ("Hand Left is hidden on all these frames and was left out.",)
    right.hide_viewport = True
    with pytest.raises(SettingsError, match="hidden on these frames, show it"):
        export_hands([left, right], tmp_path / "hands.bvh")


def test_a_hand_holds_still_while_it_is_hidden(tmp_path: Path) -> None:
    (left, _) = keyed_hands(tmp_path)
    keying.key_values(
        keying.place_of(left),
        "hide_viewport",
        np.array([1.0, 4.0]),
        np.array([False, True]),
        group="Capture",
        interpolation="CONSTANT",
    )
    before = see(bpy.context.scene, [1, 2, 3], [left])
    done = export_hands([left], tmp_path / "hands.bvh", span=(1, 6))
    assert done.notes == ("Hand Left is hidden on 3 frames, in the file it holds still there.",)
    found, _ = come_back(tmp_path / "hands.bvh", "BVH", (24, 1.0))
    held = {name: places[[0, 1, 2, 2, 2, 2]] for name, places in before.items()}
    assert_same_motion(held, see(bpy.context.scene, range(1, 7), found), "BVH")


def test_hands_at_rest_are_told(tmp_path: Path) -> None:
    (left, right) = keyed_hands(tmp_path)
    right.data.pose_position = "REST"
    with pytest.raises(SettingsError, match="Hand Right shows its rest position"):
        export_hands([left, right], tmp_path / "hands.bvh")


def test_a_mirrored_rig_is_told(tmp_path: Path) -> None:
    (left, _) = keyed_hands(tmp_path)
    left.scale.x = -1.0
    bpy.context.view_layer.update()
    with pytest.raises(SettingsError, match="Hand Left is mirrored by a negative scale"):
        export_hands([left], tmp_path / "hands.bvh")


def test_an_empty_range_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ends on frame 2 before it begins on 5"):
        export_hands(keyed_hands(tmp_path), tmp_path / "hands.bvh", span=(5, 2))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose another folder"):
        export_hands(keyed_hands(tmp_path), tmp_path / "gone" / "hands.bvh")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = keyed_hands(tmp_path)

    def fill(*_: Any) -> set[str]:
        raise RuntimeError("Error: Python: [Errno 28] No space left on device")

    monkeypatch.setattr(exporters, "_WRITERS", {"FBX": fill})
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OutputError, match="the disk is full; make room or choose another folder"):
        export_hands(hands, tmp_path / "hands.fbx", "FBX")
    assert not list(tmp_path.glob("*hands*"))


def test_a_missing_exporter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = keyed_hands(tmp_path)
    monkeypatch.setattr(addon_utils, "check", lambda _: (False, False))
    monkeypatch.setattr(addon_utils, "enable", lambda *_, **__: None)
    with pytest.raises(SettingsError, match=r"no exporter for BVH \(io_anim_bvh\)"):
        export_hands(hands, tmp_path / "hands.bvh")
    monkeypatch.setattr(exporters, "_HAS_USD", False)
    with pytest.raises(SettingsError, match="built without USD"):
        export_hands(hands, tmp_path / "hands.usd", "USD")


def test_a_button_without_anything_to_export_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Key the hands of a take first"):
        bpy.ops.hands.export(filepath=str(tmp_path / "hands.fbx"))
    bpy.context.scene.two_hands.export.content = "RIG"
    with pytest.raises(RuntimeError, match="Choose the rig in the Retarget panel first"):
        bpy.ops.hands.export(filepath=str(tmp_path / "hands.fbx"))
