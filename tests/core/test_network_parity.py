"""The network gives what the official code gives, with current and with old code, at every stage and on the way."""

import copy
import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dir_parity import (  # noqa: E402
    DATA,
    RECIPE_DIGEST,
    errors,
    is_weight,
    official_entries,
    parity_network,
    pictures,
    synthetic_hands,
)

from dir_core.hand_model import open_hand_models  # noqa: E402
from dir_core.network import DIR  # noqa: E402
from dir_core.network.both_hands import BothHandsLayer  # noqa: E402
from dir_core.network.mano_layer import ManoLayer  # noqa: E402
from dir_core.network.regressor import pose_hand  # noqa: E402

CODES = ("current", "legacy")


@pytest.fixture(scope="module")
def network():
    return parity_network()


@pytest.fixture(scope="module")
def exact_network(network):
    """The same in float64."""
    return copy.deepcopy(network).double()


def test_the_state_dict_is_that_of_the_official_checkpoints(network):
    found = [
        [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in network.state_dict().items()
    ]
    assert len(found) == 963
    assert found == official_entries()


def test_the_recipe_is_the_one_of_the_reference(network):
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if is_weight(name):
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == RECIPE_DIGEST


def check_float64(output, code, rows):
    found = errors(output, np.load(DATA / f"{code}.npz"), rows)
    assert {"joint_uv", "joint_xyz", "mesh_xyz", "offset", "seg", "dense"} <= set(found)
    assert max(found.values()) <= 1e-9, found


def test_outputs_are_the_official_ones_in_float64(exact_network):
    with torch.no_grad():
        check_float64(exact_network.plain(pictures(torch.float64)[:2], auxiliary=True), "current", slice(2))
        exact_network.legacy_right_init = True
        try:
            check_float64(exact_network.plain(pictures(torch.float64)[:1], auxiliary=True), "legacy", slice(1))
        finally:
            exact_network.legacy_right_init = False


def test_outputs_of_the_fast_path_are_the_official_ones_in_float64(exact_network):
    fast = exact_network.fast()
    with torch.no_grad():
        check_float64(fast(pictures(torch.float64)[2:], auxiliary=True), "current", slice(2, 3))
        fast.legacy_right_init = True
        check_float64(fast(pictures(torch.float64)[:1], auxiliary=True), "legacy", slice(1))


def check_float32(output, rows):
    found = errors(output, np.load(DATA / "current.npz"), rows)
    for name, limit in {"joint_xyz": 2e-6, "mesh_xyz": 2e-6, "joint_uv": 5e-6, "mesh_uv": 5e-6}.items():
        assert found[name] <= limit, found


def test_outputs_of_the_fast_path_are_the_official_ones_in_float32(network):
    with torch.no_grad():
        together, alone = network(pictures()), network(pictures()[1:2]).stages[-1]
    check_float32(together, slice(3))
    # A picture gives the same alone and in a batch.
    assert (together.stages[-1].left.mesh_xyz[1] - alone.left.mesh_xyz[0]).abs().max() < 1e-6
    # Processors add in other orders: 2.3e-6 on one, below 2e-6 on another.
    assert (together.stages[-1].right.joint_uv[1] - alone.right.joint_uv[0]).abs().max() < 5e-6


def test_old_and_current_code_differ():
    """Otherwise the switch between them would prove nothing."""
    current, legacy = (np.load(DATA / f"{code}.npz") for code in CODES)
    assert np.abs(current["stage1.pd_joint_xyz_right"] - legacy["stage1.pd_joint_xyz_right"]).max() > 1e-3


def test_outputs_and_feature_maps_on_the_way_are_the_official_ones_in_float32(network):
    wanted = np.load(DATA / "intermediates.npz")
    maps = {}
    hooks = []

    def keep(name):
        def hook(_module, _inputs, output):
            maps.setdefault(name, []).append(output)

        return hook

    modules = dict(network.named_modules())
    names = {key.split("[")[0].removesuffix(".left").removesuffix(".right") for key in wanted.files}
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names if name in modules]
    hooks.append(network.backbone.register_forward_hook(keep("backbone")))
    try:
        with torch.no_grad():
            output = network.plain(pictures()[:1], auxiliary=True)
    finally:
        for hook in hooks:
            hook.remove()
    check_float32(output, slice(1))
    for rank, features in enumerate(maps["backbone"][0], start=1):
        maps[f"c{rank}"] = [features]
        numbers = features.mean(dim=(1, 2, 3)), features.std(dim=(1, 2, 3))
        maps[f"c{rank}.mean_std"] = [torch.stack(numbers)]

    checked = 0
    for key in wanted.files:
        name, _, part = key.partition("[")
        call = 1 if name.endswith(".right") else 0  # modules that both hands share are called left first
        name = name.removesuffix(".left").removesuffix(".right")
        found = maps[name][call]
        if part:
            found = found[:, :: int(part.rpartition(":")[2].rstrip("]"))]
        found = found.numpy()
        if name.endswith((".img2joint_left", ".img2joint_right")):
            found = found.transpose(0, 2, 1).reshape(1, -1)  # the official module returns channels first
        if wanted[key].ndim == 1:
            found = found.reshape(-1)[::97]
            expected = wanted[key][: len(found)]  # the first of three pictures
        else:
            expected = wanted[key][:1] if found.shape[0] == 1 else wanted[key][:, :1]
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-4, rtol=0, err_msg=key)
        checked += 1
    assert checked == len(wanted.files) > 40


