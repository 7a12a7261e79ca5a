"""What the add-on keeps in a scene: the user's choices and the list of takes. No behaviour lives here.

Everything is stored in the .blend and takes part in undo. What runs (jobs, processes) and what can be read again
(takes) is kept elsewhere, so that undo never takes it away.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import bpy

from dir_core.clean_up.key_reduction import DEFAULT_ANGLE
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.conventions import DEFAULT_HAND_LENGTH, SIDES
from dir_core.retargeting.calibration import LARGEST_RANGE, SMALLEST_RANGE

SCENE_PROPERTY: Final = "two_hands"
"""`scene.two_hands` holds everything below."""

_RELATIVE_PATH: Final[set[str]] = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()
"""Before 4.5 there is no such option; from then on Blender warns of paths that begin with // without it."""

DEFAULT_FIELD_OF_VIEW: Final = math.radians(60.0)

_DEFAULTS: Final = CleanUpSettings()

_listeners: Final[dict[str, list[Callable[..., None]]]] = {}
"""Who wants to hear of a subject."""


def listen_to_clean_up(listener: Callable[[Any], None]) -> None:
    """Call `listener` with the scene whenever a setting changes that the keys of the active take depend on."""
    _listen("clean_up", listener)


def listen_to_footage(listener: Callable[[Any, str], None]) -> None:
    """Call `listener` with the scene and "clip", "camera", "start", "view" or "lens" whenever that part changes.

    "view" stands for what else decides which picture is seen when, and which way round.
    """
    _listen("footage", listener)


def listen_to_target(listener: Callable[[Any], None]) -> None:
    """Call `listener` with the scene whenever another rig is chosen to get the hands."""
    _listen("target", listener)


def listen_to_preview(listener: Callable[[Any], None]) -> None:
    """Call `listener` with the scene whenever the preview on the rig is switched on or off."""
    _listen("preview", listener)


def listen_to_takes(listener: Callable[[Any], None]) -> None:
    """Call `listener` with the scene whenever another take is chosen in its list."""
    _listen("takes", listener)


def _listen(subject: str, listener: Callable[..., None]) -> None:
    listeners = _listeners.setdefault(subject, [])
    if listener not in listeners:
        listeners.append(listener)


def _tell(subject: str, *arguments: Any) -> Callable[[Any, Any], None]:
    """For the `update` of a property: whoever listens to the subject is called with the scene and the arguments."""

    def tell(self: Any, _context: Any) -> None:
        for listener in _listeners.get(subject, ()):
            listener(self.id_data, *arguments)

    return tell


def _is_camera(_self: Any, item: Any) -> bool:
    return item.type == "CAMERA"


def _is_armature(_self: Any, item: Any) -> bool:
    return item.type == "ARMATURE"


class HandsFootage(bpy.types.PropertyGroup):  # type: ignore[misc]
    """The footage, when it begins and the camera that filmed it."""

    clip: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Footage",
        description="Video or image sequence of the hands",
        type=bpy.types.MovieClip,
        update=_tell("footage", "clip"),
    )
    shown: bpy.props.PointerProperty(type=bpy.types.MovieClip, options={"HIDDEN"})  # type: ignore[valid-type]
    shown_start: bpy.props.IntProperty(default=1, options={"HIDDEN"})  # type: ignore[valid-type]
    camera: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Camera",
        description="Camera that stands for the one that filmed; the hands are placed in front of it",
        type=bpy.types.Object,
        poll=_is_camera,
        update=_tell("footage", "camera"),
    )
    start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start Frame",
        description="Scene frame on which the footage begins",
        default=1,
        update=_tell("footage", "start"),
    )
    picture_rate: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Pictures per Second",
        description="How fast the pictures were taken; numbered pictures do not say it themselves",
        min=0.1,
        max=1000.0,
        default=24.0,
        update=_tell("footage", "view"),
    )
    focal_source: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Lens From",
        description="Where the focal length of the filming camera comes from; it decides how far away the hands are",
        items=(
            ("FIELD_OF_VIEW", "Field of View", "The horizontal field of view below"),
            ("CAMERA", "Scene Camera", "The lens of the camera that is chosen as the footage's camera"),
            ("TRACKING", "Tracking Camera", "The lens that is set or solved in the Movie Clip Editor"),
            ("METADATA", "File", "The lens that the filming device wrote into the file"),
        ),
        default="FIELD_OF_VIEW",
        update=_tell("footage", "lens"),
    )
    field_of_view: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Field of View",
        description="Horizontal field of view of the filming camera; phones and webcams have about 60 to 70 degrees",
        subtype="ANGLE",
        min=math.radians(1.0),
        max=math.radians(170.0),
        default=DEFAULT_FIELD_OF_VIEW,
        update=_tell("footage", "lens"),
    )


