"""A .tflite network as a torch module that can be trained, and its weights written back into the same file.

The file keeps its graph, its size and its number format; only the bytes of the weights change. So what was trained
runs in the same runtime as before, without torch. Source of the layout: TensorFlow Lite's schema.fbs.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dir_core.errors import CheckpointError
from dir_core.take import write_whole

Array = NDArray[Any]

LOGIT: Final = "_logit"
"""Ending of the name under which the value before a final LOGISTIC is returned beside the probability."""

_NUMBERS: Final[dict[int, np.dtype[Any]]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT64: np.dtype("<i8"),
}
_OPERATORS: Final = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_ACTIVATIONS: Final[dict[int, Callable[[Tensor], Tensor]]] = {
    schema.ActivationFunctionType.NONE: lambda values: values,
    schema.ActivationFunctionType.RELU: lambda values: functional.relu(values, inplace=True),
    schema.ActivationFunctionType.RELU6: lambda values: functional.relu6(values, inplace=True),
}

# A tensor of the graph by its number: computed values, weights and constant integers.
Values = dict[int, Any]


@dataclass(frozen=True, eq=False)
class _Step:
    """One operator of the graph; `run` gets its operator and the inputs' values (None for a missing bias)."""

    run: Callable[..., Tensor]
    options: Any
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, eq=False)
class _Weights:
    """Where a parameter lives in the file.

    Attributes:
        buffer: number of the file's buffer.
        number: how its numbers are written.
        to_torch, to_file: orders of the axes, as torch's layers have them and as the file has them.
        shape: as in the file.
    """

    buffer: int
    number: np.dtype[Any]
    to_torch: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def to_file(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.argsort(self.to_torch))


