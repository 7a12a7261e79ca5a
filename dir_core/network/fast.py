"""DIR for inference: the same results as model.py for half the arithmetic, made once from a plain network.

What is saved (figures of 2 FLOP per multiply-add at 256x256, of 36.8 G in the plain network):
- nothing is computed behind stage 2's regressor unless auxiliary maps are asked for (15.5 G);
- the drawn bones are fused at low rank, see FastInteraction.fuse (2.9 G at 16x16);
- the shortcut of the first fusion runs before its input is enlarged, with which it commutes (0.2 G);
- the last two layers before stage 2 run at the 42 sampled points alone, they are pointwise (0.3 G);
- batch norms are folded, convolutions that share an input are one, both hands are one batch;
- early stages skin five finger tips instead of a mesh where only the last mesh is asked for.
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dir_core.network.backbone import Bottleneck, ResNet50
from dir_core.network.both_hands import BothHands, BothHandsLayer
from dir_core.network.decoder import Residual, upsample
from dir_core.network.fast_interaction import FastInteraction
from dir_core.network.fused_convolution import FusedConvolution, can_pack, folded, norm_gain, pack_convolutions
from dir_core.network.initial_regressor import InitialRegressor
from dir_core.network.results import DIROutput, HandResult, StageResult

Meshes = Literal["all", "last"]


class FastBottleneck(nn.Module):  # type: ignore[misc]
    """Bottleneck with its batch norms folded."""

    def __init__(self, plain: Bottleneck) -> None:
        super().__init__()
        self.first = FusedConvolution.fold(plain.conv1, plain.bn1, relu=True)
        self.second = FusedConvolution.fold(plain.conv2, plain.bn2, relu=True)
        self.third = FusedConvolution.fold(plain.conv3, plain.bn3, relu=True)
        self.shortcut = None if plain.downsample is None else FusedConvolution.fold(*plain.downsample)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 4 * width, H / stride, W / stride]."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.third(self.second(self.first(x)), shortcut)


class FastBackbone(nn.Module):  # type: ignore[misc]
    """ResNet50 with its batch norms folded."""

    def __init__(self, plain: ResNet50) -> None:
        super().__init__()
        self.stem = FusedConvolution.fold(plain.conv1, plain.bn1, relu=True)
        for stage in range(1, 5):
            self.add_module(f"layer{stage}", nn.Sequential(*map(FastBottleneck, getattr(plain, f"layer{stage}"))))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, 256, 256] -> c2 [B, 512, 32, 32], c3 [B, 1024, 16, 16], c4 [B, 2048, 8, 8]."""
        c1 = self.layer1(functional.max_pool2d(self.stem(images), 3, stride=2, padding=1))
        c2 = self.layer2(c1)
        c3 = self.layer3(c2)
        return c2, c3, self.layer4(c3)


