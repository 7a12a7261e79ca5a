"""Bone names read as words: which side, finger and joint a name speaks of, and which names speak of something else."""

import functools
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from dir_core.conventions import SIDES, Side
from dir_core.retargeting.rest import KNUCKLED

_SIDES: Final[dict[str, Side]] = {
    **dict.fromkeys(("l", "left", "lf", "lft", "hidari"), SIDES[0]),
    **dict.fromkeys(("r", "right", "rt", "rgt", "migi"), SIDES[1]),
}
_FINGERS: Final = {
    **dict.fromkeys(("thumb", "thmb", "pollex", "oyayubi", "oya"), "thumb"),
    **dict.fromkeys(("index", "ind", "pointer", "forefinger", "fore", "hitosashiyubi", "hitosashi", "hito"), "index"),
    **dict.fromkeys(("middle", "mid", "nakayubi", "naka"), "middle"),
    **dict.fromkeys(("ring", "kusuriyubi", "kusuri", "kusu"), "ring"),
    **dict.fromkeys(("pinky", "pinkie", "pink", "little", "lit", "small", "koyubi", "koyu"), "pinky"),
}
_ORDINALS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}
_ANY_FINGER: Final = frozenset(("finger", "fingers", "fing", "digit"))
_HANDS: Final = frozenset(("hand", "wrist", "tekubi"))
_METACARPALS: Final = frozenset(("palm", "metacarpal", "metacarpals", "meta", "carpal", "mc", "cmc", "inhand"))
_JOINTS: Final = {
    "base": 0,
    **dict.fromkeys(("proximal", "prox", "pp"), 1),
    **dict.fromkeys(("intermediate", "inter", "medial", "mp"), 2),
    **dict.fromkeys(("distal", "dist", "dp"), 3),
}
_KNUCKLES: Final = {"mcp": 1, "pip": 2, "ip": 2, "dip": 3}
"""Joints by the names of anatomy; beside a number they are helpers at a knuckle."""

_LETTERS: Final = {letter: rank for rank, letter in enumerate("abcd", start=1)}
_MIDDLE_JOINT: Final = 2  # what "middle" means in a name that has named its finger already
_TIPS: Final = frozenset(("tip", "end", "nub"))

_FILLERS: Final = frozenset((
    "phalanx", "phalange", "phalanges", "bone", "bn", "joint", "jnt", "jt", "j", "b", "c", "f",
    "ctrl", "control", "con", "ctl", "fk", "def", "org", "bind", "skin", "sk", "anim", "rig", "seg", "arm",
))  # fmt: skip
"""Words that say nothing about what a bone is."""

_FEET: Final = frozenset(("toe", "toes", "bigtoe", "foot", "feet", "ankle", "heel", "leg"))
_OTHERS: Final = _FEET | frozenset((
    "thigh", "calf", "shin", "knee", "hoof", "paw",
    "claw", "talon", "tail", "tentacle", "tentacles", "fin",
    "wing", "feather", "hair", "bang", "braid", "ear", "earring", "horn", "antenna", "trunk", "snout", "whisker",
    "mane", "fur",
    "spine", "neck", "head", "pelvis", "hip", "hips", "chest", "torso", "waist", "body", "root", "belly", "breast",
    "boob", "butt", "glute",
    "forearm", "upperarm", "lowerarm", "shoulder", "clavicle", "collar", "elbow", "scapula", "armpit",
    "eye", "eyes", "eyelid", "lid", "brow", "eyebrow", "lash", "lip", "lips", "mouth", "jaw", "teeth", "tooth",
    "tongue", "cheek", "nose", "nostril", "chin", "face",
    "skirt", "cape", "cloak", "cloth", "coat", "sleeve", "belt", "strap", "ribbon", "rope", "chain", "string",
    "dress", "scarf", "tie", "bow", "flap", "cuff", "glove",
    "twist", "twst", "roll", "helper", "help", "corrective", "correct", "corr", "adj", "adjust", "adjustment",
    "bulge", "muscle", "musc", "jiggle", "dyn", "dynamic",
    "phys", "physics", "collider", "collision", "col", "pole", "target", "tgt", "goal", "aim", "lookat", "ik",
    "switch", "master", "mch", "mechanism", "vis", "drv",
    "driver", "tweak", "twk", "pivot", "prop", "socket", "attach", "attachment", "attachpoint", "weapon", "gun",
    "sword", "shield", "grip", "holder", "slot", "item",
    "tool", "watch", "bracelet", "jewel", "jewelry", "gem", "nail", "nails", "nailbase", "knuckle", "web", "fold",
    "crease", "pad", "volume", "bend", "offset",
    "null", "locator", "loc", "marker", "handle", "spring", "swing", "curl", "spread", "fist", "ui", "shape", "text",
    "label", "scale", "stretch",
))  # fmt: skip
"""Words of bones that are no hand's, or that a hand's bones only help."""

