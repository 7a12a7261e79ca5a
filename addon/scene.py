"""A Take becomes hands, keys, camera and footage in a scene: the one way the operator and the command line share.

Only the order of the steps lives here; each step lives in hand_rig, keying or footage_view.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.errors import HandModelError, TakeError
from dir_core.hand_model import HandModel, load_hand_models, open_hand_models
from dir_core.take import HandTrack, Take

from . import footage_view, hand_rig, keying
from .hand_rig import HandRig

CONFIDENCE_PROPERTY = "confidence"
"""Keyed on each armature object: mean key-point confidence 0..1, 0 where the hand was not seen."""

LIBRARY_SPACING = 0.4
"""Metres between the wrists of the hands in the asset library."""


@dataclass(frozen=True, eq=False)
class BuiltScene:
    """What was built from a take.

    Attributes:
        hands: the rig of each side.
        camera: the camera object.
        actions: the actions that hold the keys: one, or one per armature before 4.4.
        frames: [K] keyed scene frames.
        observed: frames in which each hand was seen.
        keys: on the curves of all bones, and how many a key on every frame would have been.
        notes: sentences the user should read.
    """

    hands: dict[Side, HandRig]
    camera: Any
    actions: tuple[Any, ...]
    frames: Any
    observed: dict[Side, int]
    keys: tuple[int, int]
    notes: tuple[str, ...]

    def sentence(self, rate: footage_view.FrameRate) -> str:
        """What was done, in numbers, with `rate` the scene's frame rate."""
        first, last = (f"{frame:.10g}" for frame in (self.frames[0], self.frames[-1]))
        count = f"{len(self.frames)} frame{'' if len(self.frames) == 1 else 's'}"
        keyed = f"Keyed {count} on scene frames {first} to {last} at {rate} fps"
        kept, all_frames = self.keys
        if kept < all_frames:
            keyed = f"{keyed}, {kept:,} keys instead of {all_frames:,}"
        seen = ", ".join(f"{side} hand seen in {self.observed[side]}" for side in SIDES)
        return f"{keyed}; {seen}."


def find_models(take: Take) -> tuple[Mapping[Side, HandModel], str]:
    """The hand models the take was fitted with, and a sentence for the user if they are not to be had.

    Raises:
        HandModelError: the open hand of the installation is incomplete.
    """
    models = open_hand_models()
    wanted = _fitted_model(take)
    if wanted in (None, models["right"].name):
        return models, ""
    settings = take.meta["settings"]
    folder = settings.get("hand_model") if isinstance(settings, dict) else None
    try:
        if isinstance(folder, str) and folder:
            return load_hand_models(folder), ""
        reason = "the take does not say where it is"
    except HandModelError as error:
        reason = str(error)
    return models, f"The take was fitted with {wanted} and shows the open hand in its mean shape: {reason}"


def build_scene(
    take: Take,
    models: Mapping[Side, HandModel],
    scene: Any,
    *,
    start: int = 1,
    clip: Any = None,
    reduce: KeyReduction | None = None,
    name: str = "Hands",
) -> BuiltScene:
    """Build both hands, their keys, the camera and its background in a new collection of `scene`.

    Frame rate, frame range, render size and active camera of the scene stay as they are. `scene` has to be the one
    in the current context, and Blender in object mode.

    Args:
        take: the take.
        models: a hand model per side.
        scene: where to build.
        start: scene frame of the footage's time 0.
        clip: the footage as a movie clip, or None.
        reduce: how far bones may be off for the sake of fewer keys; None keys every frame.
        name: of the collection and of the action.

    Raises:
        TakeError: the take has no frames.
    """
    if not len(take):
        raise TakeError("The take has no frames, capture the clip again.")
    collection = bpy.data.collections.new(name)
    scene.collection.children.link(collection)
    rate = footage_view.scene_frame_rate(scene)
    frames = keying.frames_from_times(take.time, start, rate.value)

    hands: dict[Side, HandRig] = {}
    actions: list[Any] = []
    for side in SIDES:
        track = take.hand(side)
        # The shape components of another model mean something else.
        known = _fitted_model(take) in (None, models[side].name)
        shape = track.shape if known else np.zeros_like(track.shape)
        hands[side] = hand_rig.build_hand(models[side], shape, float(track.scale[0]), collection)
        action = actions[-1] if actions else None
        keyed = [key_hand(hands[side], track, frames, reduce=reduce, action=action, name=name)]
        if not track.observed.any():
            _hide(hands[side])  # its pose was never seen and would stand in the way at the camera
        else:
            keyed += key_visibility(hands[side], take.hidden(side), frames, action=keyed[0], name=name)
        actions += [each for each in dict.fromkeys(keyed) if each not in actions]

    camera = footage_view.add_camera(take, collection)
    if clip is not None:
        ratio = _source_rate(take, clip, rate).value / rate.value
        footage_view.show_footage(camera, clip, start, ratio, mirrored=footage_view.is_mirrored(take))
    return BuiltScene(
        hands=hands,
        camera=camera,
        actions=tuple(actions),
        frames=frames,
        keys=_count_keys(hands.values(), len(frames)),
        observed={side: int(take.hand(side).observed.sum()) for side in SIDES},
        notes=tuple(_notes(take, models, rate, clip)),
    )