class HandsCapture(bpy.types.PropertyGroup):  # type: ignore[misc]
    """How hands are captured."""

    estimator: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Estimator",
        description="What sees the hands in the footage",
        items=(
            ("landmarks", "Landmarks", "Runs at once on every computer, also where hands touch or hide each other"),
            ("dir", "DIR Network", "Sees both hands at once, also clasped; needs the GPU runtime and your own weights"),
        ),
        default="landmarks",
    )
    device: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Device",
        description="What the network runs on",
        items=(
            ("auto", "Automatic", "The fastest that works"),
            ("cuda", "NVIDIA GPU", "CUDA"),
            ("mps", "Apple GPU", "Metal"),
            ("cpu", "CPU", "Works everywhere, slowly"),
        ),
        default="auto",
    )
    use_range: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Range", description="Capture a part of the footage only", default=False
    )
    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First Frame", description="First scene frame that is captured", default=1
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last Frame", description="Last scene frame that is captured", default=250
    )
    step: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Step", description="Capture every so many pictures; 1 captures all", default=1, min=1, max=60
    )
    mirrored: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Mirrored Footage",
        description="The footage is a selfie in which left and right are exchanged",
        default=False,
        update=_tell("footage", "view"),
    )
    hand_length: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Hand Length",
        description="From the wrist crease to the tip of the middle finger; decides size and distance of the hands",
        subtype="DISTANCE",
        min=0.05,
        max=0.4,
        precision=3,
        default=DEFAULT_HAND_LENGTH,
    )
    use_box: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Start Box",
        description="Say where both hands are at the start, for hands that are not found by themselves",
        default=False,
    )
    box: bpy.props.FloatVectorProperty(  # type: ignore[valid-type]
        name="Box",
        description="Left edge, upper edge, width and height in pixels of the footage",
        size=4,
        min=0.0,
        default=(0.0, 0.0, 0.0, 0.0),
    )
    use_hands: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Build Hands When Done",
        description="Build two rigged hands and key them as soon as the capture is finished",
        default=True,
    )
    use_preview: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Live Preview",
        description="Show the hands in front of the footage's camera while they are captured",
        default=True,
    )