class TrainableNetwork(nn.Module):  # type: ignore[misc]
    """The graph of a .tflite file; its weights are float32 parameters named `w<tensor number>`.

    Pictures and maps inside are [B, C, H, W] in the channels_last memory format, which is the file's own order.
    """

    def __init__(self, data: bytes):
        super().__init__()
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graph = model.subgraphs[0]
        self.input_shape: tuple[int, ...] = tuple(int(side) for side in graph.tensors[graph.inputs[0]].shape)
        self._input = int(graph.inputs[0])
        self._outputs = {graph.tensors[number].name.decode(): int(number) for number in graph.outputs}
        self._steps: list[_Step] = []
        self._constants: dict[int, Array] = {}
        self.places: dict[str, _Weights] = {}
        source: dict[int, int] = {}  # result of DEQUANTIZE -> the tensor it reads
        for operator in graph.operators:
            name = _operator_name(model, operator)
            inputs = tuple(source.get(int(number), int(number)) for number in operator.inputs)
            output = int(operator.outputs[0])
            if name == "DEQUANTIZE":
                source[output] = inputs[0]
                continue
            if name not in _RUN:
                raise CheckpointError(f"The network uses {name}, which cannot be trained; use another .tflite file.")
            for place, number in enumerate(inputs):
                if number >= 0 and model.buffers[graph.tensors[number].buffer].data is not None:
                    self._add_constant(number, place, name, model, graph.tensors[number])
            self._steps.append(_Step(_RUN[name], operator.builtinOptions, inputs, output))
        # A probability's logit is an output as well: losses need it.
        results = {number: name for name, number in self._outputs.items()}
        for step in self._steps:
            if step.run is _logistic and step.output in results:
                self._outputs[results[step.output] + LOGIT] = step.inputs[0]

    def _add_constant(self, number: int, place: int, operator: str, model: Any, tensor: Any) -> None:
        if f"w{number}" in self.places or number in self._constants:
            return  # shared by several operators
        kind = _NUMBERS[tensor.type]
        shape = tuple(int(side) for side in tensor.shape)
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), kind).reshape(shape)
        if kind.kind != "f":
            self._constants[number] = values
            return
        to_torch = _torch_axes(operator, place, len(shape))
        self.places[f"w{number}"] = _Weights(tensor.buffer, kind, to_torch, shape)
        weights = torch.from_numpy(values.astype(np.float32).transpose(to_torch).copy())
        self.register_parameter(f"w{number}", nn.Parameter(weights))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """All outputs of the file by name, and `name_logit` for those that end in a LOGISTIC.

        Args:
            pictures: [B, 3, H, W] float32 in 0..1.

        Returns:
            Tensors of the file's shapes with B in front.
        """
        values: Values = {self._input: pictures.contiguous(memory_format=torch.channels_last), -1: None}
        values.update(self._constants)
        values.update((int(name[1:]), weights) for name, weights in self._parameters.items())
        for step in self._steps:
            values[step.output] = step.run(step.options, *(values[number] for number in step.inputs))
        return {name: values[number] for name, number in self._outputs.items()}

    def weights_of(self, output: str) -> tuple[nn.Parameter, nn.Parameter]:
        """Matrix [outputs, inputs] and bias [outputs] of the fully connected layer that makes an output."""
        number = self._outputs.get(output + LOGIT, self._outputs[output])
        layer = next(step for step in self._steps if step.output == number and step.run is _fully_connected)
        matrix, bias = (self.get_parameter(f"w{place}") for place in layer.inputs[1:])
        return matrix, bias

    def balance_depthwise(self) -> None:
        """Give each channel of a depthwise convolution and the 1x1 convolution after it weights of the same size.

        Nothing is computed differently. Where the file has depthwise weights a hundred times as large as those that
        follow, no learning rate suits both. Only pairs that nothing lies between are touched.
        """
        readers: dict[int, list[_Step]] = {}
        for step in self._steps:
            readers.setdefault(step.inputs[0], []).append(step)
            for number in step.inputs[1:]:
                readers.setdefault(number, []).append(step)
        for first in self._steps:
            after = readers.get(first.output, [])
            linear = first.run is _convolve_depthwise and not first.options.fusedActivationFunction
            if not linear or len(after) != 1 or after[0].run is not _convolve or first.output in self._outputs.values():
                continue
            weights, following = (self.get_parameter(f"w{step.inputs[1]}") for step in (first, after[0]))
            before = [f"w{number}" for number in first.inputs[1:] if f"w{number}" in self.places]
            with torch.no_grad():
                size = weights.square().mean(dim=(1, 2, 3)).sqrt()
                factor = (following.square().mean(dim=(0, 2, 3)).sqrt() / size).sqrt()
                factor = torch.where(torch.isfinite(factor) & (factor > 0), factor, torch.ones_like(factor))
                for name in before:
                    self.get_parameter(name).mul_(factor.reshape(-1, *[1] * (self.get_parameter(name).ndim - 1)))
                following.div_(factor[None, :, None, None])

    def freeze_until(self, side: int) -> None:
        """Keep every weight that works on maps of more than `side` rows; their gradients are not computed either."""
        with torch.no_grad():
            values: Values = {self._input: torch.zeros(1, 3, *self.input_shape[1:3]), -1: None, **self._constants}
            values.update((int(name[1:]), weights) for name, weights in self._parameters.items())
            for step in self._steps:
                result = step.run(step.options, *(values[number] for number in step.inputs))
                values[step.output] = result
                if result.ndim == 4 and result.shape[2] > side:
                    for number in step.inputs:
                        if f"w{number}" in self.places:
                            self.get_parameter(f"w{number}").requires_grad_(False)


