from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sealegs_contract.errors import BundleError
from sealegs_contract.spec import ObservationField, ObservationSpec
from sealegs_deploy import export
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.comparison import comparison_inputs
from sealegs_deploy.export import compare, export_bundle, scaled_module, to_onnx
from sealegs_deploy.manifest import TimingContract


def test_the_manifest_says_what_was_measured_and_made(bundle: VerifiedBundle, robot, observed, moved):
    manifest = bundle.manifest
    assert manifest.parity.inputs == 10_000
    assert 0.0 < manifest.parity.max_abs_difference_rad <= 1e-5
    assert manifest.profile_digest == robot.digest
    assert manifest.robot == robot
    assert (manifest.observation, manifest.action) == (observed, moved)
    assert manifest.units["joint_velocity"] == "rad/s"
    assert manifest.units["handle.object_position"] == "m"
    assert manifest.timing == TimingContract(
        period_ms=20.0, observation_timeout_ms=100.0, command_horizon_ms=100.0, inference_budget_ms=10.0
    )
    assert manifest.metrics[0].interval == (0.83, 0.95)
    assert set(manifest.versions) >= {"torch", "onnx", "onnxruntime", "sealegs"}
    assert manifest.provenance.training == {"seed": 0}


def test_floats_keep_their_full_precision(bundle: VerifiedBundle, moved):
    raw = json.loads(bundle.files["manifest.json"])
    assert tuple(raw["action"]["scale_rad"]) == moved.scale_rad
    properties = {p.key: p.value for p in onnx.load_from_string(bundle.policy).metadata_props}
    assert tuple(map(float, properties["action_scale"].split(","))) == moved.scale_rad


def test_the_graph_carries_the_usual_metadata_and_no_paths(bundle: VerifiedBundle, robot, observed):
    model = onnx.load_from_string(bundle.policy)
    onnx.checker.check_model(model, full_check=True)
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["joint_names"].split(",") == list(robot.joint_names)
    assert properties["observation_names"].split(",") == list(observed.element_names)
    assert list(map(float, properties["default_joint_pos"].split(","))) == robot.home_rad.tolist()
    assert {"run_path", "command_names"} <= set(properties)
    assert [(i.name, i.type.tensor_type.shape.dim[0].dim_param) for i in model.graph.input] == [
        ("observation", "batch")
    ]
    assert [o.name for o in model.graph.output] == ["action"]
    for trace in (b".py", b"/work", b"site-packages", b"/tmp"):
        assert trace not in bundle.policy


def test_comparison_inputs_follow_the_statistics(robot, observed: ObservationSpec):
    mean = np.linspace(-1, 1, observed.size)
    deviation = np.linspace(0.1, 2.0, observed.size)
    inputs = comparison_inputs(robot, observed, (mean, deviation))["observation"]
    assert inputs.shape == (10_000, observed.size)
    assert inputs.dtype == np.float32
    narrow, wide = inputs[::2], inputs[1::2]
    np.testing.assert_allclose(narrow.mean(0), mean, atol=4 * deviation.max() / 5000**0.5)
    np.testing.assert_allclose(narrow.std(0), deviation, rtol=0.06)
    np.testing.assert_allclose(wide.std(0), 5.0 * deviation, rtol=0.06)
    assert np.array_equal(inputs, comparison_inputs(robot, observed, (mean, deviation))["observation"])


def test_without_statistics_inputs_come_from_the_limits(robot):
    scaled = ObservationSpec(
        fields=(ObservationField(kind="joint_position", joints=robot.joint_names, scale=2.0, offset=0.5),)
    )
    inputs = comparison_inputs(robot, scaled)["observation"][::2]
    low, high = np.array([(j.position_min_rad, j.position_max_rad) for j in robot.joints]).T
    np.testing.assert_allclose(inputs.mean(0), (low + high) + 0.5, atol=0.15)
    np.testing.assert_allclose(inputs.std(0), 2.0 * (high - low) / 12**0.5, rtol=0.06)


def test_wrong_statistics_are_refused(robot, observed):
    with pytest.raises(BundleError, match="statistics have shapes"):
        comparison_inputs(robot, observed, (np.zeros(3), np.ones(3)))


def test_a_graph_that_differs_from_its_module_fails_the_comparison(bundle, module, request_, robot, observed, moved):
    """One weight moved by 1e-2 after the graph was made: far too little to see, and refused."""
    graph = scaled_module(module, moved)
    data = to_onnx(graph, request_)
    assert data == bundle.policy, "the same module must give the same bytes"
    inputs = comparison_inputs(robot, observed)
    assert compare(graph, data, inputs) <= 1e-5
    model = onnx.load_from_string(data)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.frombuffer(weight.raw_data, dtype=np.float32).copy()
    values[0] += 1e-2
    weight.raw_data = values.tobytes()
    with pytest.raises(BundleError, match=r"differs from torch by .* on input \d+ of 10000"):
        compare(graph, model.SerializeToString(), inputs)


def test_nothing_is_written_when_the_comparison_fails(module, request_, key, tmp_path: Path, monkeypatch):
    class Drifting(torch.nn.Module):
        """Behaves differently when traced, as data-dependent code does."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            gain = 0.9 if torch.compiler.is_exporting() else 1.0
            return self.inner(observation) * gain

    with pytest.raises(BundleError, match="differs from torch"):
        export_bundle(Drifting(), request_, tmp_path / "out", key)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("gain", "bad"), [(3.0, "within"), (float("nan"), "finite")])
def test_a_module_that_leaves_its_range_is_refused(module, request_, key, tmp_path: Path, gain: float, bad: str):
    class Loud(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return self.inner(observation) * gain

    with pytest.raises(BundleError, match=bad):
        export_bundle(Loud(), request_, tmp_path / "out", key)


def test_a_module_of_the_wrong_shape_is_refused(request_, key, tmp_path: Path):
    with pytest.raises(BundleError, match=r"returns shape \(10000, 3\), expected \(10000, 6\)"):
        export_bundle(torch.nn.Linear(request_.observation.size, 3), request_, tmp_path / "out", key)


def test_export_is_silent(module, request_, key, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    out = tmp_path / "bundle.zip"
    export_bundle(module, request_, out, key)
    assert capfd.readouterr() == ("", "")
    assert load_bundle(out).manifest.name == "small"
    with pytest.raises(BundleError, match="--overwrite"):
        export_bundle(module, request_, out, key)


def test_export_leaves_the_module_in_training_mode_alone(module, moved):
    """`scaled_module` evaluates: dropout would otherwise make the comparison random."""
    assert not export.scaled_module(torch.nn.Sequential(module, torch.nn.Dropout(0.5)), moved).training
