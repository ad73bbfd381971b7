"""Write an SROS2 keystore for the nodes of the graph: certificates, keys, and permissions for what each one needs.

Prints how to start the nodes with it. It needs no ROS; enforcing it needs a ROS installation with DDS security.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealegs.security.graph import PolicyInputs
    from sealegs_contract.robot import RobotProfile


@dataclass(frozen=True)
class Config:
    """Options of `sealegs security init`."""

    out: Path
    """Folder of the new keystore; it must not exist."""
    robot: str = "so101"
    """Robot: a shipped profile's name, or a profile file. Its cameras and objects are topics."""
    task: str = "drawer"
    """Task whose objects the policy observes."""
    bundle: Path | None = None
    """Policy bundle: the policy may read what its manifest says, instead of the task's objects and no camera."""
    domain: int = 0
    """ROS_DOMAIN_ID that the permissions are for."""
    namespace: str = "/"
    """Namespace of the nodes."""
    days: int = 3650
    """For how long certificates and permissions are valid."""
    e_stop_topics: tuple[str, ...] = ("e_stop",)
    """Topics of emergency stops: what the nodes' parameter of this name says."""
    teleoperation: bool = False
    """The operator's enclave may also publish commands."""


def run(config: Config) -> int:
    """Write and check the keystore."""
    from sealegs.security.check import check_keystore
    from sealegs.security.graph import graph
    from sealegs.security.keystore import Settings, write_keystore
    from sealegs_contract.errors import SecurityError
    from sealegs_contract.robot import load_robot

    robot = load_robot(config.robot)
    accesses = graph(robot, policy_inputs(config, robot), config.namespace, config.teleoperation, config.e_stop_topics)
    write_keystore(config.out, accesses, Settings(config.domain, config.days))
    report = check_keystore(config.out)
    if report.problems:
        raise SecurityError(f"the keystore that was just written is not sound: {'; '.join(report.problems)}")
    for enclave, granted in report.permissions.items():
        print(f"{enclave}: may publish {len(granted.publish)} DDS topics, and read {len(granted.subscribe)}")
    print(f"may command the robot: {', '.join(report.commanders)}")
    print(f"wrote {config.out}; keep {config.out / 'private'} off the robot. In the shell of each node:")
    print(f"  export ROS_DOMAIN_ID={config.domain} ROS_SECURITY_ENABLE=true ROS_SECURITY_STRATEGY=Enforce")
    print(f"  export ROS_SECURITY_KEYSTORE={config.out.resolve()} ROS_SECURITY_ENCLAVE_OVERRIDE=ENCLAVE")
    return 0


def policy_inputs(config: Config, robot: RobotProfile) -> PolicyInputs:
    """What the policy reads beside the joints."""
    from sealegs.security.graph import PolicyInputs

    if config.bundle is not None:
        from sealegs_deploy.bundle import load_bundle

        observation = load_bundle(config.bundle).manifest.observation
    else:
        from sealegs_sim.tasks import get_task

        observation = get_task(config.task).observation_spec(robot)
    objects = sorted({field.object_name for field in observation.fields if field.object_name})
    return PolicyInputs(tuple(objects), tuple(image.camera for image in observation.images))
