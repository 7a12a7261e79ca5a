"""The direction of imports, read from the syntax trees of every source file and tried in a bare process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIGHT = (
    "take",
    "rotations",
    "camera",
    "conventions",
    "errors",
    "array_pickle",
    "hand_model",
    "capture_settings",
    "landmarks",
    "parts",
    "picture_files",
    "mp4_index",
    "footage_facts",
    "degrees_of_freedom",
    "clean_up",
    "fitting",
    "clean",
    "retargeting",
    "exchange",
)
"""Parts of dir_core that Blender itself may import: numpy and scipy only."""

LIGHT_WORKER = ("clean_up_client", "key_reducer", "protocol", "runtime")
LIGHT_MODULES = (
    "dir_core",
    "dir_core.worker",
    *(f"dir_core.worker.{name}" for name in LIGHT_WORKER),
    *(f"dir_core.{name}" for name in LIGHT),
)

ALLOWED_HEAVY = {
    "torch": ("hand_layer", "network", "evaluation", "training", "worker"),
    "cv2": ("footage", "movie_files", "detection", "network", "evaluation", "preview", "training", "worker"),
    "ai_edge_litert": ("detection", "training"),
    "safetensors": ("network", "training"),
    "matplotlib": ("curves", "training"),
    "moderngl": ("training",),
    "tqdm": ("commands",),
    "ray": ("batch",),
    "pickle": ("array_pickle",),
}
"""Library -> the parts of dir_core that may import it."""

BLENDER = (
    "bpy",
    "bl_operators",
    "bl_ui",
    "bpy_extras",
    "mathutils",
    "gpu",
    "gpu_extras",
    "blf",
    "addon_utils",
    "bl_math",
)
ADDON_STEPS = ("capture_job", "hand_rig", "keying", "retargeting", "footage_view")


@dataclass(frozen=True)
class Import:
    """One import statement's target, as a full dotted name."""

    importer: str
    target: str
    line: int
    relative: bool

    @property
    def library(self) -> str:
        return self.target.split(".")[0]

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        """The file or folder directly below the package, such as `detection` of dir_core.detection.palm."""
        return [*self.name.split("."), ""][1]


