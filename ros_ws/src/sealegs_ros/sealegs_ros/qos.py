"""Quality of service of every topic, in one place: publishers, subscribers and bags must agree.

RELIABLE throughout: on one host it delivers 99-100 % of the images where BEST_EFFORT loses 20-65 % (measured), and a
subscriber may always ask for less than what is offered.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _reliable(depth: int, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability
    )


STREAM = _reliable(10)  # joint_states, object poses, diagnostics, /clock, camera_info
COMMAND = _reliable(10)  # joint_trajectory: the receiver keeps the newest by stamp, not by arrival
IMAGE = _reliable(5)
LATCHED = _reliable(1, DurabilityPolicy.TRANSIENT_LOCAL)  # task, status: late subscribers get the last value
E_STOP = _reliable(10, DurabilityPolicy.TRANSIENT_LOCAL)  # deep enough that a press just before a release is heard
E_STOP_ANY = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
RECORD = _reliable(200)  # the recorder: deep enough for a second of everything
RECORD_LATCHED = _reliable(10, DurabilityPolicy.TRANSIENT_LOCAL)


def offered_qos(topic: str) -> QoSProfile:
    """What the publishers of this package offer on `topic` (relative or resolved)."""
    if topic.endswith("/compressed"):
        return IMAGE
    if topic.rsplit("/", 1)[-1] in {"task", "status"}:
        return LATCHED
    return COMMAND if topic.endswith("joint_trajectory") else STREAM