class HandsCleanUp(bpy.types.PropertyGroup):  # type: ignore[misc]
    """How the raw take of a capture becomes a clean one: the fields of dir_core's CleanUpSettings."""

    enabled: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Clean Up",
        description="Key the cleaned motion; off keys what the capture saw",
        default=True,
        update=_tell("clean_up"),
    )
    identity: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Repair Left and Right",
        description="Put exchanged hands right and remove a second skeleton on one hand",
        default=_DEFAULTS.identity,
        update=_tell("clean_up"),
    )
    wrist_rotation: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Wrist Rotation",
        description="How strongly the turning of the wrists is steadied; 0 leaves it as it was seen",
        min=0.0,
        max=4.0,
        default=_DEFAULTS.wrist_rotation,
        update=_tell("clean_up"),
    )
    wrist_position: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Wrist Position",
        description="How strongly the place of the wrists is steadied; 0 leaves it as it was seen",
        min=0.0,
        max=4.0,
        default=_DEFAULTS.wrist_position,
        update=_tell("clean_up"),
    )
    fingers: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Fingers",
        description="How strongly the fingers are steadied; 0 leaves them as they were seen",
        min=0.0,
        max=4.0,
        default=_DEFAULTS.fingers,
        update=_tell("clean_up"),
    )
    fill: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Fill Gaps Up To",
        description="A hand that was not seen for up to so many seconds moves on as it probably did",
        subtype="TIME_ABSOLUTE",
        min=0.0,
        max=60.0,
        soft_max=5.0,
        default=_DEFAULTS.fill,
        update=_tell("clean_up"),
    )
    beyond: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Longer Gaps",
        description="What a hand does where it was not seen for longer",
        items=(("still", "Hold Still", "It stays as it was last seen"), ("hide", "Hide", "It is hidden")),
        default=_DEFAULTS.beyond,
        update=_tell("clean_up"),
    )
    limits: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Joint Limits",
        description="Keep fingers within what a human hand can do",
        default=_DEFAULTS.limits,
        update=_tell("clean_up"),
    )
    contact: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Contact",
        description="What is pushed apart where it sinks into each other",
        items=(
            ("off", "Off", "Nothing"),
            ("hands", "Hands", "The two hands"),
            ("fingers", "Hands and Fingers", "Also the fingers of each hand, which takes two seconds more"),
        ),
        default=_DEFAULTS.contact,
        update=_tell("clean_up"),
    )


class HandsKeying(bpy.types.PropertyGroup):  # type: ignore[misc]
    """How the active take is keyed."""

    rigs: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Rigs",
        description="Which armatures get the keys",
        items=(
            ("BUILD", "From the Take", "Build two hands with the proportions and the size that were captured"),
            ("LIBRARY", "From the Library", "Append the two hands of the asset library, with their own proportions"),
            ("EXISTING", "Existing", "Key two hand armatures that are in the scene already"),
        ),
        default="BUILD",
    )
    left: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Left Hand", description="Armature of the left hand", type=bpy.types.Object, poll=_is_armature
    )
    right: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Right Hand", description="Armature of the right hand", type=bpy.types.Object, poll=_is_armature
    )
    action: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Keys Go Into",
        description="Where the keys are written",
        items=(
            ("NEW", "New Action", "A new action; what the armatures had stays in the file"),
            ("EXISTING", "Current Action", "The action the armatures have; only the keys of the range are replaced"),
        ),
        default="NEW",
    )
    use_range: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Range", description="Key a part of the take only", default=False, update=_tell("clean_up")
    )
    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First Frame", description="First scene frame that is keyed", default=1, update=_tell("clean_up")
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last Frame", description="Last scene frame that is keyed", default=250, update=_tell("clean_up")
    )
    use_reduction: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Fewer Keys",
        description="Write the fewest keys that stay close to the motion, for editing by hand",
        default=False,
        update=_tell("clean_up"),
    )
    reduction_angle: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Within",
        description="How far a bone may turn away from the motion for the sake of fewer keys",
        subtype="ANGLE",
        min=math.radians(0.01),
        max=math.radians(10.0),
        default=DEFAULT_ANGLE,
        update=_tell("clean_up"),
    )


class HandsTake(bpy.types.PropertyGroup):  # type: ignore[misc]
    """One captured take: its file, what the user made of it, and what was built from it. `name` is shown."""

    uid: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    content: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Raw Take",
        description="File of the take as it was captured; it is never changed",
        subtype="FILE_PATH",
        options=_RELATIVE_PATH,
    )
    footage: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Footage", description="What it was captured from", subtype="FILE_PATH", options=_RELATIVE_PATH
    )
    estimator: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Estimator", description="What saw the hands in the footage"
    )
    licence: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Licence", description="What the hand model of the take may be used for"
    )
    captured: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Captured", description="When the take was written"
    )
    frames: bpy.props.IntProperty(name="Frames", description="How many pictures were captured")  # type: ignore[valid-type]
    seen_left: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Left Seen", description="In how many of the pictures the left hand was seen", subtype="FACTOR"
    )
    seen_right: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Right Seen", description="In how many of the pictures the right hand was seen", subtype="FACTOR"
    )
    start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start Frame",
        description="Scene frame on which the footage of this take begins",
        default=1,
        update=_tell("clean_up"),
    )
    edits: bpy.props.StringProperty(default="[]", options={"HIDDEN"})  # type: ignore[valid-type]
    clean_up: bpy.props.PointerProperty(type=HandsCleanUp)  # type: ignore[valid-type]
    keying: bpy.props.PointerProperty(type=HandsKeying)  # type: ignore[valid-type]
    camera: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Camera", description="Camera that the hands of this take stand before", type=bpy.types.Object
    )


