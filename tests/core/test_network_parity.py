"""The network gives what the official code gives, with current and with old code, at every stage and on the way."""

import copy
import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dir_parity import (  # noqa: E402
    DATA,
    RECIPE_DIGEST,
    differences,
    errors,
    is_weight,
    official_entries,
    parity_network,
    pictures,
    synthetic_hands,
)

from dir_core.hand_model import open_hand_models  # noqa: E402
from dir_core.network.mano_layer import ManoLayer  # noqa: E402

PATHS = ("plain", "fast")
CODES = ("current", "legacy")


@pytest.fixture(scope="module")
def network():
    return parity_network()


@pytest.fixture(scope="module")
def exact_network(network):
    """The same in float64."""
    return copy.deepcopy(network).double()


def run(network, path, code, images, auxiliary=True):
    with torch.no_grad():
        if path == "plain":
            network.legacy_right_init = code == "legacy"
            try:
                return network.plain(images, auxiliary)
            finally:
                network.legacy_right_init = False
        fast = network.fast()
        fast.legacy_right_init = code == "legacy"
        return fast(images, auxiliary)


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


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("path", PATHS)
def test_outputs_are_the_official_ones_in_float64(exact_network, path, code):
    count = 3 if (path, code) == ("fast", "current") else 1
    output = run(exact_network, path, code, pictures(torch.float64)[:count])
    found = errors(output, np.load(DATA / f"{code}.npz"), count)
    assert {"joint_uv", "joint_xyz", "mesh_xyz", "offset", "seg", "dense"} <= set(found)
    assert max(found.values()) <= 1e-9, found


@pytest.mark.parametrize("path", PATHS)
def test_outputs_are_the_official_ones_in_float32(network, path):
    found = errors(run(network, path, "current", pictures()[:2]), np.load(DATA / "current.npz"), 2)
    for name, limit in {"joint_xyz": 2e-6, "mesh_xyz": 2e-6, "joint_uv": 5e-6, "mesh_uv": 5e-6}.items():
        assert found[name] <= limit, found


def test_old_and_current_code_differ():
    """Otherwise the switch between them would prove nothing."""
    current, legacy = (np.load(DATA / f"{code}.npz") for code in CODES)
    assert np.abs(current["stage1.pd_joint_xyz_right"] - legacy["stage1.pd_joint_xyz_right"]).max() > 1e-3


def test_feature_maps_on_the_way_are_the_official_ones(network):
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
            network.plain(pictures()[:1], auxiliary=True)
    finally:
        for hook in hooks:
            hook.remove()
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


def test_a_picture_gives_the_same_alone_and_in_a_batch(network):
    with torch.no_grad():
        together, alone = network(pictures()[:2]).stages[-1], network(pictures()[1:2]).stages[-1]
    assert (together.left.mesh_xyz[1] - alone.left.mesh_xyz[0]).abs().max() < 1e-6
    assert (together.right.joint_uv[1] - alone.right.joint_uv[0]).abs().max() < 2e-6


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


def test_the_open_hand_fits_in(network):
    """3052 vertices instead of MANO's 778, the same finger tips."""
    from dir_core.network import DIR

    hands = open_hand_models()
    with torch.device("meta"):
        other = DIR(hands["left"], hands["right"])
    count = len(hands["left"].template)
    assert other.init_regressor.mano_layer_left.th_v_template.shape == (1, count, 3)
    # Only the hand layers differ, so they are enough to run: the rest is the parity network's.
    weights = {name: tensor for name, tensor in network.state_dict().items() if ".th_" not in name}
    for name, module in other.named_modules():
        if isinstance(module, ManoLayer):
            fresh = ManoLayer(hands["left" if name.endswith("left") else "right"])
            weights |= {f"{name}.{key}": tensor for key, tensor in fresh.state_dict().items()}
    other.load_state_dict(weights, assign=True)
    other.eval()
    with torch.no_grad():
        plain, fast = other.plain(pictures()[:1]), other.fast()(pictures()[:1])
    assert plain.stages[-1].left.mesh_xyz.shape == (1, count, 3)
    found = differences(fast, plain)
    assert max(found["mesh_xyz"], found["joint_xyz"]) <= 2e-6
