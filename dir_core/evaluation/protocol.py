"""Errors of two interacting hands by the protocol of the field (InterHand2.6M papers). numpy only, no files.

A figure means nothing without its protocol: which joint is laid on the truth's, whether size is taken from the truth.
`Protocol` holds that and `ProtocolFigures` carries it to every table and report. docs/EVALUATION.md has the equations.
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import KEYPOINT_SOURCES, KEYPOINTS, SIDES, TIP_VERTICES, Side
from dir_core.errors import SettingsError
from dir_core.evaluation.metrics import procrustes_aligned_error
from dir_core.hand_model import HandModel

Array = NDArray[Any]

ROOT_JOINTS = (0, 9)
"""Wrist (released DIR weights) and base of the middle finger (IntagHand, ACR and the papers after them)."""

_MANO_VERTICES = 778
_MILLIMETRES = 1e3


@dataclass(frozen=True)
class Protocol:
    """What is done to a prediction before it is measured.

    Attributes:
        root: the key point that is laid on the truth's, 0 or 9.
        scale: multiply each hand by |gt9 - gt0| / |pd9 - pd0|, so that its size is the truth's.
        truth: "MANO fits" or "annotated joints".
        frame_rate: of the pictures in 1/s, for the acceleration error; None measures none.
    """

    root: int = 0
    scale: bool = True
    truth: str = "MANO fits"
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if self.root not in ROOT_JOINTS:
            raise SettingsError(f"The root joint is {self.root}, choose 0 (wrist) or 9 (base of the middle finger).")
        if self.frame_rate is not None and not 0 < self.frame_rate < 1000:
            raise SettingsError(f"The frame rate is {self.frame_rate}, give the pictures per second, such as 30 or 5.")

    def sentence(self) -> str:
        """The protocol in words, to stand above every table."""
        size = "scaled per hand by |gt9-gt0|/|pd9-pd0|" if self.scale else "no scale alignment"
        rate = f"{self.frame_rate:g} frames/s" if self.frame_rate else "single frames"
        return f"root joint {self.root} ({KEYPOINTS[self.root]}), {size}, truth: {self.truth}, {rate}"


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """What a network says about B pairs of hands.

    Attributes:
        vertices: [B, V, 3] of each hand, metres, camera axes, each relative to its own `root_joint`.
        relative_root: [B, 3] metres, right root minus left root.
        root_joint: the key point that `vertices` and `relative_root` refer to.
    """

    vertices: dict[Side, Array]
    relative_root: Array
    root_joint: int


@dataclass(frozen=True, eq=False)
class PairTruth:
    """The truth of B pairs of hands.

    Attributes:
        joints: [B, 21, 3] of each hand, metres, camera axes.
        vertices: [B, V, 3] of each hand in the same axes, None where no mesh is known.
        camera_matrix: [B, 3, 3] projects to the pixels of the network's 256 x 256 crop.
        sequence: what each frame belongs to; frames of one sequence make a motion.
        number: index of each frame in its sequence.
    """

    joints: dict[Side, Array]
    vertices: dict[Side, Array] | None
    camera_matrix: Array
    sequence: Sequence[Hashable]
    number: Sequence[int]


@dataclass(frozen=True)
class HandFigures:
    """Mean errors of one hand, or of both averaged; None where nothing can be measured.

    Attributes:
        mpjpe_mm, mpvpe_mm: joints and vertices after root and, if asked for, scale alignment.
        pa_mpjpe_mm: joints after the best similarity transform per frame.
        joint_pixels, vertex_pixels: in the 256 x 256 crop; the aligned prediction is put at the truth's root and
            projected with the true camera, so the predicted camera plays no part.
        acceleration_mm: error of the joints' second difference over three frames, mm per frame squared.
        acceleration: the same in m/s2.
    """

    mpjpe_mm: float
    mpvpe_mm: float | None
    pa_mpjpe_mm: float
    joint_pixels: float
    vertex_pixels: float | None
    acceleration_mm: float | None
    acceleration: float | None


@dataclass(frozen=True)
class ProtocolFigures:
    """The figures of a data set with the protocol they were measured by.

    Attributes:
        protocol: how.
        frames: how many.
        left, right, average: mean errors; the average is the mean of the two hands' means.
        mrrpe_mm: error of the right root relative to the left root, never scaled.
    """

    protocol: Protocol
    frames: int
    left: HandFigures
    right: HandFigures
    average: HandFigures
    mrrpe_mm: float

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON types, the protocol in words among them."""
        return {**asdict(self), "protocol": {**asdict(self.protocol), "sentence": self.protocol.sentence()}}

    def table(self) -> str:
        """The figures as text, under a line that states the protocol."""
        lines = [f"protocol: {self.protocol.sentence()}; {self.frames} frames", _row("", "left", "right", "average")]
        for name, label in _LABELS.items():
            values = [getattr(hand, name) for hand in (self.left, self.right, self.average)]
            if values[2] is not None:
                lines.append(_row(label, *(f"{value:.2f}" for value in values)))
        if self.protocol.frame_rate and self.average.acceleration is None:
            lines.append("no acceleration: no three frames follow each other")
        lines.append(_row("MRRPE mm, unscaled", "", "", f"{self.mrrpe_mm:.2f}"))
        return "\n".join(lines)


