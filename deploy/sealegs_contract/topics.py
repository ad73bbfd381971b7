"""Topic names, shared by the nodes, the bag writer and the importer. All are relative: a namespace may precede them."""

from __future__ import annotations

JOINT_STATES = "joint_states"  # sensor_msgs/JointState
JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory: what was commanded
SHADOW = "shadow/joint_trajectory"  # trajectory_msgs/JointTrajectory: what a candidate would command; never followed
TASK = "task"  # std_msgs/String, latched: the task sentence
E_STOP = "e_stop"  # std_msgs/Bool, latched: whether the emergency stop is pressed
ROBOT_STATUS = "robot_node/status"  # std_msgs/String, latched: JSON {"state", "reason", "emergency_stop"}
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
