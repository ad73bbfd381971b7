"""A timing.json as a user gets it: real nodes, a policy on a slow computer, its streams over a slow link."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sealegs_contract import topics
from sealegs_contract.errors import MachineError

LINK, AWAY = (0.025, 0.045), "unrelayed"
"""Seconds that a sample is under way."""
FLUSH_S = 0.001
SLOW_POLICY = """
import sys, time
import numpy as np
from sealegs_deploy.runtime import PolicyRuntime
infer, chance = PolicyRuntime.infer, np.random.default_rng(0)
def slow(self, *inputs):
    time.sleep(chance.uniform({low}, {high}))
    return infer(self, *inputs)
PolicyRuntime.infer = slow
from sealegs_ros.policy_node import main
sys.exit(main())
"""


class Link:
    """Passes messages to `send` in their order, each later by a time of chance."""

    def __init__(self, send: Callable[[Any], None], seed: int) -> None:
        self._send, self._rng = send, np.random.default_rng(seed)
        self._under_way: list[tuple[float, int, Any]] = []
        self._order, self._last = itertools.count(), 0.0

    def take(self, message: Any) -> None:
        """A message came."""
        self._last = max(self._last, time.monotonic() + self._rng.uniform(*LINK))
        heapq.heappush(self._under_way, (self._last, next(self._order), message))

    def flush(self) -> None:
        """Send what is due."""
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            self._send(heapq.heappop(self._under_way)[2])


def measure(folder: Path, seconds: float, inference_ms: tuple[float, float]) -> Path:
    """Let a signed policy drive the simulated robot for so long; what it wrote at its end."""
    from sealegs.faults.live.bundles import OBJECTS, ROBOT_NAME, TASK_NAME, circling_bundle, configuration
    from sealegs.faults.live.nodes import Client, Nodes, isolated
    from sealegs.faults.live.watching import Operator

    path = (folder / "timing.json").resolve()
    path.unlink(missing_ok=True)
    streams = (topics.JOINT_STATES, *(topics.object_pose(name) for name in OBJECTS))
    away = [word for name in streams for word in ("-r", f"{name}:={AWAY}/{name}")]
    low, high = (ms / 1e3 for ms in inference_ms)
    with isolated(configuration()):
        bundle = circling_bundle()
        with Client("link") as client, Nodes(folder) as nodes:
            _connect(client, streams)
            operator = Operator(client)
            nodes.start("robot_node", *away, robot=ROBOT_NAME, task=TASK_NAME, images=False)
            policy = nodes.start(
                "policy_node", program=SLOW_POLICY.format(low=low, high=high), robot=ROBOT_NAME, policy_path=bundle,
                autostart=True, use_sim_time=True, timing_path=path,
            )  # fmt: skip
            operator.arm_anew()
            end = time.monotonic() + seconds
            while client.within(end - time.monotonic(), lambda: operator.state in {"hold", "fault"}):
                operator.arm_anew()
            policy.stop()
    if not path.is_file():
        raise MachineError(f"the policy node left no timing in {path}; its log: {policy.log[-500:]}")
    return path


def _connect(client: Any, streams: tuple[str, ...]) -> None:
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import JointState

    from sealegs_ros import qos

    links = []
    for number, topic in enumerate(streams):
        kind = JointState if topic == topics.JOINT_STATES else PoseStamped
        link = Link(client.node.create_publisher(kind, topic, qos.STREAM).publish, number)
        client.node.create_subscription(kind, f"{AWAY}/{topic}", link.take, qos.STREAM)
        links.append(link)

    def flush() -> None:
        for link in links:
            link.flush()

    client.node.create_timer(FLUSH_S, flush)


def cost_of_delays(delays: Any, envs: int, steps: int) -> Mapping[str, float]:
    """CPU microseconds of one step of one env, of `envs` in a batch, with and without."""
    from sealegs_sim.vector import BatchEnv

    found = {}
    for name, given in (("without", None), ("with", delays)):
        env = BatchEnv("drawer", envs, autoreset="same_step", delays=given)
        env.reset(seed=0)
        action = np.random.default_rng(0).uniform(-1.0, 1.0, (envs, 6)).astype(np.float32)
        begun = time.process_time()
        for _ in range(steps):
            env.step(action)
        found[name] = 1e6 * (time.process_time() - begun) / (steps * envs)
    return found
