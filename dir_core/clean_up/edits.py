"""The user's own corrections of a take: exchange the sides, drop a hand, trust it less. Data, and how it is applied.

Edits name source frames, so they mean the same for every take of the clip. They are kept in the history of the clean
take and applied to the raw one again whenever other settings change.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import SIDES, Side
from dir_core.errors import SettingsError
from dir_core.take import FRAME_FIELDS, HandTrack, Take

Array = NDArray[Any]

EditKind = Literal["swap", "drop", "trust"]
EDIT_KINDS: tuple[EditKind, ...] = get_args(EditKind)

_FORMS: dict[EditKind, str] = {
    "swap": "FIRST-LAST, for example 120-180",
    "drop": "[SIDE:]FIRST-LAST, for example left:120-180",
    "trust": "[SIDE:]FIRST-LAST=WEIGHT, for example left:120-180=0.3",
}
_RANGE = re.compile(r"(?:(left|right):)?([0-9]+)(?:-([0-9]+))?(?:=([0-9]*\.?[0-9]+(?:e-?[0-9]+)?))?")


@dataclass(frozen=True)
class Edit:
    """One correction over a range of frames.

    Attributes:
        kind: "swap" exchanges left and right, "drop" says that no hand is there, "trust" lowers the confidence.
        first, last: source frames as in `Take.frame`, both included.
        side: the hand that is meant, None for both; a swap has none.
        weight: 0..1, factor on the confidence; for "trust" only.

    Raises:
        SettingsError: a value that cannot work.
    """

    kind: EditKind
    first: int
    last: int
    side: Side | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in EDIT_KINDS:
            raise SettingsError(f"There is no edit {self.kind!r}, use one of {', '.join(EDIT_KINDS)}.")
        for value in (self.first, self.last):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise SettingsError(f"The {self.kind} edit has the frame {value!r}, give whole numbers from 0 on.")
        if self.last < self.first:
            raise SettingsError(
                f"The {self.kind} edit runs from frame {self.first} back to {self.last}, give the smaller one first."
            )
        if self.side is not None and self.side not in SIDES:
            raise SettingsError(f"The {self.kind} edit names the side {self.side!r}, use left, right or none for both.")
        if self.kind == "swap" and self.side is not None:
            raise SettingsError(f"The swap edit names the {self.side} hand, leave the side out: a swap is of both.")
        if not isinstance(self.weight, int | float) or isinstance(self.weight, bool) or not 0.0 <= self.weight <= 1.0:
            raise SettingsError(f"The {self.kind} edit has the weight {self.weight!r}, give a number from 0 to 1.")
        if self.kind != "trust" and self.weight != 1.0:
            raise SettingsError(f"The {self.kind} edit has a weight, leave it out: only a trust edit has one.")

    def rows_of(self, take: Take) -> Array:
        """Rows [T] bool of a take that lie in the range."""
        return (take.frame >= self.first) & (take.frame <= self.last)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The hands that are meant."""
        return SIDES if self.side is None else (self.side,)

    def __str__(self) -> str:
        """As `parse_edit` reads it, with the kind in front."""
        side = f"{self.side}:" if self.side else ""
        weight = f"={self.weight:g}" if self.kind == "trust" else ""
        return f"{self.kind} {side}{self.first}-{self.last}{weight}"


def apply_edits(take: Take, edits: Sequence[Edit]) -> Take:
    """A new take with the edits applied in their order; poses of dropped rows stay for gap filling to replace.

    Raises:
        SettingsError: an edit touches no frame of the take.
    """
    for edit in edits:
        rows = edit.rows_of(take)
        if not rows.any():
            there = f"has the frames {take.frame[0]} to {take.frame[-1]}" if len(take) else "has no frames"
            raise SettingsError(f"The edit '{edit}' touches no frame, the take {there}: choose a range in it.")
        if edit.kind == "swap":
            take = exchange_sides(take, rows)
            continue
        weight = edit.weight if edit.kind == "trust" else 0.0
        for side in edit.sides:
            take = drop_hand(take, side, rows) if weight == 0.0 else _weigh_hand(take, side, rows, weight)
    return take