class HandsReview(bpy.types.PropertyGroup):  # type: ignore[misc]
    """What is drawn over the viewport, and the range that corrections are made on."""

    show_keypoints: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Key Points", description="Draw what was seen over the footage", default=True
    )
    source: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Show",
        description="Which key points are drawn",
        items=(
            ("RAW", "As Seen", "What the capture saw"),
            ("CLEAN", "Cleaned", "The posed hands after the clean-up"),
            ("BOTH", "Both", "What was seen, thin, under the cleaned hands"),
        ),
        default="RAW",
    )
    show_strip: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Strip",
        description="Draw confidence, gaps and exchanges of both hands in the Dope Sheet and the Timeline",
        default=True,
    )
    show_curves: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Raw Curves",
        description="Draw the motion before the clean-up behind the curves of the Graph Editor",
        default=False,
    )
    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First Frame", description="First scene frame of the correction", default=1
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last Frame", description="Last scene frame of the correction", default=1
    )
    side: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Hand",
        description="Which hand is corrected",
        items=(
            ("both", "Both", "Both hands"),
            *((side, side.title(), f"The {side} hand") for side in SIDES),
        ),
        default="both",
    )
    weight: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Trust",
        description="How much of what was seen is believed in the range",
        subtype="FACTOR",
        min=0.0,
        max=1.0,
        default=0.2,
    )


class HandsMappedBone(bpy.types.PropertyGroup):  # type: ignore[misc]
    """One joint of a hand and the rig's bone that turns with it. `name` is shown."""

    side: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    joint: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    bone: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Bone", description="Bone of the rig that turns with this joint; empty if the rig has none"
    )


class HandsArm(bpy.types.PropertyGroup):  # type: ignore[misc]
    """What moves one arm of the rig in IK, and the custom property that decides between FK and IK."""

    ik: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="IK Target", description="Bone of the rig that the hand follows while its arm is in IK"
    )
    switch_bone: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Switch Bone",
        description="Bone with the custom property that decides between FK and IK; empty: the armature object",
    )
    switch: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Switch",
        description="Custom property that decides between FK and IK; empty if the arm has none. Keyed together with "
        "the IK target",
    )
    switch_fk: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="FK", description="Value of the switch for FK", default=0.0
    )
    switch_ik: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="IK", description="Value of the switch for IK", default=1.0
    )


class HandsCalibratedFinger(bpy.types.PropertyGroup):  # type: ignore[misc]
    """What was calibrated on one finger of the rig. `name` is shown."""

    side: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    finger: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    bones: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    captured: bpy.props.FloatVectorProperty(size=12, options={"HIDDEN"})  # type: ignore[valid-type]
    posed: bpy.props.FloatVectorProperty(size=12, options={"HIDDEN"})  # type: ignore[valid-type]
    offset: bpy.props.FloatProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    ranges: bpy.props.FloatVectorProperty(  # type: ignore[valid-type]
        name="Bend Range",
        description="How many times as far as the captured joints the rig's bones bend, knuckle first",
        size=3,
        default=(1.0, 1.0, 1.0),
        min=SMALLEST_RANGE,
        max=LARGEST_RANGE,
        step=1,
        precision=2,
    )


