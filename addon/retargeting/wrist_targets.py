"""Where a captured wrist goes on a rig: into the hand's own bone, the IK target of its arm, or the root."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core.conventions import Side
from dir_core.errors import SettingsError
from dir_core.retargeting.rig_map import ArmSwitch, HandMap

from .. import keying
from . import arms
from .bone_poses import rotations_of
from .stand_in import OBJECT, RigMotion

Array = NDArray[Any]

Into = Literal["AUTO", "HAND", "IK", "ROOT"]
"""What is moved so that a wrist goes where the captured one is."""

INTO: Final[tuple[Into, ...]] = get_args(Into)

_REACH_TOLERANCE: Final = 1.001
"""Share of an arm's length up to which a wrist counts as within its reach; a straight arm has rounding errors."""


@dataclass(frozen=True)
class Carrier:
    """A bone that is keyed so that a wrist turns or moves.

    Attributes:
        bone: its name; OBJECT is the armature object itself.
        kind: HAND, IK or ROOT.
        turns: whether its rotation is keyed.
        moves: whether its location is keyed.
    """

    bone: str
    kind: Into
    turns: bool = False
    moves: bool = False


@dataclass(frozen=True)
class WristGoal:
    """Where the motion of a wrist is written.

    Attributes:
        carriers: what is keyed.
        shown_by: the bone that shows where the rig's hand is, before anything is keyed.
        switch: of the arm, and the value that it is keyed with.
        has_axes: whether the hand takes over the very axes of its IK target.
        is_late: the hand turns below an arm that is moved here, which has to be seen before.
        notes: sentences the user should read.
    """

    carriers: tuple[Carrier, ...] = ()
    shown_by: str = ""
    switch: tuple[ArmSwitch, float] | None = None
    has_axes: bool = False
    is_late: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the hand's own bone and the one above it plays a part."""
        return not self.is_late and all(carrier.kind == "HAND" for carrier in self.carriers)


PLAIN: Final = WristGoal()
"""That of a wrist that is left alone."""


@dataclass(frozen=True, eq=False)
class WristChannels:
    """Keys of a wrist's carriers on K frames.

    Attributes:
        rotations: bone -> [K, 4].
        places: bone -> [K, 3]; OBJECT for the armature object.
        constants: (bone, path of a custom property, 0) -> [K] values that do not change.
    """

    rotations: dict[str, Array] = field(default_factory=dict)
    places: dict[str, Array] = field(default_factory=dict)
    constants: dict[tuple[str, str, int], Array] = field(default_factory=dict)


def choose_goals(target: Any, hands: Mapping[Side, HandMap], wrist: str, into: Into) -> dict[Side, WristGoal]:
    """Where the wrist of each hand is written.

    Args:
        target: armature object of the rig.
        hands: the hands that get captured ones.
        wrist: NONE, ROTATION or POSITION.
        into: what is moved; AUTO is the IK target where there is one that acts, else the hand, else the root of a rig
            that is one hand.

    Raises:
        SettingsError: a wrist cannot go there.
    """
    for hand in hands.values():
        if hand.switch is not None and not arms.has_switch(target, hand.switch):
            owner = hand.switch.bone or target.name
            raise SettingsError(f"{owner} has no number {hand.switch.name}, correct the switch in the panel Wrist.")
        if hand.ik and hand.ik not in target.pose.bones:
            raise SettingsError(f"{target.name} has no bone {hand.ik}, correct the IK target in the panel Wrist.")
    if wrist == "NONE":
        return {side: WristGoal(shown_by=hand.wrist) for side, hand in hands.items()}
    goals = {
        side: _turned(target, hand) if wrist == "ROTATION" else _moved(target, hand, into, is_alone=len(hands) == 1)
        for side, hand in hands.items()
    }
    roots = [carrier.bone for goal in goals.values() for carrier in goal.carriers if carrier.kind == "ROOT"]
    if len(set(roots)) < len(roots):
        raise SettingsError(
            f"Both hands hang on {roots[0] or target.name} and cannot both decide where it goes, "
            "switch one of them off or choose another place for the wrists."
        )
    return goals


def bones_to_read(target: Any, goals: Iterable[WristGoal], hands: Iterable[HandMap]) -> tuple[str, ...]:
    """Names of the bones that decide what the carriers are keyed with."""
    names = []
    for goal, hand in zip(goals, hands, strict=True):
        names += [goal.shown_by, hand.wrist]
        for carrier in goal.carriers:
            bone = target.data.bones.get(carrier.bone)
            names += [each.name for each in (bone, bone.parent) if each is not None] if bone else []
        reach = arms.reach_of(target, hand) if hand.ik else None
        names += [reach[0]] if reach else []
    return tuple(name for name in dict.fromkeys(names) if name in target.data.bones)


