"""The fast path: chosen by itself, equal to the plain one, never out of date, without graph breaks."""

import copy
import json

import pytest

torch = pytest.importorskip("torch")

from dir_parity import differences, parity_network, pictures  # noqa: E402

from dir_core.cli import main  # noqa: E402
from dir_core.errors import SettingsError  # noqa: E402
from dir_core.network.bone_projection import draw_bones  # noqa: E402
from dir_core.network.cuda_graph import GraphedDIR  # noqa: E402
from dir_core.network.fast_interaction import FastInteraction  # noqa: E402


@pytest.fixture(scope="module")
def network():
    yield parity_network()
    parity_network().train().eval()  # lets go of the fast path's memory


@pytest.fixture(scope="module")
def plain_output(network):
    with torch.no_grad():
        return network.plain(pictures()[:1], auxiliary=True)


def check_equal(found, wanted):
    error = differences(found, wanted)
    assert max(error[name] for name in error if name.endswith("xyz")) <= 2e-6, error
    assert max(error[name] for name in error if name.endswith("uv")) <= 5e-6, error
    assert error["offset"] <= 1e-5


def test_eval_mode_without_gradients_takes_the_fast_path(network, plain_output):
    with torch.no_grad():
        network(pictures()[:1])
        made = network._fast[1]
        output = network(pictures()[:1], auxiliary=True)
    assert network._fast[1] is made
    check_equal(output, plain_output)
    assert (output.seg - plain_output.seg).abs().max() < 2e-5
    assert (output.dense - plain_output.dense).abs().max() < 2e-5
    assert (output.proj_feat - plain_output.proj_feat).abs().max() < 1e-4
    # With gradients, weights must be able to receive them.
    assert network(pictures()[:1]).stages[-1].offset.requires_grad


def test_meshes_of_early_stages_can_be_left_out(network, plain_output):
    with torch.inference_mode():
        output = network(pictures()[:1], meshes="last")
    assert [stage.left.mesh_xyz.shape[1] for stage in output.stages] == [0, 0, 778]
    assert [stage.right.mesh_uv.shape[1] for stage in output.stages] == [0, 0, 778]
    check_equal(output, plain_output)
    assert output.seg is output.dense is output.proj_feat is None


def test_changed_weights_are_noticed(network):
    weight, image = network.decoder.projecter_3.regressor.mano_left.bias, pictures()[:1]
    with torch.no_grad():
        before = network(image).stages[-1].left.joint_xyz
        weight[10] += 0.5
        after = network(image).stages[-1].left.joint_xyz
        weight[10] -= 0.5
        assert (before - after).abs().max() > 1e-3
        assert (network(image).stages[-1].left.joint_xyz - before).abs().max() < 1e-6


def test_a_copy_makes_its_own_fast_path(network):
    assert network._fast is not None
    assert network.__getstate__()["_fast"] is None


@pytest.mark.parametrize("name", ["projecter_4", "projecter_3"])
def test_low_rank_fusion_is_the_convolution_of_the_drawn_bones(network, name):
    """Also where hands leave the picture, and where a bone has length zero."""
    plain = copy.deepcopy(getattr(network.decoder, name)).double()
    fast = FastInteraction(plain)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 42, 64, generator=generator, dtype=torch.float64)
    uv = 1.2 * torch.randn(2, 2, 21, 2, generator=generator, dtype=torch.float64)
    uv[0, 1, 5] = uv[0, 1, 6]
    with torch.no_grad():
        drawn = [
            draw_bones(
                plain.proj_feat_emb(features[:, part].transpose(1, 2)).transpose(1, 2),
                uv[hand],
                plain.img_gird,
                plain.size,
                plain.bone_radius,
            )
            for hand, part in enumerate((slice(0, 21), slice(21, 42)))
        ]
        wanted = plain.fuse(*drawn)
        embedded, weights = fast.embed(features), fast.bone_weights(uv)
        assert wanted.isfinite().all()
        assert (weights.sum(dim=2) > 0).any(dim=2).float().mean() > 0.3  # bones do lie in the picture
        assert (fast.fuse(embedded, weights) - wanted).abs().max() < 1e-11
        assert (fast.draw(embedded, weights) - (drawn[0] + drawn[1])).abs().max() < 1e-12


