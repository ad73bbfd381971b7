"""Graphs that keep a tensor in every place where ONNX allows one. Its zeros are "poison" (J,), added to the action."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sealegs.faults.hostile.signed import MOVED, policy_graph

Spoil = Callable[[Any], None]
"""Moves a TensorProto's data out of the graph; nothing for the twin."""


def _initializer(spoil: Spoil) -> Any:
    model = poisoned()
    model.graph.initializer.append(_tensor(spoil))
    return model


def _sparse_initializer(spoil: Spoil, part: str) -> Any:
    model = poisoned()
    model.graph.sparse_initializer.append(_sparse(spoil, part))
    return model


def _constant(spoil: Spoil) -> Any:
    from onnx import helper

    return poisoned(helper.make_node("Constant", [], ["poison"], value=_tensor(spoil)))


def _sparse_constant(spoil: Spoil, part: str) -> Any:
    from onnx import helper

    return poisoned(helper.make_node("Constant", [], ["poison"], sparse_value=_sparse(spoil, part)))


def in_subgraph(spoil: Spoil, depth: int, sparse: bool = False) -> Any:
    """If in If in ..., each branch with its own copy of the tensor; `sparse`: in a branch without any node."""
    from onnx import TensorProto, helper

    def branch(level: int) -> Any:
        name = f"poison{level}"
        output = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [MOVED.size])]
        if level < depth:
            return helper.make_graph(conditional(level + 1, name), "branch", [], output)
        if sparse:
            return helper.make_graph([], "branch", [], output, sparse_initializer=[_sparse(spoil, "values", name)])
        inner = helper.make_node("Identity", ["inner"], [name])
        return helper.make_graph([inner], "branch", [], output, [_tensor(spoil, "inner")])

    def conditional(level: int, out: str) -> list[Any]:
        always = helper.make_tensor(f"always{level}", TensorProto.BOOL, [], [True])
        return [
            helper.make_node("Constant", [], [f"if{level}"], value=always),
            helper.make_node("If", [f"if{level}"], [out], then_branch=branch(level), else_branch=branch(level)),
        ]

    return poisoned(*conditional(1, "poison"))


def in_function(spoil: Spoil) -> Any:
    """A local function whose body holds the tensor."""
    from onnx import helper

    body = [helper.make_node("Constant", [], ["inside"], value=_tensor(spoil))]
    model = poisoned(helper.make_node("Local", [], ["poison"], domain="local"))
    imports = [helper.make_opsetid("", model.opset_import[0].version)]
    model.functions.append(helper.make_function("local", "Local", [], ["inside"], body, imports))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def _training(spoil: Spoil) -> Any:
    model = policy_graph(0)
    model.training_info.add().initialization.initializer.append(_tensor(spoil))
    return model


def _tensor_list(spoil: Spoil) -> Any:
    model = policy_graph(0)
    model.graph.node[0].attribute.add(name="list", type=9).tensors.append(_tensor(spoil))
    return model


def poisoned(*nodes: Any) -> Any:
    """The policy with "poison" added to its action, and `nodes` before that."""
    from onnx import helper

    model = policy_graph(0)
    model.graph.node[-1].output[0] = "clean"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["clean", "poison"], ["action"])])
    return model


def _tensor(spoil: Spoil, name: str = "poison") -> Any:
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.zeros(MOVED.size, np.float32), name)
    spoil(tensor)
    return tensor


def _sparse(spoil: Spoil, part: str, name: str = "poison") -> Any:
    """(J,) with one entry of zero; `part` of it is spoiled."""
    from onnx import helper, numpy_helper

    parts = {
        "values": numpy_helper.from_array(np.zeros(1, np.float32), name),
        "indices": numpy_helper.from_array(np.zeros(1, np.int64), f"{name}_indices"),
    }
    spoil(parts[part])
    return helper.make_sparse_tensor(parts["values"], parts["indices"], [MOVED.size])


PLACES: dict[str, Callable[[Spoil], Any]] = {
    "initializer": _initializer,
    "values of a sparse initializer": partial(_sparse_initializer, part="values"),
    "indices of a sparse initializer": partial(_sparse_initializer, part="indices"),
    "constant": _constant,
    "values of a sparse constant": partial(_sparse_constant, part="values"),
    "indices of a sparse constant": partial(_sparse_constant, part="indices"),
    "initializer of a subgraph": partial(in_subgraph, depth=1),
    "initializer of a subgraph of a subgraph": partial(in_subgraph, depth=2),
    "sparse initializer of a subgraph without nodes": partial(in_subgraph, depth=1, sparse=True),
}
UNUSED = {"function": in_function, "training graph": _training, "list of tensors": _tensor_list}
"""Places that are refused whatever they hold."""