class HandsRetarget(bpy.types.PropertyGroup):  # type: ignore[misc]
    """The rig that gets the hands of the active take, and how."""

    target: bpy.props.PointerProperty(  # type: ignore[valid-type]
        name="Rig",
        description="Armature of the character that gets the hands",
        type=bpy.types.Object,
        poll=_is_armature,
        update=_tell("target"),
    )
    rig_name: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    note: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    bones: bpy.props.CollectionProperty(type=HandsMappedBone)  # type: ignore[valid-type]
    active_bone: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Active Bone", default=0, min=0, options={"HIDDEN"}
    )
    metacarpals: bpy.props.CollectionProperty(type=HandsMappedBone)  # type: ignore[valid-type]
    calibration: bpy.props.CollectionProperty(type=HandsCalibratedFinger)  # type: ignore[valid-type]
    active_finger: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Active Finger", default=0, min=0, options={"HIDDEN"}
    )
    calibrated_hand: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Hand",
        description="Which hand of the rig is calibrated",
        items=(
            ("both", "Both", "Both hands"),
            *((side, side.title(), f"The {side} hand") for side in SIDES),
        ),
        default="both",
    )
    palm_share: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Cup Palm",
        description="Share of the bend of ring and little finger that the bones in the palm take over; "
        "15 % is a human hand's",
        subtype="FACTOR",
        min=0.0,
        max=0.5,
        default=0.0,
    )
    ik_limits: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="IK Limits",
        description="Fingers also stay inside the limits that the rig has for IK; its Limit Rotation constraints "
        "always count",
        default=True,
    )
    arm_left: bpy.props.PointerProperty(type=HandsArm)  # type: ignore[valid-type]
    arm_right: bpy.props.PointerProperty(type=HandsArm)  # type: ignore[valid-type]
    preview: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Preview",
        description="Show the captured hands on the rig without keying them; its own pose comes back when this is "
        "switched off, and is the one that is saved and rendered",
        default=False,
        update=_tell("preview"),
    )
    use_left: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Left Hand", description="Key the left hand of the rig", default=True
    )
    use_right: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Right Hand", description="Key the right hand of the rig", default=True
    )
    mirrored: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Mirrored",
        description="The right hand of the rig does what the captured left hand does and the other way round, "
        "as in a mirror",
        default=False,
    )
    wrist: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Wrist",
        description="What of the wrist is keyed beside the fingers",
        items=(
            ("NONE", "Fingers Only", "The hands stay where the body's animation has them"),
            ("ROTATION", "Rotation", "The hands also turn as the captured ones"),
            ("POSITION", "Rotation and Position", "The hands also go where the captured ones are in the scene"),
        ),
        default="NONE",
    )
    fingers: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Fingers",
        description="What the fingers of rig and capture have in common",
        items=(
            ("directions", "Point Alike", "Every bone points where the captured one points, seen from the hand"),
            ("angles", "Bend Alike", "Every joint bends by the captured angle, from the rig's own rest pose"),
        ),
        default="directions",
    )
    into: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Goes Into",
        description="What is moved so that the wrist goes where the captured one is",
        items=(
            ("AUTO", "Automatic", "The IK target if the arm has one, else the hand's own bone"),
            ("IK", "IK Target", "The bone that the arm's IK follows; a switch between FK and IK is keyed as well"),
            ("HAND", "Hand Bone", "The hand's own bone, which may leave its arm"),
            ("ROOT", "Root", "The topmost bone above the hand, or the armature object; for one hand alone"),
        ),
        default="AUTO",
    )
    place: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Place",
        description="Where the hands are",
        items=(
            ("SCENE", "As in Scene", "Where the captured hands are in the scene"),
            (
                "FIRST",
                "From First Frame",
                "Where the rig has them on the first frame, and from there as the captured ones",
            ),
        ),
        default="SCENE",
    )
    fit: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Fit to Hand Size",
        description="A rig with hands twice as large moves them twice as far",
        default=True,
    )
    wrist_mode: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Wrist Turns",
        description="What the wrists of rig and capture have in common",
        items=(
            ("match", "Point Alike", "The hand points where the captured one points in the scene"),
            ("delta", "Turn Alike", "The hand turns as the captured one since its rest pose, from the rig's own"),
        ),
        default="match",
    )
    use_range: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Range", description="Key a part of the take only", default=False
    )
    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First Frame", description="First scene frame that is keyed", default=1
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last Frame", description="Last scene frame that is keyed", default=250
    )
    weight: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Weight",
        description="How much of the capture is seen over the animation below it",
        subtype="FACTOR",
        min=0.0,
        max=1.0,
        default=1.0,
    )
    fade: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Fade",
        description="Frames over which the capture comes in at its start and goes out at its end",
        min=0,
        soft_max=48,
        default=0,
    )
    use_reduction: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Fewer Keys",
        description="Write the fewest keys that stay close to the motion, for editing by hand",
        default=False,
    )
    reduction_angle: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Within",
        description="How far a bone may turn away from the motion for the sake of fewer keys",
        subtype="ANGLE",
        min=math.radians(0.01),
        max=math.radians(10.0),
        default=DEFAULT_ANGLE,
    )


