"""What the two-hand locator learns: which anchors see the left palm, which the right one, and where. Needs torch.

The palm network is trained further. All its anchors find any palm at the start, so what is learned is to keep the
wrong side quiet and to find palms that another hand hides. `detection.locator` reads the result.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dir_core.camera import project
from dir_core.conventions import SIDES
from dir_core.detection.crop import Crop, cut_out, to_crop
from dir_core.detection.locator import locate_hands
from dir_core.detection.palm_detector import ANCHOR_CENTRES, ANCHOR_GRIDS, INPUT_SIDE, WEIGHTS, Palm, find_palms
from dir_core.errors import SettingsError
from dir_core.fitting.landmark_places import landmark_places
from dir_core.training.picture_changes import change_camera
from dir_core.training.picture_task import PictureTask
from dir_core.training.scenes import KINDS
from dir_core.training.synthetic import Pictures, load_pictures
from dir_core.training.tflite_graph import TrainableNetwork, load_network
from dir_core.training.training_run import Batch

Array = NDArray[Any]

PALM_KEYPOINTS: Final = (0, 5, 9, 13, 17, 1, 2)
"""The palm network's 7 key points among the 21."""

ABSENT, UNSURE, SURE = range(3)
"""Of a hand in a cut-out: not in it; so small, cut off or hidden that nothing is demanded; to be found."""

_APART_KINDS: Final = tuple(KINDS.index(kind) for kind in ("single", "apart", "near"))

# Maps with more rows keep their weights: they see edges and skin, which do not change; 2.5 times as fast.
_FROZEN_ABOVE: Final = 24

# Palm sizes in pixels of the input from and up to which the anchors of each grid answer. Between the demanded and the
# tolerated range nothing is demanded. Measured on the untouched network: the fine grid answers up to 40-50 px.
_DEMANDED_SIZES: Final = ((6.0, 46.0), (40.0, 150.0))
_TOLERATED_SIZES: Final = ((0.0, 60.0), (30.0, 400.0))
# How far from the palm's centre an anchor answers, in palm sizes; the untouched network goes up to 0.28. At least the
# nearest cell answers.
_DEMANDED_REACH: Final = 0.25
_TOLERATED_REACH: Final = 0.5

_USUAL_ANCHORS: Final = 8.0  # that answer for one hand: what an anchor without a hand weighs against
_FOCUS: Final = 2.0  # exponent of the focal loss (Lin et al. 2017)
_PLACE_WEIGHT: Final = 5.0  # of box and key points against the score
_PLACE_WIDTH: Final = 0.05  # palm sizes below which an error counts by its square

_SMALLEST_PART_SEEN: Final = 3  # of 21 key points visible, or a hand is not demanded
_SMALLEST_PALM_INSIDE: Final = 4  # of 7 key points in the picture


@dataclass(frozen=True, eq=False)
class Sample:
    """A cut-out as the tracker feeds it and the hands in it; the axis of two is left, right.

    Attributes:
        image: [192, 192, 3] uint8 RGB.
        palms: [2, 9, 2] float32 px of the cut-out, as the network says them: centre of the square around the palm, its
            size (twice), 7 key points. Zeros for an absent hand.
        state: [2] `ABSENT`, `UNSURE` or `SURE`.
    """

    image: Array
    palms: Array
    state: Array


