"""The losses that the DIR network is trained with (SPEC 9): 42 named terms whose sum is the objective. Needs torch.

13 terms for each of the three stages, such as `joint_left_uv_0`, and `seg`, `dense` and `lovasz` for the two maps.
Every term already carries its weight. No data and no optimiser here.
"""

from dataclasses import dataclass, fields
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import functional

from dir_core.conventions import SIDES, Side

LENGTH_UNIT = 0.15
"""Metres of one unit of length inside the losses and of the predicted offset."""

BONE_ENDS = (0, 9)
"""Wrist and base of the middle finger: the bone whose length is the size of a hand in the field's protocols."""

_SMOOTH_WIDTH = 0.01
_LENGTH_FLOOR = 1e-12  # squared, keeps the gradient of a length finite

LovaszInput = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class LossSettings:
    """Weights and variants of the losses; the defaults train as intended, `as_released` as the official code did.

    Attributes:
        lovasz_on: the Lovasz-Softmax loss is defined on probabilities; the official code gave it raw logits.
        scale_to_truth: multiply each predicted hand by |gt9 - gt0| / |pd9 - pd0| before the xyz, edge and normal
            losses, as the first release (2023-09-27, root joint 9) did.
        coordinates, offset, edge, normal, seg, lovasz, dense: weights of the terms.
        class_weights: of background and the two hands in the cross-entropy.
    """

    lovasz_on: LovaszInput = "probabilities"
    scale_to_truth: bool = False
    coordinates: float = 10.0
    offset: float = 10.0
    edge: float = 1.0
    normal: float = 0.1
    seg: float = 0.1
    lovasz: float = 0.1
    dense: float = 1.0
    class_weights: tuple[float, float, float] = (0.1, 0.45, 0.45)

    def __post_init__(self) -> None:
        if self.lovasz_on not in get_args(LovaszInput):
            raise ValueError(f"lovasz_on is {self.lovasz_on!r}, choose one of {', '.join(get_args(LovaszInput))}.")

    @classmethod
    def as_released(cls) -> "LossSettings":
        """The settings of the official code of June 2024."""
        return cls(lovasz_on="logits")


