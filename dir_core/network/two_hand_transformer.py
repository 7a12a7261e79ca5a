"""Attention between the 42 joints of both hands (SPEC §6.5)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = 4
BLOCKS = 4
FIRST_BLOCK = 1
"""Block 0 belongs to every checkpoint but takes no part."""


class SelfAttention(nn.Module):  # type: ignore[misc]
    """Multi-head attention with one matrix for queries, keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 42, 128] -> [B, 42, 128]."""
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # each [B, 4, 42, 32]
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)  # [B, 4, 42, 42]
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):  # type: ignore[misc]
    """Two linear layers around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 42, 128] -> [B, 42, 128]."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):  # type: ignore[misc]
    """Attention and MLP, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 42, 128] -> [B, 42, 128]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TwoHandTransformer(nn.Module):  # type: ignore[misc]
    """Three blocks with one shared layer norm behind each, then a linear head."""

    def __init__(self, tokens: int, width: int, features: int) -> None:
        super().__init__()
        self.spatial_pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.STEblocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.spatial_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, features))

    def forward(self, x: Tensor) -> Tensor:
        """Joints of both hands [B, 42, 128], left first -> joint features [B, 42, 64]."""
        x = x + self.spatial_pos_embed
        for block in self.STEblocks[FIRST_BLOCK:]:
            x = self.spatial_norm(block(x))
        return self.head(x)
