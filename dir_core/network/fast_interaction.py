"""The fast path's counterpart of interaction.py: both hands in one call, the bones drawn and fused at low rank."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from dir_core.network.bone_projection import PARENTS
from dir_core.network.both_hands import BothHands, BothHandsLayer
from dir_core.network.fused_convolution import FusedConvolution, folded
from dir_core.network.interaction import WIDTH, Interaction
from dir_core.network.joint_space import HandGraph
from dir_core.network.regressor import JOINT_COUNT, JOINT_FEATURES
from dir_core.network.results import OFFSET_UNIT
from dir_core.network.two_hand_transformer import FIRST_BLOCK, HEADS, Block, TwoHandTransformer

BONE_COUNT = len(PARENTS)


def pointwise(first: nn.Conv1d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """A pointwise convolution and its batch norm as matrix [in, out] and bias [1, out], float64."""
    weight, bias = folded(first, norm)
    return weight[:, :, 0].T, bias[None]


class FastTransformer(nn.Module):  # type: ignore[misc]
    """The blocks of TwoHandTransformer that take part, on scaled_dot_product_attention."""

    def __init__(self, transformer: TwoHandTransformer) -> None:
        super().__init__()
        self.register_buffer("positions", transformer.spatial_pos_embed.detach().clone())
        self.blocks = copy.deepcopy(transformer.STEblocks[FIRST_BLOCK:])
        self.norm = copy.deepcopy(transformer.spatial_norm)
        self.head = copy.deepcopy(transformer.head)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 42, 128] -> [B, 42, 64]."""
        x = x + self.positions
        for block in self.blocks:
            x = x + self._attend(block, block.norm1(x))
            x = self.norm(x + block.mlp(block.norm2(x)))
        return self.head(x)

    @staticmethod
    def _attend(block: Block, x: Tensor) -> Tensor:
        q, k, v = block.attn.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return block.attn.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FastGraph(nn.Module):  # type: ignore[misc]
    """The graph layers of both hands: one batched product for 42 nodes a layer, A and batch norm worked in."""

    def __init__(self, left: HandGraph, right: HandGraph) -> None:
        super().__init__()
        self.count = len(left.gconv_layers)
        dtype = left.gconv_layers[0].gconv.W.dtype
        for index, layers in enumerate(zip(left.gconv_layers, right.gconv_layers, strict=True)):
            weights, biases, mixing = [], [], []
            for layer in layers:
                gain = layer.bn.weight.double() / (layer.bn.running_var.double() + layer.bn.eps).sqrt()
                own, others = layer.gconv.W.double() * gain
                weights.append(torch.cat([own, others], dim=-1))  # [21, 128, 256]
                bias = gain * (layer.gconv.bias.double() - layer.bn.running_mean.double()) + layer.bn.bias.double()
                biases.append(bias.expand(JOINT_COUNT, 1, -1))
                mixing.append(layer.gconv.neighbour_weights().double())
            self.register_buffer(f"weights{index}", torch.cat(weights).to(dtype))  # [42, 128, 256]
            self.register_buffer(f"bias{index}", torch.cat(biases).to(dtype))  # [42, 1, 128]
            self.register_buffer(f"mixing{index}", torch.stack(mixing).to(dtype))  # [2, 21, 21]

    def forward(self, x: Tensor) -> Tensor:
        """[42, B, 128] -> [42, B, 128]."""
        for index in range(self.count):
            own, others = (x @ getattr(self, f"weights{index}")).chunk(2, dim=2)
            mixed = getattr(self, f"mixing{index}") @ others.reshape(2, JOINT_COUNT, -1)  # [2, 21, B * 128]
            x = functional.relu(own + mixed.view_as(own) + getattr(self, f"bias{index}"))
        return x


