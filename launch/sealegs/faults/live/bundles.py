"""Signed bundles of small hand-made policies for the fault experiments. The only module of them that needs torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from sealegs_contract.robot import RobotProfile, load_robot
from sealegs_contract.spec import ActionSpec, ObservationSpec
from sealegs_sim.tasks import get_task

if TYPE_CHECKING:
    import torch

ROBOT_NAME, TASK_NAME = "so101", "reach"
OBJECTS = get_task(TASK_NAME).objects
CIRCLING = ("shoulder_pan", "wrist_roll")
TURN_RAD_S = 2.5
RADIUS_RAD = 0.8


@cache
def _workshop() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sealegs-faults-")


def configuration() -> Path:
    """A configuration folder of this process, with the key that signs these bundles; it is gone at the end."""
    return Path(_workshop().name) / "config"


@cache
def circling_bundle() -> Path:
    """A policy that never rests: see `circling`. Made once, within `isolated(configuration())`, as the other one."""
    robot = load_robot(ROBOT_NAME)
    return signed_bundle("circling", partial(circling, robot=robot), get_task(TASK_NAME).action_spec(robot))


@cache
def mirroring_bundle() -> Path:
    """A policy whose command for every joint is the position that it saw: a command tells which observation it had."""
    robot = load_robot(ROBOT_NAME)
    # Twice the widest limit: the policy works in [-1, 1].
    scale = 2.0 * max(max(abs(j.position_min_rad), abs(j.position_max_rad)) for j in robot.joints)
    count = len(robot.joints)
    action = ActionSpec(
        kind="joint_position", joints=robot.joint_names, scale_rad=(scale,) * count, offset_rad=(0.0,) * count
    )
    return signed_bundle("mirroring", lambda seen: (seen[:, :count] / scale).clamp(-1.0, 1.0), action)


def circling(seen: torch.Tensor, robot: RobotProfile, turn_rad_s: float = TURN_RAD_S) -> torch.Tensor:
    """Two joints go round the circle x^2 + y^2 = r^2 of their positions (a Hopf oscillator), the others rest.

    dx = 2 (1 - (x^2 + y^2) / r^2) x - w y,   dy = 2 (1 - (x^2 + y^2) / r^2) y + w x,   from the centre towards +x.
    """
    import torch

    first, second = (robot.joint_names.index(name) for name in CIRCLING)
    x, y = seen[:, first], seen[:, second]
    growth = 2.0 * (1.0 - (x * x + y * y) / RADIUS_RAD**2)
    # Full scale is 0.6 of the velocity limit: see delta_action_spec.
    fastest = 0.6 * robot.joints[first].velocity_max_rad_s
    dx = growth * x - turn_rad_s * y + 0.1
    dy = growth * y + turn_rad_s * x
    still = torch.zeros_like(x)
    moved = {first: torch.tanh(dx / fastest), second: torch.tanh(dy / fastest)}
    return torch.stack([moved.get(joint, still) for joint in range(len(robot.joints))], dim=1)


def signed_bundle(
    name: str,
    policy: Callable[[torch.Tensor], torch.Tensor],
    action: ActionSpec,
    observed: ObservationSpec | None = None,
) -> Path:
    """Sign it with the own key of this configuration: the nodes started there trust it. It observes its task's objects
    unless `observed` says otherwise.
    """
    import torch

    from sealegs_deploy.export import ExportRequest, export_bundle
    from sealegs_deploy.signing import own_key

    class Module(torch.nn.Module):
        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return policy(observation)

    robot = load_robot(ROBOT_NAME)
    observed = observed or get_task(TASK_NAME).observation_spec(robot)
    request = ExportRequest(name=name, robot=robot, observation=observed, action=action)
    out = Path(_workshop().name) / name
    export_bundle(Module(), request, out, own_key())
    return out