def load_network(path: str | os.PathLike[str]) -> TrainableNetwork:
    """Read a .tflite file with float weights.

    Raises:
        CheckpointError: the file is missing, damaged or uses an operator that is not known.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"Cannot read the network {path}: {error.strerror}; choose another file.") from error
    if data[4:8] != b"TFL3":
        raise CheckpointError(f"{path} is not a .tflite network; choose another file.")
    return TrainableNetwork(data)


def write_network(source: str | os.PathLike[str], weights: Mapping[str, Tensor], target: Path) -> None:
    """Write a copy of `source` with other weights: same graph, same size.

    Args:
        source: the file the network was read from.
        weights: parameters of a `TrainableNetwork` of that file by name, such as its `state_dict()`.
        target: the new file; it is written whole or not at all.

    Raises:
        OutputError: the file cannot be written.
        CheckpointError: a weight is not finite or too large for the file's numbers.
    """
    data = bytearray(Path(source).read_bytes())
    model = schema.Model.GetRootAs(data, 0)
    for name, place in TrainableNetwork(bytes(data)).places.items():
        values = weights[name].detach().cpu().numpy().transpose(place.to_file)
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray(values, place.number)
        if not np.isfinite(written).all():
            raise CheckpointError(f"The trained network has a weight that {target} cannot hold; train from a copy.")
        model.Buffers(place.buffer).DataAsNumpy()[:] = written.reshape(-1).view(np.uint8)
    write_whole(target, bytes(data))


def _operator_name(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files have the code in the first field, newer ones in the second; the other is 0.
    return _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _torch_axes(operator: str, place: int, axes: int) -> tuple[int, ...]:
    if place == 1 and operator == "CONV_2D":
        return (0, 3, 1, 2)  # out, rows, columns, in -> out, in, rows, columns
    if place == 1 and operator == "DEPTHWISE_CONV_2D":
        return (3, 0, 1, 2)  # 1, rows, columns, channels -> channels, 1, rows, columns
    return tuple(range(axes))


def _convolve(options: Any, values: Tensor, weights: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
    stride = (options.strideH, options.strideW)
    if options.padding == schema.Padding.SAME:
        rows, columns = (
            _same_padding(side, kernel, step)
            for side, kernel, step in zip(values.shape[2:], weights.shape[2:], stride, strict=True)
        )
    else:
        rows = columns = (0, 0)
    if rows[0] == rows[1] and columns[0] == columns[1]:
        padding = (rows[0], columns[0])
    else:
        values, padding = functional.pad(values, (*columns, *rows)), (0, 0)
    result = functional.conv2d(values, weights, bias, stride, padding, groups=groups)
    return _ACTIVATIONS[options.fusedActivationFunction](result)


def _convolve_depthwise(options: Any, values: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    return _convolve(options, values, weights, bias, values.shape[1])


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    # The odd pixel goes to the end, unlike torch's own padding.
    missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2


def _add(options: Any, first: Tensor, second: Tensor) -> Tensor:
    return _ACTIVATIONS[options.fusedActivationFunction](first + second)


def _pad(_options: Any, values: Tensor, amounts: Array) -> Tensor:
    batch, rows, columns, channels = (tuple(int(side) for side in pair) for pair in amounts)
    return functional.pad(values, (*columns, *rows, *channels, *batch))


def _prelu(_options: Any, values: Tensor, slope: Tensor) -> Tensor:
    return functional.prelu(values, slope.reshape(-1))


def _max_pool(options: Any, values: Tensor) -> Tensor:
    # Both networks pool even maps by their stride, so padding never comes in.
    return functional.max_pool2d(
        values, (options.filterHeight, options.filterWidth), (options.strideH, options.strideW), ceil_mode=True
    )


def _resize_bilinear(options: Any, values: Tensor, size: Array) -> Tensor:
    return functional.interpolate(
        values, tuple(int(side) for side in size), mode="bilinear", align_corners=bool(options.alignCorners)
    )


def _mean(_options: Any, values: Tensor, axes: Array) -> Tensor:
    return values.mean(dim=[_AXES[int(axis)] for axis in axes])


def _fully_connected(options: Any, values: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    return _ACTIVATIONS[options.fusedActivationFunction](functional.linear(values, weights, bias))


def _logistic(_options: Any, values: Tensor) -> Tensor:
    return torch.sigmoid(values)


def _reshape(_options: Any, values: Tensor, shape: Array) -> Tensor:
    return values.permute(0, 2, 3, 1).reshape(len(values), *(int(side) for side in shape[1:]))


def _concatenate(options: Any, *values: Tensor) -> Tensor:
    return torch.cat(values, dim=_AXES[options.axis] if values[0].ndim == 4 else options.axis)


_AXES: Final = (0, 2, 3, 1)
"""Axis of [B, C, H, W] for each axis of the file's [B, H, W, C]."""

_RUN: Final[dict[str, Callable[..., Tensor]]] = {
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve_depthwise,
    "ADD": _add,
    "PAD": _pad,
    "PRELU": _prelu,
    "MAX_POOL_2D": _max_pool,
    "RESIZE_BILINEAR": _resize_bilinear,
    "MEAN": _mean,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _logistic,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenate,
}
