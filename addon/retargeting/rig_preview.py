"""Shows the captured hands on the rig while scrubbing, before anything is keyed.

No key, constraint, driver or action is made: on every frame the rig's channels get the numbers that keying would give
them, and shown_pose remembers what they had. Whenever anybody else shall see the rig - a save, a render, whoever keys
it - they get these back first. What is shown follows settings, takes and keys by comparing, from a timer.
"""

import contextlib
import functools
import hashlib
import operator
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import bpy
import numpy as np

from dir_core.conventions import Side
from dir_core.errors import HandCaptureError, SettingsError
from dir_core.retargeting.rig_map import RigMap

from .. import ticker
from ..log import LOGGER, note_mistake
from ..properties import listen_to_preview, listen_to_takes, listen_to_target
from . import retarget, shown_pose, target_rig
from .bone_channels import HandPair, hand_channels
from .captured_hands import Motion, choose_frames, motion_now
from .stand_in import rig_now
from .wrist_targets import bones_to_read

Result = TypeVar("Result")

_TICK: Final = 0.1  # seconds between two looks at what could have changed; a look takes half a millisecond


@dataclass(frozen=True, eq=False)
class _Following:
    """What a rig follows, for certain settings.

    Attributes:
        digest: of the settings.
        wanted: what is taken over.
        pairs: the rig's hands with the captured ones.
        bones: of the rig, on whose place it depends what is shown; none where only fingers are.
    """

    digest: bytes
    wanted: retarget.Wanted
    pairs: dict[Side, HandPair]
    bones: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether nothing that is shown moves the bones on which it depends."""
        return all(pair.goal.is_plain for pair in self.pairs.values())


@dataclass
class _State:
    """What is remembered between frames; all of it can be made again.

    Attributes:
        following: the last one.
        held: the last motion of each hand, for frames on which it is hidden.
        captured: what the captured hands did when they were shown last, and where the rig had them.
        rig: where the rig was after that, if what is shown moves it; None where nobody has looked yet.
        touched: bones that the user has posed since the frame changed.
        away: how many have asked to see the rig as it is.
        problem: why nothing is shown.
    """

    following: _Following | None = None
    held: dict[Side, Motion] = field(default_factory=dict)
    captured: bytes = b""
    rig: bytes | None = None
    touched: set[str] = field(default_factory=set)
    away: int = 0
    is_rendering: bool = False
    problem: str = ""

    def forget(self) -> None:
        """Forget all that refers to data-blocks."""
        self.following, self.captured, self.rig = None, b"", None
        self.held.clear()
        self.touched.clear()


_state: Final = _State()


def problem() -> str:
    """Why the preview shows nothing, in one sentence; "" while it does."""
    return _state.problem


@contextlib.contextmanager
def put_away() -> Iterator[None]:
    """Every rig as it is without the preview, for as long as this lasts."""
    _state.away += 1
    try:
        _put_all_back()
        yield
    finally:
        _state.away -= 1
        _come_back()


def away(steps: Generator[float, None, Result]) -> Generator[float, None, Result]:
    """Take steps that read or change the rig while the preview is put away."""
    with put_away():
        return (yield from steps)


# --- what is shown ---------------------------------------------------------------------------------------------


def _open_views() -> list[tuple[Any, Any]]:
    """Every scene that a window shows, with its view layer."""
    windows = bpy.context.window_manager.windows
    views = {window.scene.name_full: (window.scene, window.view_layer) for window in windows}
    return [*views.values()] or [(bpy.context.scene, bpy.context.view_layer)]


def _is_wanted(scene: Any) -> bool:
    settings = scene.two_hands.retarget
    target = settings.target
    return (
        settings.preview
        and target is not None
        and not _state.away
        and not _state.is_rendering
        and target.mode != "EDIT"
        and scene.objects.get(target.name) == target
    )


def _show(scene: Any, layer: Any, following: _Following) -> None:
    """Show on a scene's rig what the captured hands do in its evaluated view layer.

    Raises:
        SettingsError: something does not fit together.
    """
    target = scene.two_hands.retarget.target
    motions = _read_motions(target, following, layer.depsgraph)
    if not motions:
        raise SettingsError("The captured hands are hidden here, show them in the viewport for the preview.")
    _state.captured, _state.rig = _bytes_of(motions, following), None
    share = _share(following, scene.frame_current)
    if not share:
        shown_pose.put_back(target)
        return
    shown_pose.show(target, _values_of(target, following, motions, layer), share)
    if any(following.pairs[side].goal.is_late for side in motions):
        # A hand below an arm that is moved turns as that arm then lies: this is seen with the arm's values.
        layer.update()
        shown_pose.show(target, _values_of(target, following, motions, layer), share)


def _values_of(
    target: Any, following: _Following, motions: dict[Side, Motion], layer: Any
) -> dict[tuple[str, str, int], float]:
    """What the rig's channels get in an evaluated view layer, but those of bones that the user is posing."""
    rig = None if following.is_plain else rig_now(target, following.bones, layer.depsgraph)
    values: dict[tuple[str, str, int], float] = {}
    for side, motion in motions.items():
        channels = hand_channels(target, following.pairs[side], motion, following.wanted, rig).values
        values |= {key: float(numbers[0]) for key, numbers in channels.items() if key[0] not in _state.touched}
    return values


