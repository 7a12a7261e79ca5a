"""DIR (Ren et al., ICCV 2023): both hands of one picture, by a first guess and two refinements."""

from typing import Literal

import torch
from torch import Tensor, nn

from dir_core.conventions import Side
from dir_core.hand_model import HandModel
from dir_core.network.backbone import ResNet50
from dir_core.network.decoder import Decoder
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
        self.hand_models: dict[Side, HandModel] = {"left": left_hand, "right": right_hand}
        self.root_joint = root_joint
        self.legacy_right_init = legacy_right_init
        # One pair for each stage: they hold the same numbers under different keys.
        layers = [(ManoLayer(left_hand, root_joint), ManoLayer(right_hand, root_joint)) for _ in range(3)]
        self.backbone = ResNet50()
        self.init_regressor = InitialRegressor(*layers[0])
        self.decoder = Decoder(layers[1:])
        self.seg_loss = ClassWeights()

    def forward(self, images: Tensor, auxiliary: bool = False, meshes: Literal["all", "last"] = "all") -> DIROutput:
        """Both hands of a batch of crops.

        Args:
            images: [B, 3, 256, 256], normalised RGB crops (SPEC §1).
            auxiliary: also return seg, dense and proj_feat, which training needs.
            meshes: "last" lets the early stages go without their meshes where that saves time.
        """
        return self.plain(images, auxiliary)

    def plain(self, images: Tensor, auxiliary: bool = False) -> DIROutput:
        """The network as it is written in the paper, with gradients; arguments and result as in `forward`."""
        _, c2, c3, c4 = self.backbone(images)
        stage0 = self.init_regressor(c4)
        return self.decoder((c2, c3, c4), stage0, auxiliary, self.legacy_right_init)
