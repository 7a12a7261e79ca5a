"""A take of the list becomes keys on its hands: the one place that decides which action and which of its keys are ours.

Every action with our keys carries a mark: whose they are, what they were made from, where they lie and what they were
when we wrote them. The mark is a custom property, so undo takes keys and mark back together.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import ReducedCurve
from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.errors import SettingsError, TakeError
from dir_core.hand_model import open_hand_models
from dir_core.take import FRAME_FIELDS, HandTrack, Take
from dir_core.worker.clean_up_client import ReducedHand

from . import footage_view, keying, layers
from .asset_library import BOTH_HANDS
from .hand_rig import bone_names, build_hand, find_side, skins_of
from .keying import Place, Span
from .scene import (
    build_hands,
    count_keys,
    find_models,
    hide_hand,
    key_hand,
    key_visibility,
    keyed_paths,
    place_hands,
    show_hand,
)

Array = NDArray[Any]

LIBRARY: Final = Path(__file__).parent / "assets" / "two_hands.blend"
"""The asset library of an installed extension; a checkout has none and builds the same hands."""

_MARK: Final = "two_hand_capture"  # custom property of our actions


@dataclass(frozen=True, eq=False)
class KeyedTake:
    """What was keyed.

    Attributes:
        frames: [K] keyed scene frames.
        filled: keyed frames in which a hand was not seen, both hands together; hidden ones do not count.
        keys: on the curves of all bones, and how many a key on every frame would have been.
        built: hands were made for these keys.
        kept: names of copies that hold keys of ours which the user had changed.
        notes: sentences the user should read.
    """

    frames: Array
    filled: int
    keys: tuple[int, int]
    built: bool = False
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What was done, in numbers."""
        parts = [f"Keyed {len(self.frames):,} frame{'' if len(self.frames) == 1 else 's'}"]
        if self.filled:
            parts.append(f"{self.filled:,} filled")
        kept, whole = self.keys
        if kept < whole:
            parts.append(f"{kept:,} keys instead of {whole:,}")
        names = " and ".join(f'"{name}"' for name in self.kept)
        edited = f" Your changes of the keys before are kept in {names}." if names else ""
        return f"{', '.join(parts)}.{edited}"


@dataclass(frozen=True)
class _HandMark:
    """Our keys of one hand: on which scene frames, what they were, and whether we hid the hand ("keys", "always")."""

    span: Span
    keys: str
    hidden: str = ""


@dataclass(frozen=True)
class _Mark:
    """Our keys on an action: the row they are from, a digest of everything they are made from, and what they are."""

    take: str = ""
    digest: str = ""
    hands: dict[Side, _HandMark] = field(default_factory=dict)


def key_take(
    context: Any,
    item: Any,
    take: Take,
    *,
    curves: Mapping[Side, ReducedHand] | None = None,
    digest: str = "",
) -> KeyedTake:
    """Write the keys of a take on the hands of its row, in place of those that were written before.

    The first time a new action is made, later its keys are replaced; or the keys go into the armature's current action,
    if the row says so. Other curves stay, and so do keys of ours beside the range in a current action, and keys of the
    user's beside the take. Keys of ours that the user has changed are kept in a copy of the action. Below a correction
    layer, the keys in its strip are replaced and the layer stays.

    Args:
        context: the current context, in the row's scene.
        item: the row (HandsTake).
        take: the raw take of the row, or what the clean-up made of it.
        curves: the take's motion with fewer keys, in its own axes and seconds; None keys every frame.
        digest: what `keyed_digest` shall say from now on.

    Raises:
        HandCaptureError: hands cannot be built or keyed now, or the range has no frame.
    """
    rate = footage_view.scene_frame_rate(item.id_data).value
    frames = keying.frames_from_times(take.time, item.start, rate)
    rows = _rows_in_range(item, frames)
    armatures = hands_of(item)
    notes: list[str] = []
    is_new = not armatures
    if is_new:
        armatures, notes = _make_hands(context, item, take)
    keyed = {side: armature for side, armature in armatures.items() if _is_keyed(item, take, side)}
    if not keyed:
        raise TakeError("The take shows none of these hands, choose the armature of the other side.")

    places = _open_places(item, keyed)
    kept = _keep_changed_keys(places)
    marks, filled = {}, 0
    for side, armature in keyed.items():
        before = _read_mark(places[side].action).hands.get(side)
        span = _span_to_replace(item, frames[rows], before)
        hand = _cut_track(take.hand(side), rows)
        cut = None if curves is None else _cut_curves(curves[side], take.time, rows)
        keys = key_hand(armature, side, hand, frames[rows], places[side], curves=cut, rate=rate, span=span)
        hidden, seen = take.hidden(side)[rows], bool(take.hand(side).observed.any())
        state = _hide_where_unseen(armature, places[side], hidden, frames[rows], seen=seen, span=span, before=before)
        if seen:
            filled += int((~hand.observed & ~hidden).sum())
        own = (float(frames[rows][0]), float(frames[rows][-1]))
        marks[side] = _HandMark(own, keys, state)
        layers.fit_strips(armature)
        armature.update_tag(refresh={"TIME"})
    for action in _actions_of(places):
        own_marks = {side: mark for side, mark in marks.items() if places[side].action == action}
        _write_mark(action, _Mark(item.uid, digest, {**_read_mark(action).hands, **own_marks}))
    return KeyedTake(
        frames=frames[rows],
        filled=filled,
        keys=count_keys([places[side].curves for side in keyed], int(rows.sum())),
        built=is_new,
        kept=kept,
        notes=(*notes, *_notes(take, armatures, keyed)),
    )


