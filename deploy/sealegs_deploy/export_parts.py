"""What every export needs beside torch: a quiet exporter, a graph without notes, and the versions that made it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealegs_deploy.export import ExportRequest


def strip(model: Any) -> None:
    """Remove the exporter's notes: they hold stack traces with paths of this machine."""
    model.ClearField("metadata_props")
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's progress lines and the warnings of its own libraries; errors still raise."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def versions() -> dict[str, str]:
    """Of all that decides what a graph becomes."""
    found = {}
    for package in ("sealegs", "torch", "onnx", "onnxscript", "onnxruntime", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def metadata(request: ExportRequest) -> dict[str, str]:
    """`metadata_props` as mjlab's readers expect them, in full precision. Gains belong to the robot node."""
    return {
        "joint_names": ",".join(request.action.joints),
        "default_joint_pos": ",".join(repr(joint.home_rad) for joint in request.robot.joints),
        "action_scale": ",".join(map(repr, request.action.scale_rad)),
        "observation_names": ",".join(request.observation.element_names),
        "command_names": "",
        "run_path": request.provenance.run_path,
        "profile_digest": request.robot.digest,
    }
