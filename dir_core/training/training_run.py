"""Training in bounded slices: every slice continues from the folder's checkpoint to the last bit.

What makes that possible: a step's samples are drawn from (seed, step, part) alone, a step always consists of the same
two parts whether one process or two compute them, and the learning rate depends on the step and never on when a slice
ends. What is evaluated and shipped is the running mean of the weights, which jumps less than the weights do.
"""

import copy
import csv
import io
import math
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing, nn

from dir_core.errors import CheckpointError, SettingsError
from dir_core.take import write_whole
from dir_core.training.tflite_graph import load_network, write_network
from dir_core.training.training_curves import plot_training

CHECKPOINT: Final = "checkpoint.pt"
PARTS: Final = 2
"""Parts of a step: as many as the processes of a small machine, fixed so that the result does not depend on them."""

_WARM_UP: Final = 50  # steps; Adam's second moments are noise before
_KNEE: Final = 10_000  # steps from which the rate falls with their square root
_WEIGHT_DECAY: Final = 0.01
_LARGEST_GRADIENT: Final = 300.0  # norm; the landmark run begins at 100, and single bad batches reach thousands
_SMALLEST_SIZE: Final = 1e-3  # of weights; those that begin at zero need a rate too
_AVERAGE_DECAY: Final = 0.999
_CHUNK: Final = 16  # samples at once on a CPU: 1.3 x as fast as 8 and as 32, whose maps do not stay in the cache
_STEPS_A_ROW: Final = 20  # of the log
_SAVE_SECONDS: Final = 240.0
_VALIDATE_SECONDS: Final = 900.0

Batch = dict[str, Tensor]
Row = dict[str, float]


class Task(Protocol):
    """What is learned: settings and paths in a frozen dataclass; every process gets a copy and opens its own data."""

    @property
    def name(self) -> str:
        """Of the network, such as "landmarks"."""

    @property
    def seed(self) -> int:
        """Of all samples."""

    @property
    def part_size(self) -> int:
        """Samples of a part; a step has `PARTS` of them."""

    @property
    def learning_rate(self) -> float:
        """Its highest value, in parts of the size of the weights."""

    def make_network(self) -> nn.Module:
        """The network before any training, the same in every call."""

    def draw_batch(self, random: np.random.Generator, count: int) -> Batch:
        """`count` samples; the same for the same state of `random`. Called by several threads on a GPU machine."""

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named terms, weighted means over the batch: their sum is what is minimised. Always the same names."""

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Figures on samples that are never trained on. Always the same names."""


@dataclass(frozen=True)
class Slice:
    """How far to train now.

    Attributes:
        minutes: wall clock, the closing validation included; None: no limit.
        steps: none or more of them; None: no limit.
        finish: begin the end of the run now: the rate falls to 0 in so many steps, in this slice and following ones.
        processes: 1, or 2 with one thread each, which is faster on two cores than one with two threads.
        device: cpu or cuda.
    """

    minutes: float | None = None
    steps: int | None = None
    finish: int | None = None
    processes: int = 1
    device: str = "cpu"


@dataclass(eq=False)
class _State:
    """All that a run is; what the checkpoint holds."""

    step: int
    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    finish: tuple[int, int] | None  # first and last step of the falling rate
    log: list[Row]
    figures: list[Row]
    seconds: float  # of training until now, without validation
    validation_seconds: float


