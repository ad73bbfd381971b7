"""What a policy graph may be: one named input, one named output, standard operators, nothing outside the file.

onnxruntime would resolve external data against the working directory and look for custom operators in whatever was
registered, so both are refused before a session exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sealegs_contract.errors import BundleError
from sealegs_deploy.manifest import GraphInfo, Manifest

ALLOWED_DOMAINS = frozenset({"", "ai.onnx"})


def check_graph(data: bytes, manifest: Manifest) -> None:
    """Refuse a graph that does not parse, reaches outside its bytes, or has other inputs and outputs than the manifest.

    Raises BundleError naming what came and what was expected.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise BundleError(f"{manifest.graph.file} is not an ONNX graph: {error}") from error
    _check_operators(model)
    _check_data(model)
    check_ports(
        manifest.graph,
        {value.name: _shape(value) for value in model.graph.input},
        {value.name: _shape(value) for value in model.graph.output},
        manifest.observation.size,
        manifest.action.size,
    )


def check_ports(
    graph: GraphInfo, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], observed: int, moved: int
) -> None:
    """One input (batch, observed) and one output (batch, moved), batch being free, by name and size."""
    for kind, ports, name, size in (
        ("input", inputs, graph.input, observed),
        ("output", outputs, graph.output, moved),
    ):
        shape = ports.get(name)
        if len(ports) != 1 or shape is None or len(shape) != 2 or isinstance(shape[0], int) or shape[1] != size:
            raise BundleError(f"{graph.file} has {kind}s {ports}, expected only {name!r} of shape ['batch', {size}]")


def _check_operators(model: Any) -> None:
    domains = {entry.domain for entry in model.opset_import} | {function.domain for function in model.functions}
    domains |= {node.domain for node in _nodes(model)}
    foreign = sorted(domains - ALLOWED_DOMAINS)
    if foreign or model.functions:
        raise BundleError(
            f"policy.onnx uses operators of {', '.join(foreign) or 'its own'}; only standard ONNX is allowed"
        )


def _check_data(model: Any) -> None:
    import onnx

    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BundleError(f"policy.onnx keeps {tensor.name or 'a tensor'} in another file; all data must be inside")


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _shape(value: Any) -> list[Any]:
    """Sizes, with the name (or None) where a size is free; empty unless float32, so that no other type passes."""
    import onnx

    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        return []
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]
