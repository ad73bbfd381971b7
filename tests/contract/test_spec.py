from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sealegs_contract.errors import ProfileError, SpecError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import (
    ActionSpec,
    ArraySpec,
    ImageField,
    ObservationField,
    ObservationSpec,
    delta_action_spec,
    observation_spec,
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3, np.float32), r"expected shape \(2,\), got \(3,\)"),
        (np.zeros(2), "expected float32, got float64"),
        (np.array([0.0, np.nan], np.float32), r"1 value\(s\) are not finite"),
        (np.array([0.0, 1.5], np.float32), r"values in \[0.0, 1.5\] leave \[-1.0, 1.0\] rad"),
    ],
)
def test_array_spec_says_what_came_and_what_was_expected(value: np.ndarray, message: str) -> None:
    spec = ArraySpec(name="action", shape=(2,), unit="rad", minimum=-1.0, maximum=1.0)
    with pytest.raises(SpecError, match=f"action: {message}"):
        spec.validate_array(value)


def test_array_spec_contradictions() -> None:
    with pytest.raises(ValidationError, match="2 names for shape"):
        ArraySpec(name="x", shape=(3,), names=("a", "b"))
    with pytest.raises(ValidationError, match="exceeds"):
        ArraySpec(name="x", shape=(3,), minimum=1.0, maximum=0.0)


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(["float32", "float64", "uint8", "int64", "bool"]),
    bounds=st.tuples(st.floats(-1e3, 1e3), st.floats(0.0, 1e3)),
    open_low=st.booleans(),
    open_high=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_samples_are_valid(dtype: Any, bounds: tuple[float, float], open_low: bool, open_high: bool, seed: int) -> None:
    low = 0.0 if dtype in {"uint8", "bool"} else float(round(bounds[0]))
    high = low + float(round(bounds[1])) + 1.0
    if dtype == "uint8":
        high = min(high, 255.0)
    minimum, maximum = (-np.inf if open_low else low), (np.inf if open_high else high)
    spec = ArraySpec(name="x", shape=(4, 3), dtype=dtype, minimum=minimum, maximum=maximum)
    sample = spec.sample(np.random.default_rng(seed))
    assert spec.validate_array(sample) is sample


def fields() -> tuple[ObservationField, ...]:
    return (
        ObservationField(kind="joint_position", joints=("right", "left"), scale=2.0, offset=1.0),
        ObservationField(kind="object_position", object_name="cube"),
        ObservationField(kind="object_orientation", object_name="cube", scale=0.5),
    )


def test_observation_spec_lays_fields_out_in_order() -> None:
    spec = ObservationSpec(fields=fields(), images=(ImageField(camera="top", height=48, width=64),))
    assert spec.size == 2 + 3 + 4
    assert spec.slices() == {
        "joint_position": slice(0, 2),
        "cube.object_position": slice(2, 5),
        "cube.object_orientation": slice(5, 9),
    }
    assert spec.element_names[:3] == ("right.joint_position", "left.joint_position", "cube.object_position.x")
    assert spec.element_names[-1] == "cube.object_orientation.qw"
    assert spec.streams == ("joint_states", "objects/cube/pose", "camera/top")
    assert spec.timeout_ns("joint_states") == 100_000_000
    assert spec.timeout_ns("camera/top") == 500_000_000
    assert spec.array_spec().names == spec.element_names


def test_split_undoes_scale_and_offset() -> None:
    spec = ObservationSpec(fields=fields())
    vector = np.array([[3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.5]])
    parts = spec.split(vector)
    assert parts["joint_position"].tolist() == [[1.0, -0.5]]  # (3 - 1) / 2, (0 - 1) / 2
    assert parts["cube.object_position"].tolist() == [[1.0, 2.0, 3.0]]
    assert parts["cube.object_orientation"].tolist() == [[0.0, 0.0, 0.0, 1.0]]
    with pytest.raises(SpecError, match="expected 9 elements"):
        spec.split(np.zeros(8))


