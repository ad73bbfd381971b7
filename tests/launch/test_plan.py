"""From files and arguments to command lines; nothing is started here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sealegs.launching import LaunchPlan, find_launch_file, plan_launch, shipped_launch_files
from sealegs.launching.evaluate import declared_arguments
from sealegs.launching.process import join_namespace
from sealegs.launching.substitution import Scope, parse_text
from sealegs_contract.errors import LaunchError

Write = Callable[..., Path]


def value_after(words: tuple[str, ...], flag: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == flag]


def parameters(plan: LaunchPlan, index: int = 0) -> dict[str, object]:
    merged: dict[str, object] = {}
    for file in plan.processes[index].parameter_files:
        if file.path is None:
            merged.update(json.loads(file.content)["/**"]["ros__parameters"])
    return merged


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$(var a)", "1"),
        ("x$(var a)y$(env E)z", "x1yez"),
        ("$(var missing fallback)", "fallback"),
        ("$(var missing 'two words')", "two words"),
        ("$(env MISSING '')", ""),
        ("$(var $(var name))", "1"),
        ("$(var missing $(env E)/$(var a))", "e/1"),
        (r"\$(var a) costs \$5", "$(var a) costs $5"),
        ("$(dirname)/params.yaml", "/folder/params.yaml"),
        ("a) b", "a) b"),
        ("$5", "$5"),
    ],
)
def test_substitutions(text: str, expected: str) -> None:
    scope = Scope({"a": "1", "name": "a"}, {"E": "e"}, Path("/folder"))
    assert parse_text(text).evaluate(scope) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(eval 1 + 1)", r"\$\(eval 1 \+ 1\) is not supported; available: dirname, env, find-pkg-share, var"),
        ("$(var)", "takes 1 to 2"),
        ("$(dirname x)", "takes 0 to 0"),
        ("$(var a", "closing bracket"),
        ("$(var 'a)", "closing bracket or quote"),
        ("$()", "is not supported"),
    ],
)
def test_bad_substitutions(text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        parse_text(text)


def test_a_node_becomes_one_command(write: Write, tmp_path: Path) -> None:
    (tmp_path / "extra.yaml").write_text("/**: {ros__parameters: {x: 1}}\n")
    plan = plan_launch(
        write("""
        <arg name="level" default="warn"/>
        <node pkg="sealegs_ros" exec="robot_node" name="arm" namespace="left" args="--flag 'two words'"
              ros_args="--log-level $(var level)" launch-prefix="nice -n 5" output="screen" on_exit="shutdown"
              sigterm_timeout="2" sigkill_timeout="3" respawn="true" respawn_delay="0.5" respawn_max_retries="4">
          <param name="rate" value="50.0"/>
          <param name="seed" value="7"/>
          <param name="on" value="true"/>
          <param name="text" value="7" type="str"/>
          <param name="empty" value="" type="str"/>
          <param name="list" value="[1, 2]"/>
          <param name="path" value="/a: b" type="str"/>
          <param name="word" value="plain"/>
          <param from="$(dirname)/extra.yaml"/>
          <param name="late" value="x"/>
          <remap from="joint_states" to="/other"/>
          <env name="SPEED" value="$(var level)"/>
        </node>""")
    )
    (process,) = plan.processes
    assert process.command == ("nice", "-n", "5", sys.executable, "-m", "sealegs_ros.robot_node", "--flag", "two words")
    assert value_after(process.trailing, "-r") == ["__node:=arm", "__ns:=/left", "joint_states:=/other"]
    assert value_after(process.trailing, "--log-level") == ["warn"]
    assert process.label == "arm-1"
    assert process.environment["SPEED"] == "warn"
    assert process.on_exit_shutdown
    assert (process.respawn, process.respawn_delay_s, process.respawn_limit) == (True, 0.5, 4)
    assert (process.sigterm_timeout_s, process.sigkill_timeout_s) == (2.0, 3.0)
    first, middle, last = process.parameter_files
    assert json.loads(first.content)["/**"]["ros__parameters"] == {
        **{"rate": 50.0, "seed": 7, "on": True, "text": "7"},
        **{"empty": "", "list": [1, 2], "path": "/a: b", "word": "plain"},
    }
    assert middle.path == tmp_path / "extra.yaml"
    assert json.loads(last.content)["/**"]["ros__parameters"] == {"late": "x"}


def test_parameter_files_may_hold_substitutions(write: Write, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {who: $(var who)}}")
    plan = plan_launch(
        write("""<arg name="who"/><node pkg="sealegs_ros" exec="robot_node">
                   <param from="$(dirname)/p.yaml" allow_substs="true"/></node>"""),
        {"who": "me"},
    )
    assert plan.processes[0].parameter_files[0].content == "/**: {ros__parameters: {who: me}}"


def test_arguments_defaults_and_lets(write: Write) -> None:
    path = write("""
        <arg name="a" default="1" description="first"/>
        <arg name="b" default="$(var a)$(var a)"/>
        <let name="c" value="$(var b)-$(var a)"/>
        <log message="$(var c)"/>""")
    assert plan_launch(path).messages == ("11-1",)
    assert plan_launch(path, {"a": "2"}).messages == ("22-2",)
    assert plan_launch(path, {"a": "2", "b": "x"}).messages == ("x-2",)
    assert [(a.name, str(a.default), a.description) for a in declared_arguments(path)[1]] == [
        ("a", "1", "first"),
        ("b", "$(var a)$(var a)", ""),
    ]


def test_missing_unknown_and_impossible_arguments(write: Write) -> None:
    path = write("""<arg name="who" description="whom to greet"/>
        <arg name="mood" default="good"><choice value="good"/><choice value="bad"/></arg>""")
    with pytest.raises(
        LaunchError, match=r"test.launch.xml:2: argument who is required: who:=VALUE \(whom to greet\); .*mood, who"
    ):
        plan_launch(path)
    with pytest.raises(LaunchError, match="has no argument when, where; available: mood, who"):
        plan_launch(path, {"who": "x", "when": "now", "where": "here"})
    with pytest.raises(LaunchError, match="mood cannot be 'odd'; available: bad, good"):
        plan_launch(path, {"who": "x", "mood": "odd"})


@pytest.mark.parametrize(
    ("value", "yes"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False), (" FALSE ", False)]
)
def test_conditions(write: Write, value: str, yes: bool) -> None:
    path = write("""<arg name="x"/><log if="$(var x)" message="if"/><log unless="$(var x)" message="unless"/>""")
    assert plan_launch(path, {"x": value}).messages == (("if",) if yes else ("unless",))


def test_conditions_that_are_neither(write: Write) -> None:
    with pytest.raises(LaunchError, match=r":2: expected true, false, 1 or 0 as a condition, got 'maybe'"):
        plan_launch(write("""<log if="maybe" message="x"/>"""))


def test_groups_are_scopes_unless_told_otherwise(write: Write) -> None:
    plan = plan_launch(
        write("""
        <let name="x" value="outer"/>
        <group>
          <let name="x" value="inner"/>
          <push_ros_namespace namespace="ns"/>
          <set_env name="SEALEGS_X" value="inner"/>
          <log message="$(var x) $(env SEALEGS_X)"/>
          <node pkg="sealegs_ros" exec="robot_node" namespace="sub"/>
          <node pkg="sealegs_ros" exec="robot_node" namespace="/abs"/>
        </group>
        <log message="$(var x) $(env SEALEGS_X unset)"/>
        <group scoped="false"><let name="x" value="leaked"/></group>
        <log message="$(var x)"/>
        <unset_env name="HOME"/>
        <node pkg="sealegs_ros" exec="robot_node"/>"""),
        environment={"HOME": "/h"},
    )
    assert plan.messages == ("inner inner", "outer unset", "leaked")
    spaces = [value_after(process.trailing, "-r") for process in plan.processes]
    assert spaces == [["__ns:=/ns/sub"], ["__ns:=/abs"], []]
    assert plan.processes[0].environment == {"HOME": "/h", "SEALEGS_X": "inner"}
    assert plan.processes[2].environment == {}


def test_namespaces_join() -> None:
    assert [join_namespace(*pair) for pair in (("", "/"), ("a", ""), ("a", "b"), ("a", "/b/"), ("", ""))] == [
        *("", "a", "a/b", "b", ""),
    ]


def test_includes_pass_arguments_and_find_their_own_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(
        """<arg name="a" default="0"/><arg name="deep" default="d"/><log message="$(var a) $(dirname)"/>""", "sub/x.xml"
    )
    path = write("""<arg name="a" default="top"/>
        <include file="$(dirname)/sub/x.xml"><arg name="a" value="$(var a)!"/></include>
        <log message="$(dirname)"/>""")
    assert plan_launch(path).messages == (f"top! {tmp_path}/sub", str(tmp_path))
    assert "deep" in {argument.name for argument in plan_launch(path, {"deep": "e"}).arguments}


def test_includes_that_fail(write: Write) -> None:
    with pytest.raises(LaunchError, match=r"test.launch.xml:2: <include> of .*/none.xml, which does not exist"):
        plan_launch(write("""<include file="$(dirname)/none.xml"/>"""))
    with pytest.raises(LaunchError, match="does it include itself"):
        plan_launch(write("""<include file="$(dirname)/test.launch.xml"/>"""))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<lifecycle_node/>", r":2: <lifecycle_node> is not supported inside <launch>; available: arg, "),
        ("<set_parameter name='a' value='b'/>", r":2: <set_parameter> is not supported"),
        ("<group>\n<timer period='1'/></group>", r":3: <timer> is not supported inside <group>"),
        ("<node pkg='a' exec='b' machine='c'/>", r":2: <node> attribute 'machine' is not supported; available: args"),
        ("<node pkg='a'/>", r":2: <node> lacks its attribute 'exec'"),
        ("<node pkg='a' exec='b'><param/></node>", r"<param> needs name and value, or from"),
        ("<node pkg='a' exec='b'><param name='x'/></node>", r"<param> needs name and value"),
        ("<node pkg='a' exec='b'><param from='x' name='y'/></node>", "with from takes no name"),
        ("<node pkg='a' exec='b'><param name='x' value='1' type='tensor'/></node>", "type 'tensor' is not supported"),
        ("<node pkg='a' exec='b'><remap from='x' to='y' if='true'/></node>", "attribute 'if' is not supported"),
        ("<let name='a' value='b' if='1' unless='1'/>", "either if or unless"),
        ("<let name='a' value='$(eval 1)'/>", r":2: <let> value: substitution \$\(eval 1\) is not supported"),
        ("<let name='a' value='$(var b)'/>", r":2: variable 'b' is not set"),
        ("<log message='$(env SEALEGS_NOT_SET)'/>", "environment variable 'SEALEGS_NOT_SET' is not set"),
        ("<log message='$(find-pkg-share no_such)'/>", "package 'no_such' is not found: source the ROS 2 workspace"),
        ("words", r":1: <launch> holds the text 'words'"),
        ("<node pkg='a' exec='b' output='loud'/>", "output is 'loud'; available: both, full, log, own_log, screen"),
        ("<node pkg='sealegs_ros' exec='no_node'/>", "no node 'no_node'; available: .*policy_node"),
        ("<node pkg='turtlesim' exec='turtle'/>", "'turtle' of package 'turtlesim' is not found: source"),
        ("<node pkg='sealegs_ros' exec='robot_node'><param name='x' value=''/></node>", 'give type="str"'),
        ("<node pkg='sealegs_ros' exec='robot_node'><param name='x' value='a: b'/></node>", "reads as YAML's dict"),
        ("<node pkg='sealegs_ros' exec='robot_node'><param name='x' value='1.5' type='int'/></node>", "is no int"),
        ("<executable cmd=''/>", "empty cmd"),
        ("<executable cmd='&quot;a'/>", "cmd: No closing quotation"),
        ("<executable cmd='a' respawn_delay='soon'/>", "respawn_delay is 'soon'; expected a number"),
        (
            "<node pkg='sealegs_ros' exec='robot_node' respawn='true'/>",
            "robot_node needs .* from 0 to 5, got without end",
        ),
        (
            "<node pkg='sealegs_ros' exec='policy_node' respawn='true' respawn_max_retries='6'/>",
            "0 to 5, got 6: a node",
        ),
        ("<include file='x'><let name='a' value='b'/></include>", "<let> is not supported inside <include>"),
        ("<include file='x'><arg name='a' default='b'/></include>", "takes name and value"),
        ("<node", r":3: not well-formed XML"),
    ],
)
def test_what_is_not_supported_is_named_with_its_place(write: Write, body: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message) as raised:
        plan_launch(write(body))
    assert "test.launch.xml:" in str(raised.value)


def test_other_roots_document_types_and_huge_files(tmp_path: Path) -> None:
    path = tmp_path / "x.launch.xml"
    path.write_text("<robot/>")
    with pytest.raises(LaunchError, match="<robot> is not the root"):
        plan_launch(path)
    path.write_text('<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">]><launch/>')
    with pytest.raises(LaunchError, match=":1: document types and entities"):
        plan_launch(path)
    path.write_text("<launch>" + " " * (1 << 20) + "</launch>")
    with pytest.raises(LaunchError, match="at most"):
        plan_launch(path)


def test_executables_of_a_sourced_workspace_are_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = tmp_path / "ws" / "lib" / "demo" / "talker"
    executable.parent.mkdir(parents=True)
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    (tmp_path / "ws/share/demo").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'ws'}")
    plan = plan_launch(write("""<node pkg="demo" exec="talker" name="t"/><log message="$(find-pkg-share demo)"/>"""))
    assert plan.processes[0].command == (str(executable),)
    assert plan.messages == (str(tmp_path / "ws/share/demo"),)


def test_files_by_path_or_shipped_name(tmp_path: Path) -> None:
    shipped = shipped_launch_files()
    assert {"sim", "record", "policy"} <= set(shipped)
    assert find_launch_file("sim") == find_launch_file("sim.launch.xml") == shipped["sim"]
    with pytest.raises(LaunchError, match="available: policy, record, sim"):
        find_launch_file("simm")
