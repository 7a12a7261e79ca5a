"""DIR (Ren et al., ICCV 2023): both hands of one picture, by a first guess and two refinements."""

from typing import Self

import torch
from torch import Tensor, nn

from dir_core.conventions import Side
from dir_core.hand_model import HandModel
from dir_core.network.backbone import ResNet50
from dir_core.network.decoder import Decoder
from dir_core.network.fast import FastDIR, Meshes
from dir_core.network.initial_regressor import InitialRegressor
from dir_core.network.mano_layer import ManoLayer
from dir_core.network.results import DIROutput

SEG_CLASS_WEIGHTS = (0.1, 0.45, 0.45)


class ClassWeights(nn.Module):  # type: ignore[misc]
    """Weights of background and the two hands in the segmentation loss; a checkpoint carries them."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(SEG_CLASS_WEIGHTS))


class DIR(nn.Module):  # type: ignore[misc]
    """The whole network; its state_dict has the 963 keys of the official checkpoints.

    Attributes:
        hand_models: the hands it was built with.
        root_joint: key point that all positions are relative to: 0 wrist (released weights), 9 middle knuckle.
        legacy_right_init: repeat what code before June 2024 did: the first refinement of the right hand is
            handed the LEFT hand's first guess. Weights of October 2023 were trained that way.
    """

    def __init__(
        self,
        left_hand: HandModel,
        right_hand: HandModel,
        root_joint: int = 0,
        legacy_right_init: bool = False,
    ) -> None:
        super().__init__()
        if len(left_hand.template) != len(right_hand.template):
            raise ValueError(
                f"both hands need the same vertices, got {len(left_hand.template)} and {len(right_hand.template)}"
            )
        self._fast: tuple[int, FastDIR] | None = None
        self.hand_models: dict[Side, HandModel] = {"left": left_hand, "right": right_hand}
        self.root_joint = root_joint
        self.legacy_right_init = legacy_right_init
        # One pair for each stage: they hold the same numbers under different keys.
        layers = [(ManoLayer(left_hand, root_joint), ManoLayer(right_hand, root_joint)) for _ in range(3)]
        self.backbone = ResNet50()
        self.init_regressor = InitialRegressor(*layers[0])
        self.decoder = Decoder(layers[1:])
        self.seg_loss = ClassWeights()

    def forward(self, images: Tensor, auxiliary: bool = False, meshes: Meshes = "all") -> DIROutput:
        """Both hands of a batch of crops.

        In eval mode and without gradients the fast path does the work. It is made at the first call, and again
        when weights have changed since.

        Args:
            images: [B, 3, 256, 256], normalised RGB crops (SPEC §1).
            auxiliary: also return seg, dense and proj_feat, which training needs.
            meshes: "last" lets the fast path leave the meshes of the early stages empty.
        """
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.plain(images, auxiliary)
        version = self._weights_version()
        if self._fast is None or self._fast[0] != version:
            self._fast = None  # the old one goes before the new one is made
            self._fast = (version, self.fast().pack())
        fast = self._fast[1]
        fast.legacy_right_init = self.legacy_right_init
        return fast(images, auxiliary, meshes)

    def plain(self, images: Tensor, auxiliary: bool = False) -> DIROutput:
        """The network as it is written in the paper, with gradients; arguments and result as in `forward`."""
        _, c2, c3, c4 = self.backbone(images)
        stage0 = self.init_regressor(c4)
        return self.decoder((c2, c3, c4), stage0, auxiliary, self.legacy_right_init)

    def fast(self, picture_dtype: torch.dtype | None = None) -> FastDIR:
        """A copy for inference, to compile, to export, or to run in bfloat16; see FastDIR."""
        with torch.inference_mode(False):
            return FastDIR(self, picture_dtype)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; training lets go of the fast path's memory."""
        if mode:
            self._fast = None
        return super().train(mode)

    def _weights_version(self) -> int:
        """A number that changes when any weight is written to or replaced."""
        tensors = (*self.parameters(), *self.buffers())
        return hash(tuple((t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version) for t in tensors))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_fast": None}
