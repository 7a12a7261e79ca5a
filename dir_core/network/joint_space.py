"""From the picture into the space of joints: sampling, positions, per-node graph convolution (SPEC §6.1-6.4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dir_core.conventions import KEYPOINT_BONES, KEYPOINTS

JOINT_COUNT = len(KEYPOINTS)

NEIGHBOURS = tuple(sorted([*KEYPOINT_BONES, *((child, parent) for parent, child in KEYPOINT_BONES)]))
"""The 40 directed entries of the hand's adjacency matrix, row by row; e_1 lists its logits in this order."""


def point_embedding(channels: int, width: int) -> nn.Sequential:
    """Two pointwise layers over [B, channels, N] -> [B, width, N]."""
    return nn.Sequential(
        nn.Conv1d(channels, width, 1),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Conv1d(width, width, 1),
    )


class JointSampling(nn.Module):  # type: ignore[misc]
    """Read the image features at the projected joints (SPEC §6.1)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.filters = point_embedding(channels, width)

    def forward(self, features: Tensor, joint_uv: Tensor) -> Tensor:
        """features [B, 256, S, S], joint_uv [B, 21, 2] in -1..1 -> [B, 21, 128]; zeros outside the picture."""
        sampled = functional.grid_sample(
            features, joint_uv[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=False
        )  # [B, 256, 21, 1]
        return self.filters(sampled[..., 0]).transpose(1, 2)


class NodeGraphConvolution(nn.Module):  # type: ignore[misc]
    """Every joint has its own matrices: out_i = x_i W0_i + sum_j A_ij x_j W1_j + bias (SPEC §6.3).

    A is a learned softmax over the neighbours. `e_0` weighs a joint against itself alone, which a softmax
    turns into 1 whatever its value: it changes nothing and its gradient is zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(2, JOINT_COUNT, width, width))
        self.e_0 = nn.Parameter(torch.ones(1, JOINT_COUNT))
        self.e_1 = nn.Parameter(torch.ones(1, len(NEIGHBOURS)))
        self.bias = nn.Parameter(torch.zeros(width))
        for group in self.W.data.unbind(0):
            # Xavier over a whole [21, in, out] block, as if it were one convolution (SPEC §9).
            nn.init.xavier_uniform_(group, gain=1.414)

    def neighbour_weights(self) -> Tensor:
        """A [21, 21], rows sum to one."""
        rows, columns = zip(*NEIGHBOURS, strict=True)
        logits = self.e_1.new_full((JOINT_COUNT, JOINT_COUNT), -9e15)
        logits[list(rows), list(columns)] = self.e_1[0]
        return logits.softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 21, 128] -> [B, 21, 128]."""
        own = self.e_0[0, :, None].softmax(dim=1) * torch.einsum("bni,nio->bno", x, self.W[0])
        others = torch.einsum("bni,nio->bno", x, self.W[1])
        return own + self.neighbour_weights() @ others + self.bias


class GraphLayer(nn.Module):  # type: ignore[misc]
    """Graph convolution, batch norm over the channels, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gconv = NodeGraphConvolution(width)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 21, 128] -> [B, 21, 128]."""
        return functional.relu(self.bn(self.gconv(x).transpose(1, 2)).transpose(1, 2))


class HandGraph(nn.Module):  # type: ignore[misc]
    """Four graph layers over the joints of one hand, without shortcuts."""

    def __init__(self, width: int, layers: int = 4) -> None:
        super().__init__()
        self.gconv_layers = nn.Sequential(*(GraphLayer(width) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 21, 128] -> [B, 21, 128]."""
        return self.gconv_layers(x)
