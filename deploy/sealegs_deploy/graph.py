"""What a policy graph may be: the manifest's inputs and output, standard operators, nothing outside the file.

onnxruntime would resolve external data against the working directory and look for custom operators in whatever was
registered, so both are refused before a session exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sealegs_contract.errors import BundleError
from sealegs_deploy.manifest import Manifest

ALLOWED_DOMAINS = frozenset({"", "ai.onnx"})

# By name: element type, and the sizes after the batch.
Ports = dict[str, tuple[str, tuple[int, ...]]]


def check_graph(data: bytes, manifest: Manifest) -> None:
    """Refuse a graph that does not parse, reaches outside its bytes, or has other inputs and outputs than the manifest.

    Raises BundleError naming what came and what was expected.
    """
    check_onnx(data, manifest.graph.file, *ports_of(manifest))


def check_onnx(data: bytes, file: str, inputs: Ports, outputs: Ports) -> None:
    """As `check_graph`, of any file of a bundle with any inputs and outputs."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise BundleError(f"{file} is not an ONNX graph: {error}") from error
    _check_operators(model, file)
    _check_data(model, file)
    check_ports(file, "input", {v.name: _port(v) for v in model.graph.input}, inputs)
    check_ports(file, "output", {v.name: _port(v) for v in model.graph.output}, outputs)


def ports_of(manifest: Manifest) -> tuple[Ports, Ports]:
    """Inputs and outputs that a bundle's graph has, by name: element type, and the sizes after the batch."""
    observation, temporal, joints = manifest.observation, manifest.temporal, manifest.action.size
    inputs: Ports = {manifest.graph.input: ("float32", (temporal.history * observation.size,))}
    inputs |= {image_input(i.camera): ("uint8", (i.height, i.width, 3)) for i in observation.images}
    moved = (joints,) if temporal.chunk == 1 else (temporal.chunk, joints)
    return inputs, {manifest.graph.output: ("float32", moved)}


def image_input(camera: str) -> str:
    """Name of the graph's input for a camera's pixels."""
    return f"image_{camera}"


def check_ports(file: str, kind: str, found: Mapping[str, tuple[str, list[Any]]], expected: Ports) -> None:
    """BundleError unless `found` has the names, types and sizes of `expected`; its first size, the batch, is free."""
    fits = found.keys() == expected.keys() and all(
        found[name][0] == dtype
        and len(found[name][1]) == len(sizes) + 1
        and not isinstance(found[name][1][0], int)
        and tuple(found[name][1][1:]) == sizes
        for name, (dtype, sizes) in expected.items()
    )
    if not fits:
        wanted = ", ".join(f"{name!r} {dtype} {['batch', *sizes]}" for name, (dtype, sizes) in expected.items())
        came = ", ".join(f"{name!r} {dtype} {sizes}" for name, (dtype, sizes) in found.items()) or "none"
        raise BundleError(f"{file} has {kind}s {came}; expected only {wanted}")


def _check_operators(model: Any, file: str) -> None:
    if model.training_info:
        raise BundleError(f"{file} carries training graphs; only the graph that runs is allowed")
    domains = {entry.domain for entry in model.opset_import} | {function.domain for function in model.functions}
    domains |= {node.domain for node in _nodes(model)}
    foreign = sorted(domains - ALLOWED_DOMAINS)
    if foreign or model.functions:
        raise BundleError(f"{file} uses operators of {', '.join(foreign) or 'its own'}; only standard ONNX is allowed")


def _check_data(model: Any, file: str) -> None:
    import onnx

    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BundleError(f"{file} keeps {tensor.name or 'a tensor'} in another file; all data must be inside")


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
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


def _port(value: Any) -> tuple[str, list[Any]]:
    """Element type, and sizes with the name (or None) where a size is free."""
    import onnx

    tensor = value.type.tensor_type
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    dtype = names.get(tensor.elem_type, f"type {tensor.elem_type}")
    sizes = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]
    return ("float32" if dtype == "float" else dtype), sizes