_LABELS = {
    "mpjpe_mm": "MPJPE mm",
    "mpvpe_mm": "MPVPE mm",
    "pa_mpjpe_mm": "PA-MPJPE mm",
    "joint_pixels": "joints px of crop",
    "vertex_pixels": "vertices px of crop",
    "acceleration_mm": "acceleration mm/frame2",
    "acceleration": "acceleration m/s2",
}


def _row(label: str, *cells: str) -> str:
    return f"{label:24}" + "".join(f"{cell:>10}" for cell in cells)


def joints_of_mesh(vertices: Array, hand: HandModel) -> Array:
    """Key points [B, 21, 3] of posed vertices [B, V, 3]: the joint regressor's rows and the tip vertices.

    On a MANO mesh both hands use the right hand's tips (745, 317, 444, 556, 673), as the published figures do.
    """
    tips = TIP_VERTICES["right"] if len(hand.template) == _MANO_VERTICES else hand.tip_vertices
    ends = np.concatenate([hand.joint_regressor @ vertices, vertices[:, list(tips)]], axis=1)
    return ends[:, list(KEYPOINT_SOURCES)]


@dataclass(eq=False)
class ProtocolErrors:
    """The errors of a data set, gathered batch by batch.

    Attributes:
        protocol: how to measure.
        hands: the hand models whose vertices are predicted; their regressors give the predicted joints.
    """

    protocol: Protocol
    hands: dict[Side, HandModel]
    _errors: dict[tuple[Side, str], list[Array]] = field(default_factory=dict)
    _relative_root: list[Array] = field(default_factory=list)
    _places: list[tuple[Hashable, int]] = field(default_factory=list)

    def add(self, predicted: PairPrediction, truth: PairTruth) -> None:
        """Measure one batch."""
        root = self.protocol.root
        joints = {side: joints_of_mesh(predicted.vertices[side], self.hands[side]) for side in SIDES}
        for side in SIDES:
            self._add_hand(side, joints[side], predicted.vertices[side], truth)
        # From the network's root joint to the protocol's, where they differ.
        move = {side: joints[side][:, root] - joints[side][:, predicted.root_joint] for side in SIDES}
        found = predicted.relative_root + move["right"] - move["left"]
        expected = truth.joints["right"][:, root] - truth.joints["left"][:, root]
        self._relative_root.append(np.linalg.norm(found - expected, axis=-1))
        self._places += zip(truth.sequence, truth.number, strict=True)

    def _add_hand(self, side: Side, joints: Array, vertices: Array, truth: PairTruth) -> None:
        root = self.protocol.root
        true_joints = truth.joints[side]
        origin, true_origin = joints[:, root, None], true_joints[:, root, None]  # [B, 1, 3]
        size = np.ones((len(joints), 1, 1))
        if self.protocol.scale:
            size = _bone_length(true_joints) / _bone_length(joints)
        found, expected = size * (joints - origin), true_joints - true_origin  # [B, 21, 3]
        self._keep(side, "mpjpe_mm", np.linalg.norm(found - expected, axis=-1).mean(axis=1))
        self._keep(side, "pa_mpjpe_mm", procrustes_aligned_error(joints, true_joints).mean(axis=1))
        self._keep(side, "joint_pixels", _pixel_error(found + true_origin, true_joints, truth.camera_matrix))
        if truth.vertices is not None:
            mesh, true_mesh = size * (vertices - origin), truth.vertices[side] - true_origin  # [B, V, 3]
            self._keep(side, "mpvpe_mm", np.linalg.norm(mesh - true_mesh, axis=-1).mean(axis=1))
            pixels = _pixel_error(mesh + true_origin, truth.vertices[side], truth.camera_matrix)
            self._keep(side, "vertex_pixels", pixels)
        if self.protocol.frame_rate:
            self._keep(side, "motion", np.stack([found, expected], axis=1))  # [B, 2, 21, 3]

    def _keep(self, side: Side, name: str, values: Array) -> None:
        self._errors.setdefault((side, name), []).append(values)

    def figures(self) -> ProtocolFigures:
        """The mean errors of everything added so far.

        Raises:
            SettingsError: nothing was added.
        """
        if not self._places:
            raise SettingsError("No frame was measured, choose another data set or fewer conditions.")
        hands = {side: self._hand_figures(side) for side in SIDES}
        average: dict[str, Any] = {}
        for name in _LABELS:
            pair = [getattr(hands[side], name) for side in SIDES]
            average[name] = None if None in pair else sum(pair) / len(pair)
        return ProtocolFigures(
            protocol=self.protocol,
            frames=len(self._places),
            left=hands["left"],
            right=hands["right"],
            average=HandFigures(**average),
            mrrpe_mm=float(_MILLIMETRES * np.concatenate(self._relative_root).mean()),
        )

    def _hand_figures(self, side: Side) -> HandFigures:
        def mean(name: str) -> float:
            return float(np.concatenate(self._errors[side, name]).mean())

        has_meshes = (side, "mpvpe_mm") in self._errors
        acceleration, rate = None, self.protocol.frame_rate
        if rate:
            motion = np.concatenate(self._errors[side, "motion"])
            acceleration = acceleration_error(motion[:, 0], motion[:, 1], self._places)
        return HandFigures(
            mpjpe_mm=_MILLIMETRES * mean("mpjpe_mm"),
            mpvpe_mm=_MILLIMETRES * mean("mpvpe_mm") if has_meshes else None,
            pa_mpjpe_mm=_MILLIMETRES * mean("pa_mpjpe_mm"),
            joint_pixels=mean("joint_pixels"),
            vertex_pixels=mean("vertex_pixels") if has_meshes else None,
            acceleration_mm=None if acceleration is None else _MILLIMETRES * acceleration,
            acceleration=None if acceleration is None or rate is None else acceleration * rate**2,
        )