def keyed_digest(item: Any) -> str:
    """The digest that the keys of a row were written with; empty without keys, or if its hands differ."""
    places = [_own_place(armature, item.uid) for armature in hands_of(item).values()]
    digests = {_read_mark(place.action).digest for place in places if place is not None}
    return digests.pop() if len(digests) == 1 else ""


def makes_actions(item: Any, take: Take) -> bool:
    """Whether keying a take would make actions: its first keys, a copy of keys that the user changed, a hidden skin's.

    Outside of an undo step nothing may be made, because undo would leave objects that refer to it.
    """
    hands = hands_of(item)
    places = {side: _own_place(armature, item.uid) for side, armature in hands.items()}
    keyed = {side: place for side, place in places.items() if place is not None}
    if len(keyed) < len(hands) or any(_is_changed(action, keyed) for action in _actions_of(keyed)):
        return True
    skins = [skin for side, armature in hands.items() if take.hidden(side).any() for skin in skins_of(armature)]
    return any(keying.place_of(skin) is None for skin in skins)


def keyed_span(item: Any) -> Span | None:
    """First and last scene frame on which the hands of a row have its keys; None without keys."""
    spans = []
    for side, armature in hands_of(item).items():
        place = _own_place(armature, item.uid)
        mark = _read_mark(place.action).hands.get(side) if place else None
        if mark is not None:
            spans.append(mark.span)
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def has_rigs(item: Any) -> bool:
    """Whether a hand of the row is in the scene."""
    return bool(hands_of(item))


def hands_of(item: Any) -> dict[Side, Any]:
    """The armatures of a row that are in its scene."""
    chosen: dict[Side, Any] = {side: getattr(item.keying, side) for side in SIDES}
    objects = item.id_data.objects
    return {
        side: armature
        for side, armature in chosen.items()
        if armature is not None and objects.get(armature.name) == armature
    }


def _is_keyed(item: Any, take: Take, side: Side) -> bool:
    """A hand that was never seen stays as it is, unless it was made for this take: then it is keyed and hidden."""
    is_users = item.keying.rigs == "EXISTING" or item.keying.action == "EXISTING"
    return not is_users or bool(take.hand(side).observed.any())


def _rows_in_range(item: Any, frames: Array) -> Array:
    """The rows [T] bool of the take that are keyed."""
    if not len(frames):
        raise TakeError("The take has no frames, capture the clip again.")
    if not item.keying.use_range:
        return np.ones(len(frames), bool)
    first, last = item.keying.first, item.keying.last
    rows: Array = (frames >= first) & (frames <= last)
    if not rows.any():
        there = f"which lies on {frames[0]:.6g} to {frames[-1]:.6g}"
        raise SettingsError(f"The frames {first} to {last} hold nothing of the take, {there}: choose a range in it.")
    return rows


def _span_to_replace(item: Any, frames: Array, before: _HandMark | None) -> Span:
    """Where keys go: the range alone in a current action, else also wherever keys of ours were."""
    options = item.keying
    first, last = float(frames[0]), float(frames[-1])
    if options.use_range:
        first, last = float(options.first), float(options.last)
        if options.action == "EXISTING":
            return first, last
    return (first, last) if before is None else (min(first, before.span[0]), max(last, before.span[1]))


def _cut_track(track: HandTrack, rows: Array) -> HandTrack:
    return replace(track, **{name: getattr(track, name)[rows] for name in FRAME_FIELDS})


def _cut_curves(curves: ReducedHand, time: Array, rows: Array) -> ReducedHand:
    first, last = (int(row) for row in np.flatnonzero(rows)[[0, -1]])

    def cut(curve: ReducedCurve) -> ReducedCurve:
        return keying.cut_curve(curve, time, first, last)

    return ReducedHand(tuple(map(cut, curves.rotations)), cut(curves.position))


def _make_hands(context: Any, item: Any, take: Take) -> tuple[dict[Side, Any], list[str]]:
    """Build or append both hands of a row in a new collection, and what the user should know about them."""
    if item.keying.rigs == "EXISTING":
        raise SettingsError("There is no hand to key in the scene, choose the armature of a hand.")
    if context.mode != "OBJECT":
        raise SettingsError("Hands can only be built in object mode, leave for it and try again.")
    note = ""
    if item.keying.rigs == "LIBRARY":
        collection, armatures = _append_library(item)
    else:
        models, note = find_models(take)
        collection = bpy.data.collections.new(item.name)
        item.id_data.collection.children.link(collection)
        armatures = {side: hand.armature for side, hand in build_hands(take, models, collection).items()}
    item.keying.left, item.keying.right = armatures["left"], armatures["right"]
    camera = item.camera or footage_view.camera_of(item.id_data)
    if camera is not None:
        place_hands(armatures.values(), camera)
    return armatures, [note] if note else []


