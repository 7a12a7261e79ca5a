"""From a vector of 64 numbers to a posed hand, and from joint features to that vector (SPEC §6.6, §7, §8)."""

import torch
from torch import Tensor, nn

from dir_core.network.mano_layer import ManoLayer
from dir_core.network.results import HandResult, StageResult

MANO_COUNT = 64
JOINT_COUNT = 21
JOINT_FEATURES = 64


def pose_hand(mano_layer: ManoLayer, mano: Tensor) -> HandResult:
    """The hand that a parameter vector [B, 64] stands for."""
    mesh_xyz, joint_xyz = mano_layer(mano[:, :51], mano[:, 51:61])
    return HandResult(
        joint_uv=project(joint_xyz, mano),
        joint_xyz=joint_xyz,
        mesh_xyz=mesh_xyz,
        mesh_uv=project(mesh_xyz, mano),
        mano=mano,
    )


def project(xyz: Tensor, mano: Tensor) -> Tensor:
    """Weak perspective (SPEC §8): points [B, N, 3] -> [B, N, 2] in -1..1 of the crop."""
    return mano[:, None, 61:62] * xyz[..., :2] + mano[:, None, 62:64]


class Regressor(nn.Module):  # type: ignore[misc]
    """Joint features and the previous parameters to new, absolute parameters of both hands."""

    def __init__(self, mano_layer_left: ManoLayer, mano_layer_right: ManoLayer) -> None:
        super().__init__()
        flat = JOINT_COUNT * JOINT_FEATURES
        self.mano_layer_right = mano_layer_right
        self.mano_layer_left = mano_layer_left
        self.mano_left = nn.Linear(flat + MANO_COUNT, MANO_COUNT)
        self.mano_right = nn.Linear(flat + MANO_COUNT, MANO_COUNT)
        self.offset = nn.Linear(2 * flat + 3, 3)

    def forward(
        self, features: Tensor, previous_left: Tensor, previous_right: Tensor, previous_offset: Tensor
    ) -> StageResult:
        """Predict both hands.

        Args:
            features: [B, 42, 64], the left hand's 21 joints first.
            previous_left: [B, 64] parameters of the stage before.
            previous_right: [B, 64].
            previous_offset: [B, 3].
        """
        left = features[:, :JOINT_COUNT].flatten(1)  # [B, 1344]
        right = features[:, JOINT_COUNT:].flatten(1)
        mano_left = self.mano_left(torch.cat([left, previous_left], dim=1))
        mano_right = self.mano_right(torch.cat([right, previous_right], dim=1))
        return StageResult(
            left=pose_hand(self.mano_layer_left, mano_left),
            right=pose_hand(self.mano_layer_right, mano_right),
            offset=self.offset(torch.cat([left, right, previous_offset], dim=1)),
        )
