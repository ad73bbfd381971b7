"""The graph on which most faults are injected: a simulated robot node that moves under a signed policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sealegs.faults.counting import Seen
from sealegs.faults.frame import Trials
from sealegs.faults.live.bundles import ROBOT_NAME, TASK_NAME, circling_bundle, configuration
from sealegs.faults.live.nodes import Client, NodeProcess, Nodes, isolated
from sealegs.faults.live.watching import Operator, Watch

MOVING_RAD_S = 0.3


class MovingRobot:
    """robot_node and policy_node in processes of their own, and whoever watches them."""

    def __init__(self, nodes: Nodes, client: Client, bundle: Path, policy_program: str = "") -> None:
        self.nodes, self.client, self.bundle = nodes, client, bundle
        self._policy_program = policy_program
        self.watch = Watch(client)
        self.operator = Operator(client)
        self.robot = self.start_robot()
        self.policy = self.start_policy()

    def start_robot(self) -> NodeProcess:
        """A robot node; it holds until it is commanded."""
        self.robot = self.nodes.start("robot_node", robot=ROBOT_NAME, task=TASK_NAME, images=False)
        return self.robot

    def start_policy(self) -> NodeProcess:
        """A policy node that configures and activates itself, and waits to be armed."""
        self.operator.statuses.clear()
        self.policy = self.nodes.start(
            "policy_node",
            program=self._policy_program,
            robot=ROBOT_NAME,
            policy_path=self.bundle,
            autostart=True,
            use_sim_time=True,
        )
        return self.policy

    def move(self) -> None:
        """Arm the policy, from whatever state it is in, and wait until the robot moves."""
        self.operator.set_off(lambda: self.watch.speed > MOVING_RAD_S)
        self.watch.forget()


@contextmanager
def _moving_robot(folder: Path, bundle: Path, policy_program: str = "") -> Iterator[MovingRobot]:
    """Both nodes, armed and in motion; they end with it."""
    with Client("watch") as client, Nodes(folder) as nodes:
        rig = MovingRobot(nodes, client, bundle, policy_program)
        rig.move()
        yield rig


def on_one_graph(trials: Trials, trial: Callable[[MovingRobot, int], Seen], policy_program: str = "") -> list[Seen]:
    """Each trial on the same nodes, which are armed and in motion again before it."""
    seen = []
    with isolated(configuration()):
        bundle = circling_bundle()
        with _moving_robot(trials.folder, bundle, policy_program) as rig:
            for number in range(trials.count):
                if number:
                    rig.move()
                seen.append(trial(rig, number))
                trials.progress(number + 1, trials.count)
    return seen


def on_fresh_graphs(trials: Trials, trial: Callable[[MovingRobot, int], Seen]) -> list[Seen]:
    """Each trial on new nodes: the graph remembers a node that was killed for 20 s, as a commander too."""
    seen = []
    with isolated(configuration()):
        bundle = circling_bundle()
        for number in range(trials.count):
            with _moving_robot(trials.folder, bundle) as rig:
                seen.append(trial(rig, number))
            trials.progress(number + 1, trials.count)
    return seen
