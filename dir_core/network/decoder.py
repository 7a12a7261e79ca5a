"""From the backbone's maps through both refinements to the auxiliary maps (SPEC §4, §5)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dir_core.network.interaction import Interaction
from dir_core.network.mano_layer import ManoLayer
from dir_core.network.results import DIROutput, StageResult


class Convolution(nn.Module):  # type: ignore[misc]
    """A convolution under the name `conv`, which the checkpoints' keys ask for."""

    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out_channels, H, W]."""
        return self.conv(x)


class Residual(nn.Module):  # type: ignore[misc]
    """Pre-activation bottleneck with a 1x1 convolution as its shortcut (SPEC §4)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = Convolution(channels, half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = Convolution(half, half, 3)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv3 = Convolution(half, out_channels, 1)
        self.skip_layer = Convolution(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out_channels, H, W]."""
        shortcut = self.skip_layer(x)
        x = self.conv1(functional.relu(self.bn1(x)))
        x = self.conv2(functional.relu(self.bn2(x)))
        return self.conv3(functional.relu(self.bn3(x))) + shortcut


def map_head(channels: int, width: int, out_channels: int, bias: bool) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU, 1x1 convolution: [B, channels, S, S] -> [B, out_channels, S, S]."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=bias),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, out_channels, 1),
    )


def upsample(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W]."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Decoder(nn.Module):  # type: ignore[misc]
    """Stages 1 and 2 at 16x16 and 32x32, then the maps that only training looks at."""

    def __init__(self, mano_layers: list[tuple[ManoLayer, ManoLayer]]) -> None:
        """Take the left and the right layer of stage 1, then those of stage 2."""
        super().__init__()
        self.skip_layer4 = Residual(1024, 256)
        self.fusion_layer4 = Residual(2048 + 256, 256)
        self.projecter_4 = Interaction(*mano_layers[0], size=16, bone_radius=1)
        self.enhance_layer4 = Residual(2 * 256, 256)
        self.skip_layer3 = Residual(512, 256)
        self.fusion_layer3 = Residual(2 * 256, 256)
        self.projecter_3 = Interaction(*mano_layers[1], size=32, bone_radius=2)
        self.enhance_layer3 = Residual(2 * 256, 256)
        self.conv_final = map_head(256, 256, 256, bias=False)
        self.seg = map_head(256, 128, 3, bias=True)
        self.dense = map_head(256, 128, 3, bias=True)

    def forward(
        self,
        maps: tuple[Tensor, Tensor, Tensor],
        stage0: StageResult,
        auxiliary: bool = False,
        legacy_right_init: bool = False,
    ) -> DIROutput:
        """Refine stage 0 twice.

        Args:
            maps: c2 [B, 512, 32, 32], c3 [B, 1024, 16, 16] and c4 [B, 2048, 8, 8] of the backbone.
            stage0: the first guess.
            auxiliary: also compute seg, dense and proj_feat; the hands do not depend on them.
            legacy_right_init: see Interaction.
        """
        c2, c3, c4 = maps
        f4 = self.fusion_layer4(torch.cat([upsample(c4), self.skip_layer4(c3)], dim=1))  # [B, 256, 16, 16]
        stage1, joints1 = self.projecter_4(f4, stage0, legacy_right_init)
        g4 = self.projecter_4.fuse(*self.projecter_4.draw(joints1, stage1))
        e4 = self.enhance_layer4(torch.cat([f4, g4], dim=1))

        f3 = self.fusion_layer3(torch.cat([upsample(e4), self.skip_layer3(c2)], dim=1))  # [B, 256, 32, 32]
        stage2, joints2 = self.projecter_3(f3, stage1)
        stages = (stage0, stage1, stage2)
        if not auxiliary:
            return DIROutput(stages)
        drawn_left, drawn_right = self.projecter_3.draw(joints2, stage2)  # [B, 1280, 32, 32] each
        g3 = self.projecter_3.fuse(drawn_left, drawn_right)
        e3 = self.conv_final(self.enhance_layer3(torch.cat([f3, g3], dim=1)))
        return DIROutput(stages, seg=self.seg(e3), dense=self.dense(e3), proj_feat=drawn_left + drawn_right)
