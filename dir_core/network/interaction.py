"""One refinement: picture -> joints -> both hands -> picture again (SPEC §6)."""

import torch
from torch import Tensor, nn

from dir_core.network.bone_projection import PARENTS, draw_bones
from dir_core.network.joint_space import HandGraph, JointSampling, point_embedding
from dir_core.network.mano_layer import ManoLayer
from dir_core.network.regressor import JOINT_COUNT, JOINT_FEATURES, Regressor
from dir_core.network.results import OFFSET_UNIT, StageResult
from dir_core.network.two_hand_transformer import TwoHandTransformer

WIDTH = 128


class Interaction(nn.Module):  # type: ignore[misc]
    """Read the map at the joints of the stage before, let joints and hands talk, regress, draw the result."""

    img_gird: Tensor

    def __init__(
        self,
        mano_layer_left: ManoLayer,
        mano_layer_right: ManoLayer,
        *,
        size: int,
        bone_radius: float,
        channels: int = 256,
    ) -> None:
        super().__init__()
        self.size = size
        self.bone_radius = bone_radius
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        # The name is misspelt in every checkpoint.
        self.register_buffer("img_gird", torch.stack([columns, rows], dim=-1).reshape(-1, 2).float() + 0.5)
        self.gcn_left = HandGraph(WIDTH)
        self.gcn_right = HandGraph(WIDTH)
        self.img2joint_left = JointSampling(channels, WIDTH)
        self.img2joint_right = JointSampling(channels, WIDTH)
        self.pos_emb_left = point_embedding(3, WIDTH)
        self.pos_emb_right = point_embedding(3, WIDTH)
        self.global_pos_emb = point_embedding(3, WIDTH)
        self.interaction = TwoHandTransformer(2 * JOINT_COUNT, WIDTH, JOINT_FEATURES)
        self.proj_feat_emb = point_embedding(JOINT_FEATURES, JOINT_FEATURES)
        self.fusion = nn.Sequential(
            nn.Conv2d(2 * len(PARENTS) * JOINT_FEATURES, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.regressor = Regressor(mano_layer_left, mano_layer_right)

    def forward(
        self, features: Tensor, previous: StageResult, legacy_right_init: bool = False
    ) -> tuple[StageResult, Tensor]:
        """Refine both hands.

        Args:
            features: [B, 256, S, S] image features.
            previous: the stage before; no gradient flows into it.
            legacy_right_init: hand the left parameters to the right regressor too, as code before June 2024 did.

        Returns:
            the new stage and the joint features [B, 42, 64], the left hand's first.
        """
        left, right, offset = previous.left, previous.right, previous.offset.detach()
        # 0.15 m, the unit of the offset, brings a hand to about -1..1.
        xyz_left = left.joint_xyz.detach().transpose(1, 2) / OFFSET_UNIT  # [B, 3, 21]
        xyz_right = right.joint_xyz.detach().transpose(1, 2) / OFFSET_UNIT

        # §6.1-6.3, each hand with its own weights.
        x_left = self.img2joint_left(features, left.joint_uv.detach())  # [B, 21, 128]
        x_right = self.img2joint_right(features, right.joint_uv.detach())
        x_left = self.gcn_left(x_left + self.pos_emb_left(xyz_left).transpose(1, 2))
        x_right = self.gcn_right(x_right + self.pos_emb_right(xyz_right).transpose(1, 2))

        # §6.4: both hands in one frame, its origin half way between the roots.
        half = offset[:, :, None] / 2  # [B, 3, 1]
        x_left = x_left + self.global_pos_emb(xyz_left - half).transpose(1, 2)
        x_right = x_right + self.global_pos_emb(xyz_right + half).transpose(1, 2)

        joint_features = self.interaction(torch.cat([x_left, x_right], dim=1))  # §6.5
        mano_right = left.mano if legacy_right_init else right.mano
        stage = self.regressor(joint_features, left.mano.detach(), mano_right.detach(), offset)  # §6.6
        return stage, joint_features

    def draw(self, joint_features: Tensor, stage: StageResult) -> tuple[Tensor, Tensor]:
        """Both hands' features [B, 42, 64] along the bones of a stage: two maps [B, 1280, S, S] (§6.7)."""
        emb_left = self.proj_feat_emb(joint_features[:, :JOINT_COUNT].transpose(1, 2)).transpose(1, 2)
        emb_right = self.proj_feat_emb(joint_features[:, JOINT_COUNT:].transpose(1, 2)).transpose(1, 2)
        return (
            draw_bones(emb_left, stage.left.joint_uv, self.img_gird, self.size, self.bone_radius),
            draw_bones(emb_right, stage.right.joint_uv, self.img_gird, self.size, self.bone_radius),
        )

    def fuse(self, drawn_left: Tensor, drawn_right: Tensor) -> Tensor:
        """Two maps [B, 1280, S, S] -> [B, 256, S, S]."""
        return self.fusion(torch.cat([drawn_left, drawn_right], dim=1))