def _followed(scene: Any) -> _Following | None:
    """What the rig of a scene follows, unless something has changed since that was found out."""
    following = _state.following
    return following if following is not None and following.digest == _digest_of(scene) else None


def _follow(scene: Any) -> _Following:
    """Find out what the rig of a scene follows. Reading the rig may take a scene of its own for a moment."""
    settings = scene.two_hands.retarget
    target, armatures = settings.target, retarget.captured_armatures(scene)
    _state.following = None
    _state.held.clear()
    retarget.check_target(target, armatures.values())
    wanted, rig_map = retarget.wanted_of(settings), target_rig.read_map(settings)
    shown_pose.put_back(target)  # the rig itself is asked where it has its hands
    pairs = retarget.follow_hands(target, armatures, rig_map, wanted)
    _state.following = _Following(_digest_of(scene), wanted, pairs, _bones_of(target, pairs, rig_map, wanted))
    return _state.following


def _bones_of(target: Any, pairs: dict[Side, HandPair], rig_map: RigMap, wanted: retarget.Wanted) -> tuple[str, ...]:
    if wanted.wrist == "NONE":
        return ()
    above = [bone.parent.name for pair in pairs.values() if (bone := target.data.bones[pair.rig.wrist]).parent]
    goals, hands = [pair.goal for pair in pairs.values()], [rig_map.hands[side] for side in pairs]
    return (*above, *bones_to_read(target, goals, hands))


def _digest_of(scene: Any) -> bytes:
    """Digest of all settings, and of how the rig and the captured hands rest."""
    settings = scene.two_hands.retarget
    digest = hashlib.blake2b(repr(_settings_in(settings)).encode(), digest_size=16)
    for armature in (settings.target, *retarget.captured_armatures(scene).values()):
        if armature is not None:
            digest.update(repr((armature.session_uid, armature.data.pose_position)).encode())
            for name, size in (("matrix_local", 16), ("tail_local", 3)):
                places = np.empty(size * len(armature.data.bones), np.float32)
                armature.data.bones.foreach_get(name, places)
                digest.update(places.tobytes())
    return digest.digest()


def _settings_in(group: Any) -> list[Any]:
    """Every value in a group of registered properties, those of its lists and groups included."""
    kind: Any = type(group)
    read_plain, others = _reader_of(kind)
    values = [read_plain(group)]
    for name in others:
        value = getattr(group, name)
        if isinstance(value, bpy.types.ID):
            values.append(value.session_uid)
        elif isinstance(value, bpy.types.PropertyGroup):
            values.append(_settings_in(value))
        elif isinstance(value, bpy.types.bpy_prop_collection):
            values.append([_settings_in(each) for each in value])
        else:
            values.append(value if value is None else tuple(value))
    return values


