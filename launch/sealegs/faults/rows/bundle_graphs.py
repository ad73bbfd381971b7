"""Row about a signed bundle's graph: data outside of it, in every place and form, and operators that are not ONNX's.

Each graph is signed by a trusted key: only the graph itself is at fault. Its twin with the data inside is accepted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile.graph_places import PLACES, UNUSED, in_function, in_subgraph, poisoned
from sealegs.faults.hostile.signed import Signer, accepted, policy_files, policy_graph
from sealegs_contract.errors import SealegsError
from sealegs_deploy.manifest import POLICY_NAME
from sealegs_deploy.providers import open_session

DATA = "weights.bin"


def foreign_graphs(trials: Trials) -> Outcome:
    """Cases spread evenly over all: every place with every form, and every domain in every place."""
    signer, seen = Signer.new(), []
    cases = _cases()
    for trial in range(trials.count):
        name, build = cases[trial * len(cases) // trials.count % len(cases)]
        place = trials.folder / "graph"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        failure = build(signer, place)
        seen.append(Seen(f"{name}: {failure}" if failure else ""))
        trials.progress(trial + 1, trials.count)
    return outcome(seen, [f"{len(PLACES)} places x {len(FORMS)} forms of data outside, {len(DOMAINS)} foreign domains"])


def _cases() -> list[tuple[str, Callable[[Signer, Path], str]]]:
    found = [
        (f"{place}, {form}", partial(_outside, place=place, form=form))
        for place in (*PLACES, *UNUSED)
        for form in FORMS
    ]
    found += [
        (f"{domain!r} in {site}", partial(_foreign, domain=domain, site=site)) for domain in DOMAINS for site in SITES
    ]
    return [*found, ("onnxruntime's own format", _ort_format)]


def _outside(signer: Signer, folder: Path, place: str, form: str) -> str:
    build = (PLACES | UNUSED)[place]
    if place in PLACES:
        try:
            _run(signer, folder, build(lambda tensor: None))
        except SealegsError as error:
            return f"the twin with its data inside was refused ({str(error)[:200]})"
    return accepted(lambda: _run(signer, folder, build(partial(FORMS[form], folder=folder))))


def _run(signer: Signer, folder: Path, model: Any) -> None:
    files = policy_files(0) | {POLICY_NAME: model.SerializeToString(), DATA: b"\0" * 4096}
    signer.run(signer.write(files, folder / "bundle"))


# Forms: where the data is said to be.


def _located(tensor: Any, location: str) -> None:
    from onnx import TensorProto

    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)


def _file(folder: Path) -> Path:
    path = folder / DATA
    path.write_bytes(b"\0" * 4096)
    return path


def _linked(tensor: Any, folder: Path, link: Callable[[Path, Path], None]) -> None:
    """A link in the working directory's eyes, as onnxruntime would look for it."""
    path = folder / f"link-{tensor.name}"
    if not path.exists():
        link(_file(folder), path)
    _located(tensor, os.path.relpath(path))


def _flag_only(tensor: Any, folder: Path) -> None:
    from onnx import TensorProto

    tensor.data_location = TensorProto.EXTERNAL


def _entries_only(tensor: Any, folder: Path) -> None:
    tensor.external_data.add(key="location", value=str(_file(folder)))


FORMS: dict[str, Callable[..., None]] = {
    "file in the bundle": lambda tensor, folder: _located(tensor, DATA),
    "relative": lambda tensor, folder: _located(tensor, os.path.relpath(_file(folder))),
    "absolute": lambda tensor, folder: _located(tensor, str(_file(folder).resolve())),
    "..": lambda tensor, folder: _located(tensor, f"../{Path.cwd().name}/{os.path.relpath(_file(folder))}"),
    "symlink": partial(_linked, link=lambda file, path: path.symlink_to(file.resolve())),
    "hard link": partial(_linked, link=os.link),
    "flag without a place": _flag_only,
    "place without the flag": _entries_only,
    "in memory": lambda tensor, folder: _located(tensor, "*/_ORT_MEM_ADDR_/*"),
}


# Foreign operators

DOMAINS = (
    "com.microsoft",
    "com.microsoft.nchwc",
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    "ai.onnx.contrib",
    "org.pytorch.aten",
    "my.robot",
    "AI.ONNX",
    " ",
)


def _import_only(domain: str) -> Any:
    from onnx import helper

    model = policy_graph(0)
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _node(domain: str) -> Any:
    from onnx import helper

    model = poisoned(helper.make_node("Gelu", ["clean"], ["poison"], domain=domain))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _inner_node(domain: str) -> Any:
    """In a branch, and without an import that would name the domain."""
    model = in_subgraph(lambda tensor: None, depth=2)
    for attribute in model.graph.node[-2].attribute:
        attribute.g.node[-1].attribute[0].g.node[0].domain = domain
    return model


def _local_function(domain: str) -> Any:
    model = in_function(lambda tensor: None)
    model.functions[0].domain = model.opset_import[-1].domain = domain
    next(node for node in model.graph.node if node.op_type == "Local").domain = domain
    return model


def _inside_function(domain: str) -> Any:
    """A function that passes as ONNX's own, with a foreign operator in its body."""
    model = _local_function("")
    model.functions[0].node[0].domain = domain
    return model


SITES: dict[str, Callable[[str], Any]] = {
    "the imports": _import_only,
    "a node": _node,
    "a node of a subgraph": _inner_node,
    "a local function": _local_function,
    "the body of a local function": _inside_function,
}


def _foreign(signer: Signer, folder: Path, domain: str, site: str) -> str:
    return accepted(lambda: _run(signer, folder, SITES[site](domain)))


def _ort_format(signer: Signer, folder: Path) -> str:
    """A format that onnxruntime detects by itself and reads without any of the checks on ONNX graphs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "policy.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(policy_files(0)[POLICY_NAME], options, providers=["CPUExecutionProvider"])
    data = (folder / "policy.ort").read_bytes()
    files = policy_files(0) | {POLICY_NAME: data}
    loaded = accepted(lambda: signer.run(signer.write(files, folder / "bundle")))
    return loaded or accepted(lambda: open_session(data, "cpu"))


FAULTS: tuple[Fault, ...] = (
    Fault(23, "external data, custom-op domains", "refuse", len(_cases()), 40, foreign_graphs),
)
