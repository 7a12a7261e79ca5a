"""A trained network's file: what torch computes is what the runtime computes, and nothing else changes in it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")

from dir_core.detection import landmark_network, palm_detector  # noqa: E402
from dir_core.detection.interpreter import load_interpreter  # noqa: E402
from dir_core.errors import CheckpointError  # noqa: E402
from dir_core.training.tflite_graph import load_network, write_network  # noqa: E402

NETWORKS = pytest.mark.parametrize(
    "path", [landmark_network.WEIGHTS, palm_detector.WEIGHTS], ids=["landmarks", "palms"]
)


def run_in_litert(path, picture):
    interpreter = load_interpreter(path, 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


def check_same_outputs(path, network):
    _, rows, columns, _ = network.input_shape
    picture = np.random.default_rng(3).random((1, rows, columns, 3), np.float32)
    expected = run_in_litert(path, picture)
    with torch.no_grad():
        found = network(torch.from_numpy(picture).permute(0, 3, 1, 2))
    assert set(expected) <= set(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, atol=1e-3, rtol=2e-5)


@NETWORKS
def test_torch_computes_what_the_runtime_computes(path):
    check_same_outputs(path, load_network(path))


@NETWORKS
def test_an_unchanged_network_is_written_as_the_same_bytes(path, tmp_path):
    write_network(path, load_network(path).state_dict(), tmp_path / "same.tflite")
    assert (tmp_path / "same.tflite").read_bytes() == path.read_bytes()


@NETWORKS
def test_a_changed_network_runs_in_the_runtime(path, tmp_path):
    network = load_network(path)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in network.parameters():
            # Only values that half precision has, so that writing rounds nothing.
            weights.mul_(1 + 0.05 * torch.randn(weights.shape, generator=random)).copy_(weights.half().float())
    target = tmp_path / "changed.tflite"
    write_network(path, network.state_dict(), target)
    assert target.stat().st_size == path.stat().st_size
    check_same_outputs(target, network)
    check_same_outputs(target, load_network(target))


def test_a_batch_is_its_pictures_one_by_one():
    network = load_network(palm_detector.WEIGHTS)
    pictures = torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        both, second = network(pictures), network(pictures[1:])
    for name in both:
        torch.testing.assert_close(both[name][1:], second[name], atol=1e-3, rtol=1e-4)


def test_logits_belong_to_their_probabilities_and_every_weight_learns():
    network = load_network(landmark_network.WEIGHTS)
    outputs = network(torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(4)))
    for name in ("Identity_1", "Identity_2"):
        torch.testing.assert_close(torch.sigmoid(outputs[f"{name}_logit"]), outputs[name])
    sum(values.sum() for values in outputs.values()).backward()
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in network.parameters())


def test_a_frozen_stem_keeps_only_its_own_weights():
    network = load_network(landmark_network.WEIGHTS)
    network.freeze_until(56)
    frozen = [weights for weights in network.parameters() if not weights.requires_grad]
    assert frozen
    assert max(len(weights) for weights in frozen) <= 64  # the wide layers all work on smaller maps
    matrix, bias = network.weights_of("Identity_1")
    assert matrix.shape == (1, 1152)
    assert bias.requires_grad


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read the network"):
        load_network(tmp_path / "missing.tflite")
    (tmp_path / "foreign.tflite").write_bytes(b"anything but that")
    with pytest.raises(CheckpointError, match=r"not a \.tflite network"):
        load_network(tmp_path / "foreign.tflite")
    weights = load_network(landmark_network.WEIGHTS).state_dict()
    weights[next(iter(weights))].view(-1)[0] = 1e6
    with pytest.raises(CheckpointError, match="cannot hold"):
        write_network(landmark_network.WEIGHTS, weights, Path(tmp_path / "large.tflite"))
    assert not (tmp_path / "large.tflite").exists()
