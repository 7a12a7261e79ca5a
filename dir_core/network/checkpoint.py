"""Weights of the DIR network from a file: the official .pth and this project's own .safetensors."""

import os

from dir_core.network.model import DIR


def load_checkpoint(path: str | os.PathLike[str], *, legacy_right_init: bool | None = None) -> DIR:
    """The network of a checkpoint, in eval mode; see the final version for what is checked."""
    raise NotImplementedError


def weights_digest(network: DIR) -> str:
    """SHA-256 over names, types and values of all weights."""
    raise NotImplementedError
