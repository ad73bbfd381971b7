"""Execution providers of onnxruntime: what was asked for, what there is, what is used, and why it is not the first.

A provider that is offered need not start: onnxruntime-gpu lists CUDA and TensorRT on machines without a driver. So each
is tried, fastest first, down to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sealegs_contract.errors import BundleError, available

Provider = Literal["cpu", "cuda", "tensorrt", "auto"]
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""Fastest first: our name, and onnxruntime's."""
OPTIONS: dict[str, dict[str, str]] = {
    "tensorrt": {},
    # TF32 rounds to 10 bits of mantissa: an action would differ by more than the export's parity allows.
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "cpu": {},
}

GPU_HINT = "on a machine with a GPU: pip install 'sealegs[gpu]' in place of 'sealegs[runtime]'"

Started = TypeVar("Started")


class ProviderError(BundleError):
    """A provider did not start, or does not compute what the CPU does; the message says why."""


@dataclass(frozen=True)
class ProviderChoice:
    """`asked` and `used` are our names (`asked` may be `auto`); `skipped` says why each faster one is not used.

    `note`: what else the log should say of the policy that starts on it.
    """

    asked: str
    used: str
    offered: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    note: str = ""

    @property
    def fell_back(self) -> bool:
        """Whether another provider is used than the one that was named."""
        return self.asked not in {self.used, "auto"}

    @property
    def line(self) -> str:
        """One line for the log."""
        why = f" ({'; '.join(self.skipped)})" if self.skipped else ""
        note = f"; {self.note}" if self.note else ""
        return f"provider asked for: {self.asked}; {available(self.offered)}; used: {self.used}{why}{note}"


def offered_providers() -> tuple[str, ...]:
    """Our names of the providers that this onnxruntime was built with, fastest first."""
    import onnxruntime

    built = set(onnxruntime.get_available_providers())
    return tuple(name for name, provider in PROVIDERS.items() if provider in built)


def candidates(asked: str) -> tuple[str, ...]:
    """What to try for `asked`, in order: it, and all slower ones. BundleError for an unknown name."""
    names = tuple(PROVIDERS)
    if asked == "auto":
        return names
    if asked not in names:
        raise BundleError(f"{asked!r} is no execution provider; {available([*names, 'auto'])}")
    return names[names.index(asked) :]


def start_first(asked: str, strict: bool, start: Callable[[str], Started]) -> tuple[Started, ProviderChoice]:
    """`start(name)` of the first candidate that does not raise ProviderError, and how it was chosen.

    `strict`: a provider asked for by name must start, or BundleError says what is available.
    """
    offered = offered_providers()
    skipped: list[str] = []
    for name in candidates(asked):
        try:
            if name not in offered:
                raise ProviderError(f"not in this onnxruntime; {GPU_HINT}")
            return start(name), ProviderChoice(asked, name, offered, tuple(skipped))
        except ProviderError as error:
            if strict and name == asked:
                raise BundleError(f"execution provider {name}: {error}; {available([*offered, 'auto'])}") from error
            # `auto` asks for the best there is: what this onnxruntime was built without is no news then.
            if asked != "auto" or name in offered:
                skipped.append(f"{name}: {error}")
    raise BundleError(f"no execution provider started: {'; '.join(skipped)}")


def open_session(data: bytes, name: str) -> Any:
    """A one-thread session of the graph on provider `name`, with the CPU for operators that it lacks.

    BundleError when onnxruntime cannot load the graph at all; ProviderError when only this provider cannot.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Else bytes that begin as onnxruntime's own format are read as that, past all that was checked in the ONNX graph.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    chain: list[Any] = [(PROVIDERS[name], OPTIONS[name])]
    if name != "cpu":
        # The CUDA libraries that pip installed are in site-packages, where the loader does not look by itself.
        onnxruntime.preload_dlls()
        options.log_severity_level = 4
        chain.append(PROVIDERS["cpu"])
    problem = BundleError if name == "cpu" else ProviderError
    try:
        session = onnxruntime.InferenceSession(data, options, providers=chain)
        session.disable_fallback()
    except Exception as error:
        # onnxruntime's exceptions share no base class of their own.
        raise problem(f"onnxruntime cannot load the graph: {type(error).__name__}: {str(error)[:300]}") from error
    if session.get_providers()[0] != PROVIDERS[name]:
        raise ProviderError("did not start (driver or CUDA libraries missing?)")
    return session


def probe() -> dict[str, str]:
    """The providers of this onnxruntime, fastest first: why one does not start on a graph of one node, or nothing."""
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    found = {}
    for name in offered_providers():
        try:
            open_session(model.SerializeToString(), name)
            found[name] = ""
        except BundleError as error:
            found[name] = str(error)
    return found
