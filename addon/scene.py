"""A Take becomes hands, keys, camera and footage in a scene: the one way the operator and the command line share.

Only the order of the steps lives here; each step lives in hand_rig, keying or footage_view.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import (
    KeyReduction,
    map_curve,
    reduce_position_keys,
    reduce_rotation_keys,
)
from dir_core.conventions import SIDES, Side
from dir_core.errors import HandModelError, TakeError
from dir_core.hand_model import HandModel, load_hand_models, open_hand_models
from dir_core.take import HandTrack, Take
from dir_core.worker.clean_up_client import ReducedHand

from . import background, footage_view, hand_rig, keying
from .axes import camera_to_blender
from .hand_rig import HandRig
from .keying import Place, Span

Array = NDArray[Any]

CONFIDENCE_PROPERTY = "confidence"
"""Keyed on each armature object: mean key-point confidence 0..1, 0 where the hand was not seen."""

HIDING = ("hide_viewport", "hide_render")
"""Switches of an object that are keyed where a hand is away."""

_AT_ORIGIN = 1e-6  # of a camera's matrix: what is nearer to the take's own camera stands there


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

    hands = build_hands(take, models, collection)
    actions: list[Any] = []
    for side, hand in hands.items():
        track = take.hand(side)
        place = keying.open_place(hand.armature, actions[-1] if actions else None, name)
        actions.append(place.action)
        curves = None if reduce is None else reduce_hand(track, frames, reduce)
        key_hand(hand.armature, side, track, frames, place, curves=curves)
        if not track.observed.any():
            hide_hand(hand.armature)  # its pose was never seen and would stand in the way at the camera
        else:
            actions += key_visibility(hand.armature, place, take.hidden(side), frames)

    camera = footage_view.add_camera(take, collection)
    if clip is not None:
        ratio = _source_rate(take, clip, rate).value / rate.value
        background.show_footage(camera, clip, start, ratio, mirrored=footage_view.is_mirrored(take))
    return BuiltScene(
        hands=hands,
        camera=camera,
        actions=tuple(dict.fromkeys(actions)),
        frames=frames,
        keys=count_keys([keying.curves_of(hand.armature) for hand in hands.values()], len(frames)),
        observed={side: int(take.hand(side).observed.sum()) for side in SIDES},
        notes=tuple(_notes(take, models, rate, clip)),
    )


def show_take_footage(scene: Any, take: Take, clip: Any, start: int) -> Any:
    """See that a take's hands have their camera and, with a clip, the footage behind them; returns the camera.

    The scene's own footage camera is used if it shows the same clip, or none. Otherwise the take gets a camera of its
    own lens, which is the scene's footage camera from then on if that place is free.
    """
    footage = scene.two_hands.footage
    camera = footage_view.camera_of(scene)
    if camera is not None and (clip is None or footage.clip in (None, clip)):
        return camera
    own = footage_view.add_camera(take, scene.collection)
    if camera is None and footage.clip in (None, clip):
        rate = footage_view.footage_frame_rate(take)
        if rate is not None:
            footage.picture_rate = rate.value
        scene.two_hands.capture.mirrored = footage_view.is_mirrored(take)
        footage_view.use_footage(scene, clip, camera=own, start=start)
    elif clip is not None:
        rate = footage_view.scene_frame_rate(scene)
        ratio = _source_rate(take, clip, rate).value / rate.value
        background.show_footage(own, clip, start, ratio, mirrored=footage_view.is_mirrored(take))
    return own


def build_hands(take: Take, models: Mapping[Side, HandModel], collection: Any) -> dict[Side, HandRig]:
    """Build both hands with the shape and the size that the take has, in a collection of the current view layer."""
    hands: dict[Side, HandRig] = {}
    for side in SIDES:
        track = take.hand(side)
        # The shape components of another model mean something else.
        known = _fitted_model(take) in (None, models[side].name)
        shape = track.shape if known else np.zeros_like(track.shape)
        hands[side] = hand_rig.build_hand(models[side], shape, float(track.scale[0]), collection)
    return hands


def place_hands(armatures: Iterable[Any], camera: Any) -> None:
    """Let hands, whose keys are in the axes of the filming camera, sit where that camera saw them, also if it moves.

    A camera that stands where a take's own camera would is the world's: the hands stay free then.
    The matrix that brings camera axes into Blender's is the parent inverse, so location and rotation of the armature
    objects stay zero and the user's. A camera's scale changes nothing it sees, and is undone.
    """
    right, up, back = camera_to_blender(np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]))
    own = Matrix(np.column_stack([right, up, back]).tolist()).to_4x4()
    stays = camera.parent is None and camera.animation_data is None and not camera.constraints
    difference = np.abs(np.array(camera.matrix_world) - np.array(own)).max()
    for armature in armatures:
        if stays and difference < _AT_ORIGIN:
            if armature.parent == camera:
                armature.parent = None
            continue
        armature.parent = camera
        armature.parent_type = "OBJECT"
        unscaled = Matrix.Diagonal((*(1.0 / size for size in camera.matrix_world.to_scale()), 1.0))
        armature.matrix_parent_inverse = unscaled @ own.inverted()


def hide_hand(armature: Any) -> None:
    """Hide an armature and its skin."""
    for item in (armature, *hand_rig.skins_of(armature)):
        item.hide_viewport = item.hide_render = True


def show_hand(armature: Any, place: Place, span: Span) -> None:
    """Undo `hide_hand` and what `key_visibility` did on `span`; keys of the user's beside it stay."""
    for item in (armature, *hand_rig.skins_of(armature)):
        own = place if item == armature else keying.place_of(item)
        if own is not None:
            keying.clear_keys(own, HIDING, span)
        item.hide_viewport = item.hide_render = False