def choose_device(name: str) -> str:
    """The device of this name; for "auto" a GPU if there is one.

    Raises:
        SettingsError: there is no GPU to use.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise SettingsError("No CUDA device can be used; leave out --device.")
    return ("cuda" if available else "cpu") if name == "auto" else name


def train(task: Task, folder: Path, part: Slice) -> None:
    """Train a slice, begin the run if the folder is new; writes the checkpoint, log.csv, validation.csv, curves.png.

    Raises:
        SettingsError: the folder holds a run of another task, or one that is finished.
        CheckpointError: its checkpoint is damaged.
        OutputError: the folder cannot be written.
    """
    if part.processes not in (1, PARTS):
        raise SettingsError(f"{part.processes} processes cannot share a step of {PARTS} parts; use 1 or {PARTS}.")
    if part.device != "cpu" and part.processes > 1:
        raise SettingsError("A GPU is used by one process; leave out --processes.")
    saved = read_checkpoint(folder)
    if saved is not None:
        _check_same_run(task, saved, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if part.processes == 1:
        if part.device == "cpu":
            torch.set_num_threads(1)  # or a run would depend on the machine
        _train_slice(0, task, folder, part)
        return
    with tempfile.TemporaryDirectory() as meeting:
        # A file is where the processes find each other: a port could be taken.
        multiprocessing.spawn(_train_process, (task, folder, part, f"file://{meeting}/point"), part.processes)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """What the folder's checkpoint holds: `average` are the weights to evaluate and ship. None if there is none.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged archive can fail anywhere in the reader; whatever the way, nothing in it has run.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged; remove the file to begin again.") from error
    return saved


def is_finished(task: Task, folder: Path) -> bool:
    """Whether the folder holds a run of the task whose learning rate has fallen to zero.

    Raises:
        SettingsError: the folder holds a run of another task.
        CheckpointError: see `read_checkpoint`.
    """
    saved = read_checkpoint(folder)
    if saved is None:
        return False
    _check_task(task, saved, folder)
    return _at_end(saved)


def write_weights(folder: Path, source: Path, target: Path, mix: Path | None = None, share: float = 0.5) -> None:
    """Write what a run has learned until now, its average weights, as a copy of the .tflite file it began with.

    Args:
        folder: of the run.
        source: .tflite file with the graph.
        target: .tflite file to write.
        mix: weights of another run that began alike: the mean of both is written, which errs less on pictures that
            neither has learned from (Wortsman et al. 2022, "Model soups").
        share: of `mix` in the mean.

    Raises:
        SettingsError: the folder has no run.
        CheckpointError, OutputError: see `read_checkpoint` and `write_network`.
    """
    saved = read_checkpoint(folder)
    if saved is None:
        raise SettingsError(f"There is no run in {folder}; train one first.")
    weights = saved["average"]
    if mix is not None:
        other = load_network(mix).state_dict()
        weights = {name: (1 - share) * values + share * other[name] for name, values in weights.items()}
    write_network(source, weights, target)


def learning_rate(highest: float, step: int, finish: tuple[int, int] | None) -> float:
    """Warm-up, then constant, then falling with the square root; linearly to 0 from `finish[0]` to `finish[1]`."""
    rate = highest * min(1.0, (step + 1) / _WARM_UP) / math.sqrt(max(1.0, step / _KNEE))
    if finish is not None:
        first, last = finish
        rate *= max(0.0, (last - step) / (last - first))
    return rate


def _check_same_run(task: Task, saved: dict[str, Any], folder: Path) -> None:
    _check_task(task, saved, folder)
    if _at_end(saved):
        raise SettingsError(f"The run in {folder} is finished; give another folder to begin a new one.")


def _check_task(task: Task, saved: dict[str, Any], folder: Path) -> None:
    if saved["run"] != _identity(task):
        raise SettingsError(f"{folder} holds another run ({saved['run']}); give another folder.")


def _at_end(saved: dict[str, Any]) -> bool:
    return bool(saved["finish"] is not None and saved["step"] >= saved["finish"][1])


def _identity(task: Task) -> dict[str, Any]:
    return {"name": task.name, "seed": task.seed, "part_size": task.part_size, "learning_rate": task.learning_rate}


def _train_process(rank: int, task: Task, folder: Path, part: Slice, meeting: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's own name need not resolve
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=part.processes)
    try:
        _train_slice(rank, task, folder, part)
    finally:
        distributed.destroy_process_group()
    # Threads that PyTorch leaves behind can abort the interpreter's exit, and the other process, still saving, with it.
    sys.stdout.flush()
    os._exit(0)