@dataclass(frozen=True, eq=False)
class HandTargets:
    """The truth of one hand in B crops.

    Attributes:
        joint_uv, mesh_uv: [B, 21, 2] and [B, V, 2] in [-1, 1] of the crop.
        joint_xyz, mesh_xyz: [B, 21, 3] and [B, V, 3] metres, camera axes, any origin.
        root: [B, 3] the point that predictions are relative to, in the same frame as joint_xyz: the network's
            root joint, 0 for the released weights.
    """

    joint_uv: Tensor
    joint_xyz: Tensor
    mesh_uv: Tensor
    mesh_xyz: Tensor
    root: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth of B crops.

    Attributes:
        left, right: both hands.
        seg: [B, H, W] int64 class of each pixel, 0 background, 1 and 2 the hands; brought to the network's 32x32
            by nearest-neighbour sampling.
        dense: [B, 3, H, W] colour of the surface point seen in each pixel, 0..1; brought to 32x32 bilinearly.
    """

    left: HandTargets
    right: HandTargets
    seg: Tensor
    dense: Tensor

    def to(self, *place: torch.device | torch.dtype) -> "Targets":
        """The same truth on another device or in another floating type; classes stay integers."""

        def hand(truth: HandTargets) -> HandTargets:
            return HandTargets(*(getattr(truth, field.name).to(*place) for field in fields(truth)))

        devices = [one for one in place if not isinstance(one, torch.dtype)]
        seg = self.seg.to(*devices) if devices else self.seg
        return Targets(hand(self.left), hand(self.right), seg, self.dense.to(*place))


class HandPrediction(Protocol):
    """What the losses read of one hand of a stage: see dir_core.network."""

    @property
    def joint_uv(self) -> Tensor:
        """[B, 21, 2] in [-1, 1]."""

    @property
    def joint_xyz(self) -> Tensor:
        """[B, 21, 3] metres, relative to the root joint."""

    @property
    def mesh_xyz(self) -> Tensor:
        """[B, V, 3] metres, relative to the root joint."""

    @property
    def mano(self) -> Tensor:
        """[B, 64]; 61 is the scale and 62:64 the translation of the weak perspective camera."""


class StagePrediction(Protocol):
    """What the losses read of one stage."""

    @property
    def left(self) -> HandPrediction:
        """The left hand."""

    @property
    def right(self) -> HandPrediction:
        """The right hand."""

    @property
    def offset(self) -> Tensor:
        """[B, 3] right root minus left root in units of 0.15 m."""


def dir_losses(
    stages: tuple[StagePrediction, ...],
    seg: Tensor,
    dense: Tensor,
    targets: Targets,
    faces: dict[Side, Tensor],
    *,
    settings: LossSettings | None = None,
) -> dict[str, Tensor]:
    """The weighted terms of a batch; their sum is the loss.

    Args:
        stages: the network's stage results 0, 1, 2.
        seg: [B, 3, 32, 32] logits.
        dense: [B, 3, 32, 32].
        targets: the truth of the batch.
        faces: [F, 3] int64 of each hand's mesh.
        settings: weights and variants; None is LossSettings().

    Returns:
        Scalars named as in the official code: seg, dense, lovasz, then for each stage i and hand
        joint_{side}_uv_{i}, mesh_{side}_uv_{i}, joint_{side}_xyz_{i}, mesh_{side}_xyz_{i}, edge_{side}_{i},
        normal_{side}_{i} and once offset_{i}.
    """
    settings = settings or LossSettings()
    size = seg.shape[-2:]
    classes = functional.interpolate(targets.seg[:, None].to(seg.dtype), size, mode="nearest")[:, 0].long()
    colours = functional.interpolate(targets.dense.to(dense.dtype), size, mode="bilinear", align_corners=False)
    class_weights = torch.tensor(settings.class_weights, dtype=seg.dtype, device=seg.device)
    scores = seg.softmax(dim=1) if settings.lovasz_on == "probabilities" else seg
    terms = {
        "seg": settings.seg * functional.cross_entropy(seg, classes, weight=class_weights),
        "dense": settings.dense * smooth_l1(dense, colours),
        "lovasz": settings.lovasz * lovasz(scores, classes),
    }
    for number, stage in enumerate(stages):
        for side in SIDES:
            truth: HandTargets = getattr(targets, side)
            found = _hand_losses(getattr(stage, side), truth, faces[side], settings)
            terms |= {name.format(side=side, stage=number): term for name, term in found.items()}
        offset = (targets.right.root - targets.left.root) / LENGTH_UNIT
        terms[f"offset_{number}"] = settings.offset * smooth_l1(stage.offset, offset)
    return terms


def _hand_losses(hand: HandPrediction, truth: HandTargets, faces: Tensor, settings: LossSettings) -> dict[str, Tensor]:
    """The six terms of one hand in one stage, lengths in units of 0.15 m."""
    joint_xyz, mesh_xyz = hand.joint_xyz / LENGTH_UNIT, hand.mesh_xyz / LENGTH_UNIT  # [B, 21, 3], [B, V, 3]
    true_joints = (truth.joint_xyz - truth.root[:, None]) / LENGTH_UNIT
    true_mesh = (truth.mesh_xyz - truth.root[:, None]) / LENGTH_UNIT
    if settings.scale_to_truth:
        size = _bone_length(true_joints) / _bone_length(joint_xyz)  # [B, 1, 1]
        joint_xyz, mesh_xyz = size * joint_xyz, size * mesh_xyz
    # Weak perspective: uv = s xyz_xy + t (SPEC 8).
    mesh_uv = hand.mano[:, None, 61:62] * hand.mesh_xyz[..., :2] + hand.mano[:, None, 62:64]  # [B, V, 2]
    return {
        "joint_{side}_uv_{stage}": settings.coordinates * smooth_l1(hand.joint_uv, truth.joint_uv),
        "mesh_{side}_uv_{stage}": settings.coordinates * smooth_l1(mesh_uv, truth.mesh_uv),
        "joint_{side}_xyz_{stage}": settings.coordinates * smooth_l1(joint_xyz, true_joints),
        "mesh_{side}_xyz_{stage}": settings.coordinates * smooth_l1(mesh_xyz, true_mesh),
        "edge_{side}_{stage}": settings.edge * edge_length_loss(mesh_xyz, true_mesh, faces),
        "normal_{side}_{stage}": settings.normal * normal_loss(mesh_xyz, true_mesh, faces),
    }


def smooth_l1(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean of 0.5 z^2 where |z| < 0.01 and 0.01 (|z| - 0.005) elsewhere; a scalar, inputs of one shape [B, ...]."""
    return functional.huber_loss(predicted, truth, delta=_SMOOTH_WIDTH)


