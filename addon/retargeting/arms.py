"""What moves a rig's arm: constraints that hold its hand, the IK target among them, the switch between FK and IK."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from dir_core.retargeting.rig_map import ArmSwitch, HandMap

from .. import keying
from . import rig_layer

State = Literal["FK", "IK", "BOTH"]
"""How an arm is moved; BOTH if that changes over time."""

_SEGMENTS: Final = 4
"""Bones above a hand that may be its forearm, split for twisting as it may be."""

_TURNING: Final = frozenset(("COPY_ROTATION", "COPY_TRANSFORMS", "CHILD_OF", "ARMATURE"))
"""Constraints through which a hand turns with what it follows."""

_COPYING: Final = frozenset(("COPY_ROTATION", "COPY_TRANSFORMS", "IK"))
_OUTER: Final = frozenset(("WORLD", "POSE"))  # spaces in which axes are copied as they are

_SWITCHES: Final = re.compile(r'^(?:pose\.bones\["(?P<bone>(?:[^"\\]|\\.)+)"\])?\["(?P<name>(?:[^"\\]|\\.)+)"\]$')
_SAME: Final = frozenset(("AVERAGE", "SUM", "MIN", "MAX"))  # drivers of one variable that pass it on as it is


@dataclass(frozen=True)
class Hold:
    """A constraint that decides where a hand is.

    Attributes:
        bone: that has it.
        constraint: the constraint.
        follows: bone of the same rig that it follows; empty where it follows something else.
        other: name of the object that it follows, where that is not the rig.
    """

    bone: Any
    constraint: Any
    follows: str
    other: str

    @property
    def sentence(self) -> str:
        """What holds the hand, in words."""
        goal = self.follows or self.other
        to = f" by {goal}" if goal else ""
        return f"{self.bone.name} is held{to} through its constraint {self.constraint.name}"


def is_acting(constraint: Any) -> bool:
    """Whether a constraint does anything now."""
    return not constraint.mute and constraint.influence > 0.0


def holds_of(target: Any, wrist: str) -> list[Hold]:
    """The constraints with influence on a hand and the IK above it, the nearest first."""
    bone = target.pose.bones[wrist]
    own = [_hold(target, bone, each) for each in bone.constraints if is_acting(each)]
    above = [_hold(target, *each) for each in _ik_above(bone) if is_acting(each[1])]
    return own + above


def with_arm(target: Any, hand: HandMap) -> HandMap:
    """A hand with the IK target and the switch that its rig's constraints tell, where the map knows none."""
    if hand.switch is not None and not has_switch(target, hand.switch):
        hand = replace(hand, switch=None)
    if hand.ik or hand.wrist not in target.pose.bones:
        return hand
    wrist = target.pose.bones[hand.wrist]
    for bone, constraint in [*((wrist, each) for each in wrist.constraints), *_ik_above(wrist)]:
        follows = _hold(target, bone, constraint).follows
        if constraint.type == "IK" and follows and wrist not in _line_of(target.pose.bones[follows]):
            switch = hand.switch or _switch_of(target, constraint)
            return replace(hand, ik=_control_of(target.pose.bones[follows]).name, switch=switch)
    return hand


def state_of(target: Any, hand: HandMap) -> State:
    """Whether an arm is in FK or in IK, as far as keys of others and present values tell."""
    if hand.switch is None:
        is_held = any(hold.constraint.type == "IK" or hold.follows == hand.ik for hold in holds_of(target, hand.wrist))
        return "IK" if hand.ik and is_held else "FK"
    owner, path = switch_path(target, hand.switch)
    values = rig_layer.values_of_others(target, path) or [float(owner.get(hand.switch.name, hand.switch.fk))]
    states = {"IK" if abs(value - hand.switch.ik) < abs(value - hand.switch.fk) else "FK" for value in values}
    return "BOTH" if len(states) > 1 else "IK" if "IK" in states else "FK"


def is_control(target: Any, hand: HandMap) -> bool:
    """Whether the mapped hand is one of two controls, and what is seen follows that which the switch has chosen."""
    wrist = target.pose.bones[hand.wrist]
    hangs_on_ik = any(True for _ in _ik_above(wrist)) or any(each.type == "IK" for each in wrist.constraints)
    return hand.switch is not None and not hangs_on_ik and not _turning(target, hand)