_SPEAKING: Final = frozenset((*_SIDES, *_FINGERS, *_ORDINALS, *_ANY_FINGER, *_HANDS, *_METACARPALS, *_JOINTS, *_TIPS))
"""Words that say something about a hand; numbers before the first of them belong to the rig's own name."""

_WORDS: Final = _SPEAKING | _OTHERS | _FILLERS
_GLUED_SIDES: Final = ("l", "r")
_LONGEST_WORD: Final = max(map(len, _WORDS))
_SHORTEST_GLUED: Final = 3  # shorter words are found in everything; only l and r stand glued before others

_FOREIGN: Final = {
    "左": "left", "右": "right", "手首": "wrist", "手腕": "wrist", "手": "hand", "先": "tip", "足": "foot",
    "捩": "twist", "親指": "thumb", "大拇指": "thumb", "拇指": "thumb", "人差し指": "index", "人差指": "index",
    "人指": "index", "食指": "index", "中指": "middle", "薬指": "ring", "无名指": "ring", "無名指": "ring",
    "小拇指": "pinky", "小指": "pinky", "尾指": "pinky",
}  # fmt: skip
"""Words of Japanese and Chinese rigs, which are written without gaps."""

_FOREIGN_WORDS: Final = re.compile("|".join(sorted(_FOREIGN, key=len, reverse=True)))
_NAMESPACE: Final = re.compile(r"^.*[:|]")
_SHORT_FORM: Final = re.compile(r"\[.*?\]")  # a name may say the same again in brackets
_PARTS: Final = re.compile(r"InHand|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True)
class BoneWords:
    """What the name of a hand's bone says.

    Attributes:
        name: the name.
        side: of the body, or None.
        finger: of FINGERS; None for a wrist or a number.
        number: of a finger that is only numbered; what it counts from is not known yet.
        rank: place of the bone in its finger, as the name counts; None if it does not.
        digits: the numbers of a named finger with several; which of them is the rank is told by the finger's others.
        is_metacarpal: the name says so.
        is_tip: the name is that of a finger's end.
        others: words and numbers left over; the bones of one hand share them.
        fillers: words that say nothing.
    """

    name: str
    side: Side | None = None
    finger: str | None = None
    number: int | None = None
    rank: int | None = None
    digits: tuple[int, ...] = ()
    is_metacarpal: bool = False
    is_tip: bool = False
    others: tuple[str, ...] = ()
    fillers: tuple[str, ...] = ()

    @property
    def is_wrist(self) -> bool:
        """Whether the name means a hand as a whole."""
        return self.finger is None and self.number is None


def plain_name(name: str) -> str:
    """A name without namespace and case, as names of the same bone are compared."""
    return _NAMESPACE.sub("", name).casefold()


def read_words(name: str) -> BoneWords | None:
    """What a bone's name says; None if it speaks of something else than a hand, or of nothing known."""
    words = split_name(name)
    if not _OTHERS.isdisjoint(words):
        return None
    said = _sort_words(words)
    is_metacarpal, is_tip = (not group.isdisjoint(words) for group in (_METACARPALS, _TIPS))
    finger, number, joint, digits = said.finger, said.number, said.joint, said.digits
    several: tuple[int, ...] = ()
    if finger is None and number is None and not _ANY_FINGER.isdisjoint(words):
        if not digits:
            return None
        number, joint, digits = _counted(digits, 0 if is_metacarpal else joint)
    elif finger is None and number is None and is_metacarpal:
        # Palm bones that only have numbers count the fingers of the palm.
        if not digits or not 1 <= int(digits[0]) <= len(KNUCKLED):
            return None
        finger, digits = KNUCKLED[int(digits[0]) - 1], digits[1:]
    elif finger is None and number is None:
        if _HANDS.isdisjoint(words) or digits or is_tip or joint is not None:
            return None
        return BoneWords(name, said.side, others=tuple(said.others), fillers=_fillers(words))
    elif joint is None and len(digits) > 1:
        several, digits = tuple(int(digit) for digit in digits), []
    elif digits:
        counted, *digits = digits
        joint = int(counted) if joint is None else joint
    rank = 0 if is_metacarpal else joint
    others = (*said.others, *digits)
    return BoneWords(name, said.side, finger, number, rank, several, is_metacarpal, is_tip, others, _fillers(words))


@dataclass
class _Said:
    """The words of a name by what they speak of, as far as they are sorted."""

    side: Side | None = None
    finger: str | None = None
    number: int | None = None
    joint: int | None = None
    digits: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def is_named(self) -> bool:
        return self.finger is not None or self.number is not None


def _sort_words(words: tuple[str, ...]) -> _Said:  # noqa: PLR0912 - one branch per kind of word
    said = _Said()
    letter = knuckle = ""
    for place, word in enumerate(words):
        if word in _SIDES and said.side is None:
            said.side = _SIDES[word]
        elif word in _FINGERS and not said.is_named:
            said.finger = _FINGERS[word]
        elif word in _ORDINALS and not said.is_named:
            said.number = _ORDINALS[word]
        elif word == "middle" and said.joint is None:
            said.joint = _MIDDLE_JOINT
        elif word in _JOINTS and (said.is_named or said.digits or word != "base"):
            said.joint = _JOINTS[word]
        elif word in _KNUCKLES and not knuckle:
            knuckle = word
        elif word in _LETTERS and not letter and (said.is_named or said.digits):
            letter = word
        elif word.isdigit() and not _SPEAKING.isdisjoint(words[:place]):
            said.digits.append(word)
        elif word not in _SPEAKING | _FILLERS or word in _JOINTS:
            said.others.append(word)
    if knuckle and not said.digits and said.joint is None:
        said.joint = _KNUCKLES[knuckle]
    elif knuckle:
        said.others.append(knuckle)
    if letter and said.joint is None and len(said.digits) == (said.finger is None):
        said.joint = _LETTERS[letter]
    elif letter and letter not in _FILLERS:
        said.others.append(letter)
    return said


def side_of(name: str) -> Side | None:
    """The side that a bone's name speaks of, whatever else it says."""
    return next((_SIDES[word] for word in split_name(name) if word in _SIDES), None)


def is_foot(name: str) -> bool:
    """Whether a bone is part of a leg: what it carries are toes, whatever they are called."""
    return not _FEET.isdisjoint(split_name(name))


def split_name(name: str) -> tuple[str, ...]:
    """A name's words and numbers in lower case, split where the case changes and where known words stand glued."""
    bare = _SHORT_FORM.sub("", _NAMESPACE.sub("", unicodedata.normalize("NFKC", name)))
    plain = _FOREIGN_WORDS.sub(lambda found: f" {_FOREIGN[found[0]]} ", bare)
    parts = (part.casefold() for part in _PARTS.findall(plain))
    return tuple(word for part in parts for word in _unglued(part))


def _counted(digits: list[str], joint: int | None) -> tuple[int, int, list[str]]:
    """Number of the finger, its joint, and the digits left over, of a name such as Finger0, Finger12 or finger1-2."""
    first, *more = digits
    if joint is None and more:
        return int(first), int(more[0]), more[1:]
    if joint is None and len(first) == 2:
        return int(first[0]), int(first[1]), more
    return int(first), joint or 0, more


def _fillers(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word in _FILLERS)


@functools.cache
def _unglued(part: str) -> tuple[str, ...]:
    """A run of letters as the known words it consists of, the longest first; itself where it does not."""
    if part in _WORDS or len(part) <= _SHORTEST_GLUED:
        return (part,)
    for length in range(min(len(part), _LONGEST_WORD), 0, -1):
        word, rest = part[:length], part[length:]
        if rest and word in _WORDS and (length >= _SHORTEST_GLUED or word in _GLUED_SIDES):
            words = _unglued(rest)
            if all(each in _WORDS and len(each) >= _SHORTEST_GLUED for each in words):
                return (word, *words)
    return (part,)
