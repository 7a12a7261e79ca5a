"""What the landmark network learns about hands that touch: to follow the hand it is told to. Needs torch and cv2.

A left hand is mirrored on its way in, so the target is always a right hand in the middle of its crop. The depth of a
key point in the picture, which nobody needs, becomes the logit of its confidence: that it lies within
`CONFIDENT_WITHIN` of the truth. On hands that nothing hides the untouched network is the teacher in the picture, so
that they do not get worse and its definition of the key points stays. What comes out is run by
`detection.landmark_network.TwoHandLandmarkNetwork`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dir_core.camera import project
from dir_core.conventions import KEYPOINT_PARENTS, SIDES
from dir_core.detection.crop import (
    Crop,
    crop_around_keypoints,
    crop_around_palm,
    cut_out,
    to_crop,
    turn_directions,
)
from dir_core.detection.landmark_network import INPUT_SIDE, WEIGHTS
from dir_core.errors import SettingsError
from dir_core.evaluation.metrics import procrustes_aligned_error
from dir_core.evaluation.touching_metrics import straight_ahead, wrist_aligned_error
from dir_core.fitting.landmark_places import landmark_places
from dir_core.training.locator_training import PALM_KEYPOINTS, palm_boxes
from dir_core.training.picture_changes import change_camera, cover
from dir_core.training.picture_task import PictureTask
from dir_core.training.synthetic import Pictures, load_pictures
from dir_core.training.tflite_graph import LOGIT, TrainableNetwork, load_network
from dir_core.training.training_run import Batch

Array = NDArray[Any]

CONFIDENT_WITHIN: Final = 0.1
"""Of the hand's size, the longer side of the box around its key points: what a confidence is the probability of."""

BONE_LENGTH_SUM: Final = 0.78
"""Metres of all 20 bones together of the hands in the world output: nobody can see a hand's true size. With it the
world output is as large as the untouched network's (free hands of the demo clip: 0.97 by least squares, 1.02 by size).
"""

UNKNOWN: Final = -1.0
"""Of presence and agreement: nothing is demanded."""

_POINTS, _PRESENCE, _AGREEMENT, _WORLD = "Identity", "Identity_1", "Identity_2", "Identity_3"
_PARENTS: Final = list(KEYPOINT_PARENTS[1:])
_RIGHT: Final = SIDES.index("right")

# Maps with more rows keep their weights: they see edges and skin, which do not change; twice as fast.
_FROZEN_ABOVE: Final = 28

# What is drawn. Every fourth sample is a free hand, so that every part has its share.
_FREE_EVERY: Final = 4
_NEGATIVE_SHARE: Final = 0.1
_WRONG_SIDE_SHARE: Final = 0.2
_CENTRAL: Final = 0.45  # of a hand's size, to the middle of the other one: which of them a crop shows is plain
_HIDDEN_FIRST: Final = 0.65  # of two hands, how often the one that is seen less
_COVERED_SHARE: Final = 0.15
_FREE_FROM: Final = 0.7  # of a hand's key points visible
_UNKNOWN_BELOW: Final = 0.15  # of them visible: whether it is there cannot be asked
_SEEN_FROM: Final = 0.6  # of them visible: the two groups of the validation
# Inputs that miss the hand by this part of the crop's side do not show it in their middle.
_MISSES: Final = 0.4

_TRACKED_SHARE: Final = 0.7  # cut out around the last frame's key points; the rest around a palm

# How the crops differ from the ideal one: about what a tracker's do.
_SCALES: Final = (0.85, 1.25)
_SHIFT: Final = 0.08
_TURN: Final = math.radians(15)

# Weights of the terms; of a hand at 5 % of its size and 15 mm each of the first two is about 0.7.
_WEIGHT: Final = {
    "points": 10.0,
    "world": 60.0,
    "wrist": 40.0,
    "bones": 20.0,
    "identity": 1.0,
    "presence": 0.2,
    "agreement": 0.3,
    "confidence": 0.3,
}
_HIDDEN_EXTRA: Final = 0.6  # how much more a wholly hidden hand counts than a free one
_UNKNOWN_FACTOR: Final = 0.4  # of hands of which next to nothing is seen
_OTHER_MARGIN: Final = 0.7  # the prediction's distance to its own hand must be below this part of that to the other
_FAR: Final = 1e4  # px, where an absent other hand is
_TEACHES_WITHIN: Final = 0.08  # of the hand's size, mean 2D distance to the truth: worse, and the truth teaches


