"""Fixtures of the ROS tests: an own DDS domain, nodes as real processes, and a client node beside them."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("rclpy", reason="the ROS tests need the extra `ros`")


@pytest.fixture(scope="session", autouse=True)
def ros_domain() -> int:
    """An own domain on this host only, so that nothing else on the machine or network is heard."""
    domain = 1 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    return domain