def read_module(name: str, source: str, is_package: bool) -> Module:
    """Every import of a source text, also those inside functions, with relative ones made absolute.

    `from a import b` counts as an import of `a.b`; whether b is a module or a name is settled later.
    """
    package = name if is_package else name.rpartition(".")[0]
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(name, alias.name, node.lineno, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            found += [Import(name, f"{base}.{alias.name}", node.lineno, node.level > 0) for alias in node.names]
    return Module(name, tree, tuple(found))


def read_package(package: str) -> Iterator[Module]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield read_module(".".join(parts[:-1] if is_package else parts), path.read_text("utf-8"), is_package)


MODULES = {module.name: module for package in ("dir_core", "addon") for module in read_package(package)}
CORE = [module for module in MODULES.values() if module.name.split(".")[0] == "dir_core"]
ADDON = [module for module in MODULES.values() if module.name.split(".")[0] == "addon"]


def imported_module(target: str) -> str | None:
    """The project's module behind an import target: the longest part of the name that is a file here."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target or None


def is_light(module: str) -> bool:
    return any(module == name or (module.startswith(f"{name}.") and name[9:] in LIGHT) for name in LIGHT_MODULES)


def with_parents(module: str) -> list[str]:
    """A module and the packages that Python loads before it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def everything_loaded_by(module: str) -> set[str]:
    """The project's modules that an import of `module` can load, through any number of files."""
    seen: set[str] = set()
    waiting = with_parents(module)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        for statement in MODULES[name].imports:
            target = imported_module(statement.target)
            if target:
                waiting += with_parents(target)
    return seen


def names_used(module: Module) -> Iterator[tuple[str, int]]:
    """Bare names and `sys.path`-like attributes a module mentions, with their lines."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno


def complain(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


# The reader itself: a blind reader would let everything pass.


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import torch.nn as nn", "torch.nn"),
        ("def f():\n    from cv2 import VideoCapture", "cv2.VideoCapture"),
        ("try:\n    import bpy\nexcept ImportError:\n    pass", "bpy"),
        ("from . import keying", "addon.operators.keying"),
        ("from ..panels import clean_up", "addon.panels.clean_up"),
        ("from ..hand_rig import build", "addon.hand_rig.build"),
    ],
)
def test_every_way_of_importing_is_seen(source: str, target: str) -> None:
    module = read_module("addon.operators.rig", source, is_package=False)
    assert [statement.target for statement in module.imports] == [target]


def test_relative_imports_of_a_package_file_start_at_the_package() -> None:
    module = read_module("addon.operators", "from .rig import x\nfrom ..keying import y", is_package=True)
    assert [statement.target for statement in module.imports] == ["addon.operators.rig.x", "addon.keying.y"]


def test_light_is_told_from_heavy() -> None:
    assert is_light("dir_core.take")
    assert is_light("dir_core.clean_up.smoothing")
    assert is_light("dir_core.worker.protocol")
    assert not is_light("dir_core.worker.process")
    assert not is_light("dir_core.detection.palm")
    assert not is_light("dir_core.take_off")


def test_the_project_is_read() -> None:
    assert {"dir_core.take", "dir_core.conventions"} <= set(MODULES)
    assert "dir_core.errors" in everything_loaded_by("dir_core.take")


# dir_core


def test_dir_core_knows_nothing_of_blender() -> None:
    complain([str(line) for module in CORE for line in module.imports if line.library in (*BLENDER, "addon")])


def test_dir_core_uses_only_its_libraries() -> None:
    known = {"dir_core", "numpy", "scipy", *ALLOWED_HEAVY} | sys.stdlib_module_names
    complain([str(line) for module in CORE for line in module.imports if line.library not in known])


@pytest.mark.parametrize("library", ALLOWED_HEAVY)
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    rooms = ALLOWED_HEAVY[library]
    complain(
        [
            str(line)
            for module in CORE
            for line in module.imports
            if line.library == library and module.part not in rooms
        ]
    )


def test_light_modules_stay_light_through_everything_they_load() -> None:
    allowed = {"dir_core", "numpy", "scipy", *sys.stdlib_module_names}
    findings = []
    for light in filter(is_light, MODULES):
        for name in everything_loaded_by(light):
            if not is_light(name):
                findings.append(f"{light} loads {name}, which is not light")
            findings += [f"{light}: {line}" for line in MODULES[name].imports if line.library not in allowed]
    complain(findings)


def test_no_code_is_made_from_text() -> None:
    forbidden = ("eval", "exec", "__import__")
    complain(
        [
            f"{module.name}:{line} uses {name}"
            for module in CORE
            for name, line in names_used(module)
            if name in forbidden
        ]
    )


# addon


def test_addon_uses_blender_numpy_and_the_standard_library() -> None:
    known = {"addon", "dir_core", "numpy", *BLENDER} | sys.stdlib_module_names
    complain([str(line) for module in ADDON for line in module.imports if line.library not in known])


def test_addon_has_no_threads_pickles_or_made_up_code() -> None:
    libraries = ("threading", "_thread", "multiprocessing", "pickle", "marshal", "shelve")
    names = ("eval", "exec", "__import__", "sys.path")
    findings = [str(line) for module in ADDON for line in module.imports if line.library in libraries]
    findings += [
        f"{module.name}:{line} uses {name}" for module in ADDON for name, line in names_used(module) if name in names
    ]
    complain(findings)


def test_addon_imports_itself_relatively() -> None:
    """Blender loads an extension under another name than `addon`."""
    complain(
        [str(line) for module in ADDON for line in module.imports if line.library == "addon" and not line.relative]
    )


def test_addon_loads_only_the_light_part_of_dir_core() -> None:
    findings = []
    for module in ADDON:
        for line in module.imports:
            target = imported_module(line.target)
            if target and target.startswith("dir_core") and not is_light(target):
                findings.append(str(line))
    complain(findings)


def test_addon_layers_look_down_only() -> None:
    """panels -> operators -> steps; only registration and the entry points see everything."""
    level = {"panels": 3, "operators": 2} | dict.fromkeys(ADDON_STEPS, 1)
    entries = ("", "registration", "__main__")
    findings = []
    for module in ADDON:
        if module.part in entries:
            continue
        for line in module.imports:
            target = imported_module(line.target)
            if target and MODULES[target].name.startswith("addon."):
                part = MODULES[target].part
                if level.get(part, 0) > level.get(module.part, 1) or part in entries:
                    findings.append(str(line))
    complain(findings)


# Both


def test_no_import_cycles() -> None:
    edges = {
        name: {target for line in module.imports if (target := imported_module(line.target)) and target != name}
        for name, module in MODULES.items()
    }
    # A module that uses its own package file is no cycle: that file was loaded first anyway.
    edges = {name: {t for t in targets if not name.startswith(f"{t}.")} for name, targets in edges.items()}
    finished: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        assert name not in way, "import cycle: " + " -> ".join([*way[way.index(name) :], name])
        if name not in finished:
            for target in sorted(edges[name]):
                walk(target, [*way, name])
            finished.add(name)

    for name in sorted(edges):
        walk(name, [])


def run_with_only(libraries: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a process where every library but these and the standard library is missing."""
    script = f"""
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        library = name.split(".")[0]
        known = {{"dir_core", *{libraries!r}, *sys.stdlib_module_names}}
        if library not in known and not library.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{{name}} is behind the wall", name=name)
sys.meta_path.insert(0, Wall())
sys.path.insert(0, {str(ROOT)!r})
for name in {modules!r}:
    importlib.import_module(name)
print("loaded", len({modules!r}))
"""
    return subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )


def test_light_modules_load_with_numpy_and_scipy_alone() -> None:
    modules = sorted(filter(is_light, MODULES))
    result = run_with_only(("numpy", "scipy"), modules)
    assert result.stdout == f"loaded {len(modules)}\n", result.stderr


def test_what_the_addon_imports_loads_with_numpy_alone() -> None:
    """The official Blender ships numpy and no scipy, and the extension carries dir_core's wheel only."""
    targets = {
        imported_module(line.target) for module in ADDON for line in module.imports if line.library == "dir_core"
    }
    modules = sorted(target for target in targets if target)
    result = run_with_only(("numpy",), modules)
    assert result.stdout == f"loaded {len(modules)}\n", result.stderr


def test_the_wall_holds() -> None:
    result = run_with_only(("numpy",), ["scipy"])
    assert "scipy is behind the wall" in result.stderr
