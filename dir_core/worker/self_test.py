"""Runs inside a runtime and says in one JSON file what that is good for. Needs torch, and says so if there is none.

    python -I -m dir_core.worker.self_test device DEVICE ANSWER PYTHON  try the DIR network and measure its speed
    python -I -m dir_core.worker.self_test checkpoint FILE ANSWER       what a file of weights is, in one sentence

PYTHON is what the answer calls this interpreter. The network gets made-up weights, the same everywhere, and has to find
what it found in double precision, step by step as in the paper, on the machine where `reference` was run.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dir_core.network.model import DIR

REFERENCE = Path(__file__).with_name("self_test_reference.json")
"""Key points [2, 21, 3] in metres, left hand first."""

TOLERANCE = 1e-3
"""Metres: half precision in a GPU's multiplications stays far below it, a wrong kernel far above."""

_SEED = 20230817
_MEASURED = 1.0  # seconds of work at least, after a first round that chooses kernels


def made_up_picture() -> Any:
    """A crop [1, 256, 256, 3] uint8 RGB: two blobs of light."""
    import numpy as np

    rows, columns = np.mgrid[0:256, 0:256]
    blobs = [
        np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2.0 * width**2))
        for row, column, width in ((120, 80, 30), (140, 175, 38), (60, 128, 20))
    ]
    return (30 + 200 * np.stack(blobs, axis=-1)).astype(np.uint8)[None]


def made_up_network() -> "DIR":
    """The DIR network with the open hand and weights that do not depend on the version of torch or numpy."""
    import numpy as np
    import torch

    from dir_core.hand_model import open_hand_models
    from dir_core.network.model import DIR

    hands = open_hand_models()
    torch.manual_seed(_SEED)
    network = DIR(hands["left"], hands["right"]).eval()
    random = np.random.RandomState(_SEED)  # NumPy has promised never to change its numbers
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.from_numpy(random.random_sample(tuple(weight.shape)).astype(np.float32) - 0.5)
            if weight.ndim > 1:
                inputs = weight[0].numel()
                weight.copy_(noise * (2 * 3**0.5 / inputs**0.5))
            else:
                is_scale = name.endswith("weight")
                weight.copy_((1.0 if is_scale else 0.0) + 0.2 * noise)
    return network


def reference() -> Any:
    """What has to come out, [2, 21, 3] metres: on the CPU, in double precision, the plain way."""
    import torch

    from dir_core.network.crop import network_input

    network = made_up_network().double()
    with torch.no_grad():
        last = network.plain(torch.from_numpy(network_input(made_up_picture())).double()).stages[-1]
    return torch.stack([last.left.joint_xyz[0], last.right.joint_xyz[0]]).numpy()


def try_device(name: str) -> dict[str, Any]:
    """Try the network on a device, as a capture uses it.

    Args:
        name: "cuda", "mps", "cpu" or "auto".

    Returns:
        The fields of `runtime.SelfTest` besides `python`.

    Raises:
        HandCaptureError: the device is not there or does not calculate right.
        ImportError: a library is missing.
    """
    import numpy as np
    import torch

    import dir_core.capture  # noqa: F401 - everything that a capture needs has to load
    from dir_core.detection.tracker import HandTracker  # noqa: F401
    from dir_core.errors import GpuRuntimeError
    from dir_core.network.inference import BatchedNetwork, choose_device

    if name == "cuda" and not torch.cuda.is_available():
        raise GpuRuntimeError(
            f"torch {torch.__version__} finds no usable NVIDIA GPU: get a newer NVIDIA driver or choose the CPU build."
        )
    device = choose_device(name)
    warnings: list[str] = []
    network = BatchedNetwork(made_up_network(), device, None, warnings.append)
    picture = made_up_picture()
    found = network.ask(picture, check=False)["xyz"][0]
    deviation = float(np.linalg.norm(found - np.array(json.loads(REFERENCE.read_text())), axis=-1).max())
    if not deviation <= TOLERANCE:  # also NaN
        raise GpuRuntimeError(
            f"{_device_name(device.type)} does not calculate right, {1000 * deviation:.3g} mm off the reference: "
            "update its driver or choose another build."
        )
    pictures = np.repeat(picture, 16, axis=0)
    network.ask(pictures, check=False)
    begin, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begin) < _MEASURED:
        network.ask(pictures, check=False)
        count += len(pictures)
    return {
        "device": device.type,
        "name": _device_name(device.type),
        "torch": torch.__version__,
        "frames_per_second": count / seconds,
        "deviation": deviation,
    }


def _device_name(kind: str) -> str:
    import torch

    if kind == "cuda":
        return str(torch.cuda.get_device_name())
    return "Apple GPU" if kind == "mps" else f"CPU ({torch.get_num_threads()} threads)"


def describe_checkpoint(path: Path) -> str:
    """One sentence: whose weights a file holds and what may be done with them.

    Raises:
        CheckpointError: it holds no weights of DIR; its sentence says what is wrong.
    """
    from dir_core.network.checkpoint import load_checkpoint

    network = load_checkpoint(path)
    hand = network.hand_models["right"]
    with path.open("rb") as file:
        is_ours = file.read(9)[8:] == b"{"  # safetensors
    if is_ours:
        return f"Weights trained by this project, for {hand.name} ({hand.licence})"
    return "Official DIR weights, trained on InterHand2.6M, with MANO's hands inside; for research only"


def main(arguments: list[str]) -> int:
    """Answer in a file, whatever happens; the exit code is 0 if the answer is a good one."""
    what, subject, answer = arguments[0], arguments[1], Path(arguments[2])
    values: dict[str, Any] = {"python": arguments[3]} if what == "device" else {"path": subject}
    try:
        if what == "device":
            values |= try_device(subject)
        else:
            values["sentence"] = describe_checkpoint(Path(subject))
    except ImportError as error:
        traceback.print_exc()
        values["error"] = f"{sys.executable} cannot load {error.name or error}, set the runtime up again."
    except Exception as error:  # whatever a broken driver or a damaged library does
        traceback.print_exc()
        from dir_core.errors import HandCaptureError

        known = isinstance(error, HandCaptureError)
        values["error"] = str(error) if known else f"The self-test failed ({error}), the log says where."
    unfinished = answer.with_name(f"{answer.name}.part")
    unfinished.write_text(json.dumps(values), encoding="utf-8")
    unfinished.replace(answer)
    print(json.dumps(values), flush=True)
    return 2 if "error" in values else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # GPU libraries have been seen to hang in Python's own exit