@functools.cache
def _reader_of(kind: Any) -> tuple[Callable[[Any], Any], tuple[str, ...]]:
    """What reads all plain values of a group at once, and the names of the others: hundreds are read on each frame."""
    plain: list[str] = []
    others: list[str] = []
    for item in kind.bl_rna.properties:
        is_plain = item.type not in {"POINTER", "COLLECTION"} and not getattr(item, "is_array", False)
        (plain if is_plain else others).append(item.identifier)
    return operator.attrgetter(*plain), tuple(name for name in others if name != "rna_type")


def _read_motions(target: Any, following: _Following, graph: Any) -> dict[Side, Motion]:
    """What each hand does now; where it is hidden, what it did when it was seen last."""
    for side, pair in following.pairs.items():
        is_there = pair.captured.armature.evaluated_get(graph).is_evaluated  # not in a collection that is left out
        motion = motion_now(target, pair.captured, pair.rig.wrist, graph) if is_there else None
        if motion is not None:
            _state.held[side] = motion
    return {side: _state.held[side] for side in following.pairs if side in _state.held}


def _share(following: _Following, frame: int) -> float:
    """How much of the hands is seen on a frame: their weight, less while they fade, nothing outside of the range."""
    wanted = following.wanted
    if wanted.span is None and not wanted.fade:
        return wanted.weight
    frames = choose_frames((pair.captured for pair in following.pairs.values()), wanted.span)
    first, last = int(frames[0]), int(frames[-1])
    fade = min(wanted.fade, (last - first) // 2)
    if not first <= frame <= last:
        return 0.0 if fade or wanted.span else wanted.weight
    return wanted.weight * min(1.0, (frame - first) / fade, (last - frame) / fade) if fade else wanted.weight


def _put_all_back(but: Collection[Any] = ()) -> None:
    for target in shown_pose.showing():
        if target not in but:
            shown_pose.put_back(target)
            _state.captured = b""  # to be shown again once it may


# --- what follows what -----------------------------------------------------------------------------------------


def _renew() -> None:
    """Show the preview of every open scene anew, and put back what nobody previews."""
    views = [(scene, layer) for scene, layer in _open_views() if _is_wanted(scene)]
    _put_all_back(but=[scene.two_hands.retarget.target for scene, _ in views])
    _state.problem = ""
    for scene, layer in views:
        _tell_problems(scene, _renew_scene, scene, layer)


def _renew_scene(scene: Any, layer: Any) -> None:
    target = scene.two_hands.retarget.target
    _state.touched |= shown_pose.changed_bones(target)
    following = _followed(scene) or _follow(scene)
    if following.bones:
        shown_pose.put_back(target)
    layer.update()
    _show(scene, layer, following)
    if not following.is_plain:
        layer.update()
        _state.rig = _rig_bytes(target, following, layer.depsgraph)


def _look() -> float | None:
    """One look from the timer: show anew where something has changed."""
    views = [(scene, layer) for scene, layer in _open_views() if scene.two_hands.retarget.preview]
    if not views or _state.away or _state.is_rendering:
        _renew()
        return None
    if not _is_busy() and any(_has_changed(scene, layer) for scene, layer in views):
        _renew()
    return _TICK


def _has_changed(scene: Any, layer: Any) -> bool:
    """Whether what is shown is not what should be: settings, mode of the rig, captured hands, place of the rig."""
    if not _is_wanted(scene):
        return bool(shown_pose.showing())
    target, following = scene.two_hands.retarget.target, _followed(scene)
    if _state.problem or following is None:
        return True
    layer.update()
    motions = _read_motions(target, following, layer.depsgraph)
    if _bytes_of(motions, following) != _state.captured:
        return True
    if following.is_plain or (_state.rig is None and _is_playing()):
        return False
    return _rig_bytes(target, following, layer.depsgraph) != _state.rig


def _bytes_of(motions: dict[Side, Motion], following: _Following) -> bytes:
    """What the captured hands do, to compare; with wrists also where the rig has them, as long as that is its own."""
    with_rig = bool(following.bones) and following.is_plain
    names = ("poses", "world", "target", "parent") if with_rig else ("poses", "world")
    return b"".join(getattr(motion, name).tobytes() for motion in motions.values() for name in names)


def _rig_bytes(target: Any, following: _Following, graph: Any) -> bytes:
    """Where the bones are on which it depends what is shown, to compare."""
    rig = rig_now(target, following.bones, graph)
    return rig.world.tobytes() + b"".join(poses.tobytes() for poses in rig.poses.values())


def _is_playing() -> bool:
    return any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows)


