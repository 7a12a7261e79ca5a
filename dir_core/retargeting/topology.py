"""Hands found by how bones branch and where they lie, for rigs whose names say nothing.

A hand is a bone that carries four or five chains, one of which begins much nearer to it than the others and points away
from them. That one is the thumb; toes, tails and skirts have none.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import FINGERS, Side
from dir_core.retargeting.rest import KNUCKLED
from dir_core.retargeting.rig_map import HandMap
from dir_core.retargeting.skeleton import Bone, split_chains

Array = NDArray[Any]

_FINGERS_OF: Final = {4: ("thumb", "index", "middle", "pinky"), 5: FINGERS}
"""What the fingers of a hand are called from the thumb on, by their count."""

_SHORTEST_FINGER: Final = 2
_WIDEST_FAN: Final = 0.5  # cosine; fingers beside the thumb point within 60 degrees of their mean
_THUMB_BEGINS: Final = 0.8  # of the others' mean distance from the wrist; thumbs are at 0.4 to 0.7, toes above 0.9
_CLEAR_SIDE: Final = 0.5  # hand lengths from the middle plane; nearer hands are told by how their fingers curl


@dataclass(frozen=True, eq=False)
class _Chain:
    """A finger-like chain: its bones and the places [n, 3] of their heads, below a metacarpal or an empty name."""

    bones: tuple[str, ...]
    places: Array
    metacarpal: str = ""


def hands_by_shape(bones: Sequence[Bone]) -> dict[Side, HandMap]:
    """The hands that a rig's branches look like, at most one per side; every bone needs its place."""
    children: dict[str, list[str]] = defaultdict(list)
    for bone in bones:
        children[bone.parent].append(bone.name)
    heads = {bone.name: np.asarray(bone.head, np.float64) for bone in bones if bone.head is not None}
    found = []
    for bone in bones:
        chains = [
            _Chain(chain, np.array([heads[name] for name in chain])) for chain in _chains_below(bone.name, children)
        ]
        fingers = _name_fingers(bone, chains, bones)
        if fingers:
            found.append((bone.name, fingers))
    return _choose_sides(found, heads)


def likely_side(wrist: Array, fingers: Mapping[str, Array]) -> Side:
    """The side of a hand that lies alone, from its place and, near the middle plane, from how its fingers curl.

    Args:
        wrist: [3] place of the hand's bone; x points to the figure's left.
        fingers: finger -> [n, 3] places of its heads.
    """
    length = max(np.linalg.norm(places[-1] - wrist) for places in fingers.values())
    if abs(wrist[0]) > _CLEAR_SIDE * length:
        return "left" if wrist[0] > 0 else "right"
    others = [places for name, places in fingers.items() if name != "thumb" and len(places) > 2]
    if "thumb" not in fingers or not others:
        return "left" if wrist[0] > 0 else "right"
    ahead = _unit(np.mean([_unit(places[-1] - places[0]) for places in others], axis=0))
    towards_thumb = fingers["thumb"].mean(axis=0) - np.mean([places[0] for places in others], axis=0)
    palm = np.mean([_unit(places[-1] - places[-2]) - _unit(places[1] - places[0]) for places in others], axis=0)
    # Fingers ahead, palm towards the viewer: the thumb is to the right on a right hand.
    return "right" if np.cross(ahead, palm) @ towards_thumb > 0 else "left"


def _chains_below(name: str, children: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """The chains of bones that begin at the children of a bone; one that carries two is looked through."""
    chains = []
    for child in children.get(name, ()):
        chain, ends = _walk(child, children)
        if len(ends) == 2 and len(chain) == 1:
            chains += [(end, *_walk(end, children)[0][1:]) for end in ends]
        elif not ends:
            chains.append(chain)
    return [chain for chain in chains if len(chain) >= _SHORTEST_FINGER]


def _walk(name: str, children: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], list[str]]:
    """A bone and those below it up to a branch, and the branches that go on there. Single bones are no branches."""
    chain = [name]
    while True:
        below = list(children.get(chain[-1], ()))
        going_on = [each for each in below if children.get(each)]
        if len(going_on) > 1:
            return tuple(chain), going_on
        if not below:
            return tuple(chain), []
        chain.append((going_on or below)[0])


def _name_fingers(wrist: Bone, chains: Sequence[_Chain], bones: Sequence[Bone]) -> dict[str, _Chain]:
    """Finger -> chain, from the thumb to the pinky; empty if the chains are no hand's."""
    if len(chains) not in _FINGERS_OF:
        return {}
    fingers = [_without_metacarpals({KNUCKLED[0]: chain}, wrist.name, bones)[KNUCKLED[0]] for chain in chains]
    knuckles = np.array([finger.places[0] for finger in fingers])
    away = np.linalg.norm(knuckles - wrist.head, axis=1)
    directions = np.array([_unit(finger.places[-1] - finger.places[0]) for finger in fingers])
    off = np.sum(directions * _unit(directions.sum(axis=0) - directions), axis=1)
    thumb = int(np.argmin(away / away.mean() + off))
    others = [row for row in range(len(chains)) if row != thumb]
    if away[thumb] > _THUMB_BEGINS * away[others].mean():
        return {}
    if (directions[others] @ _unit(directions[others].sum(axis=0))).min() < _WIDEST_FAN:
        return {}
    # The others along the line of their knuckles, beginning on the thumb's side.
    middle = knuckles[others].mean(axis=0)
    line = np.linalg.svd(knuckles[others] - middle)[2][0]
    line = line if line @ (chains[thumb].places.mean(axis=0) - middle) > 0 else -line
    ordered = sorted(others, key=lambda row: -(knuckles[row] @ line))
    named = dict(zip(_FINGERS_OF[len(chains)], [chains[thumb], *(chains[row] for row in ordered)], strict=True))
    return _without_metacarpals(named, wrist.name, bones)


def _without_metacarpals(chains: Mapping[str, _Chain], wrist: str, bones: Sequence[Bone]) -> dict[str, _Chain]:
    split = split_chains({finger: chain.bones for finger, chain in chains.items()}, wrist, bones)
    found = {}
    for finger, (metacarpal, names) in split.items():
        start = int(bool(metacarpal))
        found[finger] = _Chain(names, chains[finger].places[start : start + len(names)], metacarpal)
    return found


def _choose_sides(found: Sequence[tuple[str, Mapping[str, _Chain]]], heads: Mapping[str, Array]) -> dict[Side, HandMap]:
    """The two outermost hands as left and right, one alone by its own side; x points to the figure's left."""
    hands = {
        wrist: HandMap(
            wrist,
            {name: chain.bones for name, chain in fingers.items()},
            {name: chain.metacarpal for name, chain in fingers.items() if chain.metacarpal},
        )
        for wrist, fingers in found
    }
    if len(found) == 1:
        wrist, fingers = found[0]
        return {likely_side(heads[wrist], {name: chain.places for name, chain in fingers.items()}): hands[wrist]}
    across = sorted(hands, key=lambda wrist: heads[wrist][0])
    return {"left": hands[across[-1]], "right": hands[across[0]]} if across else {}


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(float).tiny)