class FastInitialRegressor(nn.Module):  # type: ignore[misc]
    """Both hands' attention in one convolution, both hands' parameters in one product."""

    def __init__(self, plain: InitialRegressor) -> None:
        super().__init__()
        heads = (plain.attention_left, plain.attention_right)
        firsts = [folded(head[0], head[1]) for head in heads]
        self.first = FusedConvolution(
            torch.cat([weight for weight, _ in firsts]), torch.cat([bias for _, bias in firsts]), heads[0][0], relu=True
        )
        lasts = [folded(head[3], None) for head in heads]
        dtype = plain.offset.weight.dtype

        def hold(name: str, tensor: Tensor) -> None:
            self.register_buffer(name, tensor.detach().to(dtype).contiguous())

        # Pixels in rows, so that one plain product reads both halves of the merged map: [2048, 2], half of it zeros.
        hold("last_weight", torch.block_diag(*(weight[:, :, 0, 0] for weight, _ in lasts)).T)
        hold("last_bias", torch.cat([bias for _, bias in lasts]))  # [2]
        hold("mano_weight", torch.stack([plain.mano_left.weight.T, plain.mano_right.weight.T]))  # [2, 2048, 64]
        hold("mano_bias", torch.stack([plain.mano_left.bias, plain.mano_right.bias])[:, None])
        self.offset = copy.deepcopy(plain.offset)
        self.hands = BothHandsLayer(plain.mano_layer_left, plain.mano_layer_right)

    def forward(self, c4: Tensor, meshes: bool) -> tuple[BothHands, Tensor]:
        """c4 [B, 2048, 8, 8] -> both hands and their offset [B, 3]."""
        dtype = self.last_weight.dtype
        hidden = self.first(c4).to(dtype).permute(0, 2, 3, 1).flatten(1, 2)  # [B, 64, 2048], left hand's half first
        attention = torch.addmm(self.last_bias, hidden.flatten(0, 1), self.last_weight).sigmoid()
        attention = attention.view(-1, hidden.shape[1], 2).transpose(1, 2)  # [B, 2, 64]
        c4 = c4.to(dtype).permute(0, 2, 3, 1).flatten(1, 2)  # [B, 64, 2048]
        pooled = attention @ c4 / (attention.sum(dim=2, keepdim=True) + 1e-8)  # [B, 2, 2048]
        mano = torch.baddbmm(self.mano_bias, pooled.transpose(0, 1), self.mano_weight)  # [2, B, 64]
        return self.hands(mano, meshes), self.offset(c4.mean(dim=1))


class FastResidual(nn.Module):  # type: ignore[misc]
    """Residual with two of its three batch norms folded; the first stands before a ReLU, not behind a convolution."""

    gain: Tensor
    shift: Tensor

    def __init__(self, plain: Residual) -> None:
        super().__init__()
        gain, shift = norm_gain(plain.bn1)
        dtype = plain.bn1.weight.dtype
        self.register_buffer("gain", gain.to(dtype)[:, None, None])
        self.register_buffer("shift", shift.to(dtype)[:, None, None])
        self.first = FusedConvolution.fold(plain.conv1.conv, plain.bn2, relu=True)
        self.second = FusedConvolution.fold(plain.conv2.conv, plain.bn3, relu=True)
        self.third = FusedConvolution.fold(plain.conv3.conv)
        self.shortcut = FusedConvolution.fold(plain.skip_layer.conv)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out_channels, H, W]."""
        return self.third(self.inner(x), self.shortcut(x))

    def inner(self, x: Tensor) -> Tensor:
        """Everything but the last convolution and the shortcut: [B, channels, H, W] -> [B, out_channels / 2, H, W]."""
        x = functional.relu(torch.addcmul(self.shift, x, self.gain), inplace=True)
        return self.second(self.first(x))


class FastFusion(nn.Module):  # type: ignore[misc]
    """A Residual over [enlarged coarse map, fine map] that never joins the two.

    Enlarging is linear with weights that add up to one, so it commutes with a batch norm and with a 1x1
    convolution: both run on the coarse map, at a quarter of the pixels.
    """

    def __init__(self, plain: Residual, coarse: int) -> None:
        """Take the plain block and the number of channels that come from the coarse map."""
        super().__init__()
        gain, shift = norm_gain(plain.bn1)
        dtype = plain.bn1.weight.dtype
        for name, part in (("coarse", slice(coarse)), ("fine", slice(coarse, None))):
            self.register_buffer(f"{name}_gain", gain[part].to(dtype)[:, None, None])
            self.register_buffer(f"{name}_shift", shift[part].to(dtype)[:, None, None])
        self.first_coarse, self.first_fine = _split(plain.conv1.conv, plain.bn2, coarse, relu=True)
        self.second = FusedConvolution.fold(plain.conv2.conv, plain.bn3, relu=True)
        self.third = FusedConvolution.fold(plain.conv3.conv)
        self.shortcut_coarse, self.shortcut_fine = _split(plain.skip_layer.conv, None, coarse, relu=False)
        third, third_bias = folded(plain.conv3.conv, None)
        shortcut, shortcut_bias = folded(plain.skip_layer.conv, None)
        matrix = torch.cat([third[:, :, 0, 0], shortcut[:, :, 0, 0], (third_bias + shortcut_bias)[:, None]], dim=1)
        self.register_buffer("last_matrix", matrix.T.to(dtype).contiguous())  # [128 + coarse + fine + 1, 256]

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """coarse [B, C, S / 2, S / 2], fine [B, D, S, S] -> [B, 256, S, S]."""
        shortcut = self.shortcut_fine(fine, upsample(self.shortcut_coarse(coarse)))
        return self.third(self._inner(coarse, fine), shortcut)

    def sampled(self, coarse: Tensor, fine: Tensor, joint_uv: Tensor, interaction: FastInteraction) -> Tensor:
        """What `interaction.sample` would read from the result: [2, B * 21, 256].

        The last layers are pointwise and sampling is linear, so the order may change. Outside the picture
        sampling fades to zero, and the bias with it: it goes with a sampled map of ones.
        """
        dtype = self.last_matrix.dtype
        inner = self._inner(coarse, fine)
        maps = (inner, upsample(coarse), fine, torch.ones_like(inner[:, :1]))
        points = [interaction.sample(values.to(dtype), joint_uv) for values in maps]
        return torch.cat(points, dim=2) @ self.last_matrix

    def _inner(self, coarse: Tensor, fine: Tensor) -> Tensor:
        coarse = functional.relu(upsample(torch.addcmul(self.coarse_shift, coarse, self.coarse_gain)), inplace=True)
        fine = functional.relu(torch.addcmul(self.fine_shift, fine, self.fine_gain), inplace=True)
        return self.second(self.first_fine(fine, self.first_coarse(coarse)))


def _split(
    plain: nn.Conv2d, norm: nn.Module | None, coarse: int, relu: bool
) -> tuple[FusedConvolution, FusedConvolution]:
    """A convolution's work on the first channels, and on the rest with the first part as addend."""
    weight, bias = folded(plain, norm)
    return (
        FusedConvolution(weight[:, :coarse], torch.zeros_like(bias), plain, relu=False),
        FusedConvolution(weight[:, coarse:], bias, plain, relu=relu),
    )


