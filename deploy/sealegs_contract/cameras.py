"""When cameras deliver: one schedule for the robot, recorded episodes and policies in process."""

from __future__ import annotations

from sealegs_contract.robot import RobotProfile


def cameras_due(robot: RobotProfile, tick: int) -> tuple[str, ...]:
    """Names of the cameras that take an image at control tick 0, 1, 2, ... of an episode.

    All show its start. Then each of C cameras comes at every n-th tick, n = control rate / camera rate, the i-th at
    tick mod n = floor(i n / C): spread, so that few are rendered in one period.
    """
    count = len(robot.cameras)
    names = []
    for index, camera in enumerate(robot.cameras):
        every = max(1, round(robot.control_rate_hz / camera.rate_hz))
        if tick == 0 or tick % every == index * every // count:
            names.append(camera.name)
    return tuple(names)