@dataclass(frozen=True, eq=False)
class Sample:
    """A crop as the tracker feeds it, a left hand mirrored, and the truth in its pixels and axes.

    Attributes:
        picture: [224, 224, 3] uint8 RGB.
        points: [21, 2] px, at the landmark network's places.
        world: [21, 3] metres, centred, `BONE_LENGTH_SUM` large.
        other: [21, 2] px, the other hand; far away if there is none.
        size: px, the longer side of the box around `points`.
        visible: share of the hand's key points that are seen.
        presence: 1: the hand is in the middle of the crop; 0: it is not, and points and world mean nothing; `UNKNOWN`.
        agreement: 1: it looks like a right one as it is fed; 0: it is not the hand that is to be followed, and points
            and world mean nothing; or `UNKNOWN`.
        free: nothing hides it.
    """

    picture: Array
    points: Array
    world: Array
    other: Array
    size: float
    visible: float
    presence: float
    agreement: float
    free: bool


@dataclass(frozen=True)
class LandmarkTask(PictureTask):
    """The landmark network for touching hands as a task of `training_run.train`."""

    name: str = "landmarks"

    def make_network(self) -> TrainableNetwork:
        """The landmark network with its stem frozen; the untouched one is made sure of every key point."""
        network = load_network(self.start or WEIGHTS)
        if self.start is None:
            matrix, bias = network.weights_of(_POINTS)
            with torch.no_grad():
                matrix[2::3] = 0.0
                bias[2::3] = 1.0  # about the share of key points it places well
        network.freeze_until(_FROZEN_ABOVE)
        return network

    def draw_batch(self, random: np.random.Generator, count: int) -> Batch:
        """`count` samples, the attributes of `Sample` as tensors; `pictures` [N, 3, 224, 224] uint8."""
        sources = [_open_source(folder, self.held_out) for folder in self.folders]
        samples = []
        for place, number in enumerate(self.choose_folders(random, [len(each.pictures) for each in sources], count)):
            samples.append(_draw_training_sample(random, sources[number], free=place % _FREE_EVERY == 0))
        return _stacked(samples)

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of `_WEIGHT`."""
        pictures = _as_input(batch["picture"])
        outputs = network(pictures)
        points, logits = _split_points(outputs[_POINTS])
        world = _centred(outputs[_WORLD].unflatten(1, (21, 3)))
        aim = _points_of_teacher(pictures, batch)
        # No point of a hand that is the wrong one is where it should be: its confidence is to be low.
        known = (batch["presence"] != 0) & (batch["agreement"] != 0)
        size, visible = batch["size"], batch["visible"]
        weight = known * (1 + _HIDDEN_EXTRA * (1 - visible))
        weight = weight * torch.where(visible < _UNKNOWN_BELOW, _UNKNOWN_FACTOR, 1.0)
        distance = (points - batch["points"]).norm(dim=-1)
        to_other = (points - batch["other"]).norm(dim=-1).mean(1)
        sure = (distance.detach() < CONFIDENT_WITHIN * size[:, None]) & known[:, None]
        terms = {
            "points": weight * (points - aim).abs().mean((1, 2)) / size,
            "world": weight * (world - batch["world"]).abs().mean((1, 2)),
            # Where a hand faces is read from its wrist, which is one of 21 in the mean.
            "wrist": weight * (_from_wrist(world) - _from_wrist(batch["world"])).abs().mean((1, 2)),
            "bones": weight * (_bones(world) - _bones(batch["world"])).abs().mean((1, 2)),
            "identity": weight * functional.relu(distance.mean(1) - _OTHER_MARGIN * to_other) / size,
            "presence": _asked_cost(outputs[_PRESENCE + LOGIT], batch["presence"]),
            "agreement": _asked_cost(outputs[_AGREEMENT + LOGIT], batch["agreement"]),
            "confidence": functional.binary_cross_entropy_with_logits(logits, sure.float()),
        }
        return {name: _WEIGHT[name] * term.mean() for name, term in terms.items()}

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Figures on crops of the held-out pictures that are always the same.

        Returns:
            For hands of which at least 60 % (`seen_`) and less (`hidden_`) is visible: mean 2D error in % of the
            hand's size, wrist-centred error with the best scale in mm, PA-MPJPE in mm, % snapped onto the other hand.
            For all: mean gap between confidence and truth in %, % of the points said 0.9 or more that are within
            `CONFIDENT_WITHIN`; % of hands said to be there, % said to be of the side that was told, % of those of the
            other side said to be; % of crops without one said to be empty.
        """
        results = [
            (sample, prediction)
            for samples in self._held_out_samples()
            for sample, prediction in zip(samples, _predict(network, samples, device), strict=True)
        ]
        return _figures(results)

    def _held_out_samples(self) -> Iterator[list[Sample]]:
        for place, folder in enumerate(self.folders):
            source = _open_source(folder, self.held_out)
            for number in range(min(self.held_out, len(source.pictures))):
                random = np.random.default_rng((self.seed, place, number, 1))
                hands = [hand for hand in (0, 1) if source.visible[number, hand] > 0]
                samples = [_cut_hand(random, source, number, hand) for hand in hands]
                empty = _cut_nothing(random, source, number)
                samples += [empty] if empty is not None else []
                wrong = [hand for hand in hands if source.central[number, hand]]
                samples += [_cut_hand(random, source, number, hand, wrong_side=True) for hand in wrong[:1]]
                if samples:
                    yield samples


