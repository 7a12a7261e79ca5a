"""MANO for both hands in one call, the fast path's counterpart of mano_layer.py; first axis: left, right."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dir_core.conventions import KEYPOINT_SOURCES
from dir_core.network.mano_layer import ManoLayer, matrix_from_6d, matrix_from_axis_angle


@dataclass(frozen=True, eq=False)
class BothHands:
    """What HandResult holds, for the left and the right hand together.

    Attributes:
        mano: [2, B, 64].
        joint_uv, joint_xyz: [2, B, 21, 2] and [2, B, 21, 3].
        mesh_uv, mesh_xyz: [2, B, V, 2] and [2, B, V, 3], V = 0 without meshes.
    """

    mano: Tensor
    joint_uv: Tensor
    joint_xyz: Tensor
    mesh_uv: Tensor
    mesh_xyz: Tensor


class BothHandsLayer(nn.Module):  # type: ignore[misc]
    """Pose both hands; without meshes only the five tips are skinned.

    Rest vertices and rest joints are linear in betas and bends, so one matrix product makes each of them.
    """

    mean_pose: Tensor
    components: Tensor
    joint_basis: Tensor
    rest_joints: Tensor
    vertex_basis: Tensor
    rest_vertices: Tensor
    weights: Tensor
    tips: Tensor
    tip_rows: Tensor
    keypoint_sources: Tensor

    def __init__(self, left: ManoLayer, right: ManoLayer) -> None:
        super().__init__()
        self.root_joint = left.root_joint
        dtype = left.th_v_template.dtype

        def hold(name: str, of_left: Tensor, of_right: Tensor) -> None:
            self.register_buffer(name, torch.stack([of_left, of_right]).to(dtype).contiguous())

        def for_both(name: str, make: Callable[[ManoLayer], Tensor]) -> None:
            hold(name, make(left), make(right))

        for_both("mean_pose", lambda layer: layer.th_hands_mean)  # [2, 1, 45]
        for_both("components", lambda layer: layer.th_selected_comps)  # [2, 45, 45]
        for_both("joint_basis", _joint_basis)  # [2, 10, 48]
        for_both("rest_joints", lambda layer: _rest_joints(layer).reshape(1, -1))  # [2, 1, 48]
        for_both("vertex_basis", _vertex_basis)  # [2, 145, 3V]
        for_both("rest_vertices", lambda layer: layer.th_v_template.reshape(1, -1))  # [2, 1, 3V]
        for_both("weights", lambda layer: layer.th_weights)  # [2, V, 16]
        device = left.th_v_template.device
        tips = torch.tensor([left.tip_vertices, right.tip_vertices], device=device)
        self.register_buffer("tips", tips)  # [2, 5]
        rows = (3 * tips[:, :, None] + torch.arange(3, device=device)).flatten(1)
        self.register_buffer("tip_rows", rows)  # [2, 15]: where x, y, z of the tips lie among 3V numbers
        self.register_buffer("keypoint_sources", torch.tensor(KEYPOINT_SOURCES, device=device))
        for name, dimension, where in (
            ("vertex_basis", 2, rows),
            ("rest_vertices", 2, rows),
            ("weights", 1, tips),
        ):
            whole = getattr(self, name)
            hold(f"tip_{name}", *(whole[hand].index_select(dimension - 1, where[hand]) for hand in range(2)))

    def forward(self, mano: Tensor, meshes: bool) -> BothHands:
        """Pose the hands of parameter vectors mano [2, B, 64]."""
        betas = mano[..., 51:61]
        turn = self._joint_rotations(mano)  # [2, B, 16, 3, 3]
        rest_joints = torch.baddbmm(self.rest_joints, betas, self.joint_basis).unflatten(2, (16, 3))
        turns, joints = _chain(turn, rest_joints)

        bend = (turn[:, :, 1:] - torch.eye(3, dtype=turn.dtype, device=turn.device)).flatten(2)  # [2, B, 135]
        coefficients = torch.cat([betas, bend], dim=2)  # [2, B, 145]
        shifts = joints - (turns @ rest_joints[..., None])[..., 0]
        moves = torch.cat([turns, shifts[..., None]], dim=-1).flatten(3)  # [2, B, 16, 12], rows (G | P - G J)
        if meshes:
            vertices = _skin(coefficients, moves, self.vertex_basis, self.rest_vertices, self.weights)
            tips = torch.stack([vertices[0, :, self.tips[0]], vertices[1, :, self.tips[1]]])
        else:
            tips = _skin(coefficients, moves, self.tip_vertex_basis, self.tip_rest_vertices, self.tip_weights)
            vertices = tips[:, :, :0]

        keypoints = torch.cat([joints, tips], dim=2).index_select(2, self.keypoint_sources)
        if self.root_joint is not None:
            root = keypoints[:, :, self.root_joint, None]
            keypoints, vertices = keypoints - root, vertices - root
        scale, move = mano[:, :, None, 61:62], mano[:, :, None, 62:64]
        return BothHands(
            mano=mano,
            joint_uv=scale * keypoints[..., :2] + move,
            joint_xyz=keypoints,
            mesh_uv=scale * vertices[..., :2] + move,
            mesh_xyz=vertices,
        )

    def _joint_rotations(self, mano: Tensor) -> Tensor:
        axis_angle = torch.baddbmm(self.mean_pose, mano[..., 6:51], self.components)  # [2, B, 45]
        fingers = matrix_from_axis_angle(axis_angle.unflatten(2, (15, 3)))
        return torch.cat([matrix_from_6d(mano[..., :6])[:, :, None], fingers], dim=2)


def _rest_joints(layer: ManoLayer) -> Tensor:
    """[16, 3] of the mean shape, float64."""
    return layer.th_J_regressor.double() @ layer.th_v_template[0].double()


def _joint_basis(layer: ManoLayer) -> Tensor:
    """[10, 48] joints per beta, float64."""
    return torch.einsum("jv,vak->kja", layer.th_J_regressor.double(), layer.th_shapedirs.double()).flatten(1)


def _vertex_basis(layer: ManoLayer) -> Tensor:
    """[145, 3V] vertices per beta and per element of the bends."""
    return torch.cat([layer.th_shapedirs, layer.th_posedirs], dim=2).flatten(0, 1).T


def _chain(turn: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
    """Forward kinematics of five fingers side by side: turns [2, B, 16, 3, 3] and joints [2, B, 16, 3]."""
    turn_here, joint_here, rest_here = turn[:, :, :1], rest_joints[:, :, :1], rest_joints[:, :, :1]
    fingers, rests = turn[:, :, 1:].unflatten(2, (5, 3)), rest_joints[:, :, 1:].unflatten(2, (5, 3))
    turns, joints = [], []
    for rank in range(3):  # MANO numbers joint by joint along each finger
        rest = rests[:, :, :, rank]
        joint_here = joint_here + (turn_here @ (rest - rest_here)[..., None])[..., 0]  # [2, B, 5, 3]
        turn_here = turn_here @ fingers[:, :, :, rank]  # [2, B, 5, 3, 3]
        rest_here = rest
        turns.append(turn_here)
        joints.append(joint_here)
    return (
        torch.cat([turn[:, :, :1], torch.stack(turns, dim=3).flatten(2, 3)], dim=2),
        torch.cat([rest_joints[:, :, :1], torch.stack(joints, dim=3).flatten(2, 3)], dim=2),
    )


def _skin(coefficients: Tensor, moves: Tensor, basis: Tensor, rest: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning of the vertices whose basis, rest and weights are given: [2, B, V, 3]."""
    posed = torch.baddbmm(rest, coefficients, basis).unflatten(2, (-1, 3))  # [2, B, V, 3]
    blended = (weights[:, None] @ moves).unflatten(3, (3, 4))  # [2, B, V, 3, 4]
    return (blended[..., :3] * posed[..., None, :]).sum(dim=-1) + blended[..., 3]
