"""The DIR network on InterHand2.6M: crop every frame as in training, predict, measure by the protocol. Needs torch.

Reading the data set is in interhand.py, the arithmetic of the errors in protocol.py.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import SIDES, Side
from dir_core.errors import DataSetError, SettingsError
from dir_core.evaluation.interhand import InterHandFrame, read_interhand
from dir_core.evaluation.protocol import (
    PairPrediction,
    PairTruth,
    Protocol,
    ProtocolErrors,
    ProtocolFigures,
    joints_of_mesh,
)
from dir_core.hand_model import MANO_LICENCE, HandModel, load_hand_models
from dir_core.network import DIR, OFFSET_UNIT, load_checkpoint, weights_digest
from dir_core.network.crop import both_hands_crop, crop_camera_matrix, cut_crop, network_input

Array = NDArray[Any]
Predictor = Callable[[Array], PairPrediction]
"""Network input [B, 3, 256, 256] float32 -> what a network says about it."""

DARKEST = 10.0
"""Mean grey value of a crop below which DIR leaves a frame out: the lights were off (SPEC 9)."""

_READERS = 4


@dataclass(frozen=True)
class BenchmarkSettings:
    """How to measure.

    Attributes:
        split: train, val or test.
        root, scale, frame_rate: see Protocol.
        every: take every n-th of the data set's frames.
        batch: pictures at once.
        device: auto, cuda, mps or cpu.
        hand_model: folder with the MANO files that the annotations were fitted with; None takes the hands that
            the checkpoint carries.
        legacy_right_init: the weights are those of October 2023, see dir_core.network.DIR; None takes what the
            file says.
    """

    split: str = "test"
    root: int = 0
    scale: bool = True
    frame_rate: float | None = None
    every: int = 1
    batch: int = 8
    device: str = "auto"
    hand_model: str | None = None
    legacy_right_init: bool | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.batch < 1:
            raise SettingsError(f"Every {self.every} frames in batches of {self.batch} cannot work, both start at 1.")
        if self.every > 1 and self.frame_rate:
            raise SettingsError("The acceleration error needs every frame, leave out either --every or --frame-rate.")


@dataclass(frozen=True)
class InterHandReport:
    """The figures of a run and what they were measured on.

    Attributes:
        figures: errors with their protocol.
        split, every: which frames.
        dark: how many frames were left out because the lights were off.
        crop: what the square was put around, "vertices" or "joints" of the truth.
        checkpoint, weights: file name and digest of the weights.
        root_joint: of the network.
    """

    figures: ProtocolFigures
    split: str
    every: int
    dark: int
    crop: str
    checkpoint: str
    weights: str
    root_joint: int

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {**vars(self), "figures": self.figures.as_dict()}

    def text(self) -> str:
        """The report as a table under the statement of what was measured and how."""
        which = "all frames" if self.every == 1 else f"one of every {self.every} frames"
        return (
            f"InterHand2.6M {self.split}, {which} with two interacting hands, {self.dark} dark ones left out; "
            f"crop around the true {self.crop}\n"
            f"weights: {self.checkpoint} (sha256 {self.weights[:12]}), root joint of the network {self.root_joint}\n"
            f"{self.figures.table()}"
        )


def evaluate_interhand(
    folder: Path,
    checkpoint: Path,
    settings: BenchmarkSettings | None = None,
    show_progress: Callable[[int, int], None] = lambda done, expected: None,
) -> InterHandReport:
    """Measure the weights of a file on a split of the data set.

    Args:
        folder: InterHand2.6M, see read_interhand.
        checkpoint: weights, see dir_core.network.load_checkpoint.
        settings: None is BenchmarkSettings().
        show_progress: called with frames done and expected.

    Raises:
        DataSetError, CheckpointError, HandModelError, SettingsError: one sentence about what is missing.
    """
    settings = settings or BenchmarkSettings()
    frames = read_interhand(folder, settings.split)[:: settings.every]
    has_fits = frames[0].mano is not None
    protocol = Protocol(
        settings.root, settings.scale, "MANO fits" if has_fits else "annotated joints", settings.frame_rate
    )
    network = load_checkpoint(checkpoint, legacy_right_init=settings.legacy_right_init)
    truth_hands = load_hand_models(settings.hand_model) if settings.hand_model else network.hand_models
    if has_fits and not settings.hand_model and truth_hands["left"].licence != MANO_LICENCE:
        raise SettingsError(
            f"The annotations are MANO hands but {checkpoint} carries the {truth_hands['left'].name}, "
            "give the folder of your MANO files with --hand-model."
        )
    predict = network_predictor(network, settings.device)
    errors = ProtocolErrors(protocol, network.hand_models)
    dark = measure_frames(frames, predict, errors, truth_hands, batch=settings.batch, show_progress=show_progress)
    return InterHandReport(
        figures=errors.figures(),
        split=settings.split,
        every=settings.every,
        dark=dark,
        crop="vertices" if has_fits else "joints",
        checkpoint=Path(checkpoint).name,
        weights=weights_digest(network),
        root_joint=network.root_joint,
    )


def network_predictor(network: DIR, device: str = "auto") -> Predictor:
    """The last stage of the network as a predictor.

    Raises:
        SettingsError: there is no such device here.
    """
    from dir_core.network.inference import choose_device

    place = choose_device(device)
    network = network.to(place).eval()

    def predict(images: Array) -> PairPrediction:
        with torch.inference_mode():
            last = network(torch.from_numpy(images).to(place), meshes="last").stages[-1]
        vertices: dict[Side, Array] = {side: getattr(last, side).mesh_xyz.double().cpu().numpy() for side in SIDES}
        return PairPrediction(vertices, OFFSET_UNIT * last.offset.double().cpu().numpy(), network.root_joint)

    return predict


def measure_frames(
    frames: Sequence[InterHandFrame],
    predict: Predictor,
    errors: ProtocolErrors,
    truth_hands: dict[Side, HandModel],
    *,
    batch: int = 8,
    show_progress: Callable[[int, int], None] = lambda done, expected: None,
) -> int:
    """Crop, predict and measure frames in batches.

    Args:
        frames: all with MANO fits or all without.
        predict: see Predictor.
        errors: where the errors are gathered.
        truth_hands: the models that MANO fits are posed with.
        batch: pictures at once.
        show_progress: called with frames done and expected.

    Returns:
        How many frames were left out because their crop is dark.

    Raises:
        DataSetError: a picture cannot be read, or every one of them is dark.
    """
    # Vertices can be compared one by one only where both meshes are numbered alike.
    same_mesh = all(np.array_equal(truth_hands[side].faces, errors.hands[side].faces) for side in SIDES)
    dark = done = 0
    for prepared in _prepare_ahead(frames, truth_hands, batch):
        done += len(prepared)
        bright = [one for one in prepared if one.crop.mean() >= DARKEST]
        dark += len(prepared) - len(bright)
        if bright:
            predicted = predict(network_input(np.stack([one.crop for one in bright])))
            errors.add(predicted, _stack_truth(bright, with_vertices=same_mesh))
        show_progress(done, len(frames))
    if dark == len(frames):
        raise DataSetError(f"All {dark} frames are dark, as in {frames[0].image}; unpack the pictures again.")
    return dark


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A frame ready for the network: its crop [256, 256, 3], the crop's camera and the truth of both hands."""

    frame: InterHandFrame
    crop: Array
    camera_matrix: Array
    joints: dict[Side, Array]
    vertices: dict[Side, Array] | None