def build_library(models: Mapping[Side, HandModel], scene: Any) -> Any:
    """Build both hands of the mean shape in rest pose as one collection asset, and return the collection."""
    collection = bpy.data.collections.new("Two Hands")
    scene.collection.children.link(collection)
    for side in SIDES:
        hand = hand_rig.build_hand(models[side], np.zeros(SHAPE_COUNT), 1.0, collection)
        hand.armature.location.x = LIBRARY_SPACING / 2 * (1 if side == "left" else -1)
    collection.asset_mark()
    collection.asset_data.description = "A left and a right hand, rigged; MANO's joints, X curls every finger"
    collection.asset_data.license = models["right"].licence
    return collection


def key_visibility(hand: HandRig, hidden: Any, frames: Any, *, action: Any, name: str = "Hands") -> list[Any]:
    """Key both objects of a hand away on the scene `frames` [T] where `hidden` [T]; returns the actions, if any."""
    if not hidden.any():
        return []
    rows = np.flatnonzero(np.concatenate([[True], hidden[1:] != hidden[:-1]]))
    actions = []
    for item in (hand.armature, hand.mesh):
        for path in ("hide_viewport", "hide_render"):
            own = item.animation_data.action if item.animation_data else None
            actions.append(
                keying.key_number(
                    item,
                    path,
                    frames[rows],
                    hidden[rows],
                    name=name,
                    interpolation="CONSTANT",
                    action=own or action,
                )
            )
    return actions


def key_hand(
    hand: HandRig,
    track: HandTrack,
    frames: Any,
    *,
    reduce: KeyReduction | None = None,
    action: Any = None,
    name: str = "Hands",
) -> Any:
    """Key the poses of `track` and its confidence on scene `frames` [T], fewer with `reduce`; returns the action."""
    basis, location = hand_rig.basis_pose(hand.armature, hand.side, track.rotation, track.translation)
    names = hand_rig.bone_names(hand.side)
    hand.armature[CONFIDENCE_PROPERTY] = 0.0
    hand.armature.id_properties_ui(CONFIDENCE_PROPERTY).update(
        min=0.0, max=1.0, description="How surely the footage shows this hand; 0 where it was not seen"
    )
    return keying.key_armature(
        hand.armature,
        frames,
        rotations={bone: basis[:, joint] for joint, bone in enumerate(names)},
        locations={names[0]: location},
        properties={CONFIDENCE_PROPERTY: np.where(track.observed, track.confidence.mean(axis=1), 0.0)},
        observed=track.observed,
        reduce=reduce,
        action=action,
        name=name,
    )


def _count_keys(hands: Iterable[HandRig], frames: int) -> tuple[int, int]:
    curves = [curve for hand in hands for curve in keying.curves_of(hand.armature)]
    counts = [len(curve.keyframe_points) for curve in curves if curve.data_path.startswith("pose.bones")]
    return sum(counts), frames * len(counts)


def _fitted_model(take: Take) -> str | None:
    model = take.meta["hand_model"]
    return model.get("name") if isinstance(model, dict) else None


def _hide(hand: HandRig) -> None:
    for item in (hand.armature, hand.mesh):
        item.hide_viewport = item.hide_render = True


def _source_rate(take: Take, clip: Any, otherwise: footage_view.FrameRate) -> footage_view.FrameRate:
    stepping = footage_view.clip_frame_rate(clip) if clip is not None else None
    return stepping or footage_view.footage_frame_rate(take) or otherwise


def _notes(take: Take, models: Mapping[Side, HandModel], rate: footage_view.FrameRate, clip: Any) -> list[str]:
    notes = []
    for side in SIDES:
        if not take.hand(side).observed.any():
            notes.append(f"The {side} hand was never seen and is hidden.")
    source_rate = _source_rate(take, clip, rate)
    if abs(source_rate.value / rate.value - 1.0) >= footage_view.RATE_TOLERANCE:
        mapping = f"The footage has {source_rate} fps and the scene {rate}: everything stays on time"
        notes.append(f"{mapping}, {rate.value / source_rate.value:.4g} scene frames per footage frame.")
    if clip is not None and tuple(clip.size) != tuple(take.image_size):
        sizes = f"{clip.size[0]}x{clip.size[1]} pixels and the take {take.image_size[0]}x{take.image_size[1]}"
        notes.append(f"The footage has {sizes}: the background may be turned or cropped.")
    if clip is not None and footage_view.is_mirrored(take):
        notes.append("The footage is mirrored and shown turned back.")
    return notes