@dataclass(frozen=True)
class LocatorTask(PictureTask):
    """The locator as a task of `training_run.train`; of close and of wide pictures."""

    name: str = "locator"

    def make_network(self) -> TrainableNetwork:
        """The palm network with its stem frozen."""
        network = load_network(self.start or WEIGHTS)
        network.balance_depthwise()
        network.freeze_until(_FROZEN_ABOVE)
        return network

    def draw_batch(self, random: np.random.Generator, count: int) -> Batch:
        """`count` samples: `pictures` [N, 3, 192, 192] uint8, `palms` [N, 2, 9, 2] px, `state` [N, 2].

        Raises:
            SettingsError: a folder has nothing but held-out pictures.
        """
        sources = [_open_pictures(folder) for folder in self.folders]
        for folder, pictures in zip(self.folders, sources, strict=True):
            if len(pictures) <= self.held_out:
                raise SettingsError(
                    f"{folder} holds {len(pictures)} pictures, the first {self.held_out} for validation; draw more."
                )
        samples = []
        for source in self.choose_folders(random, [len(pictures) for pictures in sources], count):
            pictures = sources[source]
            samples.append(draw_sample(random, pictures, int(random.integers(self.held_out, len(pictures)))))
        return _stacked(samples)

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`score`: is this side's hand here; `place`: box and key points."""
        boxes, logits = _outputs(network, batch["pictures"])
        answers, asked = anchors_that_answer(batch["palms"], batch["state"])
        hands = (batch["state"] == SURE).sum().clamp(min=1)
        by_side = answers.unflatten(1, (-1, len(SIDES)))
        shares = by_side / by_side.sum(1, keepdim=True).clamp(min=1)
        # The anchors of the other side that are at a hand's place weigh as much as those that answer for it.
        weight = shares.amax(-1, keepdim=True).expand_as(shares).flatten(1)
        weight = asked * torch.where(weight > 0, weight, 1 / _USUAL_ANCHORS)
        cost = functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
        score = (weight * cost * (1 - torch.exp(-cost)) ** _FOCUS).sum() / hands
        size = batch["palms"][:, _anchors(boxes)[1], 1, :1].clamp(min=1.0)
        wanted = _wanted_boxes(batch["palms"])
        off = functional.smooth_l1_loss(boxes / size, wanted / size, reduction="none", beta=_PLACE_WIDTH)
        place = _PLACE_WEIGHT * (shares.flatten(1) * off.mean(-1)).sum() / hands
        return {"score": score, "place": place}

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Figures of `measure` on the held-out pictures."""
        return self.measure(network, device)

    def measure(self, network: nn.Module, device: str = "cpu", *, sided: bool = True) -> dict[str, float]:
        """How well hands are found in cut-outs that are always the same, for hands apart and for the others.

        Args:
            network: a palm network.
            device: it is on.
            sided: its anchors have sides; otherwise (the untouched network) any palm may be any hand.

        Returns:
            both: % of pictures with two hands in which both were found; found: % of hands that were; side: % of them
            that were called what they are; wrong: % of the palms reported that are no hand; centre: median error in %
            of the palm's size; angle: median error in degrees.
        """
        tallies = {"apart": _Tally(), "touching": _Tally()}
        for samples, kinds in self._held_out_samples():
            boxes, logits = _outputs(network, _stacked(samples)["pictures"].to(device))
            for sample, kind, box, logit in zip(samples, kinds, boxes.cpu().numpy(), logits.cpu().numpy(), strict=True):
                tally = tallies["apart" if kind in _APART_KINDS else "touching"]
                tally.add(sample, _read(box, logit, sided), sided)
        return {f"{name}_{split}": value for split, tally in tallies.items() for name, value in tally.figures().items()}

    def _held_out_samples(self) -> Iterator[tuple[list[Sample], list[int]]]:
        for place, folder in enumerate(self.folders):
            pictures = _open_pictures(folder)
            count = min(self.held_out, len(pictures))
            for first in range(0, count, self.part_size):
                numbers = range(first, min(first + self.part_size, count))
                random = [np.random.default_rng((self.seed, place, number, 1)) for number in numbers]
                yield (
                    [draw_sample(each, pictures, number) for each, number in zip(random, numbers, strict=True)],
                    [int(pictures.kind[number]) for number in numbers],
                )


@lru_cache
def _open_pictures(folder: Path) -> Pictures:
    return load_pictures(folder)


def palm_boxes(keypoints: Array) -> Array:
    """What the palm network says [..., 9, 2] about 7 key points [..., 7, 2]: centre, size (twice), key points.

    Its box is the square around them along the axes of the cut-out: on the demo clip the untouched network's boxes are
    1.02 (0.96-1.10) times as large as its own key points' and within 0.02 of their middle.
    """
    low, high = keypoints.min(-2), keypoints.max(-2)
    size = np.repeat((high - low).max(-1, keepdims=True), 2, axis=-1)
    return np.concatenate([0.5 * (low + high)[..., None, :], size[..., None, :], keypoints], axis=-2)


def anchors_that_answer(palms: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Which anchors should say that their side's hand is here, and which are asked at all.

    Args:
        palms: [B, 2, 9, 2] px, see `palm_boxes`.
        state: [B, 2] `ABSENT`, `UNSURE`, `SURE`.

    Returns:
        Both [B, 2016] of 0 and 1.
    """
    anchors, side = _anchors(palms)
    distance = (anchors - palms[:, side, 0]).abs().amax(-1)
    size, state = palms[:, side, 1, 0], state[:, side]

    def within(sizes: tuple[tuple[float, float], ...], reach: float, cells: float) -> Tensor:
        low, high, cell = (values.to(palms) for values in _anchor_limits(sizes))
        near = distance < torch.maximum(reach * size, cells * cell)
        return near & (size >= low) & (size < high)

    answers = within(_DEMANDED_SIZES, _DEMANDED_REACH, 0.5) & (state == SURE)
    tolerated = within(_TOLERATED_SIZES, _TOLERATED_REACH, 1.0) & (state == SURE)
    unknown = (distance < torch.maximum(size, 1.0 * _anchor_limits(_TOLERATED_SIZES)[2].to(palms))) & (state == UNSURE)
    return answers.to(palms.dtype), (answers | ~(tolerated | unknown)).to(palms.dtype)