def trust_of_rows(edits: Sequence[Edit], take: Take) -> dict[Side, Array]:
    """Weight [T] in 0..1 that the edits leave to the rows of each hand; a later swap takes it to the other side."""
    weight = {side: np.ones(len(take)) for side in SIDES}
    for edit in edits:
        rows = edit.rows_of(take)
        if edit.kind == "swap":
            left, right = weight["left"], weight["right"]
            left[rows], right[rows] = right[rows].copy(), left[rows].copy()
        elif edit.kind == "trust":
            for side in edit.sides:
                weight[side][rows] *= edit.weight
    return weight


def exchange_sides(take: Take, rows: Array) -> Take:
    """Give each hand everything of the other one in the frames `rows` [T] bool.

    Where a hand comes to a side on which none was ever seen, its shape and scale come with it: an unseen hand has none.
    """
    left, right = _with_rows_of(take.left, take.right, rows), _with_rows_of(take.right, take.left, rows)
    return replace(take, left=left, right=right)


def drop_hand(take: Take, side: Side, rows: Array) -> Take:
    """A hand not seen in the frames `rows` [T] bool: no key points, no confidence; its pose stays as it is."""
    hand = take.hand(side)
    blank = {name: getattr(hand, name).copy() for name in ("keypoints_2d", "keypoints_3d", "confidence", "observed")}
    for array in blank.values():
        array[rows] = 0
    return _with_hand(take, side, replace(hand, **blank))


def _with_rows_of(own: HandTrack, other: HandTrack, rows: Array) -> HandTrack:
    fields = {name: getattr(own, name).copy() for name in FRAME_FIELDS}
    for name, array in fields.items():
        array[rows] = getattr(other, name)[rows]
    fields["rotation"] = rotations.make_continuous(fields["rotation"])
    if own.observed.any() != fields["observed"].any():
        fields |= {"shape": other.shape, "scale": other.scale}
    return replace(own, **fields)


def _weigh_hand(take: Take, side: Side, rows: Array, weight: float) -> Take:
    confidence = take.hand(side).confidence.copy()
    confidence[rows] *= weight
    return _with_hand(take, side, replace(take.hand(side), confidence=confidence))


def _with_hand(take: Take, side: Side, hand: HandTrack) -> Take:
    return replace(take, left=hand) if side == "left" else replace(take, right=hand)


def parse_edit(kind: EditKind, text: str) -> Edit:
    """An edit from a command line: "120-180" or "120", "left:10-20", and "right:30-60=0.2" to trust less.

    Raises:
        SettingsError: the text is none of these; the message shows the form.
    """
    if kind not in EDIT_KINDS:
        raise SettingsError(f"There is no edit {kind!r}, use one of {', '.join(EDIT_KINDS)}.")
    match = _RANGE.fullmatch(text.strip())
    if match is None or (kind == "trust") != (match[4] is not None):
        raise SettingsError(f"Cannot read the {kind} edit {text!r}, write {_FORMS[kind]}.")
    side: Any = match[1]
    first, last = int(match[2]), int(match[3] or match[2])
    return Edit(kind, first, last, side) if match[4] is None else Edit(kind, first, last, side, float(match[4]))


def as_json(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """The edits as JSON types, for the history of a take."""
    return [
        {"kind": edit.kind, "first": edit.first, "last": edit.last}
        | ({"side": edit.side} if edit.side else {})
        | ({"weight": edit.weight} if edit.kind == "trust" else {})
        for edit in edits
    ]


def from_json(entries: Any) -> tuple[Edit, ...]:
    """The edits that `as_json` wrote.

    Raises:
        SettingsError: an entry is no edit; the message says which and why.
    """
    if not isinstance(entries, list):
        raise SettingsError(f"The edits are {type(entries).__name__} instead of a list, remove them and edit again.")
    return tuple(_read_entry(number, entry) for number, entry in enumerate(entries, 1))


def _read_entry(number: int, entry: Any) -> Edit:
    if not isinstance(entry, dict):
        raise SettingsError(f"Edit {number} of the take is not an object, remove it and edit again.")
    known = {"kind", "first", "last", "side", "weight"}
    missing, foreign = {"kind", "first", "last"} - set(entry), set(entry) - known
    if missing or foreign:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has {', '.join(sorted(map(str, foreign)))}"
        raise SettingsError(f"Edit {number} of the take {what}, an edit has kind, first, last, side and weight.")
    try:
        return Edit(**entry)
    except SettingsError as error:
        raise SettingsError(f"Edit {number} of the take cannot be used: {error}") from None
