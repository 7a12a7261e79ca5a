"""Runs the DIR network on crops in batches on the best device; survives running out of memory. Needs torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dir_core.errors import SettingsError
from dir_core.network.crop import network_input
from dir_core.network.results import OFFSET_UNIT, DIROutput

Array = NDArray[Any]

DEVICES = ("auto", "cuda", "mps", "cpu")
_BATCH = {"cpu": 8, "mps": 8, "cuda": 16}

_FULLY_SHOWN = 0.4  # mean probability over the joints from which on a hand counts as shown: others hide half of it
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def choose_device(name: str) -> torch.device:
    """The torch device of a name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        SettingsError: there is no such device here.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(each for each, is_there in present.items() if is_there))
    if not present.get(name):
        good = ", ".join(["auto", *(each for each, is_there in present.items() if is_there)])
        raise SettingsError(f"The estimator 'dir' cannot run on {name!r} here, choose one of: {good}.")
    return torch.device(name)


class BatchedNetwork:
    """The network on one device, fed in batches.

    Where memory runs out the batch is halved, and a single picture that does not fit goes to the CPU for good.
    """

    def __init__(self, network: nn.Module, device: torch.device, batch: int | None, warn: Callable[[str], None]):
        """Move the network to a device, to be fed `batch` crops at a time; None takes what suits the device."""
        self._network = network.to(device)
        self._device = device
        self._batch = batch or _BATCH[device.type]
        self._warn = warn

    def ask(self, crops: Array, check: bool) -> dict[str, Array]:
        """What the network says about crops.

        Args:
            crops: [N, 256, 256, 3] uint8 RGB.
            check: whether the segmentation has to show the hands.

        Returns:
            uv [N, 2, 21, 2], change [N, 2, 21] of the last refinement in extents of the hand, xyz [N, 2, 21, 3]
            metres, mano [N, 2, 64], offset [N, 3] metres, shown [N, 2]; all float32, left hand first.
        """
        parts: list[dict[str, Array]] = []
        start = 0
        while start < len(crops):
            batch = crops[start : start + self._batch]
            try:
                parts.append(self._ask_batch(batch, check))
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._retreat(len(batch))
                continue
            start += len(batch)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _ask_batch(self, crops: Array, check: bool) -> dict[str, Array]:
        images = torch.from_numpy(network_input(crops)).to(self._device)
        with torch.inference_mode():
            output: DIROutput = self._network(images, auxiliary=check, meshes="last")
            return {name: value.float().cpu().numpy() for name, value in _collect(output).items()}

    def _retreat(self, batch: int) -> None:
        """Take smaller batches, or the CPU.

        Raises:
            SettingsError: not even one picture fits into the memory of the CPU.
        """
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if batch > 1:
            self._batch = batch // 2
            self._warn(f"Memory of {self._device.type} ran out, the batch went down to {self._batch}.")
        elif self._device.type != "cpu":
            self._warn(f"Memory of {self._device.type} ran out for a single picture, the capture went on on the CPU.")
            self._device = torch.device("cpu")
            self._network = self._network.to(self._device)
        else:
            raise SettingsError("There is not enough memory for the DIR network, close other programs (it needs 2 GB).")


def _collect(output: DIROutput) -> dict[str, Tensor]:
    before, last = output.stages[-2], output.stages[-1]
    uv = torch.stack([last.left.joint_uv, last.right.joint_uv], dim=1)
    uv_before = torch.stack([before.left.joint_uv, before.right.joint_uv], dim=1)
    extent = (uv.amax(dim=2) - uv.amin(dim=2)).amax(dim=-1).clamp_min(1e-3)  # [N, 2]
    return {
        "uv": uv,
        "change": (uv - uv_before).norm(dim=-1) / extent[..., None],
        "xyz": torch.stack([last.left.joint_xyz, last.right.joint_xyz], dim=1),
        "mano": torch.stack([last.left.mano, last.right.mano], dim=1),
        "offset": OFFSET_UNIT * last.offset,
        "shown": uv.new_zeros(uv.shape[:2]) if output.seg is None else shown_hands(output.seg, uv),
    }


def shown_hands(seg: Tensor, uv: Tensor) -> Tensor:
    """How far the segmentation shows each hand at its key points, [N, 2] in 0..1.

    Which of the two hand classes is the left hand differs between data sets, so the classes go to the hands
    in the way that fits better. A hand that is made up on top of the other one finds no pixel of its own class.

    Args:
        seg: [N, 3, S, S] logits of background and the two hands.
        uv: [N, 2, 21, 2] key points of the left and the right hand.
    """
    likely = seg.float().softmax(dim=1)[:, 1:]
    at = torch.nn.functional.grid_sample(likely, uv.float(), align_corners=False).mean(dim=-1)  # [N, class, hand]
    same, swapped = torch.diagonal(at, dim1=1, dim2=2), torch.diagonal(at.flip(1), dim1=1, dim2=2)
    better = same.sum(dim=1, keepdim=True) >= swapped.sum(dim=1, keepdim=True)
    return (torch.where(better, same, swapped) / _FULLY_SHOWN).clamp(0, 1)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