def acceleration_error(predicted: Array, truth: Array, places: Sequence[tuple[Hashable, int]]) -> float | None:
    """Mean |x'' - y''| of key points in metres per frame squared, x'' = x[t-1] - 2 x[t] + x[t+1] (Kanazawa 2019).

    Args:
        predicted, truth: [N, 21, 3] metres, root-aligned.
        places: sequence and frame number of each row. The data set numbers frames in steps that depend on its
            frame rate; the most frequent step is one frame, and only three frames one step apart each count.

    Returns:
        None where no three frames follow each other.
    """
    order = sorted(range(len(places)), key=lambda row: (str(places[row][0]), places[row][1]))
    names = np.unique([str(places[row][0]) for row in order], return_inverse=True)[1]
    numbers = np.array([places[row][1] for row in order])
    same, steps = names[1:] == names[:-1], np.diff(numbers)
    steps = np.where(same & (steps > 0), steps, 0)
    if not steps.any():
        return None
    step = np.bincount(steps[steps > 0]).argmax()
    middle = np.flatnonzero((steps[:-1] == step) & (steps[1:] == step)) + 1
    if not len(middle):
        return None
    difference = (predicted - truth)[order]
    bend = difference[middle - 1] - 2 * difference[middle] + difference[middle + 1]  # [M, 21, 3]
    return float(np.linalg.norm(bend, axis=-1).mean())


def _bone_length(joints: Array) -> Array:
    """Wrist to base of the middle finger, [B, 1, 1]; far from zero on any hand."""
    return np.maximum(np.linalg.norm(joints[:, 9] - joints[:, 0], axis=-1), 1e-9)[:, None, None]


def _pixel_error(predicted: Array, truth: Array, camera_matrix: Array) -> Array:
    """Mean distance [B] in pixels of points [B, K, 3] seen by cameras [B, 3, 3]."""
    pairs = zip(predicted, truth, camera_matrix, strict=True)
    return np.array([np.linalg.norm(project(a, camera) - project(b, camera), axis=-1).mean() for a, b, camera in pairs])