@dataclass(frozen=True, eq=False)
class _Source:
    """Pictures and what the choice of samples needs of them.

    Attributes:
        pictures: of a folder.
        first: number of the first one that is trained on.
        visible: [N, 2] share of each hand's key points that are visible, 0 for absent hands.
        alone: [N, 2] the other hand is outside of the hand's crop.
        central: [N, 2] the hand can be seen, and the other one is not in the middle of its crop.
        free: [M, 2] pictures to train on and a hand in each that nothing hides.
    """

    pictures: Pictures
    first: int
    visible: Array
    alone: Array
    central: Array
    free: Array


@lru_cache
def _open_source(folder: Path, held_out: int) -> _Source:
    pictures = load_pictures(folder)
    if len(pictures) <= held_out:
        raise SettingsError(f"{len(pictures)} pictures in {folder} are too few, more than {held_out} are needed.")
    present = np.asarray(pictures.present)
    visible = np.asarray(pictures.visible).mean(axis=2) * present
    points = np.asarray(pictures.keypoints_2d)
    low, high = points.min(axis=2), points.max(axis=2)
    size = (high - low).max(axis=-1)
    apart = np.abs((low + high)[:, 0] - (low + high)[:, 1]).max(axis=-1)[:, None] / 2
    # A crop reaches about one hand's size to all sides of the hand's middle.
    alone = present & (~present[:, ::-1] | (apart > 0.8 * size + 0.5 * size[:, ::-1]))
    central = present & (visible >= _SEEN_FROM) & (~present[:, ::-1] | (apart > _CENTRAL * size))
    free = np.argwhere(alone & (visible >= _FREE_FROM))
    return _Source(pictures, held_out, visible, alone, central, free[free[:, 0] >= held_out])


@lru_cache
def _open_teacher(device: str) -> TrainableNetwork:
    return load_network(WEIGHTS).requires_grad_(False).to(device)


# --- samples -------------------------------------------------------------------------------------------------


def _draw_training_sample(random: np.random.Generator, source: _Source, *, free: bool) -> Sample:
    if free and len(source.free):
        number, hand = (int(index) for index in source.free[random.integers(len(source.free))])
        sample = _cut_hand(random, source, number, hand, wrong_side=random.random() < _WRONG_SIDE_SHARE)
    else:
        sample = _draw_any(random, source)
        if random.random() < _COVERED_SHARE:
            sample = _cover(random, sample)
    return replace(sample, picture=change_camera(random, sample.picture))


