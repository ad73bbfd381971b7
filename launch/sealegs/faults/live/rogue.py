"""`python -m sealegs.faults.live.rogue SECONDS`: a stranger on the network that commands the robot and listens to it.

Prints as JSON how many joint states it heard, and how long the first took. It leaves a second after it has heard one
and found who listens to it: the two may be some time apart.
"""

from __future__ import annotations

import json
import sys
import time

PERIOD_S = 0.02
LINGER_S = 1.0


def main(seconds: float) -> None:
    """Command the home pose at 50 Hz, whether or not anybody is there."""
    import rclpy
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory

    from sealegs_contract import topics
    from sealegs_contract.robot import load_robot
    from sealegs_contract.sample import CommandSample
    from sealegs_ros import qos
    from sealegs_ros.conversions import to_message

    robot = load_robot("so101")
    rclpy.init()
    node = rclpy.create_node("rogue")
    heard: list[float] = []
    publisher = node.create_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
    node.create_subscription(JointState, topics.JOINT_STATES, lambda _: heard.append(time.monotonic()), qos.STREAM)
    sent, begin = 0, time.monotonic()
    end = begin + seconds
    met = False
    while time.monotonic() < end:
        if not met and heard and publisher.get_subscription_count():
            met, end = True, time.monotonic() + LINGER_S
        stamp_ns = sent * robot.control_period_ns
        publisher.publish(to_message(CommandSample(stamp_ns, robot.joint_names, robot.home_rad[None], (10**9,))))
        sent += 1
        until = time.monotonic() + PERIOD_S
        while (left := until - time.monotonic()) > 0:
            rclpy.spin_once(node, timeout_sec=left)
    print(json.dumps({"heard": len(heard), "after_s": heard[0] - begin if heard else None}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(float(sys.argv[1]))