def wrist_channels(target: Any, wrist: str, goal: WristGoal, poses: Array, rig: RigMotion) -> WristChannels:
    """What a wrist's carriers are keyed with so that it gets poses [K, 4, 4] in the rig's axes.

    Args:
        target: armature object of the rig.
        wrist: name of the hand's bone.
        goal: where the motion is written.
        poses: of the wrist.
        rig: what the rig does without them.
    """
    keys = WristChannels()
    for carrier in goal.carriers:
        if carrier.kind == "ROOT":
            way = poses[:, :3, 3] - shown_places(target, wrist, goal, rig)
            moved = _rooted(carrier.bone, way, rig)
        else:
            moved = poses @ _between(target, wrist, carrier.bone)
            if carrier.kind == "IK" and goal.has_axes:
                moved[:, :3, :3] = poses[:, :3, :3]
        bases = moved if carrier.bone == OBJECT else _bases(target.pose.bones[carrier.bone], moved, rig)
        if carrier.turns:
            keys.rotations[carrier.bone] = rotations_of(bases)
        if carrier.moves:
            keys.places[carrier.bone] = bases[:, :3, 3]
    if goal.switch is not None:
        switch, value = goal.switch
        keys.constants[switch.bone, keying.property_path(switch.name), 0] = np.full(len(poses), value)
    return keys


def shown_places(target: Any, wrist: str, goal: WristGoal, rig: RigMotion) -> Array:
    """Where the rig itself has its wrist: [K, 3] in its axes."""
    return (rig.poses[goal.shown_by] @ _between(target, goal.shown_by, wrist))[:, :3, 3]


def count_beyond_reach(target: Any, hand: HandMap, goal: WristGoal, places: Array, rig: RigMotion) -> int:
    """On how many frames an IK arm is too short for its wrist's places [K, 3] in the rig's axes."""
    reach = arms.reach_of(target, hand) if any(carrier.kind == "IK" for carrier in goal.carriers) else None
    if reach is None:
        return 0
    bone, length = reach
    starts = rig.poses[bone]
    scale = np.cbrt(np.abs(np.linalg.det(starts[:, :3, :3])))
    return int(np.sum(np.linalg.norm(places - starts[:, :3, 3], axis=1) > _REACH_TOLERANCE * length * scale))


def _turned(target: Any, hand: HandMap) -> WristGoal:
    """The rotation alone goes where it is seen, and the arm stays as the body has it."""
    own = Carrier(hand.wrist, "HAND", turns=True)
    state = arms.state_of(target, hand)
    if state == "FK" or not _has_ik(target, hand) or not arms.turns_with(target, hand):
        return WristGoal((own,), hand.wrist, notes=_warnings(target, hand))
    ik = Carrier(hand.ik, "IK", turns=True)
    if state == "BOTH":
        note = f"The arm of {hand.wrist} changes between FK and IK, its rotation went into {hand.ik} as well."
        return WristGoal((own, ik), hand.wrist, has_axes=arms.has_axes_of(target, hand), notes=(note,))
    note = f"The arm of {hand.wrist} is in IK, its rotation went into {hand.ik}."
    return WristGoal((ik,), _shown_by(target, hand), has_axes=arms.has_axes_of(target, hand), notes=(note,))


def _shown_by(target: Any, hand: HandMap) -> str:
    is_at_ik = arms.is_control(target, hand) and arms.state_of(target, hand) == "IK"
    return hand.ik if is_at_ik else hand.wrist


def _moved(target: Any, hand: HandMap, into: Into, *, is_alone: bool) -> WristGoal:
    state, switch = arms.state_of(target, hand), hand.switch
    into = _best(target, hand, state, is_alone=is_alone) if into == "AUTO" else into
    if into == "ROOT":
        return _rooted_goal(target, hand)
    if into == "HAND":
        _check_movable(target, hand.wrist)
        own = Carrier(hand.wrist, "HAND", turns=True, moves=True)
        fk = (switch, switch.fk) if switch and state != "FK" else None
        return WristGoal((own,), hand.wrist, fk, notes=_warnings(target, hand))
    if not _has_ik(target, hand):
        raise SettingsError(f"The IK target of {hand.wrist} is not known, choose it in the panel Wrist.")
    _check_movable(target, hand.ik)
    carriers = (Carrier(hand.ik, "IK", turns=True, moves=True),)
    keyed = (switch, switch.ik) if switch else None
    goal = WristGoal(carriers, _shown_by(target, hand), keyed, has_axes=arms.has_axes_of(target, hand))
    if not switch and state != "IK":
        note = f"Nothing makes {hand.wrist} follow {hand.ik}, give the arm an IK constraint with influence."
        goal = replace(goal, notes=(note,))
    if not arms.turns_with(target, hand):
        own = Carrier(hand.wrist, "HAND", turns=True)
        goal = replace(goal, carriers=(Carrier(hand.ik, "IK", moves=True), own), is_late=True)
    return goal


