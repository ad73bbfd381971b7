"""Topic names, shared by the nodes, the bag writer and the importer. All are relative: a namespace may precede them."""

from __future__ import annotations

JOINT_STATES = "joint_states"  # sensor_msgs/JointState
JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory: what was commanded
TASK = "task"  # std_msgs/String, latched: the task sentence
CLOCK = "/clock"  # rosgraph_msgs/Clock, when simulating
DIAGNOSTICS = "/diagnostics"  # diagnostic_msgs/DiagnosticArray


def camera_image(name: str) -> str:
    """sensor_msgs/CompressedImage"""
    return f"camera/{name}/image_raw/compressed"


def camera_info(name: str) -> str:
    """sensor_msgs/CameraInfo"""
    return f"camera/{name}/camera_info"


def object_pose(name: str) -> str:
    """geometry_msgs/PoseStamped"""
    return f"objects/{name}/pose"
