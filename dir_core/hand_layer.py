"""The hand model as a torch layer: the arithmetic of hand_model.py with gradients. Needs torch."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dir_core.conventions import JOINT_PARENTS, KEYPOINT_SOURCES, SHAPE_COUNT
from dir_core.hand_model import HandModel


class PosedHands(NamedTuple):
    """A batch of B posed hands in the axes of their root rotation, metres."""

    vertices: Tensor  # [B, V, 3]
    joints: Tensor  # [B, 16, 3], MANO order
    keypoints: Tensor  # [B, 21, 3]


class HandLayer(nn.Module):  # type: ignore[misc]
    """Shape, pose and skin one hand.

    The buffers are constants of the model and are not saved with a network's weights: MANO's licence does
    not allow its data in a checkpoint that is passed on.
    """

    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    joint_regressor: Tensor
    weights: Tensor
    faces: Tensor
    components: Tensor
    mean_pose: Tensor

    def __init__(self, model: HandModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for name in (
            "template",
            "shape_directions",
            "pose_directions",
            "joint_regressor",
            "weights",
            "components",
            "mean_pose",
        ):
            self.register_buffer(name, torch.tensor(getattr(model, name), dtype=dtype), persistent=False)
        self.register_buffer("faces", torch.tensor(model.faces), persistent=False)
        self.tip_vertices = list(model.tip_vertices)
        self._has_pose_directions = bool(model.pose_directions.any())

    def forward(
        self,
        rotation: Tensor,
        shape: Tensor | None = None,
        translation: Tensor | None = None,
        scale: Tensor | float = 1.0,
    ) -> PosedHands:
        """Pose the hand: vertices = scale * (skinned about J0 - J0) + translation, as HandModel.pose does.

        Args:
            rotation: [B, 16, 3, 3] rotation matrices or [B, 16, 3] rotation vectors (radians), MANO joint
                order, relative to the flat template.
            shape: [B, 10] or [10] shape components; None is the mean shape.
            translation: [B, 3] wrist joint; None puts it at the origin.
            scale: a number or [B].
        """
        turn = rotation if rotation.dim() == 4 else matrix_from_rotation_vector(rotation)  # [B, 16, 3, 3]
        batch = turn.shape[0]
        rest = self.template.expand(batch, -1, -1)  # [B, V, 3]
        if shape is not None:
            rest = rest + torch.einsum("vak,bk->bva", self.shape_directions, shape.expand(batch, SHAPE_COUNT))
        rest_joints = self.joint_regressor @ rest  # [B, 16, 3]
        if self._has_pose_directions:
            bend = (turn[:, 1:] - torch.eye(3, dtype=turn.dtype, device=turn.device)).flatten(1)  # [B, 135]
            rest = rest + torch.einsum("vak,bk->bva", self.pose_directions, bend)

        turns, joints = chain(turn, rest_joints - rest_joints[:, :1])
        shifts = joints - (turns @ rest_joints[..., None])[..., 0]  # [B, 16, 3]
        blended = torch.einsum("vj,bjac->bvac", self.weights, turns)  # [B, V, 3, 3]
        vertices = (blended @ rest[..., None])[..., 0] + self.weights @ shifts

        size = torch.as_tensor(scale, dtype=turn.dtype, device=turn.device).reshape(-1, 1, 1)
        move = 0.0 if translation is None else translation[:, None]
        vertices = size * vertices + move
        joints = size * joints + move
        ends = torch.cat([joints, vertices[:, self.tip_vertices]], dim=1)
        return PosedHands(vertices, joints, ends[:, list(KEYPOINT_SOURCES)])


def chain(turn: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
    """Forward kinematics: turn [B, 16, 3, 3], rest_joints [B, 16, 3] -> turns [B, 16, 3, 3], joints [B, 16, 3].

    The root turns about its own joint, which stays where the shaped hand has it.
    """
    turns, joints = [turn[:, 0]], [rest_joints[:, 0]]
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:
            bone = rest_joints[:, joint] - rest_joints[:, parent]
            joints.append(joints[parent] + (turns[parent] @ bone[..., None])[..., 0])
            turns.append(turns[parent] @ turn[:, joint])
    return torch.stack(turns, dim=1), torch.stack(joints, dim=1)


def matrix_from_rotation_vector(vector: Tensor) -> Tensor:
    """Rotation vectors [..., 3] in radians to matrices [..., 3, 3], with exact gradients at zero (Rodrigues).

    R = 1 + sin(t)/t K + (1 - cos(t))/t^2 K^2 with K the cross-product matrix of the vector and t its length.
    """
    square = (vector * vector).sum(dim=-1)[..., None, None]
    small = square < 1e-8  # below, the series is exact to double precision; its branch never divides by zero
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1 - square / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle**2)
    x, y, z = vector.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + first * cross + second * (cross @ cross)