def _anchor_limits(sizes: tuple[tuple[float, float], ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest and largest palm and the side of a cell for every anchor, each [2016]."""
    counts = [cells * cells * count for cells, count in ANCHOR_GRIDS]
    rows = [(*limits, INPUT_SIDE / cells) for limits, (cells, _) in zip(sizes, ANCHOR_GRIDS, strict=True)]
    return tuple(torch.tensor(np.repeat(np.array(rows), counts, axis=0)).unbind(-1))  # type: ignore[return-value]


def _anchors(like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [2016, 2] and sides [2016] of all anchors."""
    anchors = torch.as_tensor(ANCHOR_CENTRES, dtype=like.dtype, device=like.device)
    return anchors, torch.arange(len(anchors), device=like.device) % len(SIDES)


def _wanted_boxes(palms: Tensor) -> Tensor:
    """What every anchor should say if it answers, [B, 2016, 18]."""
    anchors, side = _anchors(palms)
    wanted = palms[:, side]
    return torch.cat(
        [wanted[:, :, :1] - anchors[:, None], wanted[:, :, 1:2], wanted[:, :, 2:] - anchors[:, None]], 2
    ).flatten(2)


def _outputs(network: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [B, 2016, 18] and logits [B, 2016] for [B, 3, 192, 192] uint8."""
    outputs = {each.shape[-1]: each for each in network(pictures.float() / 255).values()}
    return outputs[18], outputs[1][..., 0]


def _stacked(samples: list[Sample]) -> Batch:
    return {
        "pictures": torch.from_numpy(np.stack([each.image for each in samples])).permute(0, 3, 1, 2),
        "palms": torch.from_numpy(np.stack([each.palms for each in samples])),
        "state": torch.from_numpy(np.stack([each.state for each in samples])),
    }


# --- samples -------------------------------------------------------------------------------------------------


def draw_sample(random: np.random.Generator, pictures: Pictures, number: int) -> Sample:
    """A random view of a picture: another crop, mirrored or not, with other colours and sharpness."""
    image = np.array(pictures.images[number])
    points = pictures.keypoints_3d[number].astype(np.float64)
    present, visible = np.array(pictures.present[number]), np.array(pictures.visible[number])
    keypoints = np.zeros((len(SIDES), points.shape[1], 2))
    keypoints[present] = project(landmark_places(points[present]), pictures.camera_matrix[number])
    if random.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        keypoints[..., 0] = image.shape[1] - keypoints[..., 0]
        keypoints, present, visible = keypoints[::-1].copy(), present[::-1].copy(), visible[::-1].copy()
    window = _choose_window(random, image.shape[0])
    image = _blacken_outside(image, window)
    crop = _choose_crop(random, keypoints, present, image.shape[0])
    placed = to_crop(keypoints, crop, INPUT_SIDE)
    inside = ((placed > 0) & (placed < INPUT_SIDE)).all(-1)
    inside &= ((keypoints > window[:2]) & (keypoints < window[2:])).all(-1)
    palms = palm_boxes(placed[:, PALM_KEYPOINTS].astype(np.float32))
    state = _state(palms, present, visible, inside)
    palms[state == ABSENT] = 0
    seen = cut_out(image, crop, INPUT_SIDE, replicate_border=False)
    return Sample(change_camera(random, seen), palms, state)


def _state(palms: Array, present: Array, visible: Array, inside: Array) -> Array:
    centre, size = palms[:, 0], palms[:, 1, 0]
    (smallest, _), (_, largest) = _DEMANDED_SIZES
    sure = (
        ((centre > 0) & (centre < INPUT_SIDE)).all(-1)
        & (size > smallest)
        & (size < largest)
        & ((visible & inside).sum(-1) >= _SMALLEST_PART_SEEN)
        & (inside[:, PALM_KEYPOINTS].sum(-1) >= _SMALLEST_PALM_INSIDE)
    )
    return np.where(present & inside.any(-1), np.where(sure, SURE, UNSURE), ABSENT)


def _choose_window(random: np.random.Generator, side: int) -> Array:
    """The part of a square picture that a camera's picture of another shape has: x, y, right, bottom."""
    if random.random() < 0.6:
        return np.array([0.0, 0.0, side, side])
    share = random.choice([3 / 4, 9 / 16])
    cut = 0.5 * side * (1 - share)
    window = np.array([0.0, cut, side, side - cut])
    return window if random.random() < 0.75 else window[[1, 0, 3, 2]]


def _blacken_outside(image: Array, window: Array) -> Array:
    left, top, right, bottom = np.round(window).astype(int)
    result = np.zeros_like(image)
    result[top:bottom, left:right] = image[top:bottom, left:right]
    return result


def _choose_crop(random: np.random.Generator, keypoints: Array, present: Array, side: int) -> Crop:
    """Where the tracker may look: around both hands, at a palm of some size, or anywhere."""
    angle = random.uniform(-math.pi, math.pi) if random.random() < 0.12 else random.normal(0.0, math.radians(12))
    way = random.random()
    if way < 0.04 or not present.any():
        x, y = random.uniform(0.2 * side, 0.8 * side, 2)
        return Crop(x, y, side * random.uniform(0.4, 0.9), angle)
    if way < 0.5:
        points = keypoints[present].reshape(-1, 2)
        low, high = points.min(0), points.max(0)
        size = (high - low).max() / random.uniform(0.35, 0.95)
        shift = 0.12
    else:
        hand = random.choice(np.flatnonzero(present))
        low, high = keypoints[hand, PALM_KEYPOINTS].min(0), keypoints[hand, PALM_KEYPOINTS].max(0)
        size = (high - low).max() / math.exp(random.uniform(math.log(0.06), math.log(0.55)))
        shift = 0.25
    # No larger than the whole picture with some black around it, no smaller than what its pixels are good for.
    size = float(np.clip(size, 0.35 * side, 1.3 * side))
    x, y = 0.5 * (low + high) + random.uniform(-shift, shift, 2) * size
    return Crop(float(x), float(y), size, angle)


# --- figures -------------------------------------------------------------------------------------------------

_WHOLE: Final = Crop(0.5 * INPUT_SIDE, 0.5 * INPUT_SIDE, float(INPUT_SIDE))
_FOUND_WITHIN: Final = 0.5  # palm sizes, mean over the key points


def _read(boxes: Array, logits: Array, sided: bool) -> list[tuple[int, Palm]]:
    """Palms with their side (0 left, 1 right; meaningless unless `sided`)."""
    if not sided:
        return [(0, palm) for palm in find_palms(boxes, logits, ANCHOR_CENTRES, _WHOLE)]
    hands = locate_hands(boxes, logits, _WHOLE)
    return [(side, palm) for side, palm in enumerate((hands.left, hands.right)) if palm is not None]


class _Tally:
    """Counts over samples."""

    def __init__(self) -> None:
        self._pairs: list[bool] = []
        self._found: list[bool] = []
        self._side: list[bool] = []
        self._wrong: list[bool] = []
        self._centre: list[float] = []
        self._angle: list[float] = []

    def add(self, sample: Sample, palms: list[tuple[int, Palm]], sided: bool) -> None:
        """Count a picture. Every hand is found by the palm nearest to it, and no palm finds two hands."""
        size = np.maximum(sample.palms[:, 1, 0], 1.0)
        there = sample.state != ABSENT
        keypoints = np.array([palm.keypoints for _, palm in palms]).reshape(-1, 1, len(PALM_KEYPOINTS), 2)
        distance = np.linalg.norm(keypoints - sample.palms[:, 2:], axis=-1).mean(-1) / size
        distance[:, ~there] = np.inf
        self._wrong += list(distance.min(1) > 2 * _FOUND_WITHIN) if len(palms) else []
        finder: dict[int, int] = {}
        for palm, hand in np.column_stack(np.unravel_index(np.argsort(distance, axis=None), distance.shape)):
            if distance[palm, hand] < _FOUND_WITHIN and hand not in finder and palm not in finder.values():
                finder[int(hand)] = int(palm)
        for hand in np.flatnonzero(sample.state == SURE):
            self._found.append(hand in finder)
            if hand in finder:
                side, palm = palms[finder[hand]]
                self._side.append(side == hand or not sided)
                off = palm_boxes(palm.keypoints)[0] - sample.palms[hand, 0]
                self._centre.append(float(np.linalg.norm(off)) / size[hand])
                turn = _upward(palm.keypoints) - _upward(sample.palms[hand, 2:])
                self._angle.append(abs(math.degrees(math.remainder(turn, 2 * math.pi))))
        if (sample.state == SURE).all():
            self._pairs.append(len(finder) == len(SIDES))

    def figures(self) -> dict[str, float]:
        def share(flags: list[bool]) -> float:
            return 100 * float(np.mean(flags)) if flags else math.nan

        return {
            "both": share(self._pairs),
            "found": share(self._found),
            "side": share(self._side),
            "wrong": share(self._wrong),
            "centre": 100 * float(np.median(self._centre)) if self._centre else math.nan,
            "angle": float(np.median(self._angle)) if self._angle else math.nan,
        }


def _upward(palm: Array) -> float:
    """Direction from the wrist to the base of the middle finger, radians."""
    return math.atan2(palm[2, 1] - palm[0, 1], palm[2, 0] - palm[0, 0])