def test_a_changed_copy_and_a_changed_answer_leave_the_layout_alone() -> None:
    spec = ObservationSpec(fields=fields())
    spec.slices().clear()
    spec.split(np.zeros(9))
    shorter = spec.model_copy(update={"fields": fields()[1:]})
    assert shorter.slices() == {"cube.object_position": slice(0, 3), "cube.object_orientation": slice(3, 7)}
    assert shorter.split(np.arange(7.0))["cube.object_position"].tolist() == [0.0, 1.0, 2.0]
    rescaled = spec.model_copy(update={"fields": (fields()[0].model_copy(update={"scale": 4.0}),)})
    assert rescaled.split(np.array([5.0, 1.0]))["joint_position"].tolist() == [1.0, 0.0]  # (5 - 1) / 4, (1 - 1) / 4
    assert spec.split(np.array([5.0, 1.0, *np.zeros(7)]))["joint_position"].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "joint_position"}, "joint_position needs joints"),
        ({"kind": "joint_effort", "joints": ("a",), "object_name": "cube"}, "needs joints, and only that"),
        ({"kind": "object_position", "joints": ("a",)}, "needs object_name"),
        ({"kind": "object_position", "object_name": "cube", "scale": 0.0}, "scale 0"),
        ({"kind": "object_position", "object_name": "cube", "scale": np.inf}, "finite"),
        ({"kind": "joint_torque", "joints": ("a",)}, "joint_torque|Input should be"),
    ],
)
def test_bad_fields(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ObservationField(**arguments)


def test_observation_fields_are_unique_and_present() -> None:
    with pytest.raises(ValidationError, match="unique"):
        ObservationSpec(fields=(fields()[0], fields()[0]))
    with pytest.raises(ValidationError, match="at least 1"):
        ObservationSpec(fields=())


def test_specs_survive_json() -> None:
    spec = ObservationSpec(fields=fields(), images=(ImageField(camera="top", height=48, width=64),))
    assert ObservationSpec.model_validate_json(spec.model_dump_json()) == spec
    action = ActionSpec(joints=("a", "b"), scale_rad=(0.1, 0.2), offset_rad=(0.0, 1 / 3))
    assert ActionSpec.model_validate_json(action.model_dump_json()) == action


def test_usual_observation(robot: RobotProfile) -> None:
    spec = observation_spec(robot, objects=("cube",), cameras=("top",))
    assert [field.name for field in spec.fields] == ["joint_position", "joint_velocity", "cube.object_position"]
    assert spec.size == 2 + 2 + 3
    assert spec.images == (ImageField(camera="top", height=48, width=64),)
    with pytest.raises(SpecError, match=r"does not publish object\(s\) ball; available: cube"):
        observation_spec(robot, objects=("ball",))
    with pytest.raises(ProfileError, match="no camera 'side'"):
        observation_spec(robot, cameras=("side",))


def test_delta_action_spec_by_hand(robot: RobotProfile) -> None:
    spec = delta_action_spec(robot, velocity_fraction=0.5)
    assert spec.kind == "joint_delta"
    assert spec.scale_rad == pytest.approx((0.03, 0.03))  # 0.5 * 3 rad/s / 50 Hz
    assert spec.joints == ("left", "right")


def test_action_scaling_and_its_inverse() -> None:
    spec = ActionSpec(joints=("a", "b"), scale_rad=(0.1, 0.2), offset_rad=(0.0, 1.0))
    assert spec.to_output(np.array([[1.0, -1.0]])).tolist() == [[0.1, 0.8]]
    action = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    np.testing.assert_allclose(spec.to_action(spec.to_output(action)), action, atol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"joints": ("a", "b"), "scale_rad": (0.1,), "offset_rad": (0.0, 0.0)},
        {"joints": ("a",), "scale_rad": (0.0,), "offset_rad": (0.0,)},
        {"joints": ("a", "a"), "scale_rad": (0.1, 0.1), "offset_rad": (0.0, 0.0)},
        {"joints": (), "scale_rad": (), "offset_rad": ()},
        {"joints": ("a",), "scale_rad": (0.1,), "offset_rad": (float("nan"),)},
    ],
)
def test_bad_action_specs(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ActionSpec(**arguments)