class FastAuxiliary(nn.Module):  # type: ignore[misc]
    """The maps behind stage 2, for training and for those who look at the segmentation."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.enhance = FastResidual(decoder.enhance_layer3)
        self.final = nn.Sequential(
            FusedConvolution.fold(decoder.conv_final[0], decoder.conv_final[1], relu=True),
            FusedConvolution.fold(decoder.conv_final[3]),
        )
        heads = (decoder.seg, decoder.dense)
        firsts = [folded(head[0], head[1]) for head in heads]
        self.first = FusedConvolution(
            torch.cat([weight for weight, _ in firsts]), torch.cat([bias for _, bias in firsts]), heads[0][0], relu=True
        )
        self.lasts = nn.ModuleList(FusedConvolution.fold(head[3]) for head in heads)

    def forward(self, f3: Tensor, g3: Tensor) -> tuple[Tensor, Tensor]:
        """f3 and g3 [B, 256, 32, 32] -> seg and dense [B, 3, 32, 32]."""
        hidden = self.first(self.final(self.enhance(torch.cat([f3, g3], dim=1))))  # [B, 256, 32, 32]
        seg, dense = (last(part) for last, part in zip(self.lasts, hidden.chunk(2, dim=1), strict=True))
        return seg, dense


class FastDIR(nn.Module):  # type: ignore[misc]
    """The fast path as a module of its own; it shares nothing that changes with the network it was made from."""

    def __init__(self, plain: nn.Module, picture_dtype: torch.dtype | None = None) -> None:
        """Take the weights that a DIR network has at this moment.

        Args:
            plain: the network.
            picture_dtype: type of everything that lies in the picture's plane, None for the network's own.
                torch.bfloat16 is faster where the processor computes in it; joints, transformer, MANO and bones
                stay in the network's type, because bones have hard edges and a rounded joint would move them.
        """
        super().__init__()
        with torch.no_grad():
            decoder = plain.decoder
            self.legacy_right_init = plain.legacy_right_init
            self.dtype = plain.seg_loss.weight.dtype
            self.picture_dtype = picture_dtype or self.dtype
            self.backbone = FastBackbone(plain.backbone)
            self.init_regressor = FastInitialRegressor(plain.init_regressor)
            self.skip4 = FastResidual(decoder.skip_layer4)
            self.fusion4 = FastFusion(decoder.fusion_layer4, coarse=2048)
            self.interaction4 = FastInteraction(decoder.projecter_4)
            self.enhance4 = FastResidual(decoder.enhance_layer4)
            self.skip3 = FastResidual(decoder.skip_layer3)
            self.fusion3 = FastFusion(decoder.fusion_layer3, coarse=256)
            self.interaction3 = FastInteraction(decoder.projecter_3)
            self.auxiliary = FastAuxiliary(decoder)
        for module in self.modules():
            if isinstance(module, FusedConvolution):
                module.to(self.picture_dtype)
            elif isinstance(module, (FastResidual, FastFusion)):
                for name, buffer in module.named_buffers(recurse=False):
                    if name != "last_matrix":
                        setattr(module, name, buffer.to(self.picture_dtype))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, auxiliary: bool = False, meshes: Meshes = "all") -> DIROutput:
        """Arguments and result as in DIR.forward; [B, 3, 256, 256] -> three stages."""
        early = meshes == "all"
        images = images.to(self.picture_dtype).contiguous(memory_format=torch.channels_last)
        c2, c3, c4 = self.backbone(images)
        hands0, offset0 = self.init_regressor(c4, early)

        f4 = self.fusion4(c4, self.skip4(c3))  # [B, 256, 16, 16]
        sampled = self.interaction4.sample(f4.to(self.dtype), hands0.joint_uv)
        mano0 = hands0.mano[:1].expand(2, -1, -1) if self.legacy_right_init else hands0.mano
        hands1, offset1, features = self.interaction4(sampled, hands0, mano0, offset0, early)
        weights = self.interaction4.bone_weights(hands1.joint_uv)
        g4 = self.interaction4.fuse(self.interaction4.embed(features), weights)
        e4 = self.enhance4(torch.cat([f4, g4], dim=1))

        s3 = self.skip3(c2)  # [B, 256, 32, 32]
        if auxiliary:
            f3 = self.fusion3(e4, s3)
            sampled = self.interaction3.sample(f3.to(self.dtype), hands1.joint_uv)
        else:
            sampled = self.fusion3.sampled(e4, s3, hands1.joint_uv, self.interaction3)
        hands2, offset2, features = self.interaction3(sampled, hands1, hands1.mano, offset1, True)
        stages = (_stage(hands0, offset0), _stage(hands1, offset1), _stage(hands2, offset2))
        if not auxiliary:
            return DIROutput(stages)
        embedded, weights = self.interaction3.embed(features), self.interaction3.bone_weights(hands2.joint_uv)
        seg, dense = self.auxiliary(f3, self.interaction3.fuse(embedded, weights))
        proj_feat = self.interaction3.draw(embedded, weights)
        return DIROutput(stages, seg.to(self.dtype), dense.to(self.dtype), proj_feat)

    def pack(self) -> "FastDIR":
        """Bring the convolutions into the order this processor computes in, where it has one; see FusedConvolution.

        A packed network runs as it is only: it cannot be compiled, exported, moved or saved.
        """
        weight = self.backbone.stem.weight
        if weight is not None and can_pack(weight):
            with torch.inference_mode(False), torch.no_grad():
                pack_convolutions(self, torch.zeros(1, 3, 256, 256))
        return self


def _stage(hands: BothHands, offset: Tensor) -> StageResult:
    left, right = (
        HandResult(
            joint_uv=hands.joint_uv[hand],
            joint_xyz=hands.joint_xyz[hand],
            mesh_xyz=hands.mesh_xyz[hand],
            mesh_uv=hands.mesh_uv[hand],
            mano=hands.mano[hand],
        )
        for hand in range(2)
    )
    return StageResult(left, right, offset)
