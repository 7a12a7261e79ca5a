"""Weights of the DIR network from a file: the official .pth and this project's own .safetensors.

Nothing in a file is ever executed: .pth files go through torch's weights_only reader, which builds tensors and
plain containers and refuses everything else. The official files carry the MANO arrays the network was trained
with, so no other hand file is needed; the x of the left hand's shape components is already right in them.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dir_core.conventions import JOINTS, SHAPE_COUNT, SIDES, TIP_VERTICES, Side
from dir_core.errors import CheckpointError, OutputError
from dir_core.hand_model import MANO_LICENCE, HandModel
from dir_core.network.model import DIR

FORMAT = "two-hand-capture/dir/1"
"""What `save_checkpoint` writes into the metadata of its files."""

_NAMES_SHOWN = 3
_MANO_VERTICES, _MANO_FACES = 778, 1538
_MOST_VERTICES = 100_000
_POSE_COUNT = 3 * (len(JOINTS) - 1)


def load_checkpoint(path: str | os.PathLike[str], *, legacy_right_init: bool | None = None) -> DIR:
    """The network of a checkpoint, on the CPU, in eval mode.

    Args:
        path: an official .pth with `net` (or a bare state_dict), or a .safetensors file of this project.
        legacy_right_init: True for the official weights of October 2023, False for those of June 2024. None
            takes what the file says. Only this project's own files say it: the official ones hold the same
            keys and shapes in both versions, so they count as the current one.

    Raises:
        CheckpointError: the file is missing, damaged, not trusted, or does not hold this network.
    """
    path = Path(path)
    weights, metadata = _read_file(path)
    network = _empty_network(path, weights, metadata)
    _check_weights(path, weights, network)
    weights = {name: _own_copy(weights[name], wanted) for name, wanted in network.state_dict().items()}
    broken = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise _wrong(path, f"values that are not finite in {_enumerate(broken)}")
    network.load_state_dict(weights, assign=True)
    network.hand_models = {side: _hand_model(path, weights, metadata, side) for side in SIDES}
    network.legacy_right_init = (
        metadata.get("legacy_right_init") == "true" if legacy_right_init is None else legacy_right_init
    )
    return network.eval()


def save_checkpoint(network: DIR, path: str | os.PathLike[str], notes: Mapping[str, str] | None = None) -> None:
    """Write the network's weights and hand models as .safetensors, whole or not at all.

    Args:
        network: the network; its hand models go into the file and so does their licence.
        path: the file, an existing one is replaced.
        notes: further lines for the metadata, such as the training run.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    hand = network.hand_models["right"]
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "root_joint": str(network.root_joint),
        "legacy_right_init": "true" if network.legacy_right_init else "false",
        "hand_model": hand.name,
        "hand_model_licence": hand.licence,
    }
    unfinished = path.with_name(f"{path.name}.part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, unfinished, metadata)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise OutputError(f"Cannot write the weights to {path}: {error}; choose another place.") from error


def weights_digest(network: DIR) -> str:
    """SHA-256 over names, types, shapes and values of the state_dict: the identity of the weights in a Take."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _wrong(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is no DIR checkpoint: it has {what}; choose the .pth of DIR or a file trained here."
    )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or not a file of weights; get it again.")


def _enumerate(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# Reading


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state_dict and the metadata of a file of either kind."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise CheckpointError(f"There are no weights at {path}, check the path.") from None
    except OSError as error:
        raise CheckpointError(f"Cannot read the weights {path}: {error.strerror}; choose another file.") from error
    if start[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return _read_safetensors(path)
    return _read_pth(path, is_archive=start.startswith(b"PK")), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path) from error


def _read_pth(path: Path, is_archive: bool) -> dict[str, Tensor]:
    try:
        # Mapped, so that the optimizer's state, two thirds of an official file, is never read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except MemoryError:
        raise
    # A damaged archive can fail anywhere in the reader; whatever the way, nothing in it has run.
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise _damaged(path) from error
        raise CheckpointError(
            f"{path} is not trusted: it asks to run {asked[1]}, which weights never need, and nothing was run; "
            "get the file from its official site."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("net"), Mapping):
        content = content["net"]
    if not isinstance(content, Mapping) or not content:
        raise _wrong(path, "no state_dict under the name net")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise _wrong(path, "other things than named tensors where the weights should be")
    return _without_prefix(content)


def _without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DataParallel puts `module.` before every name."""
    prefix = "module."
    if all(name.startswith(prefix) for name in weights):
        return {name[len(prefix) :]: tensor for name, tensor in weights.items()}
    return dict(weights)


# Checking


def _empty_network(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> DIR:
    """A network without storage, for hands with as many vertices and faces as the file's."""
    root_joint = metadata.get("root_joint", "0")
    if root_joint not in {str(joint) for joint in range(21)}:
        raise _wrong(path, f"the root joint {root_joint[:20]}, which no hand has")
    left, right = (_blank_hand(path, weights, side) for side in SIDES)
    with torch.device("meta"):
        return DIR(left, right, root_joint=int(root_joint))


def _blank_hand(path: Path, weights: Mapping[str, Tensor], side: Side) -> HandModel:
    """Zeros in the sizes of a file's hand; MANO's own sizes where the file has none."""
    layer = f"init_regressor.mano_layer_{side}."
    template, faces = weights.get(f"{layer}th_v_template"), weights.get(f"{layer}th_faces")
    count = _MANO_VERTICES if template is None or template.dim() != 3 else template.shape[1]
    face_count = _MANO_FACES if faces is None or faces.dim() != 2 else faces.shape[0]
    if not max(TIP_VERTICES[side]) < count <= _MOST_VERTICES or face_count > 3 * _MOST_VERTICES:
        raise _wrong(path, f"a {side} hand of {count} vertices and {face_count} faces")
    return HandModel(
        name="",
        licence="",
        side=side,
        template=np.zeros((count, 3)),
        shape_directions=np.zeros((count, 3, SHAPE_COUNT)),
        pose_directions=np.zeros((count, 3, 3 * _POSE_COUNT)),
        joint_regressor=np.zeros((len(JOINTS), count)),
        weights=np.zeros((count, len(JOINTS))),
        faces=np.zeros((face_count, 3), np.int64),
        components=np.zeros((_POSE_COUNT, _POSE_COUNT)),
        mean_pose=np.zeros(_POSE_COUNT),
        tip_vertices=TIP_VERTICES[side],
        uv=None,
        uv_faces=None,
        digest="",
    )


def _check_weights(path: Path, weights: Mapping[str, Tensor], network: DIR) -> None:
    """Every name, shape and kind of number is the network's own, nothing is left over."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"{len(missing)} of {len(expected)} entries missing ({_enumerate(missing)})")
        if unexpected:
            parts.append(f"{len(unexpected)} unknown ones ({_enumerate(unexpected)})")
        raise _wrong(path, " and ".join(parts))
    for name, wanted in expected.items():
        found = weights[name]
        if found.shape != wanted.shape:
            raise _wrong(path, f"{name} in shape {list(found.shape)} instead of {list(wanted.shape)}")
        is_plain = found.layout == torch.strided and found.device.type == "cpu" and not found.is_quantized
        if not is_plain or found.is_floating_point() != wanted.is_floating_point() or found.is_complex():
            raise _wrong(path, f"{name} as {found.dtype} instead of {wanted.dtype}")


def _own_copy(tensor: Tensor, wanted: Tensor) -> Tensor:
    """The values in memory of their own, so that the file is let go."""
    return tensor.detach().to(wanted.dtype, copy=True).contiguous()


def _hand_model(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str], side: Side) -> HandModel:
    """The hand that the network of a checkpoint poses, for everything that works with its vertices later."""
    layer = f"init_regressor.mano_layer_{side}.th_"

    def read(name: str, kind: Any = np.float64) -> Any:
        return weights[layer + name].numpy().astype(kind)

    arrays = {
        "template": read("v_template")[0],
        "shape_directions": read("shapedirs"),
        "pose_directions": read("posedirs"),
        "joint_regressor": read("J_regressor"),
        "weights": read("weights"),
        "faces": read("faces", np.int64),
        "components": read("comps"),
        "mean_pose": read("hands_mean")[0],
    }
    if arrays["faces"].min(initial=0) < 0 or arrays["faces"].max(initial=0) >= len(arrays["template"]):
        raise _wrong(path, f"a face of the {side} hand that points to no vertex")
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return HandModel(
        name=metadata.get("hand_model", "MANO"),
        licence=metadata.get("hand_model_licence", MANO_LICENCE),
        side=side,
        **arrays,
        tip_vertices=TIP_VERTICES[side],
        uv=None,
        uv_faces=None,
        digest=digest.hexdigest(),
    )