def _is_busy() -> bool:
    """Whether the user is in the middle of something, such as posing the rig."""
    return any(map(ticker.is_user_busy, bpy.context.window_manager.windows))


def _tell_problems(scene: Any, step: Callable[..., None], *arguments: Any) -> None:
    """Take a step; what does not fit together is told in the panel, a defect ends the preview."""
    target = scene.two_hands.retarget.target
    try:
        step(*arguments)
    except HandCaptureError as error:
        _state.problem = str(error)
        shown_pose.put_back(target)
    except Exception:
        LOGGER.exception("The preview on %s failed", target.name)
        note_mistake("A defect of the add-on ended the preview on the rig, the log says where.")
        scene.two_hands.retarget.preview = False


def _come_back() -> None:
    """Show the preview again: soon, or at once where there is no window."""
    if bpy.app.background:
        _renew()
    else:
        ticker.follow(_look)


# --- what Blender tells ----------------------------------------------------------------------------------------


def _is_open(scene: Any) -> Any:
    """The view layer of a scene that is shown and previewed, else None."""
    return next((layer for each, layer in _open_views() if each == scene and _is_wanted(scene)), None)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _before_frame(scene: Any, *_: Any) -> None:
    """Let the new frame begin with the rig as it is."""
    if _is_open(scene) is None:
        return
    target = scene.two_hands.retarget.target
    _state.touched.clear()
    following = _state.following
    # Where nothing animates the rig and nobody reads it, one evaluation a frame is saved.
    if target.animation_data or following is None or following.bones:
        shown_pose.put_back(target)
    if following is None or any(pair.goal.is_late for pair in following.pairs.values()):
        _bring_up_to_date(scene)


def _bring_up_to_date(scene: Any) -> None:
    """Evaluate before the frame changes: where objects have come or gone, Blender crashes in an update after it."""
    layer = _is_open(scene)
    if layer is not None:
        layer.update()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_frame(scene: Any, *_: Any) -> None:
    """Show what the captured hands do on the new frame."""
    layer = _is_open(scene)
    if layer is not None:
        _state.problem = ""
        _tell_problems(scene, _show_frame, scene, layer)


def _show_frame(scene: Any, layer: Any) -> None:
    following = _followed(scene)
    if following is None and not bpy.app.background:
        ticker.follow(_look)  # finding out anew is no business of a frame change
    else:
        _show(scene, layer, following or _follow(scene))


def _on_choice(_scene: Any) -> None:
    _state.forget()
    _renew()
    _come_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_undo(*_: Any) -> None:
    """What is shown and what was there before came back together; only compare anew."""
    _state.forget()
    _come_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_load(*_: Any) -> None:
    """A file begins without a preview, also one that was recovered."""
    _state.forget()
    _state.is_rendering, _state.problem = False, ""
    for scene in bpy.data.scenes:
        if scene.library is None and scene.two_hands.retarget.preview:
            scene.two_hands.retarget.preview = False
    _put_all_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _before_save(*_: Any) -> None:
    _put_all_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_save(*_: Any) -> None:
    _state.forget()
    _come_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _before_render(*_: Any) -> None:
    _state.is_rendering = True
    _put_all_back()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _after_render(*_: Any) -> None:
    _state.is_rendering = False
    _state.forget()
    _come_back()


_HANDLERS: Final = (
    ("frame_change_pre", _before_frame),
    ("frame_change_post", _after_frame),
    ("undo_post", _after_undo),
    ("redo_post", _after_undo),
    ("load_post", _after_load),
    ("save_pre", _before_save),
    ("save_post", _after_save),
    ("save_post_fail", _after_save),
    ("render_init", _before_render),
    ("render_complete", _after_render),
    ("render_cancel", _after_render),
)


def register() -> None:
    """Follow frames, choices, files and renders."""
    listen_to_preview(_on_choice)
    listen_to_target(_on_choice)
    listen_to_takes(_on_choice)
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Leave every rig as it is without the preview."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
    _put_all_back()
    _state.forget()
