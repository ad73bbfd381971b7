"""The shipped launch files mean the same to `ros2 launch` (Jazzy): checked against its own list of elements."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sealegs.launching import LaunchPlan, LaunchSession, plan_launch, shipped_launch_files
from sealegs.launching.this_host import this_host_only
from sealegs_contract.errors import LaunchError

# What Jazzy's XML frontend (launch 3.4, launch_ros 0.26) reads; anything else is an error there.
PROCESS = {
    *("name", "cwd", "launch-prefix", "output", "respawn", "respawn_delay", "respawn_max_retries"),
    *("sigterm_timeout", "sigkill_timeout", "on_exit", "if", "unless"),
}
JAZZY = {
    "launch": {"version"},
    "arg": {"name", "default", "description", "if", "unless"},
    "let": {"name", "value", "if", "unless"},
    "group": {"scoped", "forwarding", "if", "unless"},
    "include": {"file", "if", "unless"},
    "log": {"message", "if", "unless"},
    "set_env": {"name", "value", "if", "unless"},
    "unset_env": {"name", "if", "unless"},
    "push_ros_namespace": {"namespace", "if", "unless"},
    "node": PROCESS | {"pkg", "exec", "namespace", "args", "ros_args"},
    "executable": PROCESS | {"cmd", "shell"},
    "param": {"name", "value", "from", "type", "sep", "allow_substs"},
    "remap": {"from", "to"},
    "env": {"name", "value"},
    "choice": {"value"},
}
# Common to all three files; what else a file needs.
ARGUMENTS = {"robot", "task", "use_sim_time", "namespace", "params_file", "log_level"}
REQUIRED = {"sim": {}, "record": {}, "policy": {"policy_path": "/bundles/a: b"}}


@pytest.fixture(params=sorted(shipped_launch_files()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plan_of(name: str, **arguments: str) -> LaunchPlan:
    return plan_launch(name, {**REQUIRED.get(name, {}), **arguments})


def test_elements_and_attributes_are_jazzys(name: str) -> None:
    for parent in ElementTree.parse(shipped_launch_files()[name]).getroot().iter():
        assert parent.tag in JAZZY
        for child in parent:
            known = {"name", "value"} if parent.tag == "include" else JAZZY[child.tag]
            assert set(child.attrib) <= known, child.tag


def test_use_sim_time_reaches_every_node(name: str) -> None:
    for value in ("true", "false"):
        nodes = plan_of(name, use_sim_time=value).processes
        assert nodes
        for node in nodes:
            written = "".join(file.content for file in node.parameter_files)
            assert f'"use_sim_time": {value}' in written, node.label


def test_arguments_are_declared_and_described(name: str) -> None:
    arguments = {argument.name: argument for argument in plan_of(name).arguments}
    assert set(arguments) >= ARGUMENTS
    assert [a.name for a in arguments.values() if not a.description] == []
    assert {a.name for a in arguments.values() if a.default is None} == set(REQUIRED[name])


def test_arguments_reach_the_nodes(name: str, tmp_path: Path) -> None:
    parameter_file = tmp_path / "mine.yaml"
    parameter_file.write_text("{}")
    plan = plan_of(name, task="push", namespace="left", params_file=str(parameter_file), log_level="debug")
    assert plan.processes
    for process in plan.processes:
        assert "__ns:=/left" in process.trailing
        assert process.trailing[process.trailing.index("--log-level") + 1] == "debug"
        assert parameter_file in [file.path for file in process.parameter_files]
    contents = "".join(file.content for process in plan.processes for file in process.parameter_files)
    assert '"task": "push"' in contents
    assert ('"policy_path": "/bundles/a: b"' in contents) == (name == "policy")


def test_defaults_name_files_that_exist(name: str) -> None:
    for process in plan_of(name).processes:
        assert [file.path for file in process.parameter_files if file.path and not file.path.is_file()] == []


def test_the_robot_can_be_left_out() -> None:
    for name in ("record", "policy"):
        labels = [process.label for process in plan_of(name).processes]
        assert len(labels) == 2
        assert labels[0] == "robot_node-1"
        assert len(plan_of(name, with_robot="false").processes) == 1


def test_a_launch_ends_with_any_of_its_nodes(name: str) -> None:
    assert [process.label for process in plan_of(name).processes if not process.on_exit_shutdown] == []


def test_no_node_is_restarted_by_itself_and_all_hear_the_same_emergency_stops(name: str) -> None:
    plan = plan_of(name, e_stop_topics="[panel/e_stop, wall]")
    assert [process.label for process in plan.processes if process.respawn] == []
    for process in plan.processes:
        written = "".join(file.content for file in process.parameter_files)
        hears = '"e_stop_topics": ["panel/e_stop", "wall"]' in written
        assert hears == ("recorder" not in process.label), process.label


def test_a_recorder_that_cannot_write_ends_the_launch(marked: dict[str, str], tmp_path: Path) -> None:
    """With the robot beside it, which then has nobody to record it."""
    (tmp_path / "file").write_text("")
    isolated = {"ROS_DOMAIN_ID": str(1 + os.getpid() % 100), **this_host_only()}
    session = LaunchSession(
        "record", {"bag_dir": str(tmp_path / "file")}, log_dir=tmp_path, environment={**marked, **isolated}, echo=False
    )
    session.start()
    assert session.wait(timeout_s=120.0) == 2
    with pytest.raises(LaunchError, match="recorder_node-2 ended with code 2: sealegs: error: "):
        session.check()


def test_a_missing_bundle_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sealegs.cli import main
    from sealegs.launching import session

    monkeypatch.setattr(session.LaunchSession, "start", lambda self: pytest.fail("a process was started"))
    assert main(["launch", "policy", f"policy_path:={tmp_path / 'nothing'}"]) == 2
    error = capsys.readouterr().err
    assert "no bundle at" in error
    assert len(error.strip().splitlines()) == 1
