"""How fast the network is, against a plain ResNet-50 as the floor: one run, taking turns, medians."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dir_core.errors import SettingsError
from dir_core.hand_model import open_hand_models
from dir_core.network.checkpoint import load_checkpoint
from dir_core.network.cuda_graph import GraphedDIR
from dir_core.network.model import DIR

FLOOR = "resnet50"
"""This project's ResNet-50 with its classifier: layer by layer torchvision's resnet50, which need not be installed."""

FAST, PLAIN = "fast path", "plain path, auxiliary maps"


@dataclass(frozen=True)
class PathFigures:
    """One way through the network at one batch size.

    Attributes:
        path: what was run.
        batch: pictures a call.
        seconds: median time of a call.
        frames_per_second: pictures a second at that time.
        of_resnet50: time as a multiple of ResNet-50's.
        gflop: floating point operations a picture, 2 per multiply-add.
        peak_memory: highest memory of the process (CPU) or of the tensors (CUDA) in a call, bytes; the process
            holds the weights of all paths. None where the system does not tell.
    """

    path: str
    batch: int
    seconds: float
    frames_per_second: float
    of_resnet50: float
    gflop: float
    peak_memory: int | None


@dataclass(frozen=True)
class NetworkFigures:
    """What `benchmark_network` measured.

    Attributes:
        device: what it ran on.
        threads: processor threads torch used.
        paths: one entry per path and batch size.
        deviation_mm: largest distance of a vertex from the plain path's, millimetres, by path.
    """

    device: str
    threads: int
    paths: tuple[PathFigures, ...]
    deviation_mm: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    def seconds(self, path: str, batch: int) -> float:
        """Median time of a call."""
        return next(row.seconds for row in self.paths if (row.path, row.batch) == (path, batch))


def benchmark_network(
    checkpoint: str | Path | None = None,
    batches: Sequence[int] = (1, 8),
    repeats: int = 9,
    device: str = "cpu",
    bfloat16: bool = False,
) -> NetworkFigures:
    """Measure every path on random pictures.

    Args:
        checkpoint: weights; None takes random ones, which take the same time.
        batches: pictures a call.
        repeats: calls per path and batch size; the paths take turns, so that a busy machine is fair to all.
        device: cpu, cuda or mps.
        bfloat16: also run the picture's plane in bfloat16.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        SettingsError: there is no such device, or a number is not positive.
    """
    if repeats < 1 or not batches or min(batches) < 1:
        raise SettingsError("Batch sizes and repeats of a benchmark have to be 1 or more.")
    network = _network(checkpoint, device)
    flops = _gflop(network, device)
    rows: list[PathFigures] = []
    deviation: dict[str, float] = {}
    with torch.no_grad():
        # Made once: a second copy of the weights for each batch size would only cost memory.
        half = network.fast(torch.bfloat16) if bfloat16 else None
        for batch in batches:
            generator = torch.Generator().manual_seed(batch)
            images = torch.randn(batch, 3, 256, 256, generator=generator).to(device)
            paths = _paths(network, half, images)
            wanted = network.plain(images).stages[-1]
            for name, call in paths.items():
                call()  # warm: kernels chosen, memory at hand
                if name not in {FLOOR, PLAIN}:
                    stage = call().stages[-1]
                    here = max(
                        float((mine.mesh_xyz - other.mesh_xyz).norm(dim=-1).max())
                        for mine, other in ((stage.left, wanted.left), (stage.right, wanted.right))
                    )
                    deviation[name] = max(deviation.get(name, 0.0), 1000 * here)
            times: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(repeats):
                for name, call in paths.items():
                    times[name].append(_seconds(call, device))
            medians = {name: statistics.median(values) for name, values in times.items()}
            for name, call in paths.items():
                rows.append(
                    PathFigures(
                        path=name,
                        batch=batch,
                        seconds=medians[name],
                        frames_per_second=batch / medians[name],
                        of_resnet50=medians[name] / medians[FLOOR],
                        gflop=flops.get(name, flops[FAST]),
                        peak_memory=_peak_memory(call, device),
                    )
                )
    return NetworkFigures(_device_name(device), torch.get_num_threads(), tuple(rows), deviation)


def describe(figures: NetworkFigures) -> str:
    """The figures as a table with its explanations."""
    lines = [f"{figures.device}, {figures.threads} threads, torch {torch.__version__}, 256x256 pictures"]
    lines.append(f"{'path':28} {'batch':>5} {'ms':>8} {'frames/s':>9} {'x resnet50':>11} {'GFLOP':>7} {'peak MB':>8}")
    for row in figures.paths:
        memory = "-" if row.peak_memory is None else f"{row.peak_memory / 1e6:.0f}"
        lines.append(
            f"{row.path:28} {row.batch:5} {1000 * row.seconds:8.1f} {row.frames_per_second:9.2f} "
            f"{row.of_resnet50:11.2f} {row.gflop:7.2f} {memory:>8}"
        )
    for batch in dict.fromkeys(row.batch for row in figures.paths):
        share = figures.seconds(FAST, batch) / figures.seconds(PLAIN, batch)
        lines.append(f"batch {batch}: the fast path takes {share:.2f} of the time of the plain path.")
    lines += [
        f"{name}: vertices within {value:.2g} mm of the plain path" for name, value in figures.deviation_mm.items()
    ]
    lines.append("resnet50 is this project's own, layer by layer the one of torchvision, with its classifier.")
    return "\n".join(lines)


def _network(checkpoint: str | Path | None, device: str) -> DIR:
    kind = device.partition(":")[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(kind, False):
        known = ", ".join(name for name, there in available.items() if there)
        raise SettingsError(f"There is no device {device} here, choose {known}.")
    if checkpoint is not None:
        return load_checkpoint(checkpoint).to(device)
    torch.manual_seed(0)
    hands = open_hand_models()
    return DIR(hands["left"], hands["right"]).eval().to(device)


def _paths(network: DIR, half: Any, images: Tensor) -> dict[str, Callable[[], Any]]:
    paths: dict[str, Callable[[], Any]] = {
        FLOOR: lambda: network.backbone.classify(images),
        FAST: lambda: network(images, meshes="last"),
        PLAIN: lambda: network.plain(images, auxiliary=True),
    }
    fast: dict[str, Any] = {} if half is None else {"fast path, bfloat16": half}
    for name, module in fast.items():
        paths[name] = partial(module, images, False, "last")
    if images.is_cuda:
        for name, module in {FAST: network.fast(), **fast}.items():
            graph = GraphedDIR(module, len(images))
            paths[f"{name}, CUDA graph"] = partial(graph, images)
    return paths


def _gflop(network: DIR, device: str) -> dict[str, float]:
    """Operations a picture, counted while it runs; the fast path unpacked, because the counter knows no oneDNN."""
    image = torch.zeros(1, 3, 256, 256, device=device)
    portable = network.fast()
    calls: dict[str, Callable[[], Any]] = {
        FLOOR: lambda: network.backbone.classify(image),
        FAST: lambda: portable(image, False, "last"),
        PLAIN: lambda: network.plain(image, auxiliary=True),
    }
    counts = {}
    for name, call in calls.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        counts[name] = counter.get_total_flops() / 1e9
    return counts


def _seconds(call: Callable[[], Any], device: str) -> float:
    _wait(device)
    begin = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def _peak_memory(call: Callable[[], Any], device: str) -> int | None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return int(torch.cuda.max_memory_allocated(device))
    status, refresh = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        refresh.write_text("5")  # Linux: the high-water mark starts again from what is held now
    except OSError:
        return None
    call()
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if device.startswith("mps"):
        return "Apple GPU"
    try:
        cpu = Path("/proc/cpuinfo").read_text().split("model name", 1)[1].splitlines()[0].strip(": \t")
    except (OSError, IndexError):
        cpu = "processor"
    units = [name for name in ("avx2", "avx512_bf16", "amx_bf16") if _has(name)]
    return f"{cpu} ({', '.join(units) or 'no vector units known'})"


def _has(unit: str) -> bool:
    try:
        return f" {unit} " in Path("/proc/cpuinfo").read_text().replace("\n", " ")
    except OSError:
        return False
