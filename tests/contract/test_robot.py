from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from sealegs_contract.errors import ProfileError, SealegsError, available
from sealegs_contract.guard import JointLimits
from sealegs_contract.robot import (
    MAXIMUM_PROFILE_BYTES,
    RobotProfile,
    canonical_json,
    differences,
    load_robot,
    parse_robot,
    safe_yaml,
    shipped_robots,
)


def test_every_shipped_robot_loads_and_is_consistent() -> None:
    assert "so101" in shipped_robots()
    for name in shipped_robots():
        robot = load_robot(name)
        assert robot.name == name
        assert robot.home_rad.shape == (len(robot.joint_names),)


def test_so101_is_what_the_interfaces_promise() -> None:
    robot = load_robot("so101")
    assert len(robot.joints) == 6
    assert robot.control_period_ns == 20_000_000
    assert [(c.name, c.width, c.height, c.rate_hz) for c in robot.cameras] == [
        ("front", 160, 120, 10.0),
        ("wrist", 160, 120, 10.0),
    ]


def test_arrays_follow_the_order_of_joints(robot: RobotProfile) -> None:
    assert robot.joint_names == ("left", "right")
    assert robot.home_rad.tolist() == [0.0, 0.5]


def test_digest_is_the_sha256_of_canonical_json(robot: RobotProfile) -> None:
    content = robot.model_dump(mode="json")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert robot.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_jerk_limit_changes_the_digest_and_its_absence_does_not(profile_content: dict[str, Any]) -> None:
    before = parse_robot(profile_content, "test")
    # Bundles and data made before there was such a limit still fit their robots.
    assert "jerk_max_rad_s3" not in before.model_dump(mode="json")["joints"][0]
    profile_content["joints"][0]["jerk_max_rad_s3"] = 600.0
    limited = parse_robot(profile_content, "test")
    assert limited.digest != before.digest
    assert parse_robot(limited.model_dump(mode="json"), "test") == limited
    np.testing.assert_array_equal(JointLimits.from_profile(limited).jerk_max, [600.0, np.inf])


def test_digest_ignores_the_form_of_the_file_and_sees_every_value(
    profile_content: dict[str, Any], robot: RobotProfile, tmp_path: Path
) -> None:
    reversed_keys = dict(reversed(profile_content.items()))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(reversed_keys, sort_keys=False))
    (tmp_path / "b.json").write_text(json.dumps(profile_content))
    assert load_robot(tmp_path / "a.yaml").digest == load_robot(str(tmp_path / "b.json")).digest == robot.digest
    profile_content["joints"][1]["velocity_max_rad_s"] = np.nextafter(3.0, 4.0)
    assert parse_robot(profile_content, "test").digest != robot.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": []}, "joints"),
        ({"control_rate_hz": 0}, "control_rate_hz"),
        ({"control_rate_hz": float("nan")}, "control_rate_hz"),
        ({"control_rate": 50.0}, "control_rate: Extra inputs"),
        ({"name": "two words"}, "name"),
        ({"objects": ["cube", "cube"]}, "object names must be unique, but these repeat: cube"),
        ({"schema_version": 2}, "schema_version"),
        ({"backend": {"kind": "mujoco", "parameters": {"x": b"\xff"}}}, "backend.parameters"),
    ],
)
def test_bad_profiles_name_the_place(profile_content: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as raised:
        parse_robot({**profile_content, **change}, "pair.yaml")
    assert str(raised.value).startswith("pair.yaml: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position_min_rad": 2.0}, "position_min_rad 2.0 is not below position_max_rad 2.0"),
        ({"home_rad": 2.5}, r"home_rad 2.5 lies outside \[-1.0, 2.0\]"),
        ({"velocity_max_rad_s": -3.0}, "joints.0.velocity_max_rad_s"),
        ({"acceleration_max_rad_s2": float("inf")}, "joints.0.acceleration_max_rad_s2"),
        ({"velocity_max": 1.0}, "joints.0.velocity_max: Extra"),
        ({"name": "right"}, "joint names must be unique"),
    ],
)
def test_bad_joints_name_the_place(profile_content: dict[str, Any], change: dict[str, Any], message: str) -> None:
    profile_content["joints"][0].update(change)
    with pytest.raises(ProfileError, match=message):
        parse_robot(profile_content, "test")


def test_all_problems_of_a_profile_are_named_in_one_line(profile_content: dict[str, Any]) -> None:
    profile_content["joints"][0] |= {"velocity_max_rad_s": -1.0}
    wrong = {**profile_content, "control_rate_hz": 0, "name": "two words"}
    with pytest.raises(ProfileError) as raised:
        parse_robot(wrong, "pair.yaml")
    text = str(raised.value)
    assert text.startswith("pair.yaml: name: ")
    assert "; joints.0.velocity_max_rad_s: " in text
    assert "; control_rate_hz: " in text
    assert "more" not in text
    assert "\n" not in text
    with pytest.raises(ProfileError, match=r"; and 2 more$") as raised:
        parse_robot({**profile_content, **{f"unknown_{k}": 1 for k in range(6)}}, "pair.yaml")
    assert str(raised.value).count("Extra inputs") == 4


@pytest.mark.parametrize("content", [None, [], "robot", 3])
def test_content_that_is_no_mapping(content: Any) -> None:
    with pytest.raises(ProfileError, match=r"test: profile:"):
        parse_robot(content, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not readable as YAML"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("name: a\nname: b", "repeated key.s. name in line 1"),
        ("!!python/object/apply:os.system [ls]", "not readable as YAML"),
        ("[" * 100_000, "nested too deeply"),
        ("#" * (MAXIMUM_PROFILE_BYTES + 1), "at most"),
        ("\x00", "not readable as YAML"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_robot(path)


def test_unknown_names_list_what_is_shipped(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="available: so101"):
        load_robot("so100")
    with pytest.raises(ProfileError, match="no robot profile at"):
        load_robot(tmp_path / "missing.yaml")


def test_camera_by_name(robot: RobotProfile) -> None:
    assert robot.camera("top").height == 48
    with pytest.raises(ProfileError, match="no camera 'front'; available: top"):
        robot.camera("front")


def test_profiles_are_immutable(robot: RobotProfile) -> None:
    with pytest.raises(ValidationError):
        robot.control_rate_hz = 10.0  # type: ignore[misc]


def test_canonical_json_is_exact_and_refuses_nan() -> None:
    assert canonical_json({"b": 0.1 + 0.2, "a": [1]}) == '{"a":[1],"b":0.30000000000000004}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_safe_yaml_reads_plain_data() -> None:
    assert safe_yaml("{a: 1, b: [x, 2.5]}") == {"a": 1, "b": ["x", 2.5]}


def test_errors_are_one_tree_with_one_exit_code() -> None:
    assert issubclass(ProfileError, SealegsError)
    assert ProfileError.exit_code == 2
    assert available(["b", "a"]) == "available: a, b"
    assert available([]) == "available: none"


def test_differences_by_hand() -> None:
    a = {"x": 1, "list": [1, 2], "short": [1], "deep": {"k": "a"}, "gone": 0}
    b = {"x": 1, "list": [1, 3], "short": [1, 2], "deep": {"k": "b"}, "new": 5}
    assert list(differences(a, b)) == [
        ("deep.k", "a", "b"), ("gone", 0, None), ("list.1", 2, 3), ("new", None, 5), ("short", [1], [1, 2]),
    ]  # fmt: skip
    assert list(differences(a, dict(a))) == []