def key_visibility(
    armature: Any, place: Place, hidden: Array, frames: Array, *, span: Span | None = None
) -> tuple[Any, ...]:
    """Key a hand and its skin away on the scene `frames` [T] where `hidden` [T]; returns the actions, if any.

    The armature's keys go to `place`, those of its skin to the same action where slots exist. Keys of these switches
    before and after `span` stay; without one, all are replaced.
    """
    if not hidden.any():
        return ()
    rows = np.flatnonzero(np.concatenate([[True], hidden[1:] != hidden[:-1]]))
    actions = []
    for item in (armature, *hand_rig.skins_of(armature)):
        own = keying.place_of(item)
        into = place if item == armature else own or keying.open_place(item, place.action, place.action.name)
        for path in HIDING:
            keying.key_values(
                into, path, frames[rows], hidden[rows], group="Capture", interpolation="CONSTANT", span=span
            )
        actions.append(into.action)
    return tuple(actions)


def key_hand(
    armature: Any,
    side: Side,
    track: HandTrack,
    frames: Array,
    place: Place,
    *,
    curves: ReducedHand | None = None,
    rate: float = 1.0,
    span: Span | None = None,
) -> str:
    """Key the poses of a track and its confidence; returns the digest of these keys.

    Args:
        armature: an armature object as hand_rig builds it.
        side: its side.
        track: T frames of that hand.
        frames: [T] scene frames.
        place: where the keys go.
        curves: the same motion with fewer keys, instead of one on every frame.
        rate: scene frames in a unit of the curves' time.
        span: keys of our curves before and after it stay; None replaces all.
    """
    names = hand_rig.bone_names(side)
    rotations: dict[str, Any]
    locations: dict[str, Any]
    if curves is None:
        basis, location = hand_rig.basis_pose(armature, side, track.rotation, track.translation)
        rotations, locations = {bone: basis[:, joint] for joint, bone in enumerate(names)}, {names[0]: location}
    else:
        maps = hand_rig.bone_maps(armature, side)
        rotations = {
            bone: map_curve(curve, matrix, rate=rate)
            for bone, curve, matrix in zip(names, curves.rotations, maps.rotations, strict=True)
        }
        locations = {names[0]: map_curve(curves.position, maps.location, maps.offset, rate)}
    armature[CONFIDENCE_PROPERTY] = 0.0
    armature.id_properties_ui(CONFIDENCE_PROPERTY).update(
        min=0.0, max=1.0, description="How surely the footage shows this hand; 0 where it was not seen"
    )
    return keying.key_bones(
        place,
        frames,
        rotations=rotations,
        locations=locations,
        properties={CONFIDENCE_PROPERTY: np.where(track.observed, track.confidence.mean(axis=1), 0.0)},
        observed=track.observed,
        span=span,
    )


def keyed_paths(side: Side) -> tuple[str, ...]:
    """Data paths of the curves that `key_hand` writes."""
    names = hand_rig.bone_names(side)
    turns = (keying.bone_path(bone, "rotation_quaternion") for bone in names)
    return (*turns, keying.bone_path(names[0], "location"), keying.property_path(CONFIDENCE_PROPERTY))


def reduce_hand(track: HandTrack, time: Array, reduce: KeyReduction) -> ReducedHand:
    """The fewest keys that keep the motion of a hand, over `time` [T] in any unit; takes seconds."""
    (position,) = reduce_position_keys(np.asarray(track.translation)[:, None], time, reduce.distance)
    return ReducedHand(tuple(reduce_rotation_keys(track.rotation, time, reduce.angle)), position)


def count_keys(places: Iterable[Iterable[Any]], frames: int) -> tuple[int, int]:
    """Keys on the bones' curves of several armatures, and how many a key on each of `frames` would have been."""
    counts = [
        len(curve.keyframe_points) for curves in places for curve in curves if curve.data_path.startswith("pose.bones")
    ]
    return sum(counts), frames * len(counts)


def _fitted_model(take: Take) -> str | None:
    model = take.meta["hand_model"]
    return model.get("name") if isinstance(model, dict) else None


def _source_rate(take: Take, clip: Any, otherwise: footage_view.FrameRate) -> footage_view.FrameRate:
    stepping = footage_view.clip_frame_rate(clip) if clip is not None else None
    return stepping or footage_view.footage_frame_rate(take) or otherwise


def _notes(take: Take, models: Mapping[Side, HandModel], rate: footage_view.FrameRate, clip: Any) -> list[str]:
    notes = []
    for side in SIDES:
        if not take.hand(side).observed.any():
            notes.append(f"The {side} hand was never seen and is hidden.")
    source_rate = _source_rate(take, clip, rate)
    if abs(source_rate.value / rate.value - 1.0) >= background.RATE_TOLERANCE:
        mapping = f"The footage has {source_rate} fps and the scene {rate}: everything stays on time"
        notes.append(f"{mapping}, {rate.value / source_rate.value:.4g} scene frames per footage frame.")
    if clip is not None and tuple(clip.size) != tuple(take.image_size):
        sizes = f"{clip.size[0]}x{clip.size[1]} pixels and the take {take.image_size[0]}x{take.image_size[1]}"
        notes.append(f"The footage has {sizes}: the background may be turned or cropped.")
    if clip is not None and footage_view.is_mirrored(take):
        notes.append("The footage is mirrored and shown turned back.")
    return notes