def turns_with(target: Any, hand: HandMap) -> bool:
    """Whether a hand takes over the rotation of its IK target, and not only its place."""
    if is_control(target, hand) or _turning(target, hand):
        return True
    return target.pose.bones[hand.ik] in _line_of(target.pose.bones[hand.wrist])


def has_axes_of(target: Any, hand: HandMap) -> bool:
    """Whether a hand takes over the very axes of its IK target, however these lie to its own at rest."""
    spaces = [{each.owner_space, each.target_space} for each in _turning(target, hand) if each.type in _COPYING]
    return any(space <= _OUTER for space in spaces)


def _turning(target: Any, hand: HandMap) -> list[Any]:
    """The constraints that turn a hand with its IK target, also those that are switched off now."""
    wrist = target.pose.bones[hand.wrist]
    found = [each for each in wrist.constraints if _hold(target, wrist, each).follows == hand.ik]
    return [each for each in found if each.type in _TURNING or (each.type == "IK" and each.use_rotation)]


def reach_of(target: Any, hand: HandMap) -> tuple[str, float] | None:
    """The bone in which an IK arm begins, and how far the arm reaches from there at rest; None where nothing tells."""
    goals = {bone.name for bone in target.pose.bones if hand.ik in {above.name for above in _line_of(bone)}}
    for bone in target.pose.bones:
        for constraint in bone.constraints:
            if constraint.type == "IK" and constraint.target == target and constraint.subtarget in goals:
                chain = [bone, *bone.parent_recursive][: constraint.chain_count or None]
                chain = chain if constraint.use_tail else chain[1:]
                return chain[-1].name, sum(each.bone.length for each in chain)
    return None


def has_switch(target: Any, switch: ArmSwitch) -> bool:
    """Whether a rig has the custom property of a switch."""
    owner = target.pose.bones.get(switch.bone) if switch.bone else target
    return owner is not None and isinstance(owner.get(switch.name), int | float)


def switch_path(target: Any, switch: ArmSwitch) -> tuple[Any, str]:
    """The bone or object that has the property of a switch, and the path to it from the rig."""
    owner = target.pose.bones[switch.bone] if switch.bone else target
    return owner, keying.bone_path(switch.bone, keying.property_path(switch.name))


def _hold(target: Any, bone: Any, constraint: Any) -> Hold:
    goal = getattr(constraint, "target", None)
    subtarget = getattr(constraint, "subtarget", "")
    if goal == target and subtarget in target.pose.bones:
        return Hold(bone, constraint, subtarget, "")
    return Hold(bone, constraint, "", goal.name if goal is not None and goal != target else "")


def _ik_above(wrist: Any) -> Iterator[tuple[Any, Any]]:
    for above in wrist.parent_recursive[:_SEGMENTS]:
        yield from ((above, each) for each in above.constraints if each.type == "IK")


def _line_of(bone: Any) -> list[Any]:
    return [bone, *bone.parent_recursive]


def _control_of(bone: Any) -> Any:
    """The bone to move so that an IK target moves: itself, or the nearest above that is not locked."""
    return next((each for each in _line_of(bone) if not all(each.lock_location)), bone)


def _switch_of(target: Any, constraint: Any) -> ArmSwitch | None:
    """The custom property that drives a constraint's influence, where it does so as it is or turned over."""
    path = f"{constraint.path_from_id()}.influence"
    drivers: Iterable[Any] = target.animation_data.drivers if target.animation_data else ()
    for curve in drivers:
        if curve.data_path != path or len(curve.driver.variables) != 1:
            continue
        variable = curve.driver.variables[0]
        goal = variable.targets[0]
        found = _SWITCHES.match(goal.data_path) if goal.id == target else None
        if variable.type != "SINGLE_PROP" or not found:
            return None
        said = "".join(curve.driver.expression.split()).replace("1.0", "1")
        if curve.driver.type in _SAME or said == variable.name:
            return ArmSwitch(found["bone"] or "", found["name"], fk=0.0, ik=1.0)
        if said == f"1-{variable.name}":
            return ArmSwitch(found["bone"] or "", found["name"], fk=1.0, ik=0.0)
    return None