def _draw_any(random: np.random.Generator, source: _Source) -> Sample:
    number = int(random.integers(source.first, len(source.pictures)))
    present = np.flatnonzero(source.pictures.present[number])
    if random.random() < _NEGATIVE_SHARE or not len(present):
        empty = _cut_nothing(random, source, number)
        if empty is not None:
            return empty
    hand = int(present[np.argmin(source.visible[number, present])])
    if len(present) == len(SIDES) and random.random() >= _HIDDEN_FIRST:
        hand = 1 - hand
    wrong_side = bool(source.central[number, hand]) and random.random() < _WRONG_SIDE_SHARE
    return _cut_hand(random, source, number, hand, wrong_side=wrong_side)


def _cover(random: np.random.Generator, sample: Sample) -> Sample:
    picture, covered = cover(random, sample.picture, sample.points)
    sample = replace(sample, picture=picture, free=False, visible=sample.visible * float(1 - covered.mean()))
    if sample.presence == 1 and sample.visible < _UNKNOWN_BELOW:
        return replace(sample, presence=UNKNOWN, agreement=UNKNOWN)
    return sample


def _cut_hand(
    random: np.random.Generator, source: _Source, number: int, hand: int, *, wrong_side: bool = False
) -> Sample:
    """A crop around a hand, as a tracker in the middle of a clip or at its beginning would make it."""
    pictures = source.pictures
    keypoints = landmark_places(pictures.keypoints_3d[number].astype(float))
    places = project(keypoints, pictures.camera_matrix[number])
    # A crop does not say where it was cut out: the aim is what a camera turned straight at the hand would see.
    ahead = straight_ahead(keypoints[None], places[None], pictures.camera_matrix[number])[0]
    crop = _shake(random, _ideal_crop(random, places[hand]))
    mirrored = (hand != _RIGHT) != wrong_side
    points = _feed_points(places[hand], crop, mirrored=mirrored)
    seen = float(source.visible[number, hand])
    known = seen >= _UNKNOWN_BELOW
    absent = not pictures.present[number, 1 - hand]
    return Sample(
        picture=_feed_picture(pictures.images[number], crop, mirrored=mirrored),
        points=points,
        world=_world(ahead[hand], crop, mirrored=mirrored),
        other=np.full((21, 2), _FAR) if absent else _feed_points(places[1 - hand], crop, mirrored=mirrored),
        size=float(np.ptp(points, axis=0).max()),
        visible=seen,
        presence=1.0 if known else UNKNOWN,
        agreement=float(not wrong_side) if known else UNKNOWN,
        free=bool(source.alone[number, hand]) and seen >= _FREE_FROM and not wrong_side,
    )


def _cut_nothing(random: np.random.Generator, source: _Source, number: int) -> Sample | None:
    """A crop as large as a hand's with no hand in its middle: a forearm, or anywhere. None if it does not come out."""
    pictures = source.pictures
    image = pictures.images[number]
    present = np.flatnonzero(pictures.present[number])
    places = pictures.keypoints_2d[number].astype(float)
    height, width = image.shape[:2]
    crop = Crop(0.5 * width, 0.5 * height, float(random.uniform(0.3, 0.8)) * height)
    if len(present):
        hand = int(random.choice(present))
        crop = _shake(random, crop_around_keypoints(places[hand]))
        if random.random() < 0.5:  # down the arm
            away = places[hand, 0] - places[hand, 9]
            reach = random.uniform(0.45, 0.8) * crop.size / max(float(np.linalg.norm(away)), 1.0)
            crop = replace(crop, x=places[hand, 0, 0] + reach * away[0], y=places[hand, 0, 1] + reach * away[1])
        else:
            x, y = random.uniform(0, image.shape[1::-1])
            crop = replace(crop, x=x, y=y, angle=float(random.uniform(-math.pi, math.pi)))
    palms = places[present][:, list(PALM_KEYPOINTS)].mean(axis=1)
    if (np.abs(to_crop(palms, crop, 1) - 0.5).max(axis=-1) < _MISSES).any():
        return None
    return Sample(
        picture=_feed_picture(image, crop, mirrored=random.random() < 0.5),
        points=np.full((21, 2), 0.5 * INPUT_SIDE),
        world=np.zeros((21, 3)),
        other=np.full((21, 2), _FAR),
        size=float(INPUT_SIDE),
        visible=0.0,
        presence=0.0,
        agreement=UNKNOWN,
        free=False,
    )


