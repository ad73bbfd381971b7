"""The environment that keeps ROS on this host, without shared memory between processes."""

from __future__ import annotations

from sealegs.launching.files import own_share

PROFILE = "this_host_only.xml"


def this_host_only() -> dict[str, str]:
    """Variables for a process and its children. Discovery by LOCALHOST would do, but brings shared memory with it:
    who dies while reading that blocks those who write it, the robot's control loop too, for seconds.
    """
    return {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(own_share() / "launch" / "params" / PROFILE),
    }