def _train_slice(rank: int, task: Task, folder: Path, part: Slice) -> None:
    started = time.monotonic()
    state = _open_state(task, folder, part)
    if rank == 0 and not state.figures:
        _validate(task, state, part.device)
    first = state.step
    terms: list[dict[str, float]] = []
    saved_at = validated_at = time.monotonic()
    shares = range(PARTS) if part.processes == 1 else (rank,)
    for batches in _drawn_batches(task, state.step, shares, part.device):
        begun = time.monotonic()
        _set_rate(task, state)
        wish = _is_last_step(state, part, first, begun - started)
        values, stop = _compute_gradients(task, state, batches, wish, part.processes)
        _apply_gradients(state)
        terms.append(values)
        state.seconds += time.monotonic() - begun
        if rank == 0:  # the other process has the same weights, and waits in the next step
            if state.step % _STEPS_A_ROW == 0 or stop:
                state.log.append(_log_row(task, state, terms))
                terms.clear()
                print(_describe(state.log[-1]), flush=True)
            now = time.monotonic()
            if stop or now - validated_at > _VALIDATE_SECONDS:
                _validate(task, state, part.device)
                validated_at = time.monotonic()
            if stop or now - saved_at > _SAVE_SECONDS:
                _save(task, state, folder)
                saved_at = time.monotonic()
        if stop:
            return


def _open_state(task: Task, folder: Path, part: Slice) -> _State:
    network = task.make_network()
    average = copy.deepcopy(network).requires_grad_(False)
    groups = _group_by_size(network)
    saved = read_checkpoint(folder)
    if saved is not None:
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
    network.to(part.device)
    average.to(part.device)
    optimizer = torch.optim.AdamW(groups, task.learning_rate, weight_decay=_WEIGHT_DECAY)
    if saved is None:
        state = _State(0, network, average, optimizer, None, [], [], 0.0, 0.0)
    else:
        optimizer.load_state_dict(saved["optimizer"])
        state = _State(
            saved["step"],
            network,
            average,
            optimizer,
            saved["finish"],
            saved["log"],
            saved["figures"],
            saved["seconds"],
            saved["validation_seconds"],
        )
    if part.finish is not None and state.finish is None:
        state.finish = (state.step, state.step + part.finish)
    return state


