"""The fast path on CUDA as one recorded graph: no Python and no launch cost between some 700 kernels."""

import torch
from torch import Tensor

from dir_core.network.fast import FastDIR, Meshes
from dir_core.network.results import DIROutput


class GraphedDIR:
    """A FastDIR on a CUDA device, recorded for one batch size.

    The outputs live in the graph's own memory: the next call overwrites them, so whoever keeps them clones them.
    TF32 is left as PyTorch has it: allowed in convolutions, which is the picture's plane, not in matrix products,
    which are the geometry.
    """

    def __init__(self, fast: FastDIR, batch: int, auxiliary: bool = False, meshes: Meshes = "last") -> None:
        device = fast.interaction3.pixels.device
        if device.type != "cuda":
            raise ValueError(f"CUDA graphs need a network on a CUDA device, this one is on {device}")
        self.images = torch.zeros(batch, 3, 256, 256, device=device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            # cuDNN chooses its kernels and memory is allocated before anything is recorded.
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(3):
                    fast(self.images, auxiliary, meshes)
            torch.cuda.current_stream(device).wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self.output: DIROutput = fast(self.images, auxiliary, meshes)
        self._fast = fast  # its weights are what the graph reads

    def __call__(self, images: Tensor) -> DIROutput:
        """[batch, 3, 256, 256] on any device -> the output, valid until the next call."""
        if images.shape != self.images.shape:
            raise ValueError(f"this graph takes {list(self.images.shape)}, got {list(images.shape)}")
        self.images.copy_(images, non_blocking=True)
        self._graph.replay()
        return self.output
