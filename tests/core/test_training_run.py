"""Training in slices: where it is cut and how many processes share it must not change a bit of the weights."""

import csv
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

from dir_core.errors import CheckpointError, SettingsError  # noqa: E402
from dir_core.training.training_run import (  # noqa: E402
    CHECKPOINT,
    Slice,
    is_finished,
    learning_rate,
    read_checkpoint,
    train,
)


@dataclass(frozen=True)
class Line:
    """Learns y = 2 x0 - x1 with a network that has something to go wrong: a hidden layer."""

    name: str = "line"
    seed: int = 5
    part_size: int = 12  # more than the samples that are computed at once
    learning_rate: float = 0.2

    def make_network(self):
        network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in network.parameters():
                weights.copy_(0.3 * torch.randn(weights.shape, generator=random))
        return network

    def draw_batch(self, random, count):
        return {"x": torch.from_numpy(random.standard_normal((count, 2), "float32"))}

    def losses(self, network, batch):
        wrong = network(batch["x"])[:, 0] - (2 * batch["x"][:, 0] - batch["x"][:, 1])
        return {"square": wrong.square().mean(), "absolute": 0.1 * wrong.abs().mean()}

    def validate(self, network, device):
        x = torch.linspace(-1, 1, 20, device=device)
        return {"error": float((network(torch.stack([x, -x], 1))[:, 0] - 3 * x).abs().mean())}


def check_same(first, second):
    one, other = read_checkpoint(first), read_checkpoint(second)
    assert one["step"] == other["step"]
    for held in ("network", "average"):
        for name, weights in one[held].items():
            assert torch.equal(weights, other[held][name])
    for key, moments in one["optimizer"]["state"].items():
        for name, values in moments.items():
            assert torch.equal(values, other["optimizer"]["state"][key][name])


def test_two_slices_are_one(tmp_path):
    train(Line(), tmp_path / "cut", Slice(steps=3))
    train(Line(), tmp_path / "cut", Slice(steps=3))
    train(Line(), tmp_path / "whole", Slice(steps=6))
    assert read_checkpoint(tmp_path / "cut")["step"] == 6
    check_same(tmp_path / "cut", tmp_path / "whole")


def test_two_processes_compute_what_one_does(tmp_path):
    train(Line(), tmp_path / "one", Slice(steps=4))
    train(Line(), tmp_path / "two", Slice(steps=2, processes=2))
    train(Line(), tmp_path / "two", Slice(steps=2, processes=2))
    check_same(tmp_path / "one", tmp_path / "two")
    assert read_checkpoint(tmp_path / "one")["log"][-1]["loss"] > 0


def test_it_learns_finishes_and_leaves_a_log(tmp_path):
    train(Line(), tmp_path, Slice(steps=100))
    train(Line(), tmp_path, Slice(steps=150, finish=200))
    train(Line(), tmp_path, Slice(minutes=1))  # the end that was begun goes on, and is reached before a minute
    assert read_checkpoint(tmp_path)["step"] == 300
    rows = list(csv.DictReader((tmp_path / "validation.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "100", "250", "300"]
    assert float(rows[-1]["error"]) < 0.1 < float(rows[0]["error"])
    log = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert float(log[-1]["rate"]) == 0 < float(log[-2]["rate"])
    assert float(log[-1]["loss"]) == pytest.approx(float(log[-1]["square"]) + float(log[-1]["absolute"]))
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert is_finished(Line(), tmp_path)
    with pytest.raises(SettingsError, match="holds another run"):
        is_finished(Line(seed=6), tmp_path)
    with pytest.raises(SettingsError, match="is finished"):
        train(Line(), tmp_path, Slice(steps=1))


def test_time_bounds_a_slice(tmp_path):
    train(Line(), tmp_path, Slice(minutes=0))
    assert read_checkpoint(tmp_path)["step"] == 1  # a slice never does nothing, or a run would stand still


def test_the_rate_warms_up_and_falls():
    rates = [learning_rate(1.0, step, None) for step in (0, 24, 49, 5000, 40_000)]
    assert rates == pytest.approx([0.02, 0.5, 1, 1, 0.5])
    assert learning_rate(1.0, 1500, (1000, 2000)) == pytest.approx(0.5)


def test_other_runs_and_damage_are_told(tmp_path):
    train(Line(), tmp_path, Slice(steps=1))
    with pytest.raises(SettingsError, match="holds another run"):
        train(Line(seed=6), tmp_path, Slice(steps=1))
    with pytest.raises(SettingsError, match="use 1 or 2"):
        train(Line(), tmp_path, Slice(steps=1, processes=3))
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        train(Line(), tmp_path, Slice(steps=1))
