"""Hands found by the names of bones, whatever rig they come from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dir_core.conventions import FINGERS, Side
from dir_core.retargeting.bone_words import BoneWords, read_words, side_of
from dir_core.retargeting.rest import KNUCKLED, LONGEST_CHAIN
from dir_core.retargeting.rig_map import HandMap
from dir_core.retargeting.skeleton import Bone, bones_above, split_chains

FEWEST_FINGERS: Final = 3
"""Of a hand, with two bones at least; fewer names of fingers may mean anything."""

_UNRANKED: Final = -1
_FOLLOWERS: Final = frozenset(("def", "org"))
_CONTROLS: Final = frozenset(("ctrl", "control", "con", "ctl", "fk", "c"))


def hands_by_name(bones: Sequence[Bone]) -> dict[Side | None, HandMap]:
    """The hands that bone names speak of; the side is None where they do not tell it.

    A hand is a set of bones that share every word that says nothing about hands, with at least three fingers. Where
    several bones are the same joint, the one made to be animated is taken.
    """
    families: dict[tuple[Side | None, tuple[str, ...]], list[BoneWords]] = defaultdict(list)
    wrists: dict[Side | None, list[BoneWords]] = defaultdict(list)
    above = bones_above(bones)
    speaking = [_with_side(words, above[bone.name]) for bone in bones if (words := read_words(bone.name))]
    for words in _with_ranks(speaking):
        if words.is_wrist:
            wrists[words.side].append(words)
        elif not words.is_tip:
            families[words.side, words.others].append(words)

    knows_no_places = all(bone.head is None for bone in bones)
    hands: dict[Side | None, HandMap] = {}
    for (side, others), family in sorted(families.items(), key=_size_and_plainness):
        named = _with_names(family)
        chains = _chains(words for words in named if not (words.is_metacarpal and words.finger in KNUCKLED))
        palms = _chains(words for words in named if words.is_metacarpal and words.finger in KNUCKLED)
        if side in hands or sum(len(chain) > 1 for chain in chains.values()) < FEWEST_FINGERS:
            continue
        own = [words for words in wrists[side] if words.others == others]
        wrist = _find_wrist(own, [chain[0].name for chain in chains.values()], above)
        fingers, metacarpals = {}, {finger: chain[0].name for finger, chain in palms.items()}
        # Where only the thumb has no fourth bone, that of the others is no tip: their first one lies in the palm.
        longer = KNUCKLED if 0 < len(chains.get("thumb", ())) <= LONGEST_CHAIN else ()
        numbered = {}
        for finger, chain in chains.items():
            numbered[finger] = [words.name for words in chain]
            if len(chain) > LONGEST_CHAIN and (chain[0].rank == 0 or (knows_no_places and finger in longer)):
                metacarpals[finger] = numbered[finger].pop(0)
        for finger, (metacarpal, names) in split_chains(numbered, wrist, bones).items():
            fingers[finger] = names
            if metacarpal:
                metacarpals[finger] = metacarpal
        hands[side] = HandMap(wrist, fingers, metacarpals)
    return hands


def _size_and_plainness(family: tuple[tuple[Side | None, tuple[str, ...]], list[BoneWords]]) -> tuple[int, int]:
    """Sorts families: the largest first, and of those the one whose names say least besides."""
    (_, others), bones = family
    return -len(bones), len(others)


def _with_side(words: BoneWords, above: Sequence[str]) -> BoneWords:
    """A bone that does not name its side has that of the nearest bone above that does."""
    if words.side is not None:
        return words
    return replace(words, side=next(filter(None, map(side_of, above)), None))


def _with_ranks(bones: Iterable[BoneWords]) -> list[BoneWords]:
    """Of several numbers in the names of a finger's bones, the first one in which they differ counts them."""
    alike: dict[tuple[Any, ...], list[BoneWords]] = defaultdict(list)
    for words in bones:
        alike[words.side, words.finger, words.is_metacarpal, words.others, words.fillers, len(words.digits)].append(
            words
        )
    ranked = []
    for group in alike.values():
        columns = zip(*(words.digits for words in group), strict=True)
        varied = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        counts = varied[0] if varied else 0
        for words in group:
            left_over = (str(words.digits[place]) for place in varied if place != counts)
            others = (*words.others, *left_over)
            rank = words.digits[counts] if words.digits and words.rank is None else words.rank
            ranked.append(replace(words, rank=rank, others=others))
    return ranked


def _with_names(family: list[BoneWords]) -> list[BoneWords]:
    """The bones of a family with their fingers named: those with names or, if they are more, the numbered.

    Beside a thumb that is named, numbers count the other fingers.
    """
    named = [words for words in family if words.number is None]
    counted = [(words, words.number) for words in family if words.number is not None]
    first = 0 if any(number == 0 for _, number in counted) else 1
    present = {words.finger for words in named if not words.is_metacarpal}
    if "thumb" in present and max((number - first for _, number in counted), default=0) < len(KNUCKLED):
        numbered = [replace(words, finger=KNUCKLED[number - first]) for words, number in counted]
        return named + [words for words in numbered if words.finger not in present]
    if len(counted) <= sum(not words.is_metacarpal for words in named):
        return named
    palms = [words for words in named if words.is_metacarpal]
    rows = [(words, number - first) for words, number in counted]
    return palms + [replace(words, finger=FINGERS[row]) for words, row in rows if row < len(FINGERS)]


def _chains(bones: Iterable[BoneWords]) -> dict[str, list[BoneWords]]:
    """Finger -> its bones from the lowest rank to the highest."""
    slots: dict[tuple[str, int], BoneWords] = {}
    for words in bones:
        slot = (words.finger or "", _UNRANKED if words.rank is None else words.rank)
        slots[slot] = min(slots.get(slot, words), words, key=_preference)
    chains = {}
    for finger in FINGERS:
        ranks = sorted(rank for name, rank in slots if name == finger)
        if len(ranks) > LONGEST_CHAIN and ranks[0] == _UNRANKED:
            ranks = ranks[1:]  # not the first joint, which others are numbered after, but something for all of them
        if ranks:
            chains[finger] = [slots[finger, rank] for rank in ranks]
    return chains


def _find_wrist(candidates: list[BoneWords], bases: Sequence[str], above: Mapping[str, tuple[str, ...]]) -> str:
    """The bone that is the hand of fingers with these first bones, else the one that carries them all."""

    def rank(words: BoneWords) -> tuple[bool, int, tuple[bool, bool, int], int, bool]:
        follows, *_ = _preference(words)
        carried = sum(words.name in above[base] for base in bases)
        is_wrist = "wrist" in words.name.casefold()  # beside a hand it is a helper
        return follows, -carried, _preference(words), -len(above[words.name]), is_wrist

    if candidates:
        return min(candidates, key=rank).name
    return next((name for name in above[bases[0]] if all(name in above[base] for base in bases)), "")


def _preference(words: BoneWords) -> tuple[bool, bool, int]:
    """Sorts the bones of one joint: controls first, those that only follow last."""
    follows, controls = (not group.isdisjoint(words.fillers) for group in (_FOLLOWERS, _CONTROLS))
    return follows, not controls, len(words.fillers)
