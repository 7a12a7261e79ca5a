"""The list of takes in a scene: its rows, their files and what the user chose for them. No keys, no drawing here."""

import json
import uuid
from collections import OrderedDict
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import bpy

from dir_core.clean_up.edits import Edit, as_json, from_json
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.conventions import SIDES
from dir_core.errors import FootageError, OutputError, SettingsError, TakeError
from dir_core.take import Take, load_take, take_digest, write_whole

from .properties import listen_to_takes

FOLDER_NAME: Final = "hands"
"""Folder beside the .blend file that takes are collected in."""

_KEPT_TAKES: Final = 4  # a minute of video is 4 MB in memory; more than a handful is never looked at in turn
_SETTING_DECIMALS: Final = 6  # Blender keeps 32-bit floats: 0.1 comes back as 0.10000000149

_loaded: Final[OrderedDict[tuple[str, int, int], Take]] = OrderedDict()
_missing: Final[dict[str, "MissingFiles"]] = {}


@dataclass(frozen=True)
class MissingFiles:
    """What of a row was not there when it was last looked for."""

    take: bool = False
    footage: bool = False


def add_take(scene: Any, path: Path, *, footage: str = "", start: int = 1, name: str = "") -> Any:
    """Append a row for the take in a file, fill in its facts and make it the active one.

    Args:
        scene: whose list it joins.
        path: file of the raw take.
        footage: what it was captured from; empty takes what the take itself says.
        start: scene frame on which the footage begins.
        name: shown in the list; empty takes the file's.

    Returns:
        The row (HandsTake). Like every row it must not be held while rows are added or removed.

    Raises:
        TakeError: the file is missing or no take; nothing was added.
    """
    path = Path(path).resolve()
    take = _load(path, path.stem)
    rows = scene.two_hands.takes
    item = rows.add()
    item.uid = uuid.uuid4().hex
    item.name = name or path.stem
    item.start = start
    _fill_facts(item, path, take)
    item.footage = footage or str(_source(take).get("path") or "")
    scene.two_hands.active_take = len(rows) - 1
    look_for_files(item)
    return item


def remove_take(scene: Any, uid: str) -> None:
    """Remove the row of a take; its file, hands and keys stay."""
    state = scene.two_hands
    index = next((index for index, item in enumerate(state.takes) if item.uid == uid), None)
    if index is None:
        return
    state.takes.remove(index)
    _missing.pop(uid, None)
    state.active_take = max(0, min(state.active_take - (index < state.active_take), len(state.takes) - 1))


def active_take(scene: Any) -> Any:
    """The row that is chosen in the list, or None."""
    state = scene.two_hands
    return state.takes[state.active_take] if 0 <= state.active_take < len(state.takes) else None


def find_take(scene: Any, uid: str) -> Any:
    """The row with an identifier, or None."""
    return next((item for item in scene.two_hands.takes if uid and item.uid == uid), None)


def find_same_take(scene: Any, path: Path) -> Any:
    """The row that holds the very take that is in a file, also if it is another copy of it, or None.

    Raises:
        TakeError: the file is missing or no take.
    """
    path = Path(path).resolve()
    digest = take_digest(_load(path, path.stem))
    return next((item for item in scene.two_hands.takes if item.content == digest), None)


def raw_path(item: Any) -> Path:
    """Absolute path of a row's raw take; nobody looks whether it is there."""
    return Path(bpy.path.abspath(item.filepath))


def load_raw(item: Any) -> Take:
    """The raw take of a row, from memory if its file has not changed.

    Raises:
        TakeError: the file is missing or no take.
    """
    return _load(raw_path(item), item.name)


def relink_take(item: Any, path: Path) -> bool:
    """Let a row mean the take in another file and read its facts again; returns whether it is the very same take.

    Raises:
        TakeError: the file is missing or no take; the row stays as it was.
    """
    path = Path(path).resolve()
    take = _load(path, item.name)
    known = item.content
    _fill_facts(item, path, take)
    look_for_files(item)
    return bool(known == item.content)


def relink_neighbours(scene: Any, folder: Path) -> int:
    """Find missing takes in a folder, by file name and content; returns how many were found."""
    found = 0
    for item in scene.two_hands.takes:
        path = folder / raw_path(item).name
        if not raw_path(item).is_file() and path.is_file() and take_digest(_load(path, item.name)) == item.content:
            relink_take(item, path)
            found += 1
    return found


def relink_footage(scene: Any, before: str, path: Path) -> int:
    """Let all takes that were captured from the footage `before` (absolute) name `path`; returns how many.

    Raises:
        FootageError: there is no footage at the path.
    """
    if not _footage_exists(path):
        raise FootageError(f"There is no footage at {path}, check the path.")
    changed = [item for item in scene.two_hands.takes if bpy.path.abspath(item.footage) == before]
    for item in changed:
        item.footage = _stored_path(Path(path).resolve())
        look_for_files(item)
    return len(changed)


def collect_takes(scene: Any) -> tuple[int, int]:
    """Copy the files of all rows into `hands` beside the .blend file and let the rows point there, relatively.

    Files that are there already are not copied. Returns how many were copied and how many files were missing.

    Raises:
        OutputError: the file was never saved, or the folder cannot be written; rows that were collected stay so.
    """
    if not bpy.data.filepath:
        raise OutputError("The takes are collected beside the .blend file, save it first.")
    folder = Path(bpy.data.filepath).parent / FOLDER_NAME
    copied = missing = 0
    for item in scene.two_hands.takes:
        source = raw_path(item)
        if not source.is_file():
            missing += 1
            continue
        if source.parent.resolve() != folder.resolve():
            target = free_path(folder, source.stem)
            write_whole(target, source.read_bytes())
            source, copied = target, copied + 1
        item.filepath = bpy.path.relpath(str(source))
        look_for_files(item)
    return copied, missing


