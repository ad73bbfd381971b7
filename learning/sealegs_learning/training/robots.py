"""The robot that a training simulates: which one, what to record of it, and whether it is the policy's."""

from __future__ import annotations

from typing import Any

from sealegs_contract.errors import LearningError
from sealegs_contract.robot import RobotProfile, differences, load_robot
from sealegs_learning.networks import GaussianActor, Policy
from sealegs_learning.training.config import TrainConfig

DEFAULT = "so101"
NAMED = 3  # differences in one message


def simulated_robot(config: TrainConfig, start: GaussianActor | None = None) -> RobotProfile:
    """That of `config.robot`, else that of the policy to start from, else the dataset's, else the shipped one."""
    from sealegs_learning.data.files import read_info, read_sealegs

    if config.robot:
        return load_robot(config.robot)
    if isinstance(start, Policy):
        return start.robot
    meta = None
    if config.dataset is not None:
        read_info(config.dataset)  # an error where there is no dataset
        meta = read_sealegs(config.dataset)
    return load_robot(DEFAULT) if meta is None else meta.robot


def describe_robot(env: Any) -> dict[str, Any]:
    """What decides the weights of the robot that `env` simulates; JSON. Empty for a benchmark, which has none."""
    robot: RobotProfile | None = getattr(env, "robot", None)
    if robot is None:
        return {}
    ranges = {knob: list(pair) for knob, pair in env.ranges.items()}
    about = {"name": robot.name, "profile_digest": robot.digest, "randomization": ranges}
    delays = {} if env.delays is None else {"delays": env.delays.digest}
    return {"robot": about | delays}


def check_same_robot(owner: str, robot: RobotProfile, other: RobotProfile) -> None:
    """LearningError where `other`, which is to be simulated, is not the `robot` of `owner`: what differs, by name."""
    if robot.digest == other.digest:
        return
    found = differences(robot.model_dump(mode="json"), other.model_dump(mode="json"))
    changes = [f"{path} is {theirs!r} there, {ours!r} here" for path, theirs, ours in found]
    listed = "; ".join(changes[:NAMED]) + (f"; {len(changes) - NAMED} more" if len(changes) > NAMED else "")
    raise LearningError(
        f"{owner} is for robot {robot.name} (profile {robot.digest[:12]}), but the robot here is {other.name} "
        f"({other.digest[:12]}): {listed}. Leave out --robot for its own"
    )