@pytest.mark.parametrize("root_joint", [0, 9, None])
def test_the_hand_layer_alone_is_the_official_one(root_joint):
    wanted = np.load(DATA / "mano.npz")
    pose, betas = torch.tensor(wanted["pose"]), torch.tensor(wanted["beta"])
    for hand in synthetic_hands():
        vertices, keypoints = ManoLayer(hand, root_joint).double()(pose, betas)
        name = f"net.{hand.side}.center{root_joint}"
        np.testing.assert_allclose(keypoints, wanted[f"{name}.joints"], atol=1e-12)
        np.testing.assert_allclose(vertices[:, ::16], wanted[f"{name}.verts"], atol=1e-12)


def test_gradients_reach_every_weight_that_takes_part(network):
    output = network(pictures()[:1], auxiliary=True)
    total = output.seg.sum() + output.dense.sum()
    for stage in output.stages:
        total = total + stage.offset.sum() + stage.left.mesh_uv.sum() + stage.right.mesh_xyz.square().sum()
    total.backward()
    try:
        without = {name for name, weight in network.named_parameters() if weight.grad is None}
        assert all(name.startswith("backbone.fc.") or ".STEblocks.0." in name for name in without)
        assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)
    finally:
        network.zero_grad(set_to_none=True)


def test_the_open_hand_fits_in():
    """3052 vertices instead of MANO's 778, the same finger tips; in the plain and in the fast hand layer."""
    hands = open_hand_models()
    with torch.device("meta"):
        other = DIR(hands["left"], hands["right"])
    count = len(hands["left"].template)
    assert other.init_regressor.mano_layer_left.th_v_template.shape == (1, count, 3)
    assert len(other.state_dict()) == 963

    layers = [ManoLayer(hands[side]).double() for side in ("left", "right")]
    mano = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = BothHandsLayer(*layers)
    posed, tips_only = both(mano, True), both(mano, False)
    assert tips_only.mesh_xyz.shape == (2, 3, 0, 3)
    for hand, layer in enumerate(layers):
        wanted = pose_hand(layer, mano[hand])
        for name in ("mesh_xyz", "mesh_uv", "joint_xyz", "joint_uv"):
            assert (getattr(posed, name)[hand] - getattr(wanted, name)).abs().max() < 1e-12
        assert (tips_only.joint_xyz[hand] - wanted.joint_xyz).abs().max() < 1e-12
    with pytest.raises(ValueError, match="same vertices"):
        DIR(hands["left"], synthetic_hands()[1])
