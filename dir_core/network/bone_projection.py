"""Joint features drawn back into the picture along the bones, one channel group per bone (SPEC §6.7).

Hands and bones keep their own channels, so hands that overlap in the picture never mix: this is the
"obfuscation-free" projection of the DIR paper.
"""

import torch
from torch import Tensor

from dir_core.conventions import KEYPOINT_BONES

PARENTS = tuple(parent for parent, _ in KEYPOINT_BONES)
"""Joint at the near end of each of the 20 bones; the far end of bone k is joint k + 1."""


def bone_weights(joint_uv: Tensor, pixels: Tensor, size: int, radius: float) -> tuple[Tensor, Tensor]:
    """How much of each bone end's feature every pixel takes.

    Args:
        joint_uv: [B, 21, 2] in -1..1.
        pixels: [S * S, 2] pixel centres, row by row.
        size: S, pixels along a side.
        radius: half width of a bone, pixels.

    Returns:
        parent and child weights [B, 20, S * S]; both are zero off the bone and add up to one on it.
    """
    joints = (joint_uv + 1) / 2 * size
    parent = joints[:, list(PARENTS), None]  # [B, 20, 1, 2]
    child = joints[:, 1:, None]
    on_bone = within(parent.detach(), child.detach(), pixels, radius)
    # 1e-6 on every component of the difference: the distance never has an infinite gradient.
    to_parent = torch.linalg.vector_norm(pixels - parent + 1e-6, dim=-1)  # [B, 20, S * S]
    to_child = torch.linalg.vector_norm(pixels - child + 1e-6, dim=-1)
    total = to_parent + to_child
    nothing = torch.zeros_like(total)
    return (
        torch.where(on_bone, 1 - to_parent / total, nothing),
        torch.where(on_bone, 1 - to_child / total, nothing),
    )


def within(parent: Tensor, child: Tensor, pixels: Tensor, radius: float) -> Tensor:
    """Whether a pixel lies closer than `radius` to the segment: [B, 20, 1, 2] x2, [S * S, 2] -> [B, 20, S * S].

    A bone of length zero has no direction; its distances are NaN, which is not closer than anything.
    """
    along = child - parent
    along = along / torch.linalg.vector_norm(along, dim=-1, keepdim=True)
    before = ((parent - pixels) * along).sum(dim=-1)  # how far the pixel lies before the near end
    behind = ((pixels - child) * along).sum(dim=-1)  # how far behind the far end
    beyond = torch.maximum(before, behind).clamp(min=0)
    difference = pixels - parent
    across = difference[..., 0] * along[..., 1] - difference[..., 1] * along[..., 0]
    return torch.hypot(beyond, across) < radius


def draw_bones(features: Tensor, joint_uv: Tensor, pixels: Tensor, size: int, radius: float) -> Tensor:
    """The picture of one hand's bones.

    Args:
        features: [B, 21, 64] per joint.
        joint_uv: [B, 21, 2] in -1..1.
        pixels: [S * S, 2] pixel centres.
        size: S.
        radius: half width of a bone, pixels.

    Returns:
        [B, 20 * 64, S, S], bone by bone.
    """
    near, far = bone_weights(joint_uv, pixels, size, radius)
    drawn = (
        near[:, :, None] * features[:, list(PARENTS), :, None] + far[:, :, None] * features[:, 1:, :, None]
    )  # [B, 20, 64, S * S]
    return drawn.flatten(1, 2).unflatten(2, (size, size))
