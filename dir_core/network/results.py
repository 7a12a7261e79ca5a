"""What the DIR network says about a pair of hands: frozen data, no arithmetic."""

from dataclasses import dataclass

import torch
from torch import Tensor

OFFSET_UNIT = 0.15
"""Metres per unit of `StageResult.offset` (SPEC §8)."""


@dataclass(frozen=True, eq=False)
class HandResult:
    """One hand of a batch of B crops.

    Attributes:
        joint_uv: [B, 21, 2] key points in the crop, -1..1 from edge to edge; pixel = (uv + 1) * 128.
        joint_xyz: [B, 21, 3] key points, metres, camera axes, relative to the root joint.
        mesh_xyz: [B, V, 3] vertices in the same axes; [B, 0, 3] where meshes were not asked for.
        mesh_uv: [B, V, 2] vertices in the crop; [B, 0, 2] where meshes were not asked for.
        mano: [B, 64] root rotation 6D [0:6], pose coefficients [6:51], betas [51:61], weak perspective [61:64].
    """

    joint_uv: Tensor
    joint_xyz: Tensor
    mesh_xyz: Tensor
    mesh_uv: Tensor
    mano: Tensor

    @property
    def pose(self) -> Tensor:
        """[B, 51] root rotation 6D, then 45 coefficients of the pose components."""
        return self.mano[:, :51]

    @property
    def betas(self) -> Tensor:
        """[B, 10] shape components."""
        return self.mano[:, 51:61]

    @property
    def weak_perspective(self) -> Tensor:
        """[B, 3] scale s (1/m) and translation t: uv = s * xyz[:, :2] + t."""
        return self.mano[:, 61:64]


@dataclass(frozen=True, eq=False)
class StageResult:
    """Both hands as one stage predicts them.

    Attributes:
        left, right: the hands.
        offset: [B, 3] right root minus left root, camera axes, in units of 0.15 m.
    """

    left: HandResult
    right: HandResult
    offset: Tensor


@dataclass(frozen=True, eq=False)
class DIROutput:
    """Everything the network returns.

    Attributes:
        stages: the initial prediction and its two refinements; the last one is the result.
        seg: [B, 3, 32, 32] logits of background and the two hands, None without auxiliary maps.
        dense: [B, 3, 32, 32] dense correspondence colours, None without auxiliary maps.
        proj_feat: [B, 1280, 32, 32] projected joint features of both hands, None without auxiliary maps.
    """

    stages: tuple[StageResult, StageResult, StageResult]
    seg: Tensor | None = None
    dense: Tensor | None = None
    proj_feat: Tensor | None = None


# torch.export flattens results into plain tensors and needs to know how.
for _kind in (HandResult, StageResult, DIROutput):
    torch.export.register_dataclass(_kind, serialized_type_name=f"dir_core.network.{_kind.__name__}")