def _ideal_crop(random: np.random.Generator, places: Array) -> Crop:
    if random.random() < _TRACKED_SHARE:
        return crop_around_keypoints(places)
    palm = palm_boxes(places[list(PALM_KEYPOINTS)])
    return crop_around_palm(np.concatenate([palm[0], palm[1]]), palm[2:], Crop(0.0, 0.0, 1.0))


def _shake(random: np.random.Generator, crop: Crop) -> Crop:
    x, y = np.array([crop.x, crop.y]) + random.uniform(-_SHIFT, _SHIFT, 2) * crop.size
    size = crop.size * math.exp(random.uniform(*np.log(_SCALES)))
    return Crop(float(x), float(y), size, crop.angle + float(random.uniform(-_TURN, _TURN)))


def _feed_picture(image: Array, crop: Crop, *, mirrored: bool) -> Array:
    picture = cut_out(image, crop, INPUT_SIDE, replicate_border=True)
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture


def _feed_points(places: Array, crop: Crop, *, mirrored: bool) -> Array:
    points = to_crop(places, crop, INPUT_SIDE)
    # The last column comes first, and what is seen at i of a crop lies at i: see `cut_out`.
    return points * [-1, 1] + [INPUT_SIDE - 1, 0] if mirrored else points


def _world(keypoints: Array, crop: Crop, *, mirrored: bool) -> Array:
    """Truth of the world output: axes of the picture as it is fed, the mean as origin, the usual size."""
    lengths = np.linalg.norm(keypoints[1:] - keypoints[_PARENTS], axis=-1)
    centred = (keypoints - keypoints.mean(axis=0)) * (BONE_LENGTH_SUM / lengths.sum())
    world = turn_directions(centred, replace(crop, angle=-crop.angle))
    return world * [-1, 1, 1] if mirrored else world


def _stacked(samples: list[Sample]) -> Batch:
    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    numbers = ("points", "world", "other", "size", "visible", "presence", "agreement")
    batch = {name: stack(name).float() for name in numbers}
    return batch | {"picture": stack("picture").permute(0, 3, 1, 2), "free": stack("free")}


# --- what the terms are made of ------------------------------------------------------------------------------


def _as_input(pictures: Tensor) -> Tensor:
    return pictures.float() / 255


def _split_points(points: Tensor) -> tuple[Tensor, Tensor]:
    """Places [B, 21, 2] px and logits of the confidence [B, 21] of the output [B, 63]."""
    rows = points.unflatten(1, (21, 3))
    return rows[..., :2], rows[..., 2]


def _centred(world: Tensor) -> Tensor:
    return world - world.mean(1, keepdim=True)


def _from_wrist(world: Tensor) -> Tensor:
    return world - world[:, :1]


def _bones(world: Tensor) -> Tensor:
    return world[:, 1:] - world[:, _PARENTS]


def _asked_cost(logits: Tensor, wanted: Tensor) -> Tensor:
    asked = wanted != UNKNOWN
    cost = functional.binary_cross_entropy_with_logits(logits[:, 0], wanted.clamp(min=0), reduction="none")
    return cost * asked


def _points_of_teacher(pictures: Tensor, batch: Batch) -> Tensor:
    """Points to aim at: the untouched network's on free hands that it sees well, else the truth.

    Its 3D key points teach nothing: where a free hand points to they are 35 mm off.
    """
    points = batch["points"].clone()
    rows = batch["free"].nonzero()[:, 0]
    if not len(rows):
        return points
    with torch.no_grad():
        taught, _ = _split_points(_open_teacher(str(pictures.device))(pictures[rows])[_POINTS])
    off = (taught - points[rows]).norm(dim=-1).mean(1) / batch["size"][rows]
    kept = off < _TEACHES_WITHIN
    points[rows[kept]] = taught[kept]
    return points