def edge_length_loss(predicted: Tensor, truth: Tensor, faces: Tensor) -> Tensor:
    """Mean over the three edges of every face of | |e_pred| - |e_true| |, vertices [B, V, 3], faces [F, 3]."""
    lengths = [
        (_edges(vertices, faces).square().sum(dim=-1) + _LENGTH_FLOOR).sqrt()  # [B, F, 3]
        for vertices in (predicted, truth)
    ]
    return (lengths[0] - lengths[1]).abs().mean()


def normal_loss(predicted: Tensor, truth: Tensor, faces: Tensor) -> Tensor:
    """Mean |cos| between the predicted edges and the true normal of their face, vertices [B, V, 3], faces [F, 3]."""
    true_edges = functional.normalize(_edges(truth, faces)[:, :, :2], dim=-1)  # [B, F, 2, 3]
    normals = functional.normalize(torch.linalg.cross(true_edges[:, :, 0], true_edges[:, :, 1]), dim=-1)  # [B, F, 3]
    edges = functional.normalize(_edges(predicted, faces), dim=-1)  # [B, F, 3, 3]
    return (edges * normals[:, :, None]).sum(dim=-1).abs().mean()


def lovasz(scores: Tensor, classes: Tensor) -> Tensor:
    """Lovasz-Softmax loss of a whole batch, mean over the classes present (Berman et al. 2018, section 3).

    Args:
        scores: [B, C, H, W] probabilities.
        classes: [B, H, W] int64.

    The loss of a class is the Lovasz extension of its Jaccard index: errors m in descending order, each weighed
    by the growth of the Jaccard loss when its pixel is added to the wrong ones (their algorithm 1).
    """
    count = scores.shape[1]
    flat = scores.permute(0, 2, 3, 1).reshape(-1, count)  # [B H W, C]
    labels = classes.reshape(-1)
    losses = []
    for number in range(count):
        inside = (labels == number).to(flat.dtype)
        if not bool(inside.any()):
            continue
        errors, order = (inside - flat[:, number]).abs().sort(descending=True)
        sorted_inside = inside[order]
        intersection = sorted_inside.sum() - sorted_inside.cumsum(dim=0)
        union = sorted_inside.sum() + (1 - sorted_inside).cumsum(dim=0)
        jaccard = 1 - intersection / union
        growth = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append(errors @ growth)
    return torch.stack(losses).mean()


def _edges(vertices: Tensor, faces: Tensor) -> Tensor:
    """The edges [B, F, 3, 3] between corners 0-1, 0-2 and 1-2 of every face."""
    a, b, c = vertices[:, faces].unbind(dim=2)
    return torch.stack([b - a, c - a, c - b], dim=2)


def _bone_length(joints: Tensor) -> Tensor:
    """Wrist to base of the middle finger, [B, 1, 1], of joints [B, 21, 3]."""
    start, end = BONE_ENDS
    return (joints[:, end] - joints[:, start]).norm(dim=-1)[:, None, None]
