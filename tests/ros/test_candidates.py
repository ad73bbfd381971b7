"""Candidates on real nodes in motion: shadowed, swapped in, rolled back; and who may stop the policy from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from sealegs.bench.swap_rig import SwapRig, failing_bundle, other_bundle, swap_rig
from sealegs.faults.live.bundles import circling_bundle, configuration
from sealegs.faults.live.nodes import isolated
from sealegs_contract import topics
from sealegs_ros import qos


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapRig]:
    """In lockstep: the simulation waits for each command, so that a gap is a command that nobody sent."""
    with isolated(configuration()):
        folder = tmp_path_factory.mktemp("nodes")
        parameters = {"shadow": True, "candidate_path": circling_bundle(), "probation_s": 1.0}
        with swap_rig(folder, lockstep=True, **parameters) as made:
            yield made


def candidate(rig: SwapRig) -> dict[str, object]:
    return rig.status["candidate"]


def test_the_policy_as_its_own_shadow_does_not_differ_and_another_does(rig: SwapRig):
    shadowed = rig.client.collect(JointTrajectory, topics.SHADOW, qos.RECORD)
    rig.move()
    shadowed.clear()
    assert candidate(rig) | {"reason": ""} == {
        "policy": "circling", "version": rig.status["version"], "state": "ready", "reason": "", "shadow": True,
        "swaps": 0, "rollbacks": 0,
    }  # fmt: skip
    rig.client.spin_until(lambda: len(shadowed) > 30, what="shadow commands")
    sent = {command.stamp_ns: command.position[0].tolist() for _, command in rig.watch.commands}
    assert sum(list(message.points[0].positions) in sent.values() for message in shadowed) > 20
    scored = len(rig.scores)  # where it was armed twice until it moved, there is a score already
    rig.wanted("disarm")
    rig.client.spin_until(lambda: len(rig.scores) > scored, what="the score")
    same = json.loads(rig.scores[-1].data)
    assert (same["candidate"], same["episode"]["errors"]) == ("circling", 0)
    assert same["episode"]["compared"] > 20
    assert same["episode"]["divergence_rad"]["max"] == 0.0

    rig.load(other_bundle())
    rig.move()
    rig.client.spin_until(lambda: float(rig.operator.values().get("shadow_compared", 0)) > 20, what="diagnostics")
    assert float(rig.operator.values()["shadow_divergence_rad_p50"]) > 1e-4
    rig.wanted("disarm")
    rig.client.spin_until(lambda: json.loads(rig.scores[-1].data)["candidate"] == "slower", what="the score")
    assert json.loads(rig.scores[-1].data)["episode"]["divergence_rad"]["p50"] > 1e-4


def test_a_swap_in_motion_misses_no_command_and_lasts(rig: SwapRig):
    rig.move()
    began = time.monotonic()
    rig.load(other_bundle())
    rig.swap()
    rig.client.spin_until(lambda: candidate(rig)["state"] == "none", what="the end of the probation")
    assert (rig.status["policy"], rig.operator.state) == ("slower", "active")
    assert "kept slower" in str(candidate(rig)["reason"])
    assert rig.gaps(began, time.monotonic()).missed == 0
    refused = rig.operator.call("swap")
    assert not refused.success
    assert "no candidate is ready" in refused.message


def test_a_candidate_that_fails_gives_the_controls_back_in_the_same_tick(rig: SwapRig):
    rig.move()
    former = rig.status["policy"]
    began = time.monotonic()
    rig.load(failing_bundle())
    # Past the probation of the other test: the circle must come round to where this one fails.
    rig.set_parameter("probation_s", 20.0)
    rig.swap()
    rig.client.spin_until(lambda: candidate(rig)["rollbacks"] == 1, what="the rollback")
    assert (rig.status["policy"], rig.operator.state, candidate(rig)["state"]) == (former, "active", "none")
    assert "not finite" in str(candidate(rig)["reason"])
    assert "rolled back from failing" in rig.policy.log
    assert rig.gaps(began, time.monotonic()).missed == 0
    rig.client.spin_until(lambda: rig.operator.values()["candidate_rollbacks"] == "1", 0.9, "diagnostics at once")


def test_a_probation_that_is_no_time_refuses_the_swap(rig: SwapRig):
    rig.set_parameter("probation_s", float("nan"))
    answer = rig.operator.call("swap")
    assert not answer.success
    assert "probation_s must be seconds" in answer.message
    rig.set_parameter("probation_s", 5.0)


def test_what_may_not_run_is_no_candidate(rig: SwapRig, tmp_path: Path):
    rig.set_parameter("candidate_path", str(tmp_path / "absent"))
    rig.wanted("load_candidate")
    rig.client.spin_until(lambda: candidate(rig)["state"] == "refused", what="the refusal")
    assert "no bundle at" in str(candidate(rig)["reason"])


CHANGEABLE = {
    "policy_node": {"policy_path", "candidate_path", "probation_s"},
    "robot_node": {"seed"},
}


@pytest.mark.parametrize("node", sorted(CHANGEABLE))
def test_what_is_read_at_start_cannot_be_changed_while_the_node_runs(rig: SwapRig, node: str):
    """Asked as `ros2 param` does, of every parameter that the node has; rclpy's own are its business."""
    call = rig.client.call
    names = list(call(ListParameters, f"{node}/list_parameters").result.names)
    described = call(DescribeParameters, f"{node}/describe_parameters", DescribeParameters.Request(names=names))
    changeable = {one.name for one in described.descriptors if not one.read_only}
    assert changeable - {"use_sim_time"} == CHANGEABLE[node]
    guards = {"robot", "realtime_priority", "timing_path"}
    guards |= {"lockstep", "many_commanders", "real_time_factor"} if node == "robot_node" else {
        "require_gate", "gate_thresholds", "trusted_keys", "allow_rollback", "minimum_version", "provider",
        "provider_strict", "command_horizon_ms", "candidates",
    }  # fmt: skip
    assert guards <= set(names) - changeable
    before = call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=sorted(guards))).values
    for value in (ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False), ParameterValue()):
        parameters = [ParameterMessage(name=name, value=value) for name in sorted(guards)]
        answer = call(SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=parameters))
        said = [f"Trying to set a read-only parameter: {name}." for name in sorted(guards)]
        assert [result.reason for result in answer.results] == said
    assert before == call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=sorted(guards))).values


