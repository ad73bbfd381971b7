"""Fixtures of the ROS tests: an own DDS domain, nodes as real processes, and a client node beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the ROS tests need the extra `ros`")

from sealegs.faults.live.nodes import Client, NodeProcess, domain_of_this_process
from sealegs.launching.this_host import this_host_only
from sealegs_deploy.bundle import load_bundle, write_bundle
from sealegs_deploy.certificate import GATE_NAME, ExaminedBag, make_certificate
from sealegs_deploy.gate_findings import Figures
from sealegs_deploy.gate_thresholds import RULES, load_thresholds
from sealegs_deploy.signing import own_key


@pytest.fixture(scope="session", autouse=True)
def ros_domain() -> int:
    """An own domain on this host only, so that nothing else on the machine or network is heard."""
    domain = domain_of_this_process()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ.update(this_host_only())
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    return domain


@pytest.fixture
def start_node(tmp_path: Path, ros_domain: int) -> Iterator[Callable[..., NodeProcess]]:
    """start_node("robot_node", "-r", "__ns:=/arm", task="drawer", seed=3): started now, ended with the test."""
    running: list[NodeProcess] = []

    def start(node: str, *arguments: str, **parameters: object) -> NodeProcess:
        running.append(NodeProcess(node, tmp_path, arguments, parameters))
        return running[-1]

    yield start
    for node in running:
        if node.running:
            node.stop()


@pytest.fixture
def lax(tmp_path: Path) -> Path:
    """Thresholds that an untrained policy keeps: one episode, whatever happened in it."""
    path = tmp_path / "lax.yaml"
    path.write_text("".join(f"{name}: null\n" for name in RULES if name != "episodes_min") + "episodes_min: 0\n")
    return path


@pytest.fixture
def certified(bundle: Path, lax: Path, tmp_path: Path) -> Path:
    """The bundle of the module with a certificate: examined as the policy alone, by the lax thresholds."""
    loaded = load_bundle(bundle)
    figures = Figures.model_validate({name: 0 for name, field in Figures.model_fields.items() if field.is_required()})
    examined = (ExaminedBag(name="bag", sha256="ab" * 32, episodes=1),)
    files = {**loaded.files, GATE_NAME: make_certificate(loaded, examined, load_thresholds(lax), figures).to_bytes()}
    return write_bundle(files, tmp_path / "certified", own_key())


@pytest.fixture
def client(ros_domain: int) -> Iterator[Client]:
    made = Client("test_client")
    yield made
    made.close()