def _drawn_batches(task: Task, step: int, shares: Any, device: str) -> Iterator[list[Batch]]:
    """The parts of this and all following steps; on a GPU machine the other cores draw them ahead."""

    def draw(number: int, share: int) -> Batch:
        return task.draw_batch(np.random.default_rng((task.seed, number, share)), task.part_size)

    if device == "cpu":
        while True:
            yield [draw(step, share) for share in shares]
            step += 1
    workers = max((os.cpu_count() or 2) - 1, 1)
    ahead: deque[list[Future[Batch]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(ahead) < 2 * workers:
                    ahead.append([pool.submit(draw, step, share) for share in shares])
                    step += 1
                yield [
                    {name: values.to(device, non_blocking=True) for name, values in future.result().items()}
                    for future in ahead.popleft()
                ]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _group_by_size(network: nn.Module) -> list[dict[str, Any]]:
    """Each tensor as a group with the size of its weights, to which Adam's steps are in proportion.

    In MediaPipe's files there is a factor of 800 between the tensors, and no rate suits them all.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    sizes = [float(weight.detach().square().mean().sqrt()) for weight in weights]
    return [
        {"params": [weight], "size": max(size, _SMALLEST_SIZE)} for weight, size in zip(weights, sizes, strict=True)
    ]


def _set_rate(task: Task, state: _State) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = group["size"] * learning_rate(task.learning_rate, state.step, state.finish)


def _is_last_step(state: _State, part: Slice, first: int, elapsed: float) -> bool:
    if part.steps is not None and state.step + 1 - first >= part.steps:
        return True
    if state.finish is not None and state.step + 1 >= state.finish[1]:
        return True
    return part.minutes is not None and elapsed + state.validation_seconds >= 60 * part.minutes


def _compute_gradients(
    task: Task, state: _State, batches: list[Batch], stop: bool, processes: int
) -> tuple[dict[str, float], bool]:
    """Leave the gradient of the step's mean loss in the weights; returns the loss terms and whether all stop."""
    weights = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    messages, names = [], list[str]()
    for batch in batches:
        gradients, totals = _part_gradients(task, state, batch, weights)
        names = list(totals)
        numbers = torch.stack([*totals.values(), torch.tensor(float(stop), device=gradients[0].device)])
        messages.append(torch.cat([*(gradient.reshape(-1) for gradient in gradients), numbers]))
    message = messages[0] if len(messages) == 1 else messages[0] + messages[1]
    if processes > 1:
        distributed.all_reduce(message)
    pieces = message.split([weight.numel() for weight in weights] + [len(names) + 1])
    for weight, piece in zip(weights, pieces, strict=False):
        weight.grad = piece.view_as(weight) / PARTS
    *terms, wishes = pieces[-1].tolist()
    return {name: term / PARTS for name, term in zip(names, terms, strict=True)}, wishes > 0


def _part_gradients(
    task: Task, state: _State, batch: Batch, weights: list[nn.Parameter]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients of the weights and loss terms, means over the part."""
    state.optimizer.zero_grad(set_to_none=True)
    size = _CHUNK if weights[0].device.type == "cpu" else task.part_size
    totals: dict[str, Tensor] = {}
    for start in range(0, task.part_size, size):
        chunk = {name: values[start : start + size] for name, values in batch.items()}
        share = min(size, task.part_size - start) / task.part_size
        losses = {name: loss * share for name, loss in task.losses(state.network, chunk).items()}
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            totals[name] = totals[name] + loss.detach() if name in totals else loss.detach()
    # The same weights take part in every step, or the parts could not be added.
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights], totals


def _apply_gradients(state: _State) -> None:
    nn.utils.clip_grad_norm_(state.network.parameters(), _LARGEST_GRADIENT, error_if_nonfinite=True)
    state.optimizer.step()
    state.step += 1
    # The mean of a short run must not be the untrained network.
    keep = min(_AVERAGE_DECAY, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for mean, weight in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(weight, 1 - keep)


def _validate(task: Task, state: _State, device: str) -> None:
    begun = time.monotonic()
    state.average.eval()
    with torch.no_grad():
        figures = task.validate(state.average, device)
    state.validation_seconds = time.monotonic() - begun
    state.figures.append({"step": state.step, **figures})
    print(_describe(state.figures[-1]), flush=True)


def _log_row(task: Task, state: _State, terms: list[dict[str, float]]) -> Row:
    means = {name: sum(values[name] for values in terms) / len(terms) for name in terms[0]}
    return {
        "step": state.step,
        "samples": state.step * PARTS * task.part_size,
        "minutes": round(state.seconds / 60, 2),
        "rate": learning_rate(task.learning_rate, state.step, state.finish),
        "loss": sum(means.values()),
        **means,
    }


def _describe(row: Row) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items())


def _save(task: Task, state: _State, folder: Path) -> None:
    held = {
        "run": _identity(task),
        "step": state.step,
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "finish": state.finish,
        "log": state.log,
        "figures": state.figures,
        "seconds": state.seconds,
        "validation_seconds": state.validation_seconds,
    }
    written = io.BytesIO()
    torch.save(held, written)
    write_whole(folder / CHECKPOINT, written.getvalue())
    _write_rows(folder / "log.csv", state.log)
    _write_rows(folder / "validation.csv", state.figures)
    plot_training(state.log, state.figures, folder / "curves.png")


def _write_rows(path: Path, rows: list[Row]) -> None:
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