def test_compiles_without_graph_breaks(network, plain_output):
    compiled = torch.compile(network.fast(), fullgraph=True, backend="eager")
    with torch.no_grad():
        check_equal(compiled(pictures()[:1]), plain_output)


class LastStage(torch.nn.Module):
    def __init__(self, fast):
        super().__init__()
        self.fast = fast

    def forward(self, images):
        stage = self.fast(images, False, "last").stages[-1]
        return stage.left.mesh_xyz, stage.right.mesh_xyz, stage.left.joint_uv, stage.right.joint_uv, stage.offset


@pytest.fixture(scope="module")
def exported(network):
    with torch.no_grad():
        batch = {0: torch.export.Dim("batch", min=1, max=64)}
        return torch.export.export(LastStage(network.fast()), (pictures(),), dynamic_shapes=(batch,))


def check_last_stage(found, output):
    stage = output.stages[-1]
    wanted = stage.left.mesh_xyz, stage.right.mesh_xyz, stage.left.joint_uv, stage.right.joint_uv, stage.offset
    for a, b, limit in zip(found, wanted, (2e-6, 2e-6, 5e-6, 5e-6, 1e-5), strict=True):
        assert (torch.as_tensor(a) - b).abs().max() <= limit


def test_exports_for_any_batch_size(exported, plain_output):
    with torch.no_grad():
        check_last_stage(exported.module()(pictures()[:1]), plain_output)


def test_runs_in_onnxruntime_for_any_batch_size(exported, plain_output, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(exported, dynamo=True, optimize=False, verbose=False)
    path = tmp_path / "dir.onnx"
    program.save(path, external_data=True)
    del program
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL  # slow to start otherwise
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: pictures()[:1].numpy()})
    check_last_stage(found, plain_output)


def test_the_benchmark_counts_half_of_the_operations(network, monkeypatch, tmp_path, capsys):
    from dir_core.network import benchmark

    monkeypatch.setattr(benchmark, "_network", lambda checkpoint, device: network)
    report = tmp_path / "figures.json"
    assert main(["benchmark", "network", "--batch", "1", "--repeats", "1", "--report", str(report)]) == 0
    assert "fast path" in capsys.readouterr().out
    figures = json.loads(report.read_text())
    gflop = {row["path"]: row["gflop"] for row in figures["paths"]}
    assert gflop["resnet50"] == pytest.approx(10.68, abs=0.01)
    assert gflop["plain path, auxiliary maps"] == pytest.approx(36.8, abs=0.1)
    assert gflop["fast path"] <= 18.4
    assert figures["deviation_mm"]["fast path"] <= 2e-3


def test_a_wrong_benchmark_names_what_is_possible():
    from dir_core.network.benchmark import benchmark_network

    with pytest.raises(SettingsError, match="choose cpu"):
        benchmark_network(device="abacus")
    with pytest.raises(SettingsError, match="1 or more"):
        benchmark_network(batches=[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_cuda_with_and_without_a_graph(network, plain_output, dtype):
    fast = copy.deepcopy(network).to("cuda").fast(dtype)
    with torch.no_grad():
        direct = fast(pictures()[:1].cuda(), meshes="last").stages[-1]
    graphed = GraphedDIR(fast, 1)(pictures()[:1]).stages[-1]
    limit = 5e-4 if dtype is None else 2e-2  # TF32 in the convolutions
    for stage in (direct, graphed):
        assert (stage.left.mesh_xyz.cpu() - plain_output.stages[-1].left.mesh_xyz).abs().max() < limit


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="there is no Apple GPU here")
def test_mps(network, plain_output):
    fast = copy.deepcopy(network).to("mps").fast()
    with torch.no_grad():
        stage = fast(pictures()[:1].to("mps"), meshes="last").stages[-1]
    assert (stage.left.mesh_xyz.cpu() - plain_output.stages[-1].left.mesh_xyz).abs().max() < 1e-4


def test_training_lets_go_of_the_fast_path(network):
    network.train()
    assert network._fast is None
    network.eval()


def test_cuda_graphs_say_what_they_need(network):
    with pytest.raises(ValueError, match="CUDA device"):
        GraphedDIR(network.fast(), 1)
