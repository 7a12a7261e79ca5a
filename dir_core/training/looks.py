"""How a synthetic picture looks: skin, lights, clothes, objects, background, camera; sampled once a picture or clip.

Colours are linear light, 0..1. Nothing here depends on the poses, so a look can be kept over a clip.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import SIDES, Side
from dir_core.training.two_hands import View

Array = NDArray[Any]
Colour = tuple[float, float, float]

SKIN_TONES: Final = (
    (246, 237, 228), (243, 231, 219), (247, 234, 208), (234, 218, 186), (215, 189, 150),
    (160, 126, 86), (130, 92, 67), (96, 65, 52), (58, 49, 42), (41, 36, 32),
)  # fmt: skip
"""The ten tones of the Monk Skin Tone Scale (Monk 2019), sRGB 0..255, light to dark."""

# Pale swatches of the scale are lit skin; the reflectance of the palest skin is about 0.6 in the red.
_SKIN_REFLECTANCE = 0.72
_BLOOD = np.array([1.02, 0.90, 0.86])  # living skin is a little redder than the swatches

Pattern = Literal["plain", "stripes", "checks", "knit"]
Form = Literal["sphere", "cylinder", "box"]

SHAPE_FIELDS: Final = 12
"""A background shape is centre x y, half size x y, angle, roundness, softness, colour r g b, grain, grain scale."""
MOST_SHAPES: Final = 14


@dataclass(frozen=True)
class Skin:
    """The skin of one person: tones are linear reflectances; the amounts are about 0..1.

    `ring` is the finger (of conventions.FINGERS) that wears a ring, or -1, `ring_side` its hand.
    """

    tone: Colour
    palm: Colour
    nail: Colour
    mottling: float
    redness: float
    veins: float
    creases: float
    gloss: float
    ring: int
    ring_side: Side
    ring_colour: Colour


@dataclass(frozen=True)
class Light:
    """A far light: unit direction towards it in camera axes, and its colour times strength."""

    direction: Colour
    colour: Colour


@dataclass(frozen=True)
class Sleeve:
    """A sleeve: where it begins behind the wrist and how far it stands off the arm, metres; its cloth."""

    start: float
    looseness: float
    folds: float
    colour: Colour
    second: Colour
    pattern: Pattern
    pattern_size: float


@dataclass(frozen=True)
class Band:
    """A watch or bracelet: the arm, its distance behind the wrist and width in metres, strap and case colours."""

    side: Side
    start: float
    width: float
    strap: Colour
    case: Colour | None


@dataclass(frozen=True)
class Item:
    """An object: held in front of the palm of `side`, or lying anywhere at `offset` metres from the middle."""

    form: Form
    held: bool
    side: Side
    size: Colour
    turn: tuple[float, float, float, float]
    offset: Colour
    colour: Colour
    gloss: float


@dataclass(frozen=True)
class Body:
    """The person behind the hands in a webcam's view: colours, and how far the head is to the side, metres."""

    shirt: Colour
    hair: Colour
    lean: float


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What is behind: a gradient from `top` to `bottom` with `grain`, and soft shapes [N, SHAPE_FIELDS] on it.

    Shapes lie in units of half the picture's height around its middle, x right, y down, later ones in front.
    """

    top: Colour
    bottom: Colour
    grain: float
    grain_scale: float
    shapes: Array


@dataclass(frozen=True)
class Shot:
    """What the camera adds; lengths in shares of the picture's height.

    Attributes:
        exposure, contrast, saturation: 1 is neutral.
        noise: standard deviation of the sensor noise of a middle grey, 0..1 of the full range.
        quality: JPEG quality, or 0 for an uncompressed picture.
        defocus, distance_blur: Gaussian radius over all and over the background alone.
        smear: motion of the hands during the exposure of a still.
        shutter: open share of a frame's time in a clip, 0 for no motion blur.
    """

    exposure: float
    contrast: float
    saturation: float
    noise: float
    quality: int
    defocus: float
    distance_blur: float
    smear: tuple[float, float]
    shutter: float


@dataclass(frozen=True, eq=False)
class Look:
    """Everything about a picture but the hands, their poses and the camera's place; fixed over a clip.

    Attributes:
        seed: of the patterns and of the sensor noise.
        lights: 1 to 3; the first casts shadows.
        sky, ground: light from above and from below.
    """

    seed: int
    skin: Skin
    lights: tuple[Light, ...]
    sky: Colour
    ground: Colour
    sleeve: Sleeve | None
    band: Band | None
    item: Item | None
    body: Body | None
    backdrop: Backdrop
    shot: Shot


def sample_look(
    rng: np.random.Generator, view: View = "webcam", skin: int | None = None, motion_blur: bool = True
) -> Look:
    """A random look.

    Args:
        rng: where all chance comes from.
        view: egocentric pictures show a table or a floor behind the hands, webcam pictures a room and a person.
        skin: number of a tone in SKIN_TONES; None takes any tone and those between them.
        motion_blur: whether the camera may smear what moves.
    """
    sleeve = _sample_sleeve(rng)
    shirt = sleeve.colour if sleeve else _any_colour(rng)
    hair = _colour(np.array(_any_colour(rng)) * 0.25)
    lights, sky, ground = _sample_lights(rng)
    return Look(
        seed=int(rng.integers(2**31)),
        skin=_sample_skin(rng, skin),
        lights=lights,
        sky=sky,
        ground=ground,
        sleeve=sleeve,
        band=_sample_band(rng) if rng.random() < 0.25 else None,
        item=_sample_item(rng) if rng.random() < 0.25 else None,
        body=Body(shirt, hair, rng.normal(0.0, 0.03)) if view == "webcam" else None,
        backdrop=_sample_backdrop(rng, view),
        shot=_sample_shot(rng, motion_blur),
    )


def linear(srgb: Array) -> Array:
    """Linear light of sRGB values 0..1 (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _sample_skin(rng: np.random.Generator, skin: int | None) -> Skin:
    place = float(skin) if skin is not None else rng.uniform(0, len(SKIN_TONES) - 1)
    swatches = linear(np.array(SKIN_TONES) / 255.0)
    numbers = np.arange(len(swatches))
    swatch = np.array([np.interp(place, numbers, swatches[:, channel]) for channel in range(3)])
    tone = swatch * _SKIN_REFLECTANCE * _BLOOD * rng.uniform(0.92, 1.08) * rng.normal(1.0, 0.02, 3)
    # Palms hold little melanin: of dark skin they are far lighter than the back.
    pale = np.array([0.50, 0.32, 0.24])
    palm = tone + (pale - tone) * np.clip(0.25 + 0.04 * place, 0, 0.55)
    nail = palm * 0.7 + np.array([0.55, 0.36, 0.32]) * 0.3
    if rng.random() < 0.12:
        nail = np.array(_any_colour(rng))
    return Skin(
        tone=_colour(tone),
        palm=_colour(palm),
        nail=_colour(nail),
        mottling=rng.uniform(0.3, 1.0),
        redness=rng.uniform(0.2, 1.0),
        veins=rng.uniform(0.0, 1.0),
        creases=rng.uniform(0.4, 1.0),
        gloss=rng.uniform(0.3, 1.0),
        ring=int(rng.integers(1, 5)) if rng.random() < 0.15 else -1,
        ring_side=SIDES[rng.integers(2)],
        ring_colour=_colour(np.array([(0.8, 0.6, 0.25), (0.7, 0.7, 0.7)][rng.integers(2)])),
    )


def _sample_lights(rng: np.random.Generator) -> tuple[tuple[Light, ...], Colour, Colour]:
    """One to three lights, sky and ground; all in the colours of one scene."""
    warmth = rng.uniform(-0.15, 0.15)
    white = np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    key = rng.uniform(0.35, 1.1)
    lights = []
    for strength in (key, rng.uniform(0.1, 0.4), rng.uniform(0.05, 0.4))[: rng.integers(1, 4)]:
        # Lamps and windows are above, to the side or behind the camera, seldom behind the hands.
        towards = np.array([rng.uniform(-1, 1), rng.uniform(-1.0, 0.15), rng.uniform(-1.0, 0.25)])
        tint = white * (1.0 + rng.normal(0.0, 0.06) * np.array([1.0, 0.0, -1.0]))
        lights.append(Light(_colour(towards / np.linalg.norm(towards)), _colour(strength * tint)))
    ambient = rng.uniform(0.2, 0.55)
    sky = ambient * white * rng.uniform(0.9, 1.2)
    ground = ambient * white * rng.uniform(0.35, 0.9) * np.array([1.05, 1.0, 0.92])
    # A camera meters: whatever the lights are, a white thing that faces some of them comes out near white.
    meter = 1.1 / (ambient + 0.75 * sum(max(light.colour) for light in lights))
    metered = tuple(Light(light.direction, _colour(meter * np.array(light.colour))) for light in lights)
    return metered, _colour(meter * sky), _colour(meter * ground)


def _sample_sleeve(rng: np.random.Generator) -> Sleeve | None:
    if rng.random() < 0.4:
        return None
    return Sleeve(
        start=rng.uniform(0.0, 0.16) if rng.random() < 0.75 else rng.uniform(-0.02, 0.0),
        looseness=rng.uniform(0.004, 0.016),
        folds=rng.uniform(0.2, 1.0),
        colour=_any_colour(rng),
        second=_any_colour(rng),
        pattern=get_args(Pattern)[rng.choice(4, p=[0.55, 0.15, 0.15, 0.15])],
        pattern_size=rng.uniform(0.006, 0.03),
    )


def _sample_band(rng: np.random.Generator) -> Band:
    watch = rng.random() < 0.6
    return Band(
        side=SIDES[rng.integers(2)],
        start=rng.uniform(0.015, 0.05),
        width=rng.uniform(0.014, 0.024) if watch else rng.uniform(0.004, 0.012),
        strap=_any_colour(rng),
        case=_any_colour(rng) if watch else None,
    )


def _sample_item(rng: np.random.Generator) -> Item:
    form: Form = get_args(Form)[rng.integers(3)]
    held = bool(rng.random() < 0.5)
    size = {
        "sphere": (rng.uniform(0.012, 0.03),) * 3,
        "cylinder": (radius := rng.uniform(0.004, 0.02), radius, rng.uniform(0.05, 0.1)),
        "box": (rng.uniform(0.004, 0.02), rng.uniform(0.02, 0.04), rng.uniform(0.03, 0.08)),
    }[form]
    turn = rng.normal(0, 1, 4)
    offset = rng.normal(0, 1, 3)
    if held:
        offset = offset * [0.006, 0.003, 0.006]
    else:  # about as far from the middle as a hand is long, more often behind the hands than before them
        offset = offset / np.linalg.norm(offset) * rng.uniform(0.1, 0.25) + [0.0, 0.0, 0.08]
    return Item(
        form=form,
        held=held,
        side=SIDES[rng.integers(2)],
        size=_colour(np.array(size)),
        turn=tuple(turn / np.linalg.norm(turn)),
        offset=_colour(offset),
        colour=_any_colour(rng),
        gloss=rng.uniform(0.0, 1.0),
    )


def _sample_backdrop(rng: np.random.Generator, view: View) -> Backdrop:
    shapes: list[Array] = []
    wall = np.array(_any_colour(rng)) * 0.5 + rng.uniform(0.1, 0.5)
    top, bottom = wall, wall * rng.uniform(0.5, 1.2)
    if view == "egocentric" or rng.random() < 0.15:
        # A table top from some height down, with a floor, sheets and things on it.
        surface = np.array(_any_colour(rng)) * 0.6 + 0.1
        tilt = rng.normal(0, 0.08)
        shapes.append(
            _shape((0.0, rng.uniform(0.2, 1.6)), (3.0, 1.4), tilt, 0.0, 0.01, surface, rng.uniform(0, 0.5), 2)
        )
    for _ in range(rng.integers(2, 8)):
        colour = np.array(_any_colour(rng)) if rng.random() < 0.6 else top * rng.uniform(0.3, 1.6)
        half = np.exp(rng.uniform(math.log(0.08), math.log(0.8), 2))
        roundness = 1.0 if rng.random() < 0.3 else rng.uniform(0, 0.3)
        angle = rng.normal(0, 0.1) if view == "webcam" else rng.uniform(-math.pi, math.pi)
        softness = math.exp(rng.uniform(math.log(0.004), math.log(0.15)))
        shapes.append(
            _shape(
                rng.uniform(-1.2, 1.2, 2),
                half,
                angle,
                roundness,
                softness,
                colour,
                rng.uniform(0, 0.8),
                rng.uniform(1, 12),
            )
        )
    return Backdrop(
        top=_colour(top),
        bottom=_colour(bottom),
        grain=rng.uniform(0.0, 0.6),
        grain_scale=math.exp(rng.uniform(0, 2.5)),
        shapes=np.array(shapes[:MOST_SHAPES], np.float32),
    )


def _shape(  # noqa: PLR0917 - the columns of a row, in their order
    centre: Any, half: Any, angle: float, roundness: float, softness: float, colour: Array, grain: float, scale: float
) -> Array:
    return np.array([*centre, *half, angle, roundness, softness, *np.clip(colour, 0.0, 1.0), grain, scale], np.float32)


def _sample_shot(rng: np.random.Generator, motion_blur: bool) -> Shot:
    smear = (0.0, 0.0)
    if motion_blur and rng.random() < 0.2:
        angle, length = rng.uniform(0, math.pi), rng.uniform(0.005, 0.035)
        smear = (length * math.cos(angle), length * math.sin(angle))
    return Shot(
        exposure=math.exp(rng.normal(0.0, 0.2)),
        contrast=rng.uniform(0.85, 1.2),
        saturation=rng.uniform(0.8, 1.1),
        noise=rng.uniform(0.0, 0.03),
        quality=int(rng.integers(55, 98)) if rng.random() < 0.6 else 0,
        defocus=max(0.0, rng.normal(0.0, 0.0025)),
        distance_blur=rng.uniform(0.0, 0.02),
        smear=smear,
        shutter=rng.uniform(0.1, 0.6) if motion_blur else 0.0,
    )


def _any_colour(rng: np.random.Generator) -> Colour:
    """A colour of things: mostly dull, sometimes strong, from near black to near white."""
    grey = rng.beta(1.2, 1.6)
    strength = rng.beta(1.0, 2.5)
    hue = rng.random(3)
    return _colour(np.clip(grey * (1 - strength + strength * 2.0 * hue), 0.01, 0.9))


def _colour(values: Array) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
