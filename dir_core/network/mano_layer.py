"""MANO (Romero et al. 2017) as DIR poses it: 6D root rotation, pose coefficients, betas -> mesh and key points.

Apart from `dir_core.hand_layer`, because this one follows the DIR checkpoints to the last digit: names of buffers,
components with the mean pose added, the axis-angle conversion with its small epsilon, root-relative output.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dir_core.conventions import JOINTS, KEYPOINT_SOURCES, SHAPE_COUNT
from dir_core.hand_layer import chain
from dir_core.hand_model import HandModel

POSE_COUNT = 3 * (len(JOINTS) - 1)


class ManoLayer(nn.Module):  # type: ignore[misc]
    """Pose and skin one hand. The buffers are part of the state_dict under the names of DIR (SPEC §7)."""

    th_betas: Tensor
    th_shapedirs: Tensor
    th_posedirs: Tensor
    th_v_template: Tensor
    th_J_regressor: Tensor  # noqa: N815 - the name in every checkpoint
    th_weights: Tensor
    th_faces: Tensor
    th_hands_mean: Tensor
    th_comps: Tensor
    th_selected_comps: Tensor

    def __init__(self, hand: HandModel, root_joint: int | None = 0) -> None:
        """Hold a hand model, with root_joint None for output about the model's own origin."""
        super().__init__()
        self.root_joint = root_joint
        self.tip_vertices = list(hand.tip_vertices)

        def hold(name: str, values: object) -> None:
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32).clone())

        hold("th_betas", [[0.0] * SHAPE_COUNT])
        hold("th_shapedirs", hand.shape_directions)
        hold("th_posedirs", hand.pose_directions)
        hold("th_v_template", hand.template[None])
        hold("th_J_regressor", hand.joint_regressor)
        hold("th_weights", hand.weights)
        self.register_buffer("th_faces", torch.as_tensor(hand.faces, dtype=torch.int64).clone())
        hold("th_hands_mean", hand.mean_pose[None])
        hold("th_comps", hand.components)
        hold("th_selected_comps", hand.components)

    def forward(self, pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose a batch of hands.

        Args:
            pose: [B, 51] root rotation 6D, then 45 coefficients of the pose components.
            betas: [B, 10].

        Returns:
            vertices [B, V, 3] and key points [B, 21, 3], metres, relative to the root joint.
        """
        turn = self.joint_rotations(pose)  # [B, 16, 3, 3]
        shaped = self.th_v_template + torch.einsum("vak,bk->bva", self.th_shapedirs, betas)  # [B, V, 3]
        rest_joints = self.th_J_regressor @ shaped  # [B, 16, 3]
        bend = (turn[:, 1:] - torch.eye(3, dtype=turn.dtype, device=turn.device)).flatten(1)  # [B, 135]
        posed = shaped + torch.einsum("vak,bk->bva", self.th_posedirs, bend)

        turns, joints = chain(turn, rest_joints)
        # Linear blend skinning: sum_j w_j (G_j (v - J_j) + P_j).
        shifts = joints - (turns @ rest_joints[..., None])[..., 0]  # [B, 16, 3]
        blended = torch.einsum("vj,bjac->bvac", self.th_weights, turns)  # [B, V, 3, 3]
        vertices = (blended @ posed[..., None])[..., 0] + self.th_weights @ shifts

        ends = torch.cat([joints, vertices[:, self.tip_vertices]], dim=1)  # 16 joints, then 5 tips
        keypoints = ends[:, list(KEYPOINT_SOURCES)]
        if self.root_joint is None:
            return vertices, keypoints
        root = keypoints[:, self.root_joint, None]
        return vertices - root, keypoints - root

    def joint_rotations(self, pose: Tensor) -> Tensor:
        """Rotation matrices [B, 16, 3, 3] of pose [B, 51]; the fingers' mean pose is added."""
        root = matrix_from_6d(pose[:, :6])
        axis_angle = self.th_hands_mean + pose[:, 6:] @ self.th_selected_comps  # [B, 45]
        fingers = matrix_from_axis_angle(axis_angle.unflatten(1, (len(JOINTS) - 1, 3)))
        return torch.cat([root[:, None], fingers], dim=1)


def matrix_from_6d(values: Tensor) -> Tensor:
    """[..., 6] -> [..., 3, 3], treating both axes alike: x and y are turned apart evenly from their bisector."""
    a, b = unit(values[..., :3]), unit(values[..., 3:])
    middle, across = unit(a + b), unit(a - b)
    x, y = unit(middle + across), unit(middle - across)
    z = unit(torch.linalg.cross(x, y))
    return torch.stack([x, y, z], dim=-1)


def unit(vector: Tensor) -> Tensor:
    """Vectors [..., 3] of length one; those shorter than 1e-8 stay short instead of becoming NaN."""
    return functional.normalize(vector, dim=-1, eps=1e-8)


def matrix_from_axis_angle(vector: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3] through a quaternion; 1e-8 on every component keeps the flat hand differentiable."""
    angle = torch.linalg.vector_norm(vector + 1e-8, dim=-1, keepdim=True)
    half = angle / 2
    quaternion = torch.cat([half.cos(), half.sin() * (vector / angle)], dim=-1)
    quaternion = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    w, x, y, z = quaternion.unbind(dim=-1)
    rows = [
        w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (w * y + x * z),
        2 * (w * z + x * y), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (w * x + y * z), w * w - x * x - y * y + z * z,
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