def _best(target: Any, hand: HandMap, state: arms.State, *, is_alone: bool) -> Into:
    if _has_ik(target, hand) and (hand.switch or state == "IK"):
        return "IK"
    return "ROOT" if is_alone and not _is_movable(target, hand.wrist) else "HAND"


def _rooted_goal(target: Any, hand: HandMap) -> WristGoal:
    """The root goes where the wrist shall be, and the hand turns as without it."""
    above = target.pose.bones[hand.wrist].parent_recursive
    if not above and _is_movable(target, hand.wrist):
        return WristGoal((Carrier(hand.wrist, "HAND", turns=True, moves=True),), hand.wrist)
    root = next((bone.name for bone in reversed(above) if _is_movable(target, bone.name)), OBJECT)
    if root == OBJECT and all(target.lock_location):
        raise SettingsError(f"Nothing above {hand.wrist} can be moved, unlock its root or key the rotation only.")
    turned = _turned(target, hand)
    return replace(turned, carriers=(Carrier(root, "ROOT", moves=True), *turned.carriers))


def _rooted(root: str, way: Array, rig: RigMotion) -> Array:
    """Poses of a root that is moved by a way [K, 3] in the rig's axes; of the armature object its own channels."""
    if root == OBJECT:
        moved = rig.world.copy()
        moved[:, :3, 3] += np.einsum("kij,kj->ki", rig.world[:, :3, :3], way)
        return np.asarray(rig.bases[OBJECT] @ np.linalg.inv(rig.world) @ moved)
    moved = rig.poses[root].copy()
    moved[:, :3, 3] += way
    return moved


def _bases(bone: Any, poses: Array, rig: RigMotion) -> Array:
    """What a bone's channels have to say [K, 4, 4] so that it gets poses [K, 4, 4] in the rig's axes."""
    if any(arms.is_acting(each) for each in bone.constraints) and bone.name in rig.bases:
        # What it hangs on through its constraints lies over its own channels.
        free = _converted(bone, rig.bases[bone.name], rig, invert=False)
        poses = free @ np.linalg.inv(rig.poses[bone.name]) @ poses
    return _converted(bone, poses, rig, invert=True)


def _converted(bone: Any, matrices: Array, rig: RigMotion, *, invert: bool) -> Array:
    """Own channels [K, 4, 4] to poses in the rig's axes or back: Blender knows what a bone inherits, and how."""
    above, data = bone.parent, bone.bone
    parents: Sequence[Any] = rig.poses[above.name].tolist() if above else [None] * len(matrices)
    converted = np.empty((len(matrices), 4, 4))
    for row, (matrix, parent) in enumerate(zip(matrices.tolist(), parents, strict=True)):
        inherited = {"parent_matrix": Matrix(parent), "parent_matrix_local": above.bone.matrix_local} if above else {}
        converted[row] = data.convert_local_to_pose(Matrix(matrix), data.matrix_local, invert=invert, **inherited)
    return converted


def _between(target: Any, one: str, other: str) -> Array:
    """The way [4, 4] from a bone to another one at rest, in the axes of the first."""
    first, second = (np.array(target.data.bones[name].matrix_local, np.float64) for name in (one, other))
    return np.linalg.solve(first, second)


def _has_ik(target: Any, hand: HandMap) -> bool:
    return bool(hand.ik) and hand.ik in target.pose.bones


def _is_movable(target: Any, name: str) -> bool:
    return not target.data.bones[name].use_connect and not all(target.pose.bones[name].lock_location)


def _check_movable(target: Any, name: str) -> None:
    if not _is_movable(target, name):
        raise SettingsError(
            f"{name} cannot be moved: key the rotation only, or choose an IK target or the root in the panel Wrist."
        )


def _warnings(target: Any, hand: HandMap) -> tuple[str, ...]:
    """What holds a hand that is keyed itself, and what to do about it."""
    holds = [hold for hold in arms.holds_of(target, hand.wrist) if hold.bone.name == hand.wrist]
    if not holds:
        return ()
    return (f"{holds[0].sentence}, which hides its keys: choose {_instead(holds[0])}.",)


def _instead(hold: arms.Hold) -> str:
    return f"{hold.follows} as IK target" if hold.follows else "another wrist in the list, or mute the constraint"
