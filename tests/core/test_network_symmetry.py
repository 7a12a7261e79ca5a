"""A mirrored network on mirrored features gives the mirrored hands.

From the feature maps on, not from the picture: the backbone halves the picture five times with kernels centred on
every other pixel of an even width. Mirrored, those centres fall between the mirrored pixels, so no choice of weights
makes a strided ResNet-50 exactly symmetric.
"""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dir_parity import parity_network, pictures  # noqa: E402

from dir_core.network import DIR  # noqa: E402

OTHER = {"left": "right", "right": "left"}

# What happens to each parameter when x turns into -x. A rotation R becomes S R S with S = diag(-1, 1, 1).
MANO_SIGNS = torch.ones(64, dtype=torch.float64)
MANO_SIGNS[[1, 2, 3]] = -1  # columns of R: x -> -S x, y -> S y
MANO_SIGNS[62] = -1  # pose coefficients, betas and scale stay, they belong to mirrored hands
OFFSET_SIGNS = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)  # right minus left: -S (right - left)


def mirrored_hand(hand):
    """The hand of the other side. A rotation vector v becomes -S v, so components and mean turn about x alone."""
    flip, axial = np.array([-1.0, 1.0, 1.0]), np.array([1.0, -1.0, -1.0])
    bend = np.einsum("a,r,c->arc", flip, flip, flip).reshape(3, 9)  # of entry (r, c) of R - 1 onto axis a
    return dataclasses.replace(
        hand,
        side=OTHER[hand.side],
        template=hand.template * flip,
        shape_directions=hand.shape_directions * flip[:, None],
        pose_directions=hand.pose_directions * np.tile(bend, 15),
        components=hand.components * np.tile(axial, 15),
        mean_pose=hand.mean_pose * np.tile(axial, 15),
    )


def other_hand_name(name):
    return name.replace("left", "?").replace("right", "left").replace("?", "right")


def mirrored_weight(name, weight):
    """The weight that does in a mirrored world what `weight` does in this one."""
    weight = weight.clone()
    if weight.shape[2:] == (3, 3):
        weight = weight.flip(-1)
    if name.endswith(".fusion.0.weight"):
        weight = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)  # the hands' channels change places
    elif "pos_emb" in name and name.endswith(".0.weight"):
        weight[:, 0] *= -1
    elif name.endswith("spatial_pos_embed"):
        weight = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)
    elif ".mano_" in name and "layer" not in name:
        weight = torch.einsum("o,o...->o...", MANO_SIGNS, weight)
        if weight.shape[-1] == 1408:
            weight[:, 1344:] *= MANO_SIGNS
    elif ".offset." in name:
        weight = torch.einsum("o,o...->o...", OFFSET_SIGNS, weight)
        if weight.shape[-1] == 2691:
            weight = torch.cat([weight[:, 1344:2688], weight[:, :1344], weight[:, 2688:] * OFFSET_SIGNS], dim=1)
    elif name.startswith("decoder.seg.3"):
        weight = weight[[0, 2, 1]]
    return weight


@pytest.fixture(scope="module")
def outputs():
    """What the network makes of feature maps, and what the mirrored one makes of the mirrored maps; float64."""
    network = parity_network()
    with torch.no_grad():
        maps = [features.double() for features in network.backbone(pictures()[:1])[1:]]
    head = copy.deepcopy(torch.nn.ModuleList([network.init_regressor, network.decoder])).double()
    hands = {side: mirrored_hand(network.hand_models[OTHER[side]]) for side in ("left", "right")}
    with torch.device("meta"):
        other = DIR(hands["left"], hands["right"])
    other = torch.nn.ModuleDict({"init_regressor": other.init_regressor, "decoder": other.decoder})
    weights = {}
    for prefix, module in zip(("init_regressor", "decoder"), head, strict=True):
        for name, weight in module.state_dict(prefix=f"{prefix}.").items():
            if ".th_" not in name:
                weights[other_hand_name(name)] = mirrored_weight(name, weight)
    for name, module in other.named_modules():
        if name.endswith(("mano_layer_left", "mano_layer_right")):
            fresh = type(module)(hands[name.rpartition("_")[2]]).double()
            weights |= {f"{name}.{key}": tensor for key, tensor in fresh.state_dict().items()}
    other.load_state_dict(weights, assign=True)
    other.eval()
    with torch.no_grad():
        plain = head[1](maps, head[0](maps[-1]), auxiliary=True)
        flipped = [features.flip(-1) for features in maps]
        mirrored = other["decoder"](flipped, other["init_regressor"](flipped[-1]), auxiliary=True)
    return plain, mirrored


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("side", OTHER)
def test_mirrored_features_give_mirrored_hands(outputs, stage, side):
    # Two epsilons know left from right: 1e-8 in the rotation vectors, and 1e-6 pixels in the bones' distances,
    # which reach stage 2 through the picture.
    limit = 1e-6 if stage == 2 else 1e-7
    hand, mirrored = getattr(outputs[0].stages[stage], side), getattr(outputs[1].stages[stage], OTHER[side])
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert (hand.joint_xyz * flip - mirrored.joint_xyz).abs().max() < limit
    assert (hand.mesh_xyz * flip - mirrored.mesh_xyz).abs().max() < limit
    assert (hand.joint_uv * flip[:2] - mirrored.joint_uv).abs().max() < 10 * limit
    assert (hand.mano * MANO_SIGNS - mirrored.mano).abs().max() < 10 * limit
    # The two hands are not each other's mirror image to begin with.
    same = getattr(outputs[0].stages[stage], OTHER[side])
    assert (hand.joint_xyz * flip - same.joint_xyz).abs().max() > 1e-2


def test_offset_and_maps_are_mirrored(outputs):
    plain, mirrored = outputs
    for stage, other in zip(plain.stages, mirrored.stages, strict=True):
        assert (stage.offset * OFFSET_SIGNS - other.offset).abs().max() < 1e-5
    assert (plain.seg.flip(-1)[:, [0, 2, 1]] - mirrored.seg).abs().max() < 1e-4
    assert (plain.dense.flip(-1) - mirrored.dense).abs().max() < 1e-4
