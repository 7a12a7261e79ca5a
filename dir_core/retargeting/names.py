"""Hands found by the names of bones, whatever rig they come from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dir_core.conventions import FINGERS, Side
from dir_core.retargeting.bone_words import BoneWords, read_words
from dir_core.retargeting.rest import KNUCKLED, LONGEST_CHAIN
from dir_core.retargeting.rig_map import HandMap
from dir_core.retargeting.skeleton import Bone, bones_above, split_chain

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
    for words in filter(None, (read_words(bone.name) for bone in bones)):
        if words.is_wrist:
            wrists[words.side].append(words)
        elif not words.is_tip:
            families[words.side, words.others].append(words)

    above = bones_above(bones)
    hands: dict[Side | None, HandMap] = {}
    for (side, others), family in sorted(families.items(), key=lambda each: -len(each[1])):
        named = _with_names(family)
        chains = _chains(words for words in named if not (words.is_metacarpal and words.finger in KNUCKLED))
        palms = _chains(words for words in named if words.is_metacarpal and words.finger in KNUCKLED)
        if side in hands or sum(len(chain) > 1 for chain in chains.values()) < FEWEST_FINGERS:
            continue
        own = [words for words in wrists[side] if words.others == others]
        wrist = _find_wrist(own, [chain[0].name for chain in chains.values()], above)
        fingers, metacarpals = {}, {finger: chain[0].name for finger, chain in palms.items()}
        for finger, chain in chains.items():
            names = [words.name for words in chain]
            if len(chain) > LONGEST_CHAIN and chain[0].rank == 0:
                metacarpals[finger] = names.pop(0)
            metacarpal, fingers[finger] = split_chain(finger, names, wrist, bones)
            if metacarpal:
                metacarpals[finger] = metacarpal
        hands[side] = HandMap(wrist, fingers, metacarpals)
    return hands


def _with_names(family: list[BoneWords]) -> list[BoneWords]:
    """The bones of a family with their fingers named: either those with names or, if they are more, the numbered."""
    named = [words for words in family if words.number is None]
    numbers = [words.number for words in family if words.number is not None]
    if len(numbers) <= sum(not words.is_metacarpal for words in named):
        return named
    base = 0 if 0 in numbers else 1  # the thumb's
    palms = [words for words in named if words.is_metacarpal]
    counted = [(words, words.number - base) for words in family if words.number is not None]
    return palms + [replace(words, finger=FINGERS[row]) for words, row in counted if row < len(FINGERS)]


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

    def rank(words: BoneWords) -> tuple[bool, int, tuple[bool, bool, int], int]:
        follows, *_ = _preference(words)
        carried = sum(words.name in above[base] for base in bases)
        return follows, -carried, _preference(words), -len(above[words.name])

    if candidates:
        return min(candidates, key=rank).name
    return next((name for name in above[bases[0]] if all(name in above[base] for base in bases)), "")


def _preference(words: BoneWords) -> tuple[bool, bool, int]:
    """Sorts the bones of one joint: controls first, those that only follow last."""
    follows, controls = (not group.isdisjoint(words.fillers) for group in (_FOLLOWERS, _CONTROLS))
    return follows, not controls, len(words.fillers)