class FastInteraction(nn.Module):  # type: ignore[misc]
    """Refine both hands of the stage before, and draw the result."""

    def __init__(self, plain: Interaction) -> None:
        super().__init__()
        self.size, self.bone_radius = plain.size, plain.bone_radius
        dtype, device = plain.img_gird.dtype, plain.img_gird.device

        def hold(name: str, tensor: Tensor) -> None:
            self.register_buffer(name, tensor.detach().to(dtype).contiguous())

        # SPEC §6.1, §6.2: first layers per hand; the second layers of image and position add up, so they are one.
        images = [pointwise(*hand.filters[:2]) for hand in (plain.img2joint_left, plain.img2joint_right)]
        positions = [pointwise(*hand[:2]) for hand in (plain.pos_emb_left, plain.pos_emb_right)]
        seconds = [
            (pointwise(image.filters[3], None), pointwise(position[3], None))
            for image, position in (
                (plain.img2joint_left, plain.pos_emb_left),
                (plain.img2joint_right, plain.pos_emb_right),
            )
        ]
        hold("image_weight", torch.stack([weight for weight, _ in images]))  # [2, 256, 128]
        hold("image_bias", torch.stack([bias for _, bias in images]))  # [2, 1, 128]
        hold("position_weight", torch.stack([weight for weight, _ in positions]) / OFFSET_UNIT)  # [2, 3, 128]
        hold("position_bias", torch.stack([bias for _, bias in positions]))
        hold("second_weight", torch.stack([torch.cat([image[0], position[0]]) for image, position in seconds]))
        hold("second_bias", torch.stack([image[1] + position[1] for image, position in seconds]))
        for name, (weight, bias) in (
            ("global_first", pointwise(*plain.global_pos_emb[:2])),
            ("global_second", pointwise(plain.global_pos_emb[3], None)),
            ("emb_first", pointwise(*plain.proj_feat_emb[:2])),
            ("emb_second", pointwise(plain.proj_feat_emb[3], None)),
        ):
            hold(f"{name}_weight", weight.T)
            hold(f"{name}_bias", bias[0])
        self.graph = FastGraph(plain.gcn_left, plain.gcn_right)
        self.transformer = FastTransformer(plain.interaction)

        # §6.6
        regressor = plain.regressor
        hold("mano_weight", torch.stack([regressor.mano_left.weight.T, regressor.mano_right.weight.T]))
        hold("mano_bias", torch.stack([regressor.mano_left.bias, regressor.mano_right.bias])[:, None])
        self.offset = copy.deepcopy(regressor.offset)
        self.hands = BothHandsLayer(regressor.mano_layer_left, regressor.mano_layer_right)

        # §6.7
        both = [JOINT_COUNT * hand + joint for hand in range(2) for joint in PARENTS]
        self.register_buffer("near_joints", torch.tensor(both, device=device))  # [40] of 42 joints
        both = [JOINT_COUNT * hand + joint for hand in range(2) for joint in range(1, JOINT_COUNT)]
        self.register_buffer("far_joints", torch.tensor(both, device=device))
        hold("pixels", plain.img_gird)
        weight, bias = folded(plain.fusion[0], plain.fusion[1])  # [256, 2560, 3, 3], [256]
        bones = weight.reshape(len(weight), 2 * BONE_COUNT, JOINT_FEATURES, 9)
        hold("bone_kernels", bones.permute(1, 2, 0, 3).flatten(2))  # [40, 64, 256 * 9]
        hold("fusion_bias", bias[:, None])  # [256, 1]
        self.fusion = FusedConvolution.fold(plain.fusion[3])

    def sample(self, features: Tensor, joint_uv: Tensor) -> Tensor:
        """features [B, C, S, S] at joint_uv [2, B, 21, 2] -> [2, B * 21, C]; zeros outside (§6.1)."""
        points = joint_uv.transpose(0, 1).flatten(1, 2)[:, :, None]  # [B, 42, 1, 2]
        sampled = functional.grid_sample(
            features, points, mode="bilinear", padding_mode="zeros", align_corners=False
        )  # [B, C, 42, 1]
        return sampled.reshape(*sampled.shape[:2], 2, JOINT_COUNT).permute(2, 0, 3, 1).flatten(1, 2)

    def forward(
        self, sampled: Tensor, previous: BothHands, previous_mano: Tensor, offset: Tensor, meshes: bool
    ) -> tuple[BothHands, Tensor, Tensor]:
        """Refine both hands.

        Args:
            sampled: [2, B * 21, 256] image features at the previous joints.
            previous: the stage before.
            previous_mano: [2, B, 64] its parameters, as the regressors of this stage are to get them.
            offset: [B, 3] of the stage before.
            meshes: whether meshes are made.

        Returns:
            the hands, their offset [B, 3] and the joint features [B, 42, 64].
        """
        xyz = previous.joint_xyz  # [2, B, 21, 3]
        batch = xyz.shape[1]
        image = torch.baddbmm(self.image_bias, sampled, self.image_weight)  # [2, B * 21, 128]
        position = torch.baddbmm(self.position_bias, xyz.flatten(1, 2), self.position_weight)
        hidden = functional.relu(torch.cat([image, position], dim=2))
        x = torch.baddbmm(self.second_bias, hidden, self.second_weight)  # [2, B * 21, 128]
        x = x.view(2, batch, JOINT_COUNT, WIDTH).transpose(1, 2).flatten(0, 1)  # [42, B, 128]
        x = self.graph(x)

        half = offset / 2  # §6.4
        away = torch.stack([-half, half])[:, :, None]  # [2, B, 1, 3]
        place = (xyz / OFFSET_UNIT + away).transpose(0, 1).flatten(1, 2)  # [B, 42, 3]
        place = functional.relu(functional.linear(place, self.global_first_weight, self.global_first_bias))
        place = functional.linear(place, self.global_second_weight, self.global_second_bias)
        features = self.transformer(x.transpose(0, 1) + place)  # [B, 42, 64]

        flat = features.reshape(batch, 2, -1).transpose(0, 1)  # [2, B, 1344]
        mano = torch.baddbmm(self.mano_bias, torch.cat([flat, previous_mano], dim=2), self.mano_weight)
        new_offset = self.offset(torch.cat([features.flatten(1), offset], dim=1))
        return self.hands(mano, meshes), new_offset, features

    def embed(self, features: Tensor) -> Tensor:
        """What is drawn of joint features: [B, 42, 64] -> [B, 42, 64]."""
        hidden = functional.relu(functional.linear(features, self.emb_first_weight, self.emb_first_bias))
        return functional.linear(hidden, self.emb_second_weight, self.emb_second_bias)

    def bone_weights(self, joint_uv: Tensor) -> Tensor:
        """Share of both ends of all bones in every pixel: [2, B, 21, 2] -> [B, 40, 2, S * S] (near, far end)."""
        joints = ((joint_uv + 1) / 2 * self.size).transpose(0, 1).flatten(1, 2)  # [B, 42, 2]
        parent = joints.index_select(1, self.near_joints)[:, :, None]  # [B, 40, 1, 2]
        child = joints.index_select(1, self.far_joints)[:, :, None]
        along = child - parent
        along = along / torch.linalg.vector_norm(along, dim=-1, keepdim=True)  # NaN for a bone of length zero
        from_parent = self.pixels - parent  # [B, 40, S * S, 2]
        from_child = self.pixels - child
        beyond = torch.maximum(-(from_parent * along).sum(dim=-1), (from_child * along).sum(dim=-1)).clamp(min=0)
        across = from_parent[..., 0] * along[..., 1] - from_parent[..., 1] * along[..., 0]
        on_bone = beyond * beyond + across * across < self.bone_radius**2
        to_parent = torch.linalg.vector_norm(from_parent + 1e-6, dim=-1)
        to_child = torch.linalg.vector_norm(from_child + 1e-6, dim=-1)
        total = to_parent + to_child
        shares = torch.stack([to_child / total, to_parent / total], dim=2)
        return torch.where(on_bone[:, :, None], shares, torch.zeros_like(shares))

    def fuse(self, embedded: Tensor, weights: Tensor) -> Tensor:
        """The fusion of the drawn bones without drawing them.

        A bone's 64 channels are near(x) y_p + far(x) y_c: of rank two. So the 3x3 kernel is first contracted with
        the features of the 80 bone ends of the sample, then runs over 80 scalar maps instead of 2560.

        Args:
            embedded: [B, 42, 64].
            weights: [B, 40, 2, S * S] from bone_weights.

        Returns:
            [B, 256, S, S].
        """
        batch = embedded.shape[0]
        ends = torch.stack(
            [embedded.index_select(1, self.near_joints), embedded.index_select(1, self.far_joints)], dim=2
        )  # [B, 40, 2, 64]
        kernels = ends.transpose(0, 1).flatten(1, 2) @ self.bone_kernels  # [40, B * 2, 256 * 9]
        kernels = kernels.view(2 * BONE_COUNT, batch, 2, -1, 9).permute(1, 3, 0, 2, 4).flatten(2)  # [B, 256, 720]
        maps = weights.reshape(batch, -1, self.size, self.size)  # [B, 80, S, S]
        patches = functional.unfold(maps, 3, padding=1)  # [B, 720, S * S]
        fused = functional.relu(torch.baddbmm(self.fusion_bias, kernels, patches))
        return self.fusion(fused.unflatten(2, (self.size, self.size)).to(self.fusion.bias.dtype))

    def draw(self, embedded: Tensor, weights: Tensor) -> Tensor:
        """Both hands' bones in one map [B, 1280, S, S], for the auxiliary output alone."""
        near = embedded.index_select(1, self.near_joints)[..., None] * weights[:, :, None, 0]  # [B, 40, 64, S * S]
        far = embedded.index_select(1, self.far_joints)[..., None] * weights[:, :, None, 1]
        drawn = (near + far).unflatten(1, (2, BONE_COUNT)).sum(dim=1)  # [B, 20, 64, S * S]
        return drawn.flatten(1, 2).unflatten(2, (self.size, self.size))
