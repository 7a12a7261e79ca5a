"""Weights from a file: what is read, what is refused, and with which sentence."""

import os
import pickle
import struct

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from dir_parity import official_entries, parity_network  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from dir_core.errors import CheckpointError  # noqa: E402
from dir_core.network import load_checkpoint, save_checkpoint, weights_digest  # noqa: E402


@pytest.fixture(scope="module")
def network():
    return parity_network()


@pytest.fixture(scope="module")
def official(network, tmp_path_factory):
    """A file as the official training writes it, with DataParallel's prefix."""
    path = tmp_path_factory.mktemp("official") / "dir.pth"
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(7)}}, "param_groups": [{"lr": 5e-4, "params": [0]}]}
    torch.save({"net": weights, "optimizer": optimizer, "schedule": {"T_max": 50}, "last_epoch": 49}, path)
    return path


def hollow(**changes):
    """All entries of a checkpoint in their shapes, each one number that is repeated: a file of a few kilobytes."""
    types = {"float32": torch.float32, "int64": torch.int64}
    weights = {name: torch.zeros((), dtype=types[kind]).expand(shape) for name, shape, kind in official_entries()}
    return weights | changes


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_an_official_file_gives_the_network_it_holds(network, official):
    loaded = load_checkpoint(official)
    assert not loaded.training
    assert not loaded.legacy_right_init
    assert loaded.root_joint == 0
    assert list(loaded.state_dict()) == list(network.state_dict())
    assert weights_digest(loaded) == weights_digest(network)
    # The hands come out of the file. Its left shape directions are right already and stay as they are.
    for side, hand in loaded.hand_models.items():
        wanted = network.hand_models[side]
        assert hand.side == side
        assert hand.name == "MANO"
        assert abs(hand.shape_directions - wanted.shape_directions).max() < 1e-7
        assert hand.tip_vertices == wanted.tip_vertices


def test_own_weights_come_back_with_what_the_file_says(network, tmp_path):
    path = tmp_path / "own.safetensors"
    network.legacy_right_init = True
    try:
        save_checkpoint(network, path, {"training": "a test"})
    finally:
        network.legacy_right_init = False
    assert [file.name for file in tmp_path.iterdir()] == ["own.safetensors"]
    loaded = load_checkpoint(path)
    assert loaded.legacy_right_init
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert loaded.hand_models["left"].licence == network.hand_models["left"].licence


def test_the_switch_for_the_first_public_weights_and_the_digest(tmp_path):
    path = tmp_path / "october 2023.pth"
    torch.save({"net": hollow()}, path)
    loaded = load_checkpoint(path, legacy_right_init=True)
    assert loaded.legacy_right_init
    before = weights_digest(loaded)
    with torch.no_grad():
        loaded.decoder.dense[3].bias[2] += 1e-3
    assert weights_digest(loaded) != before


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"net": hollow(), "last_epoch": Attack()}, path, _use_new_zipfile_serialization=zipped)
    assert "system" in refusal(path)
    assert not (tmp_path / "attacked").exists()


def test_a_bare_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Attack()))
    refusal(path)
    assert not (tmp_path / "attacked").exists()


def test_what_is_missing_and_what_is_unknown_is_summed_up(tmp_path):
    weights = hollow(**{"decoder.extra.weight": torch.zeros(1)})
    for name in [name for name in weights if name.startswith("backbone.layer4.")]:
        del weights[name]
    path = tmp_path / "other.pth"
    torch.save({"net": weights}, path)
    sentence = refusal(path)
    assert "60 of 963 entries missing (backbone.layer4.0.conv1.weight," in sentence
    assert "and 57 more" in sentence
    assert "1 unknown ones (decoder.extra.weight)" in sentence
    assert len(sentence) < 500


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backbone.fc.weight": torch.zeros(7, 2048)}, "backbone.fc.weight in shape [7, 2048] instead of [1000, 2048]"),
        ({"backbone.fc.bias": torch.zeros(1000, dtype=torch.int64)}, "backbone.fc.bias as torch.int64"),
        ({"backbone.fc.bias": torch.zeros(1000).to_sparse()}, "backbone.fc.bias"),
        ({"backbone.fc.bias": torch.full((1000,), torch.nan)}, "not finite in backbone.fc.bias"),
        ({"init_regressor.mano_layer_left.th_v_template": torch.zeros(1, 5, 3)}, "a left hand of 5 vertices"),
        ({"init_regressor.mano_layer_left.th_faces": torch.full((1538, 3), 778)}, "points to no vertex"),
        ({"backbone.fc.bias": "text"}, "other things than named tensors"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, changes, expected):
    path = tmp_path / "weights.pth"
    torch.save({"net": hollow(**changes)}, path)
    assert expected in refusal(path)


def test_foreign_files_are_refused(tmp_path):
    contents = {
        "empty.pth": b"",
        "text.pth": b"no weights at all",
        "header.safetensors": struct.pack("<Q", 1 << 40) + b"{",
        "short.safetensors": struct.pack("<Q", 50) + b'{"a":',
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        assert "damaged" in refusal(tmp_path / name)
    for name, data in {"list.pth": [1, 2], "nothing.pth": {}, "net.pth": {"net": {}}, "number.pth": 3}.items():
        torch.save(data, tmp_path / name)
        assert "no DIR checkpoint" in refusal(tmp_path / name)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "963 of 963 entries missing" in refusal(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "root.safetensors", {"root_joint": "99"})
    assert "root joint 99" in refusal(tmp_path / "root.safetensors")
    assert "check the path" in refusal(tmp_path / "nowhere.pth")
    refusal(tmp_path)


def test_half_a_file_is_refused(official, tmp_path):
    path = tmp_path / "half.pth"
    with official.open("rb") as source:
        path.write_bytes(source.read(official.stat().st_size // 2))
    assert "damaged" in refusal(path)


def test_any_cut_of_a_small_file_is_refused(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save({"net": {"a": torch.zeros(3)}}, whole)
    data = whole.read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(data) - 1, 37):
        path.write_bytes(data[:length])
        refusal(path)
