"""What a user may choose about a clean-up, and how strength becomes a cut-off. Data only."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from dir_core.errors import SettingsError

Beyond = Literal["still", "hide"]
Contact = Literal["off", "hands", "fingers"]

DEFAULT_CUTOFF: Final = 1.5
"""Hertz of the smoother at strength 1; 2.0 is light, 1.0 is strong and costs part of the height of a snap."""

_DEPTH_SHARE = 0.5  # a hand's depth is its least certain number and moves slowly: smoothed twice as hard
_STRONGEST = 4.0
_LONGEST_FILL = 60.0


@dataclass(frozen=True)
class Cutoffs:
    """Hertz below which the motion of each part passes however noisy it is; infinite: not smoothed at all."""

    wrist_rotation: float = DEFAULT_CUTOFF
    wrist_position: float = DEFAULT_CUTOFF
    fingers: float = DEFAULT_CUTOFF

    @property
    def depth(self) -> float:
        """Of the distance from the camera."""
        return _DEPTH_SHARE * self.wrist_position


@dataclass(frozen=True)
class CleanUpSettings:
    """How a raw take becomes a clean one; every default works without thought.

    Attributes:
        identity: repair left and right over the clip, remove a second skeleton on one hand.
        wrist_rotation, wrist_position, fingers: strength of the smoothing of each part, 0 (none) to 4; 1 is usual.
        fill: seconds; a gap up to this length is filled with motion.
        beyond: what the hand does in a longer gap: "still" or "hide".
        limits: keep joints inside their anatomical ranges.
        contact: what is pushed apart where it sinks into each other: "hands" that touch; "fingers" besides in every
            hand alone, which takes the longest of all steps; or "off".
    """

    identity: bool = True
    wrist_rotation: float = 1.0
    wrist_position: float = 1.0
    fingers: float = 1.0
    fill: float = 1.0
    beyond: Beyond = "still"
    limits: bool = True
    contact: Contact = "hands"

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            SettingsError: names the setting and its range.
        """
        for name in ("wrist_rotation", "wrist_position", "fingers"):
            strength = getattr(self, name)
            if not _is_number(strength) or not 0 <= strength <= _STRONGEST:
                part = name.replace("_", " ")
                raise SettingsError(f"The strength for {part} is {strength}, give 0 to {_STRONGEST:g}.")
        if not _is_number(self.fill) or not 0 <= self.fill <= _LONGEST_FILL:
            raise SettingsError(f"Gaps cannot be filled up to {self.fill} seconds, give 0 to {_LONGEST_FILL:g}.")
        if self.beyond not in get_args(Beyond):
            raise SettingsError(f"A hand cannot {self.beyond!r} in a long gap, give {' or '.join(get_args(Beyond))}.")
        if self.contact not in get_args(Contact):
            raise SettingsError(f"The contact {self.contact!r} is unknown, give {', '.join(get_args(Contact))}.")
        for name in ("identity", "limits"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"The setting {name} is {getattr(self, name)!r}, give true or false.")

    @property
    def cutoffs(self) -> Cutoffs:
        """The cut-offs that the strengths stand for."""
        return Cutoffs(*(_cutoff(getattr(self, field.name)) for field in fields(Cutoffs)))

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return asdict(self)


def settings_from_json(values: Any) -> CleanUpSettings:
    """The settings that `as_json` gave; what is missing gets its default.

    Raises:
        SettingsError: the values are no settings of this version.
    """
    names = {field.name for field in fields(CleanUpSettings)}
    if not isinstance(values, dict) or not set(values) <= names:
        raise SettingsError("The clean-up settings are not those of this version, clean the raw take again.")
    return CleanUpSettings(**values)


def _cutoff(strength: float) -> float:
    return DEFAULT_CUTOFF / strength if strength > 0 else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
