"""The DIR network (Ren et al., ICCV 2023): two interacting hands from one picture. Needs torch."""

from dir_core.network.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from dir_core.network.model import DIR
from dir_core.network.results import OFFSET_UNIT, DIROutput, HandResult, StageResult

__all__ = [
    "DIR",
    "OFFSET_UNIT",
    "DIROutput",
    "HandResult",
    "StageResult",
    "load_checkpoint",
    "save_checkpoint",
    "weights_digest",
]
