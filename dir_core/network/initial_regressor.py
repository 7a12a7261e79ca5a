"""Stage 0: a first guess of both hands from the coarsest feature map (SPEC §3)."""

from torch import Tensor, nn

from dir_core.network.mano_layer import ManoLayer
from dir_core.network.regressor import MANO_COUNT, pose_hand
from dir_core.network.results import StageResult


def attention_head(channels: int) -> nn.Sequential:
    """[B, channels, 8, 8] -> one number per place; the sigmoid over it says where the hand is."""
    return nn.Sequential(
        nn.Conv2d(channels, channels // 2, 3, padding=1),
        nn.BatchNorm2d(channels // 2),
        nn.ReLU(),
        nn.Conv2d(channels // 2, 1, 1),
        nn.Sigmoid(),
    )


class InitialRegressor(nn.Module):  # type: ignore[misc]
    """Pool the map where a hand's attention lies, then regress that hand's parameters."""

    def __init__(self, mano_layer_left: ManoLayer, mano_layer_right: ManoLayer, channels: int = 2048) -> None:
        super().__init__()
        self.mano_layer_right = mano_layer_right
        self.mano_layer_left = mano_layer_left
        self.attention_left = attention_head(channels)
        self.attention_right = attention_head(channels)
        self.offset = nn.Linear(channels, 3)
        self.mano_left = nn.Linear(channels, MANO_COUNT)
        self.mano_right = nn.Linear(channels, MANO_COUNT)

    def forward(self, c4: Tensor) -> StageResult:
        """c4 [B, 2048, 8, 8] -> both hands."""
        left = attended_mean(c4, self.attention_left(c4))  # [B, 2048]
        right = attended_mean(c4, self.attention_right(c4))
        return StageResult(
            left=pose_hand(self.mano_layer_left, self.mano_left(left)),
            right=pose_hand(self.mano_layer_right, self.mano_right(right)),
            offset=self.offset(c4.mean(dim=(2, 3))),
        )


def attended_mean(features: Tensor, attention: Tensor) -> Tensor:
    """Mean [B, C] of features [B, C, H, W] weighted by attention [B, 1, H, W]."""
    total = attention.sum(dim=(2, 3)) + 1e-8  # [B, 1]
    return (features * attention).sum(dim=(2, 3)) / total
