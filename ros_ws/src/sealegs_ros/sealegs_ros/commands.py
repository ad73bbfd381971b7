"""A serialised command to a sample, for as little work as whoever sent it deserves.

Taking a message of a million points apart costs tens of seconds, in which the control loop would stand still. So the
robot node takes commands as bytes, and reads their counts before anything else.
"""

from __future__ import annotations

import struct

from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.errors import SpecError
from sealegs_contract.sample import CommandSample
from sealegs_ros import conversions
from sealegs_ros.cdr import ENCAPSULATION_BYTES
from sealegs_ros.command_gate import MAXIMUM_POINTS

MAXIMUM_COMMAND_BYTES = 256 * 1024
"""MAXIMUM_POINTS of 28 joints with all four fields."""
MAXIMUM_SAID = 300  # characters of what is wrong with a message


def read_command(data: bytes, joints: int) -> CommandSample | str:
    """The command for a robot of so many joints, or one of REFUSALS. SpecError for what is no command at all."""
    if len(data) > MAXIMUM_COMMAND_BYTES:
        return "bytes"
    try:
        names, points = _counts(data, joints)
        if names != joints:
            return "joints"
        if points > MAXIMUM_POINTS:
            return "points"
        return conversions.command_sample(deserialize_message(data, JointTrajectory))
    except (struct.error, RuntimeError) as error:  # RuntimeError: rclpy's, of bytes that are no such message
        raise SpecError(f"{topics.JOINT_TRAJECTORY}: {len(data)} bytes that are no such message") from error
    except SpecError as error:
        raise SpecError(str(error)[:MAXIMUM_SAID]) from error


def _counts(data: bytes, most_names: int) -> tuple[int, int]:
    """How many names and points a JointTrajectory in CDR says it has; points 0 where the names are not so many.

    Header: stamp (2 x 4 bytes), frame_id. Then joint_names, then points: each sequence begins with its count. Strings
    are a length and so many bytes, and each number of 4 bytes is aligned to 4.
    """
    number = struct.Struct("<I" if data[1:2] and data[1] & 1 else ">I")

    def unsigned(at: int) -> tuple[int, int]:
        at += -(at - ENCAPSULATION_BYTES) % 4
        return int(number.unpack_from(data, at)[0]), at + 4

    def after_string(at: int) -> int:
        length, at = unsigned(at)
        return at + length

    names, at = unsigned(after_string(ENCAPSULATION_BYTES + 8))
    if names != most_names:
        return names, 0
    for _ in range(names):
        at = after_string(at)
    return names, unsigned(at)[0]