class HandsExport(bpy.types.PropertyGroup):  # type: ignore[misc]
    """What leaves Blender, as what kind of file."""

    content: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Export",
        description="What is written into the file",
        items=(
            ("HANDS", "Captured Hands", "Both hands of the active take, with their meshes"),
            ("RIG", "Rig", "The rig of the Retarget panel with everything that moves it, and its visible meshes"),
        ),
        default="HANDS",
    )
    format: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Format",
        description="Kind of file",
        items=(
            ("FBX", "FBX", "For Maya, MotionBuilder, Unreal and Unity: skeletons, meshes and motion"),
            ("GLB", "GLB", "For engines and the web: glTF in one file, with skeletons, meshes and motion"),
            ("GLTF", "GLTF", "As GLB, but a readable file with its data beside it"),
            ("BVH", "BVH", "For motion editors: one skeleton and its motion, without meshes"),
            ("USD", "USD", "For Houdini, Omniverse and film: skeletons, meshes and motion"),
        ),
        default="FBX",
    )
    range: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Range",
        description="Which scene frames are written",
        items=(
            ("TAKE", "Take", "All frames on which the hands of the active take have keys"),
            ("SCENE", "Scene", "From the scene's start to its end"),
        ),
        default="TAKE",
    )


class HandsScene(bpy.types.PropertyGroup):  # type: ignore[misc]
    """Everything of the add-on in one scene."""

    uid: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    footage: bpy.props.PointerProperty(type=HandsFootage)  # type: ignore[valid-type]
    capture: bpy.props.PointerProperty(type=HandsCapture)  # type: ignore[valid-type]
    takes: bpy.props.CollectionProperty(type=HandsTake)  # type: ignore[valid-type]
    active_take: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Active Take", description="The take that the panels are about", default=0, min=0, update=_tell("takes")
    )
    review: bpy.props.PointerProperty(type=HandsReview)  # type: ignore[valid-type]
    retarget: bpy.props.PointerProperty(type=HandsRetarget)  # type: ignore[valid-type]
    export: bpy.props.PointerProperty(type=HandsExport)  # type: ignore[valid-type]


CLASSES: Final[tuple[type, ...]] = (
    HandsFootage,
    HandsCapture,
    HandsCleanUp,
    HandsKeying,
    HandsTake,
    HandsReview,
    HandsMappedBone,
    HandsCalibratedFinger,
    HandsArm,
    HandsRetarget,
    HandsExport,
    HandsScene,
)


def register() -> None:
    """Give every scene its properties."""
    setattr(bpy.types.Scene, SCENE_PROPERTY, bpy.props.PointerProperty(type=HandsScene))


def unregister() -> None:
    """Take them away again."""
    delattr(bpy.types.Scene, SCENE_PROPERTY)
    _listeners.clear()
