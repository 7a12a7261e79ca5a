"""The image backbone: ResNet-50 (He et al. 2016) in its v1.5 form, with torchvision's names of parameters."""

from torch import Tensor, nn
from torch.nn import functional

STAGE_WIDTHS = (64, 128, 256, 512)
STAGE_BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):  # type: ignore[misc]
    """1x1, 3x3, 1x1 convolutions around a shortcut; v1.5 puts the stride on the 3x3 (SPEC §2)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != width * EXPANSION:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width * EXPANSION, 1, stride=stride, bias=False),
                nn.BatchNorm2d(width * EXPANSION),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 4 * width, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):  # type: ignore[misc]
    """Feature maps at a quarter to a 32nd of the picture's size.

    `fc`, the ImageNet classifier, takes no part in the network but belongs to its 963 parameters and buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (width, blocks) in enumerate(zip(STAGE_WIDTHS, STAGE_BLOCKS, strict=True)):
            layer = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(Bottleneck(channels, width, stride))
                channels = width * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.fc = nn.Linear(channels, 1000)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Picture to feature maps.

        Args:
            images: [B, 3, 256, 256], normalised RGB (SPEC §1).

        Returns:
            c1 [B, 256, 64, 64], c2 [B, 512, 32, 32], c3 [B, 1024, 16, 16], c4 [B, 2048, 8, 8].
        """
        x = functional.relu(self.bn1(self.conv1(images)))  # [B, 64, 128, 128]
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # [B, 64, 64, 64]
        c1 = self.layer1(x)
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        return c1, c2, c3, self.layer4(c3)

    def classify(self, images: Tensor) -> Tensor:
        """ImageNet logits [B, 1000] of [B, 3, H, W]: the whole ResNet-50, the yardstick of the benchmark."""
        c4 = self.forward(images)[3]
        return self.fc(c4.mean(dim=(2, 3)))