# --- figures -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Prediction:
    """Places [21, 2] px, confidence [21], world [21, 3] metres, presence and agreement 0..1."""

    points: Array
    confidence: Array
    world: Array
    presence: float
    agreement: float


def _predict(network: nn.Module, samples: list[Sample], device: str) -> list[_Prediction]:
    outputs = {
        name: values.cpu() for name, values in network(_as_input(_stacked(samples)["picture"].to(device))).items()
    }
    points, logits = _split_points(outputs[_POINTS])
    confidence, world = torch.sigmoid(logits), outputs[_WORLD].unflatten(1, (21, 3))
    return [
        _Prediction(
            points=points[row].numpy(),
            confidence=confidence[row].numpy(),
            world=world[row].numpy(),
            presence=float(outputs[_PRESENCE][row, 0]),
            agreement=float(outputs[_AGREEMENT][row, 0]),
        )
        for row in range(len(samples))
    ]


def _figures(results: list[tuple[Sample, _Prediction]]) -> dict[str, float]:
    hands = [(sample, found) for sample, found in results if sample.presence != 0 and sample.agreement != 0]
    wrong = [found for sample, found in results if sample.agreement == 0]
    seen = [pair for pair in hands if pair[0].visible >= _SEEN_FROM]
    hidden = [pair for pair in hands if pair[0].visible < _SEEN_FROM]
    certain = [found for sample, found in hands if sample.presence == 1]
    empty = [found for sample, found in results if sample.presence == 0]
    confidence = np.concatenate([found.confidence for _, found in hands])
    right = np.concatenate([_distances(*pair) < CONFIDENT_WITHIN for pair in hands])
    figures = {
        f"{name}_{figure}": value
        for name, group in (("seen", seen), ("hidden", hidden))
        for figure, value in _place_figures(group).items()
    }
    return figures | {
        "confidence_gap": 100 * _calibration_gap(confidence, right),
        "sure_right": 100 * _mean(right[confidence >= 0.9]),
        "sure_share": 100 * _mean(confidence >= 0.9),
        "present": 100 * _mean([found.presence >= 0.5 for found in certain]),
        "agree": 100 * _mean([found.agreement >= 0.5 for found in certain]),
        "disagree": 100 * _mean([found.agreement < 0.5 for found in wrong]),
        "empty": 100 * _mean([found.presence < 0.5 for found in empty]),
    }


def _place_figures(group: list[tuple[Sample, _Prediction]]) -> dict[str, float]:
    if not group:
        return dict.fromkeys(("2d", "wrist", "pa", "snapped"), math.nan)
    truth = np.stack([sample.world for sample, _ in group])
    found = np.stack([prediction.world for _, prediction in group]).astype(float)
    snapped = [
        np.linalg.norm(prediction.points - sample.other, axis=-1).mean() / sample.size
        < _distances(sample, prediction).mean()
        for sample, prediction in group
    ]
    return {
        "2d": 100 * _mean([_distances(*pair).mean() for pair in group]),
        "wrist": 1000 * _mean(wrist_aligned_error(found, truth)),
        "pa": 1000 * _mean(procrustes_aligned_error(found, truth)),
        "snapped": 100 * _mean(snapped),
    }


def _distances(sample: Sample, found: _Prediction) -> Array:
    return np.linalg.norm(found.points - sample.points, axis=-1) / sample.size


def _calibration_gap(confidence: Array, right: Array) -> float:
    """Mean over the points of the difference between said and true share within tenths of confidence."""
    tenth = np.minimum((10 * confidence).astype(int), 9)
    gaps = [
        (tenth == row).mean() * abs(_mean(confidence[tenth == row]) - _mean(right[tenth == row])) for row in set(tenth)
    ]
    return float(sum(gaps))


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else math.nan
