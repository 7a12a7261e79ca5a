"""A convolution with everything that follows it in one step: batch norm, an addend, ReLU. For inference only."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def folded(convolution: nn.Conv1d | nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias, in float64, of a convolution that does the work of the batch norm behind it as well.

    norm(W x + b) = (g W) x + g (b - mean) + beta with g = gamma / sqrt(var + eps).
    """
    weight = convolution.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach().double()
    if norm is None:
        return weight, bias
    gain, shift = norm_gain(norm)
    return weight * gain.view(-1, *[1] * (weight.dim() - 1)), gain * bias + shift


def norm_gain(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm in eval mode does, as gain and shift [C] in float64."""
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.detach().double() - gain * norm.running_mean.double()


class FusedConvolution(nn.Module):  # type: ignore[misc]
    """relu(W x + b + addend), the addend and the ReLU being optional.

    On a CPU in float32 `pack` brings the weights into the order oneDNN computes with. PyTorch's own convolution
    does that again at every call, and takes three passes over memory for what is one here.
    """

    weight: Tensor | None
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, like: nn.Conv2d, relu: bool) -> None:
        """Take weight [out, in, k, k], bias [out], and stride and padding of another convolution."""
        super().__init__()
        dtype = like.weight.dtype
        self.register_buffer("weight", weight.to(dtype).contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias.to(dtype))
        self.stride, self.padding = list(like.stride), list(like.padding)
        self.relu = relu
        self._packed: Tensor | None = None

    @classmethod
    def fold(cls, convolution: nn.Conv2d, norm: nn.Module | None = None, relu: bool = False) -> "FusedConvolution":
        """The fused form of a convolution and the batch norm behind it."""
        return cls(*folded(convolution, norm), convolution, relu)

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """[B, in, H, W], addend [B, out, H', W'] -> [B, out, H', W']."""
        if self._packed is not None:
            return self._forward_packed(x, addend)
        y = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if addend is not None:
            y = y + addend
        return functional.relu(y, inplace=True) if self.relu else y

    def pack(self, input_shape: list[int]) -> None:
        """Keep the weights in oneDNN's order only, for inputs of about this shape."""
        self._packed = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight, self.padding, self.stride, [1, 1], 1, input_shape
        )
        self.weight = None

    def _forward_packed(self, x: Tensor, addend: Tensor | None) -> Tensor:
        place = (self._packed, self.bias, self.padding, self.stride, [1, 1], 1)
        if addend is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *place, "relu" if self.relu else "none", [], "")
        relu = "relu" if self.relu else None
        return torch.ops.mkldnn._convolution_pointwise.binary(x, addend, *place, "add", 1.0, relu, [], None)


def can_pack(tensor: Tensor) -> bool:
    """Whether oneDNN computes with tensors like this one on this machine."""
    known = hasattr(torch.ops.mkldnn, "_reorder_convolution_weight") and torch.backends.mkldnn.is_available()
    return bool(known and tensor.device.type == "cpu" and tensor.dtype == torch.float32)


def pack_convolutions(network: nn.Module, images: Tensor) -> None:
    """Pack every fused convolution of a network for the shapes that it meets on these images."""
    shapes: dict[FusedConvolution, list[int]] = {}

    def note(module: FusedConvolution, inputs: tuple[Tensor, ...]) -> None:
        shapes[module] = list(inputs[0].shape)

    convolutions = [module for module in network.modules() if isinstance(module, FusedConvolution)]
    hooks = [module.register_forward_pre_hook(note) for module in convolutions]
    try:
        network(images, auxiliary=True)
    finally:
        for hook in hooks:
            hook.remove()
    for module, shape in shapes.items():
        module.pack(shape)