def free_path(folder: Path, name: str) -> Path:
    """An unused path for a new take called `name`, ending in .npz, in a folder that is made if it is missing.

    Raises:
        OutputError: the folder cannot be made, or belongs to the add-on's own code.
    """
    folder = Path(folder)
    if folder.resolve().is_relative_to(Path(__file__).resolve().parent):
        raise OutputError(f"{folder} belongs to the add-on, where an update would delete takes: choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {error.strerror}; choose another folder.") from error
    stem = bpy.path.clean_name(name) or "take"
    path, number = folder / f"{stem}.npz", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.npz"
    return path


def edits_of(item: Any) -> tuple[Edit, ...]:
    """The user's corrections of a take.

    Raises:
        SettingsError: what the row holds are no edits of this version.
    """
    try:
        return from_json(json.loads(item.edits))
    except json.JSONDecodeError:
        raise SettingsError(
            f'The edits of the take "{item.name}" cannot be read, remove them and edit again.'
        ) from None


def set_edits(item: Any, edits: tuple[Edit, ...]) -> None:
    """Keep the user's corrections in the row."""
    item.edits = json.dumps(as_json(edits))


def settings_of(item: Any) -> CleanUpSettings:
    """The clean-up settings of a row.

    Raises:
        SettingsError: a value that cannot work.
    """
    values: dict[str, Any] = {}
    for field in fields(CleanUpSettings):
        value = getattr(item.clean_up, field.name)
        values[field.name] = round(value, _SETTING_DECIMALS) if isinstance(value, float) else value
    return CleanUpSettings(**values)


def missing_files(item: Any) -> MissingFiles:
    """What of a row was missing when it was last looked for; costs nothing, for drawing."""
    return _missing.get(item.uid, _NOTHING_MISSING)


def look_for_files(item: Any) -> MissingFiles:
    """Look whether the take and the footage of a row are where it says."""
    footage = bpy.path.abspath(item.footage) if item.footage else ""
    found = MissingFiles(not raw_path(item).is_file(), bool(footage) and not _footage_exists(Path(footage)))
    _missing[item.uid] = found
    return found


def look_for_all_files() -> None:
    """Look for the files of every row of every scene."""
    _missing.clear()
    for scene in bpy.data.scenes:
        for item in scene.two_hands.takes:
            look_for_files(item)


_NOTHING_MISSING: Final = MissingFiles()


def _load(path: Path, name: str) -> Take:
    try:
        status = path.stat()
    except OSError:
        raise TakeError(f'The take "{name}" is not at {path} any more, relink it in the list of takes.') from None
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _loaded:
        _loaded[key] = load_take(path)
    _loaded.move_to_end(key)
    while len(_loaded) > _KEPT_TAKES:
        _loaded.popitem(last=False)
    return _loaded[key]


def _fill_facts(item: Any, path: Path, take: Take) -> None:
    item.filepath = _stored_path(path)
    item.content = take_digest(take)
    estimator = take.meta["estimator"] if isinstance(take.meta["estimator"], dict) else {}
    model = take.meta["hand_model"] if isinstance(take.meta["hand_model"], dict) else {}
    item.estimator = str(estimator.get("name") or "")
    item.licence = str(model.get("licence") or "")
    item.captured = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    item.frames = len(take)
    for side in SIDES:
        seen = take.hand(side).observed
        setattr(item, f"seen_{side}", float(seen.mean()) if len(seen) else 0.0)


def _stored_path(path: Path) -> str:
    """Relative where the take lies beside the .blend file or below, so that both can be moved together."""
    if bpy.data.filepath and path.is_relative_to(Path(bpy.data.filepath).resolve().parent):
        return str(bpy.path.relpath(str(path)))
    return str(path)


def _footage_exists(path: Path) -> bool:
    # The pattern of numbered pictures, shot_%04d.png, is no file itself.
    return path.exists() or ("%" in path.name and path.parent.is_dir())


def _source(take: Take) -> dict[str, Any]:
    source = take.meta.get("source")
    return source if isinstance(source, dict) else {}


def _on_choice(scene: Any) -> None:
    item = active_take(scene)
    if item is not None:
        look_for_files(item)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_load(_path: str) -> None:
    look_for_all_files()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _before_save(path: str) -> None:
    """Paths that are relative to the file mean another place when it is saved in another folder."""
    if not (path and bpy.data.filepath) or Path(path).parent == Path(bpy.data.filepath).parent:
        return
    for scene in bpy.data.scenes:
        for item in scene.two_hands.takes:
            item.filepath = bpy.path.abspath(item.filepath)
            item.footage = bpy.path.abspath(item.footage) if item.footage else ""


def register() -> None:
    """Look for files when a .blend file is opened or a take is chosen; keep paths right when it is saved elsewhere."""
    listen_to_takes(_on_choice)
    bpy.app.handlers.load_post.append(_after_load)
    bpy.app.handlers.save_pre.append(_before_save)


def unregister() -> None:
    """Stop that and forget what was loaded."""
    bpy.app.handlers.save_pre.remove(_before_save)
    bpy.app.handlers.load_post.remove(_after_load)
    _loaded.clear()
    _missing.clear()
