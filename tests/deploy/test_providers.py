"""Which provider runs the graph: tried in order, said in one line, checked against the CPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sealegs_contract.errors import ActionError, BundleError
from sealegs_deploy import providers, session
from sealegs_deploy.providers import ProviderChoice, ProviderError, candidates, open_session, start_first
from sealegs_deploy.session import BoundGraph, check_agreement, start_graph

WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
INPUTS = {"observation": ("float32", (3,)), "image_front": ("uint8", (2, 2, 3))}
OUTPUT = {"action": ("float32", (2,))}


def graph(weight: NDArray[np.float32] = WEIGHT) -> bytes:
    """action = observation @ weight + sum of the image."""
    nodes = [
        helper.make_node("Cast", ["image_front"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["pixels", "axes"], ["light"], keepdims=0),
        helper.make_node("Unsqueeze", ["light", "last"], ["column"]),
        helper.make_node("MatMul", ["observation", "weight"], ["moved"]),
        helper.make_node("Add", ["moved", "column"], ["action"]),
    ]
    constants = {"weight": weight, "axes": np.array([1, 2, 3]), "last": np.array([1])}
    made = helper.make_graph(
        nodes,
        "linear",
        [
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("image_front", TensorProto.UINT8, ["batch", 2, 2, 3]),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def bound(device: str, data: bytes | None = None) -> BoundGraph:
    return BoundGraph(open_session(data or graph(), "cpu"), INPUTS, OUTPUT, device)


def on_device_buffers(data: bytes | None = None) -> BoundGraph:
    """A graph with the buffers that a GPU gets, here in the CPU's memory: the same calls of onnxruntime."""
    made = BoundGraph.__new__(BoundGraph)
    real = BoundGraph._bind_device
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundGraph, "_bind_device", lambda self, device: real(self, "cpu"))
        made.__init__(open_session(data or graph(), "cpu"), INPUTS, OUTPUT, "cuda")  # type: ignore[misc]
    return made


@pytest.mark.parametrize("make", [lambda: bound("cpu"), on_device_buffers], ids=["host", "device"])
def test_every_run_sees_the_values_of_its_time(make):
    bound_graph = make()
    rng = np.random.default_rng(3)
    for _ in range(20):
        observation = rng.normal(size=3).astype(np.float32)
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        bound_graph.inputs["observation"][0] = observation
        bound_graph.inputs["image_front"][0] = pixels
        bound_graph.run()
        by_hand = observation.astype(np.float64) @ WEIGHT + pixels.sum()
        np.testing.assert_allclose(bound_graph.output[0], by_hand, rtol=1e-6)
    batch = bound_graph.run_batch(
        {"observation": np.ones((4, 3), np.float32), "image_front": np.zeros((4, 2, 2, 3), np.uint8)}
    )
    np.testing.assert_array_equal(batch, np.tile(WEIGHT.sum(axis=0), (4, 1)))


