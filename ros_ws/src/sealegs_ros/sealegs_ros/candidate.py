"""The candidate's side of the policy node: ~/load_candidate and ~/swap (Trigger), the shadow topic, ~/shadow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from sealegs_contract import topics
from sealegs_contract.errors import BackendError, ControllerError
from sealegs_contract.sample import CommandSample
from sealegs_contract.spec import ObservationSpec
from sealegs_deploy.controller import Controller
from sealegs_deploy.standby import Candidate, Reports, Standby
from sealegs_ros import conversions, qos
from sealegs_ros.loading import BundleRules
from sealegs_ros.runtime import bool_parameter, number_parameter, text_parameter

LONGEST_S = 86_400  # of a probation


class CandidateInterface:
    """Parameters `candidate_path`, `shadow` and `probation_s`. `on_change` gets lines about the candidate.

    `listen` subscribes to what an observation needs.
    """

    def __init__(
        self,
        node: Node,
        controller: Controller,
        rules: BundleRules,
        listen: Callable[[ObservationSpec], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        self._node, self._controller, self._rules = node, controller, rules
        self._listen, self._on_change = listen, on_change
        told = "bundle of a candidate; new after start: call ~/load_candidate"
        text_parameter(node, "candidate_path", "", told, changeable=True)
        shadows = bool_parameter(node, "shadow", False, "let candidates infer beside the policy, and score them")
        told = "how long a swap may be rolled back, read at the swap; 0: never"
        probation_s = number_parameter(node, "probation_s", 5.0, told, changeable=True)
        if not 0.0 <= probation_s <= LONGEST_S:
            raise BackendError(f"parameter probation_s must be seconds, 0 to {LONGEST_S}, got {probation_s}")
        self._commands = node.create_publisher(JointTrajectory, topics.SHADOW, qos.COMMAND)
        self._scores = node.create_publisher(String, "~/shadow", qos.LATCHED)
        self.standby = Standby(controller, Reports(self._command, self._score, self._changed), shadows)
        node.create_service(Trigger, "~/load_candidate", self._on_load)
        node.create_service(Trigger, "~/swap", self._on_swap)

    def configure(self) -> None:
        """Load the candidate that the parameters name, if any. Raises as a policy's loading does."""
        path = self._path()
        if path:
            candidate = self._make(path)
            self.standby.adopt(candidate)
            self._changed(f"candidate {candidate.pilot.name} is ready; {candidate.line}", False)

    def _make(self, path: str) -> Candidate:
        return self._rules.candidate(path, self._controller.robot, self._controller.config)

    def _on_load(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        path = self._path()
        try:
            if not path:
                raise ControllerError("cannot load a candidate: parameter candidate_path is empty")
            self.standby.load(lambda: self._make(path))
            self._on_change(f"loading candidate {path}", False)
            response.success, response.message = True, f"loading {path}; ~/status says what becomes of it"
        except ControllerError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_swap(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        probation_s = self._node.get_parameter_or("probation_s").value
        try:
            # Set while the node runs, it may be anything, or gone.
            if not isinstance(probation_s, int | float) or not 0.0 <= probation_s <= LONGEST_S:
                raise ControllerError(
                    f"cannot swap: probation_s must be seconds, 0 to {LONGEST_S}, got {probation_s!r}"
                )
            name = self.standby.swap(1e3 * probation_s)
            response.success, response.message = True, f"swapping to {name} after the next command; see ~/status"
        except ControllerError as error:
            response.success, response.message = False, str(error)
        return response

    def _changed(self, text: str, bad: bool) -> None:
        pilot = self.standby.pilot
        if pilot is not None:
            self._listen(pilot.manifest.observation)
        self._on_change(text, bad)

    # Called by the worker's thread; a publisher may be used from any.

    def _command(self, command: CommandSample) -> None:
        self._commands.publish(conversions.to_message(command))

    def _score(self, report: dict[str, Any]) -> None:
        self._scores.publish(String(data=json.dumps(report)))

    def _path(self) -> str:
        return str(self._node.get_parameter("candidate_path").value)
