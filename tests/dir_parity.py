"""A DIR network with known weights, and what the official code made of it. See data/dir_network/README.md."""

import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

from dir_core.hand_model import load_hand_model
from dir_core.network import DIR

DATA = Path(__file__).parent / "data" / "dir_network"

RECIPE_DIGEST = "f54a606cb409b3c0a9b1ff9e44b89887c5a831f4d9d1edfe4a914897a4492f66"
"""SHA-256 over all weights of the recipe in the order of the state_dict."""

CONSTANTS = (".th_", "img_gird", "seg_loss.weight")
"""Parts of names that belong to the hands or to the architecture and are no weights."""


def recipe_weight(name, shape):
    """The weight of a name: normal noise seeded by the name, scaled so that activations keep their size."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    inputs = math.prod(shape[1:])
    if name.endswith(("mano_left.bias", "mano_right.bias")):
        weight = 0.15 * noise
        weight[:6] += [1, 0, 0, 0, 1, 0]
        weight[61] += 5
        weight[62] += -0.45 if name.endswith("left.bias") else 0.45
    elif name.endswith(("mano_left.weight", "mano_right.weight")):
        weight = (2 if inputs == 2048 else 0.8) * noise / np.sqrt(inputs)
        weight[:6] *= 0.5
        weight[61:] *= 0.3
    elif name.endswith(".gconv.W"):
        weight = 1.5 * noise / np.sqrt(2 * shape[-2])
    elif name.endswith("running_var"):
        weight = np.exp(0.2 * noise)
    elif name.endswith("spatial_pos_embed"):
        weight = 0.2 * noise
    elif name.endswith((".e_0", ".e_1")):
        weight = 1 + 0.5 * noise
    elif name.endswith("running_mean") or (len(shape) == 1 and name.endswith("bias")):
        weight = 0.1 * noise
    elif len(shape) == 1:
        weight = _norm_size(name) * (1 + 0.1 * noise)
    else:
        weight = _gain(name) * noise / np.sqrt(inputs)
    return weight.astype(np.float32)


def _norm_size(name):
    if name.startswith("backbone.") and name.endswith("bn3.weight"):
        return 0.3
    return 0.8 if name.startswith("backbone.") and name.endswith("downsample.1.weight") else 1.0


def _gain(name):
    if name.startswith("backbone.") and not name.endswith(("conv3.weight", "downsample.0.weight", "fc.weight")):
        return 2.0**0.5
    if name.endswith(".fusion.0.weight"):
        return 4.0
    return 2.5 if ".img2joint_" in name and name.endswith("filters.3.weight") else 1.0


def is_weight(name):
    return not any(part in name for part in CONSTANTS)


@functools.cache
def official_entries():
    """[name, shape, type] of everything in an official checkpoint, in order."""
    return json.loads((DATA / "state_dict.json").read_text())


def synthetic_hands():
    return [load_hand_model(DATA / f"MANO_{side}.synthetic.npz") for side in ("LEFT", "RIGHT")]


@functools.cache
def parity_network():
    """The network of the reference outputs, float32, in eval mode. Shared by all tests: leave it as it is."""
    network = DIR(*synthetic_hands())
    weights = network.state_dict()
    for name, tensor in weights.items():
        if is_weight(name):
            tensor.copy_(torch.from_numpy(np.asarray(recipe_weight(name, tuple(tensor.shape)))))
    network.load_state_dict(weights)
    return network.eval()


def pictures(dtype=torch.float32):
    """Three pictures [3, 3, 256, 256] as the network takes them."""
    rgb = np.load(DATA / "pictures.npz")["rgb_u8"].astype(np.float32) / np.float32(255)
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(((rgb - mean) / deviation).transpose(0, 3, 1, 2).copy()).to(dtype)


OFFICIAL_NAMES = {
    "mano_pose": lambda hand: hand.pose,
    "mano_beta": lambda hand: hand.betas,
    "proj": lambda hand: hand.weak_perspective,
    "mano_para": lambda hand: hand.mano,
    "joint_uv": lambda hand: hand.joint_uv,
    "joint_xyz": lambda hand: hand.joint_xyz,
    "mesh_uv": lambda hand: hand.mesh_uv[:, ::16],
    "mesh_xyz": lambda hand: hand.mesh_xyz[:, ::16],
}


def errors(output, reference, rows):
    """Largest difference to rows of a reference file, by the quantity's name; joint_feat is no output."""
    worst = {}
    for name in reference.files:
        if ".joint_feat" in name:
            continue
        short = name.split(".")[-1].split("[")[0].removeprefix("pd_")
        if short in {"seg", "dense", "proj_feat"}:
            found = getattr(output, short)
            if found is None:
                continue
            found = found[:, 7::160] if short == "proj_feat" else found
        elif short == "offset":
            found = output.stages[int(name[5])].offset
        else:
            short, _, side = short.rpartition("_")
            found = OFFICIAL_NAMES[short](getattr(output.stages[int(name[5])], side))
        difference = np.abs(found.double().numpy() - reference[name][rows]).max()
        worst[short] = max(worst.get(short, 0.0), float(difference))
    return worst


def differences(found, wanted):
    """Largest difference between two outputs, by the quantity's name; meshes that were left out are skipped."""
    worst = {}

    def note(name, a, b):
        if a is not None and b is not None and a.shape == b.shape:
            worst[name] = max(worst.get(name, 0.0), float((a - b).abs().max()))

    for stage, other in zip(found.stages, wanted.stages, strict=True):
        note("offset", stage.offset, other.offset)
        for side in ("left", "right"):
            for name in ("joint_uv", "joint_xyz", "mesh_uv", "mesh_xyz", "mano"):
                note(name, getattr(getattr(stage, side), name), getattr(getattr(other, side), name))
    for name in ("seg", "dense", "proj_feat"):
        note(name, getattr(found, name), getattr(wanted, name))
    return worst
