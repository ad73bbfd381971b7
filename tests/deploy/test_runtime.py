from __future__ import annotations

import dataclasses
import re
import time
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sealegs_contract.errors import ActionError, BundleError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ObservationField, ObservationSpec
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.manifest import check_fits
from sealegs_deploy.runtime import PolicyRuntime, all_finite


def with_policy(bundle: VerifiedBundle, model: onnx.ModelProto | bytes) -> VerifiedBundle:
    """The bundle with another graph, as if it had been signed like that."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return dataclasses.replace(bundle, files=MappingProxyType(dict(bundle.files) | {"policy.onnx": data}))


def constant_graph(bundle: VerifiedBundle, value: float) -> onnx.ModelProto:
    """action = 0 * (observation summed) + value, whatever is observed."""
    size, moved = bundle.manifest.observation.size, bundle.manifest.action.size
    weight = numpy_helper.from_array(np.zeros((size, moved), np.float32), "weight")
    bias = numpy_helper.from_array(np.full(moved, value, np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["observation", "weight", "bias"], ["action"])],
        "constant",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", moved])],
        [weight, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_values_are_those_of_torch_and_of_hand_scaling(bundle: VerifiedBundle, module, moved):
    runtime = PolicyRuntime(bundle)
    rng = np.random.default_rng(0)
    scale, offset = np.array(moved.scale_rad), np.array(moved.offset_rad)
    for _ in range(200):
        observation = rng.normal(size=bundle.manifest.observation.size).astype(np.float32)
        with torch.no_grad():
            action = module(torch.from_numpy(observation)[None])[0].double().numpy()
        output = runtime.infer(observation)
        assert output.dtype == np.float64
        np.testing.assert_allclose(output, action * scale + offset, atol=1e-6)


def test_a_result_is_not_overwritten_by_the_next_call(bundle: VerifiedBundle):
    runtime = PolicyRuntime(bundle)
    size = bundle.manifest.observation.size
    first = runtime.infer(np.zeros(size, np.float32))
    kept = first.copy()
    second = runtime.infer(np.ones(size, np.float32))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    batch = runtime.infer_batch(np.stack([np.zeros(size), np.ones(size)]).astype(np.float32))
    np.testing.assert_allclose(batch, np.stack([first, second]), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_is_an_error_every_time(bundle: VerifiedBundle, value: float):
    runtime = PolicyRuntime(with_policy(bundle, constant_graph(bundle, value)))
    for _ in range(3):
        with pytest.raises(ActionError, match="output is not finite"):
            runtime.infer(np.zeros(bundle.manifest.observation.size, np.float32))


def test_input_is_checked(bundle: VerifiedBundle):
    runtime = PolicyRuntime(bundle)
    size = bundle.manifest.observation.size
    with pytest.raises(ActionError, match=f"expects \\({size},\\)"):
        runtime.infer(np.zeros(size + 1, np.float32))
    broken = np.zeros(size, np.float32)
    broken[3] = np.nan
    with pytest.raises(ActionError, match="observation is not finite"):
        runtime.infer(broken)


def test_a_provider_that_is_not_there_is_replaced_or_refused(bundle: VerifiedBundle):
    here = onnxruntime.get_available_providers()
    assert "CUDAExecutionProvider" not in here, "this test describes a machine without a GPU build"
    runtime, on_cpu = PolicyRuntime(bundle, "cuda"), PolicyRuntime(bundle)
    assert runtime.choice.fell_back
    assert re.fullmatch(
        r"provider asked for: cuda; available: (azure, )?cpu; used: cpu \(cuda: not in this onnxruntime; .*\)",
        runtime.choice.line,
    )
    observation = np.linspace(-1.0, 1.0, bundle.manifest.observation.size, dtype=np.float32)
    np.testing.assert_array_equal(runtime.infer(observation), on_cpu.infer(observation))
    with pytest.raises(BundleError, match=r"execution provider cuda: not in this onnxruntime.*available: auto, cpu"):
        PolicyRuntime(bundle, "cuda", strict=True)
    with pytest.raises(BundleError, match="'vulkan' is no execution provider"):
        PolicyRuntime(bundle, "vulkan")
    assert not PolicyRuntime(bundle, "auto", strict=True).choice.fell_back


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_means_every_value(bad: float):
    values = np.full(40, 1e30, np.float32)
    with np.errstate(over="ignore"):
        assert all_finite(values)
    assert all_finite(np.zeros(1, np.float32))
    values[:] = 1.0
    values[17] = bad
    assert not all_finite(values)


def rebuilt(bundle: VerifiedBundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.policy)


def test_external_data_is_refused(bundle: VerifiedBundle):
    model = rebuilt(bundle)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    with pytest.raises(BundleError, match="another file"):
        PolicyRuntime(with_policy(bundle, model))


def test_external_data_inside_attributes_and_subgraphs_is_refused(bundle: VerifiedBundle):
    hidden = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="weights.bin")
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(hidden)
    model = rebuilt(bundle)
    model.graph.node.append(constant)
    with pytest.raises(BundleError, match="another file"):
        PolicyRuntime(with_policy(bundle, model))
    inner = helper.make_graph([constant], "inner", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])])
    model = rebuilt(bundle)
    branch = helper.make_node("If", ["condition"], ["d"], then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    with pytest.raises(BundleError, match="another file"):
        PolicyRuntime(with_policy(bundle, model))


def test_custom_operators_and_functions_are_refused(bundle: VerifiedBundle):
    for domain in ("com.microsoft", "ai.onnx.ml", "evil"):
        model = rebuilt(bundle)
        model.graph.node[0].domain = domain
        with pytest.raises(BundleError, match=domain):
            PolicyRuntime(with_policy(bundle, model))
        model = rebuilt(bundle)
        model.opset_import.append(helper.make_opsetid(domain, 1))
        with pytest.raises(BundleError, match=domain):
            PolicyRuntime(with_policy(bundle, model))
    model = rebuilt(bundle)
    model.functions.add(name="f", domain="")
    with pytest.raises(BundleError, match="its own"):
        PolicyRuntime(with_policy(bundle, model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: setattr(g.input[0], "name", "obs"), "inputs"),
        (lambda g: setattr(g.output[0], "name", "actions"), "outputs"),
        (lambda g: setattr(g.input[0].type.tensor_type.shape.dim[1], "dim_value", 7), "inputs"),
        (lambda g: setattr(g.output[0].type.tensor_type.shape.dim[1], "dim_value", 7), "outputs"),
        (lambda g: setattr(g.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE), "inputs"),
        (lambda g: setattr(g.input[0].type.tensor_type.shape.dim[0], "dim_value", 1), "inputs"),
        (lambda g: g.input.add(name="extra"), "inputs"),
        (lambda g: g.output.add(name="extra"), "outputs"),
    ],
)
def test_inputs_and_outputs_must_be_those_of_the_manifest(bundle: VerifiedBundle, change, message: str):
    model = rebuilt(bundle)
    change(model.graph)
    with pytest.raises(BundleError, match=f"{message} .* expected only"):
        PolicyRuntime(with_policy(bundle, model))


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x0a" * 50])
def test_what_is_no_graph_is_refused(bundle: VerifiedBundle, data: bytes):
    with pytest.raises(BundleError):
        PolicyRuntime(with_policy(bundle, data))


def test_a_graph_that_onnxruntime_cannot_load_is_refused(bundle: VerifiedBundle):
    model = rebuilt(bundle)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="cannot load"):
        PolicyRuntime(with_policy(bundle, model))


def changed(robot: RobotProfile, **updates: object) -> RobotProfile:
    return RobotProfile.model_validate(robot.model_dump() | updates)


def test_a_bundle_for_another_robot_is_refused_by_the_first_difference(bundle: VerifiedBundle, robot: RobotProfile):
    manifest = bundle.manifest
    check_fits(manifest, robot)
    data = robot.model_dump()
    renamed = [{**joint, "name": f"j{i}"} for i, joint in enumerate(data["joints"])]
    slower = [{**joint, "velocity_max_rad_s": 1.0} if i == 2 else joint for i, joint in enumerate(data["joints"])]
    for local, message in (
        (changed(robot, joints=renamed), r"moves joints .* has \['j0'"),
        (changed(robot, joints=list(reversed(data["joints"]))), "moves joints"),
        (changed(robot, joints=data["joints"][:5]), "moves joints"),
        (changed(robot, control_rate_hz=100.0), "runs at 50 Hz, but robot so101 at 100 Hz"),
        (changed(robot, objects=["cube", "gripper"]), "observes handle, which robot so101 does not publish"),
        (changed(robot, joints=slower), r"joints\.2\.velocity_max_rad_s is 3\.0 in the bundle, 1\.0 here"),
        (changed(robot, name="other"), "name is 'so101' in the bundle, 'other' here"),
    ):
        with pytest.raises(BundleError, match=message):
            check_fits(manifest, local)


def test_wrong_units_images_or_unobserved_joints_are_refused(bundle: VerifiedBundle, robot: RobotProfile):
    manifest = bundle.manifest
    degrees = manifest.model_copy(update={"units": dict(manifest.units) | {"joint_position": "deg"}})
    with pytest.raises(BundleError, match="has units"):
        check_fits(degrees, robot)
    blind = ObservationSpec(fields=(ObservationField(kind="object_position", object_name="handle"),))
    units = {"action": "rad", "handle.object_position": "m"}
    with pytest.raises(BundleError, match="position of every joint"):
        check_fits(manifest.model_copy(update={"observation": blind, "units": units}), robot)


def test_inference_of_a_two_by_256_policy_costs_microseconds(bundle: VerifiedBundle):
    """Median of the call itself: a fiftieth of a 20 ms period would already be generous."""
    runtime = PolicyRuntime(bundle)
    observation = np.zeros(bundle.manifest.observation.size, np.float32)
    taken = []
    for _ in range(2000):
        began = time.perf_counter_ns()
        runtime.infer(observation)
        taken.append(time.perf_counter_ns() - began)
    assert np.median(taken) < 400_000