def _prepare(frame: InterHandFrame, truth_hands: dict[Side, HandModel]) -> _Prepared:
    vertices: dict[Side, Array] | None = None
    if frame.mano is not None:
        vertices = {side: frame.vertices(side, truth_hands[side]) for side in SIDES}
        # Regressed from the mesh, as the published figures are; the annotated joints differ from MANO's.
        joints = {side: joints_of_mesh(vertices[side][None], truth_hands[side])[0] for side in SIDES}
    else:
        joints = {side: frame.joints(side) for side in SIDES}
    points = np.concatenate(list((vertices or joints).values()))
    affine = both_hands_crop(project(points, frame.camera.matrix))
    return _Prepared(
        frame=frame,
        crop=cut_crop(frame.read_image(), affine),
        camera_matrix=crop_camera_matrix(frame.camera.matrix, affine),
        joints=joints,
        vertices=vertices,
    )


def _prepare_ahead(
    frames: Sequence[InterHandFrame], truth_hands: dict[Side, HandModel], batch: int
) -> Iterator[list[_Prepared]]:
    """Batches of prepared frames; the next one is read while the network is busy with this one."""
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
        waiting = None
        for first in range(0, len(frames), batch):
            started = [pool.submit(_prepare, frame, truth_hands) for frame in frames[first : first + batch]]
            if waiting is not None:
                yield [future.result() for future in waiting]
            waiting = started
        if waiting is not None:
            yield [future.result() for future in waiting]


def _stack_truth(prepared: Sequence[_Prepared], *, with_vertices: bool) -> PairTruth:
    vertices: dict[Side, Array] | None = None
    if with_vertices and prepared[0].vertices is not None:
        vertices = {side: np.stack([one.vertices[side] for one in prepared if one.vertices]) for side in SIDES}
    return PairTruth(
        joints={side: np.stack([one.joints[side] for one in prepared]) for side in SIDES},
        vertices=vertices,
        camera_matrix=np.stack([one.camera_matrix for one in prepared]),
        sequence=[(one.frame.capture, one.frame.sequence, one.frame.camera.name) for one in prepared],
        number=[one.frame.number for one in prepared],
    )