def test_a_changeable_parameter_that_was_taken_away_refuses_and_the_node_goes_on(rig: SwapRig):
    """rclpy lets anyone undeclare a parameter of dynamic type."""
    request = SetParameters.Request(parameters=[ParameterMessage(name="probation_s")])
    assert rig.client.call(SetParameters, "policy_node/set_parameters", request).results[0].successful
    answer = rig.operator.call("swap")
    assert not answer.success
    assert "probation_s must be seconds, 0 to 86400, got None" in answer.message


def test_the_emergency_stop_topic_is_a_fault_that_its_release_does_not_end(rig: SwapRig):
    rig.move()
    rig.operator.publish_e_stop(True)
    rig.operator.wait_for("fault")  # by its own topic, or by the robot node, which hears the same one
    rig.client.spin_until(lambda: rig.status["emergency_stop"], what="the press")
    rig.client.spin_until(lambda: rig.operator.values().get("state") == "fault", 0.9, "diagnostics at once")
    assert not rig.operator.call("reset_fault").success
    rig.operator.publish_e_stop(False)
    rig.client.spin_until(lambda: not rig.status["emergency_stop"], what="the release")
    assert rig.operator.state == "fault"
    rig.operator.stand_down()
    # A panel that offers no reliability is heard too.
    panel = rig.client.node.create_publisher(Bool, topics.E_STOP, qos.E_STOP_ANY)
    rig.client.spin_until(lambda: panel.get_subscription_count() >= 2, what="both nodes' ears")

    def says(pressed: bool) -> bool:
        panel.publish(Bool(data=pressed))
        return bool(rig.status["emergency_stop"]) is pressed

    rig.client.spin_until(lambda: says(True), what="the press")
    assert rig.operator.wait_for("fault")
    rig.client.spin_until(lambda: says(False), what="the release")
    rig.client.node.destroy_publisher(panel)
    rig.operator.stand_down()


def test_while_the_robot_node_is_in_fault_the_policy_is_and_cannot_be_armed(rig: SwapRig):
    rig.move()
    assert rig.operator.e_stop(True, "robot_node").success
    status = rig.operator.wait_for("fault")
    assert status["reason"].startswith("robot node: emergency stop pressed")
    assert status["emergency_stop"] is False
    for service in ("reset_fault", "arm"):
        refused = rig.operator.call(service)
        assert not refused.success
        assert "robot node: emergency stop pressed" in refused.message
    assert rig.operator.e_stop(False, "robot_node").success
    assert not rig.operator.call("reset_fault").success
    rig.move()


def test_a_policy_that_is_not_followed_holds_and_does_not_set_off_later(rig: SwapRig):
    """As after a crash: DDS still counts the dead node, so that the robot node follows nobody, and then does again."""
    rig.operator.stand_down()
    rig.client.spin_until(lambda: rig.operator.robot_state == "HOLD", what="the robot node at rest")
    rival = rig.client.node.create_publisher(JointTrajectory, topics.JOINT_TRAJECTORY, qos.COMMAND)
    rig.client.spin_until(lambda: rig.operator.values("robot_node").get("commanders") == "2", what="both commanders")
    rig.operator.arm()
    assert "the robot has followed no command" in rig.operator.wait_for("hold")["reason"]
    rig.watch.forget()
    since = time.monotonic()
    rig.client.node.destroy_publisher(rival)
    rig.client.spin_for(1.5)
    assert rig.operator.state == "hold"
    # It sags by its servos' rest error as the hold takes the measured pose; the motion would be of 0.8 rad.
    assert rig.watch.travel(since) < 0.15
