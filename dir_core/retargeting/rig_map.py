"""Which bones of a rig are a hand's: one JSON file a rig, checked when read and written whole. No matching here."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.errors import SettingsError
from dir_core.retargeting.calibration import FingerCalibration
from dir_core.retargeting.rest import LONGEST_CHAIN
from dir_core.take import write_whole

SCHEMA: Final = "two-hand-rig-map/1"

RIG_MAP_FOLDER: Final = Path(__file__).resolve().parents[2] / "blender_assets" / "rig_maps"


@dataclass(frozen=True)
class ArmSwitch:
    """The custom property that decides whether an arm is moved by FK or by IK.

    Attributes:
        bone: that has the property.
        name: of the property.
        fk, ik: its values.
    """

    bone: str
    name: str
    fk: float
    ik: float


@dataclass(frozen=True)
class HandMap:
    """The bones of one hand.

    Attributes:
        wrist: the hand's bone, empty if it is not known.
        fingers: finger of FINGERS -> its one to three bones, knuckle first; fingers the rig does not have are missing.
        metacarpals: finger -> the bone between wrist and knuckle; at rest unless it takes a share of a bend.
        ik: the bone that the hand follows while its arm is in IK; empty if there is none or it is not known.
        switch: between FK and IK, where the arm has one.
        calibration: finger -> what was calibrated on it, with as many bones as the finger has.
    """

    wrist: str
    fingers: Mapping[str, tuple[str, ...]]
    metacarpals: Mapping[str, str] = field(default_factory=dict)
    ik: str = field(default="", compare=False)  # of the arm: hands of the same bones are the same
    switch: ArmSwitch | None = field(default=None, compare=False)
    calibration: Mapping[str, FingerCalibration] = field(default_factory=dict, compare=False)

    @property
    def bones(self) -> tuple[str, ...]:
        """Every mapped bone that is turned: the wrist, then the fingers in their order."""
        fingers = (bone for finger in FINGERS for bone in self.fingers.get(finger, ()))
        return tuple(bone for bone in (self.wrist, *fingers) if bone)


@dataclass(frozen=True)
class RigMap:
    """The hands of a rig.

    Attributes:
        name: of the kind of rig, as the user reads it.
        hands: a map per side; one side may be missing.
        note: what an animator has to know about this rig; may be empty.
        preference: among maps that fit equally well the one with the highest number is taken: what is made to be
            animated before what follows it.
    """

    name: str
    hands: Mapping[Side, HandMap]
    note: str = ""
    preference: int = 0


def load_rig_map(path: str | os.PathLike[str]) -> RigMap:
    """Read and check a rig map.

    Raises:
        SettingsError: the file is missing, no rig map, or says something that cannot be; the message names what.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The rig map {path} cannot be read, choose another file: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise SettingsError(f"{path} is no rig map of schema {SCHEMA}, choose another file.")
    try:
        hands = {side: _read_hand(content[side]) for side in SIDES if side in content}
        rig_map = RigMap(
            _text(content["name"]), hands, _text(content.get("note", "")), _number(content.get("preference", 0))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"The rig map {path} is damaged at {error}, correct it or choose another file.") from None
    if not hands:
        raise SettingsError(f"The rig map {path} has neither a left nor a right hand, choose another file.")
    return rig_map


def save_rig_map(rig_map: RigMap, path: str | os.PathLike[str]) -> None:
    """Write a rig map, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": rig_map.name,
        "note": rig_map.note,
        "preference": rig_map.preference,
    }
    for side, hand in rig_map.hands.items():
        content[side] = {"wrist": hand.wrist, "fingers": dict(hand.fingers), "metacarpals": dict(hand.metacarpals)}
        if hand.calibration:
            content[side]["calibration"] = {finger: asdict(each) for finger, each in hand.calibration.items()}
        if hand.ik:
            content[side]["ik"] = hand.ik
        if hand.switch is not None:
            switch = hand.switch
            content[side]["switch"] = {
                "bone": switch.bone,
                "property": switch.name,
                "fk": switch.fk,
                "ik": switch.ik,
            }
    write_whole(Path(path), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def known_rig_maps() -> tuple[RigMap, ...]:
    """The rig maps that ship with the project.

    Raises:
        SettingsError: one of them is damaged.
    """
    return tuple(load_rig_map(path) for path in sorted(RIG_MAP_FOLDER.glob("*.json")))


def _read_hand(content: Any) -> HandMap:
    fingers = {}
    for finger, bones in content["fingers"].items():
        if finger not in FINGERS or not isinstance(bones, list) or not 1 <= len(bones) <= LONGEST_CHAIN:
            raise ValueError(f"the finger {finger!r}")
        fingers[finger] = tuple(_text(bone) for bone in bones)
    metacarpals = {finger: _text(bone) for finger, bone in content.get("metacarpals", {}).items()}
    if not set(metacarpals) <= set(FINGERS):
        raise ValueError("the metacarpals")
    switch = _read_switch(content["switch"]) if "switch" in content else None
    calibration = {
        finger: _read_calibration(each, fingers.get(finger, ()))
        for finger, each in content.get("calibration", {}).items()
    }
    hand = HandMap(_text(content["wrist"]), fingers, metacarpals, _text(content.get("ik", "")), switch, calibration)
    names = [*hand.bones, *metacarpals.values()]
    if len(set(names)) < len(names):
        raise ValueError(f"the bone {next(name for name in names if names.count(name) > 1)!r}, which is named twice")
    return hand


def _read_calibration(content: Any, bones: tuple[str, ...]) -> FingerCalibration:
    captured, posed = (
        tuple(tuple(_value(number) for number in row) for row in content[part]) for part in ("captured", "posed")
    )
    calibration = FingerCalibration(captured, posed, tuple(_value(factor) for factor in content["ranges"]))
    if len(calibration.ranges) != len(bones):
        raise ValueError("a calibration of another number of bones")
    return calibration


def _read_switch(content: Any) -> ArmSwitch:
    fk, ik = _value(content["fk"]), _value(content["ik"])
    if fk == ik:
        raise ValueError("the switch, which has one value for FK and IK")
    return ArmSwitch(_text(content["bone"]), _text(content["property"]), fk, ik)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the text {value!r}")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"the number {value!r}")
    return value


def _value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"the value {value!r}")
    return float(value)