@pytest.mark.parametrize("make", [lambda: bound("cpu"), on_device_buffers], ids=["host", "device"])
def test_a_run_that_fails_leaves_no_old_action(make, monkeypatch: pytest.MonkeyPatch):
    bound_graph = make()
    bound_graph.run()
    assert np.isfinite(bound_graph.output).all()

    def fail(binding: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(bound_graph.session, "run_with_iobinding", fail)
    with pytest.raises(ActionError, match="failed to run: RuntimeError: device lost"):
        bound_graph.run()
    assert np.isnan(bound_graph.output).all()


def test_a_provider_that_computes_otherwise_is_found_out():
    check_agreement(on_device_buffers(), bound("cpu"))
    check_agreement(on_device_buffers(graph(WEIGHT + np.float32(1e-5))), bound("cpu"))
    with pytest.raises(ProviderError, match=r"differs from the CPU's by .* rad \(allowed: 0.001\)"):
        check_agreement(on_device_buffers(graph(WEIGHT + np.float32(0.01))), bound("cpu"))


def test_a_provider_that_sees_only_the_first_input_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """As onnxruntime does for host memory bound to a GPU's session."""
    stuck = on_device_buffers()
    monkeypatch.setattr(stuck, "_device_inputs", {})
    with pytest.raises(ProviderError, match="differs"):
        check_agreement(stuck, bound("cpu"))


def test_order_of_the_candidates():
    assert candidates("cpu") == ("cpu",)
    assert candidates("cuda") == ("cuda", "cpu")
    assert candidates("tensorrt") == candidates("auto") == ("tensorrt", "cuda", "cpu")
    with pytest.raises(BundleError, match=r"'vulkan' is no execution provider; available: auto, cpu, cuda, tensorrt"):
        candidates("vulkan")


def starter(*working: str):
    tried: list[str] = []

    def start(name: str) -> str:
        tried.append(name)
        if name not in working:
            raise ProviderError("no driver")
        return f"on {name}"

    return start, tried


@pytest.mark.parametrize(
    ("asked", "offered", "works", "used", "tried"),
    [
        ("cpu", ("tensorrt", "cuda", "cpu"), ("cuda", "cpu"), "cpu", ["cpu"]),
        ("cuda", ("tensorrt", "cuda", "cpu"), ("cuda", "cpu"), "cuda", ["cuda"]),
        ("cuda", ("tensorrt", "cuda", "cpu"), ("cpu",), "cpu", ["cuda", "cpu"]),
        ("cuda", ("cpu",), ("cpu",), "cpu", ["cpu"]),
        ("tensorrt", ("tensorrt", "cuda", "cpu"), ("cuda", "cpu"), "cuda", ["tensorrt", "cuda"]),
        ("auto", ("tensorrt", "cuda", "cpu"), ("cpu",), "cpu", ["tensorrt", "cuda", "cpu"]),
        ("auto", ("cpu",), ("cpu",), "cpu", ["cpu"]),
    ],
)
def test_the_first_that_starts_is_used(monkeypatch, asked, offered, works, used, tried):
    monkeypatch.setattr(providers, "offered_providers", lambda: offered)
    start, seen = starter(*works)
    started, choice = start_first(asked, False, start)
    assert (started, choice.used, choice.offered, seen) == (f"on {used}", used, offered, tried)
    assert choice.fell_back == (asked not in {used, "auto"})
    assert choice.line.startswith(f"provider asked for: {asked}; available: ")
    assert f"; used: {used}" in choice.line


def test_strictness_refuses_instead(monkeypatch):
    monkeypatch.setattr(providers, "offered_providers", lambda: ("cuda", "cpu"))
    start, seen = starter("cpu")
    with pytest.raises(BundleError, match="execution provider cuda: no driver; available: auto, cpu, cuda"):
        start_first("cuda", True, start)
    assert seen == ["cuda"]
    assert start_first("auto", True, start)[1].used == "cpu"
    with pytest.raises(BundleError, match=r"tensorrt: not in this onnxruntime; .*sealegs\[gpu\]"):
        start_first("tensorrt", True, start)
    with pytest.raises(BundleError, match=r"no execution provider started: cuda: no driver; cpu: no driver"):
        start_first("cuda", False, starter()[0])


def test_the_line_says_what_was_asked_what_there_is_and_what_is_used():
    choice = ProviderChoice("cuda", "cpu", ("cuda", "cpu"), ("cuda: did not start",))
    assert choice.line == "provider asked for: cuda; available: cpu, cuda; used: cpu (cuda: did not start)"
    assert ProviderChoice("cpu", "cpu", ("cpu",)).line == "provider asked for: cpu; available: cpu; used: cpu"


def test_a_gpu_that_onnxruntime_offers_but_cannot_start(monkeypatch):
    """onnxruntime-gpu on a machine without a driver: it lists CUDA, warns, and starts on the CPU by itself."""
    monkeypatch.setattr(providers, "offered_providers", lambda: ("cuda", "cpu"))
    with pytest.warns(UserWarning, match="CUDA"):
        started, choice = start_first("cuda", False, lambda name: start_graph(graph(), name, INPUTS, OUTPUT))
    assert choice.fell_back
    assert "cuda: did not start" in choice.line
    assert started.session.get_providers() == ["CPUExecutionProvider"]
    assert not started._on_device


def test_any_failure_of_a_gpu_is_a_reason_to_go_on(monkeypatch):
    monkeypatch.setattr(session, "open_session", lambda data, name: open_session(data, "cpu"))

    def fail(self: BoundGraph, device: str) -> None:
        raise RuntimeError("CUDA failure 2:\nout of memory")

    monkeypatch.setattr(BoundGraph, "_bind_device", fail)
    with pytest.raises(ProviderError, match="does not run this policy: CUDA failure 2: out of memory"):
        start_graph(graph(), "cuda", INPUTS, OUTPUT)
    with pytest.raises(BundleError, match="cannot load") as caught:
        start_graph(b"nothing", "cpu", INPUTS, OUTPUT)
    assert not isinstance(caught.value, ProviderError)


def test_the_probe_tries_what_is_offered(monkeypatch):
    assert providers.probe() == {"cpu": ""}
    monkeypatch.setattr(providers, "offered_providers", lambda: ("cuda", "cpu"))
    with pytest.warns(UserWarning, match="CUDA"):
        found = providers.probe()
    assert found["cpu"] == ""
    assert "did not start" in found["cuda"]