def _append_library(item: Any) -> tuple[Any, dict[Side, Any]]:
    """Both hands of the asset library in a collection of the row's name."""
    scene = item.id_data
    if LIBRARY.is_file():
        with bpy.data.libraries.load(str(LIBRARY)) as (_, wanted):
            wanted.collections = [BOTH_HANDS]
        (collection,) = wanted.collections
        for each in (collection, *collection.children_recursive):
            each.asset_clear()
        collection.name = item.name
        scene.collection.children.link(collection)
    else:
        collection = bpy.data.collections.new(item.name)
        scene.collection.children.link(collection)
        for model in open_hand_models().values():
            build_hand(model, np.zeros(SHAPE_COUNT), 1.0, collection)
    armatures = {}
    for armature in (each for each in collection.all_objects if each.type == "ARMATURE"):
        side = find_side(armature)
        if side is not None:
            armature.location = (0.0, 0.0, 0.0)  # they stand beside each other in the library
            armatures[side] = armature
    return collection, armatures


def _check_bones(armature: Any, side: Side) -> None:
    if any(name not in armature.data.bones for name in bone_names(side)):
        raise SettingsError(f'"{armature.name}" is no {side} hand of this add-on, choose another or retarget to it.')


def _open_places(item: Any, armatures: Mapping[Side, Any]) -> dict[Side, Place]:
    """Where the keys of each hand go: below a correction layer, to our own action, to the current one or a new one."""
    for side, armature in armatures.items():
        _check_bones(armature, side)
    places: dict[Side, Place] = {}
    for side, armature in armatures.items():
        own, below, current = _own_place(armature, item.uid), layers.taken_place(armature), keying.place_of(armature)
        if item.keying.action == "EXISTING":
            place = below or current or own
        else:
            place = own or below
            if place is None and current is not None:
                current.action.use_fake_user = True  # what the armature had stays in the file
        if place is None or (keying.HAS_SLOTS and place.slot is None):
            shared = place.action if place else next((each.action for each in places.values()), None)
            place = keying.open_place(armature, shared, item.name)
        places[side] = place
    return places


def _own_place(armature: Any, uid: str) -> Place | None:
    """Where the keys of a row are on an armature, also if the user has pushed them down into the NLA."""
    found = [keying.place_of(armature)]
    data = armature.animation_data
    for strip in (strip for track in (data.nla_tracks if data else ()) for strip in track.strips):
        if strip.action is not None:
            found.append(Place(strip.action, strip.action_slot if keying.HAS_SLOTS else None))
    return next((place for place in found if place is not None and _read_mark(place.action).take == uid), None)


def _keep_changed_keys(places: Mapping[Side, Place]) -> tuple[str, ...]:
    """Copy every action whose keys of ours are not what we wrote; returns the names of the copies."""
    kept = []
    for action in _actions_of(places):
        if _is_changed(action, places):
            copy = action.copy()
            copy.name = f"{action.name} (edited)"
            copy.use_fake_user = True
            del copy[_MARK]
            kept.append(copy.name)
    return tuple(kept)


def _is_changed(action: Any, places: Mapping[Side, Place]) -> bool:
    """Whether keys of ours on an action are not what we wrote."""
    hands = _read_mark(action).hands
    return any(
        keying.digest_keys(place, keyed_paths(side), hands[side].span) != hands[side].keys
        for side, place in places.items()
        if place.action == action and side in hands
    )


def _hide_where_unseen(
    armature: Any, place: Place, hidden: Array, frames: Array, *, seen: bool, span: Span, before: _HandMark | None
) -> str:
    """Hide a hand where the clean-up says so, or always if it was never seen; what we hid before is shown again."""
    if before is not None and before.hidden:
        show_hand(armature, place, before.span)
    if not seen:
        hide_hand(armature)
        return "always"
    key_visibility(armature, place, hidden, frames, span=span)
    return "keys" if hidden.any() else ""


def _actions_of(places: Mapping[Side, Place]) -> list[Any]:
    return list(dict.fromkeys(place.action for place in places.values()))


def _read_mark(action: Any) -> _Mark:
    text = action.get(_MARK)
    if not isinstance(text, str):
        return _Mark()
    values = json.loads(text)
    hands = {
        side: _HandMark(tuple(hand["span"]), hand["keys"], hand["hidden"]) for side, hand in values["hands"].items()
    }
    return _Mark(values["take"], values["digest"], hands)


def _write_mark(action: Any, mark: _Mark) -> None:
    action[_MARK] = json.dumps(asdict(mark))


def _notes(take: Take, armatures: Mapping[Side, Any], keyed: Mapping[Side, Any]) -> list[str]:
    unseen = [side for side in armatures if not take.hand(side).observed.any()]
    return [
        f"The {side} hand was never seen and is {'hidden' if side in keyed else 'left as it is'}." for side in unseen
    ]
