"""A rig's bones at rest, as far as finding hands among them needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.retargeting.rest import KNUCKLED, LONGEST_CHAIN

Array = NDArray[Any]

_NEAR_WRIST: Final = 0.4
"""A bone begins at the wrist, and not at a knuckle, if it does so within this share of the way to the next joint.
Metacarpals do at 0.3 to 0.45, first finger bones at 0.6 to 0.8."""

_RATHER_NEAR: Final = 0.55
"""The share where most of the hand's other bones begin at the wrist."""


@dataclass(frozen=True, eq=False)
class Bone:
    """One bone at rest.

    Attributes:
        name: unique in its rig.
        parent: name of the bone above, empty for a root.
        head: [3] where it begins, in the axes of its armature; None where only names are known.
    """

    name: str
    parent: str = ""
    head: Array | None = None


def bones_above(bones: Sequence[Bone]) -> dict[str, tuple[str, ...]]:
    """Each bone's ancestors, the nearest first."""
    parents = {bone.name: bone.parent for bone in bones}
    above = {}
    for name, nearest in parents.items():
        chain: list[str] = []
        parent = nearest
        while parent:
            chain.append(parent)
            parent = parents.get(parent, "")
        above[name] = tuple(chain)
    return above


def split_chains(
    chains: Mapping[str, Sequence[str]], wrist: str, bones: Sequence[Bone]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Finger -> a metacarpal, or an empty name, and the bones of the finger itself; what comes after them is left out.

    Args:
        chains: finger -> its bones, from the palm on.
        wrist: name of the hand's bone.
        bones: of the rig.
    """
    places = {bone.name: bone.head for bone in bones if bone.head is not None}
    shares = {}
    for finger, chain in chains.items():
        heads = [places[name] for name in (wrist, *chain[:2]) if name in places]
        if finger in KNUCKLED and len(chain) >= LONGEST_CHAIN and len(heads) == 3:
            first, second = (np.linalg.norm(head - heads[0]) for head in heads[1:])
            shares[finger] = first / second if second else np.inf
    near = _RATHER_NEAR if shares and np.median(list(shares.values())) < _NEAR_WRIST else _NEAR_WRIST
    palms = [finger for finger, share in shares.items() if share < near]
    return {
        finger: (chain[0], tuple(chain[1 : 1 + LONGEST_CHAIN]))
        if finger in palms
        else ("", tuple(chain[:LONGEST_CHAIN]))
        for finger, chain in chains.items()
    }
