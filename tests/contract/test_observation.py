from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.errors import ObservationError, SpecError
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.sample import ImageSample, JointSample, PoseSample
from sealegs_contract.spec import ImageField, ObservationField, ObservationSpec

MS = 1_000_000
NAMES = ("left", "right")


def joints(stamp_ms: int, position: tuple[float, ...] = (1.0, 2.0), names: tuple[str, ...] = NAMES) -> JointSample:
    values = np.array(position)
    return JointSample(stamp_ms * MS, names, values, values * 10.0, values * 100.0)


def pose(stamp_ms: int, name: str = "cube", x: float = 0.5) -> PoseSample:
    return PoseSample(stamp_ms * MS, name, "base_link", np.array([x, 0.1, 0.2]), np.array([0.0, 0.0, 0.6, 0.8]))


@pytest.fixture
def assembler() -> ObservationAssembler:
    return ObservationAssembler(
        ObservationSpec(
            fields=(
                ObservationField(kind="joint_position", joints=("right", "left"), scale=2.0, offset=1.0),
                ObservationField(kind="joint_velocity", joints=("left",)),
                ObservationField(kind="joint_effort", joints=("right",), scale=0.01),
                ObservationField(kind="object_position", object_name="cube"),
                ObservationField(kind="object_orientation", object_name="cube"),
            ),
            images=(ImageField(camera="top", height=8, width=8),),
        )
    )


def test_the_vector_by_hand(assembler: ObservationAssembler) -> None:
    assert assembler.push(joints(100))
    assert assembler.push(pose(90))
    assert assembler.push(ImageSample(80 * MS, "top", b"jpeg"))
    observation = assembler.assemble(120 * MS)
    expected = [2 * 2 + 1, 1 * 2 + 1, 10.0, 2.0, 0.5, 0.1, 0.2, 0.0, 0.0, 0.6, 0.8]
    np.testing.assert_array_equal(observation.vector, np.array(expected, np.float32))
    assert observation.vector.dtype == np.float32
    assert observation.images["top"].data == b"jpeg"
    assert observation.age_ns == {"joint_states": 20 * MS, "objects/cube/pose": 30 * MS, "camera/top": 40 * MS}
    assert observation.fresh
    assert observation.oldest_ns == 40 * MS


def test_joint_order_of_the_message_does_not_matter(assembler: ObservationAssembler) -> None:
    for sample in (pose(0), ImageSample(0, "top", b"")):
        assembler.push(sample)
    assembler.push(joints(0))
    straight = assembler.assemble(0).vector
    assembler.push(joints(0, (9.0, 2.0, 1.0), ("extra", "right", "left")))
    np.testing.assert_array_equal(assembler.assemble(0).vector, straight)
    assert assembler.joint_position(("right", "left")).tolist() == [2.0, 1.0]


def test_staleness_is_per_stream_and_exact(assembler: ObservationAssembler) -> None:
    for sample in (joints(100), pose(90), ImageSample(0, "top", b"")):
        assembler.push(sample)
    assert assembler.assemble(190 * MS).stale == ()  # the pose is exactly 100 ms old
    assert assembler.assemble(190 * MS + 1).stale == ("objects/cube/pose",)
    assert assembler.assemble(500 * MS).stale == ("joint_states", "objects/cube/pose")
    assert set(assembler.assemble(500 * MS + 1).stale) == {"joint_states", "objects/cube/pose", "camera/top"}


def test_stamps_from_the_future_are_stale(assembler: ObservationAssembler) -> None:
    for sample in (joints(101), pose(0), ImageSample(0, "top", b"")):
        assembler.push(sample)
    observation = assembler.assemble(0)
    assert observation.stale == ("joint_states",)
    assert observation.age_ns["joint_states"] == -101 * MS
    assert assembler.assemble(1 * MS).fresh


def test_older_samples_never_replace_newer_ones(assembler: ObservationAssembler) -> None:
    assert assembler.push(joints(50))
    assert not assembler.push(joints(49, (5.0, 5.0)))
    assert assembler.joint_position(NAMES).tolist() == [1.0, 2.0]
    assert assembler.push(joints(50, (3.0, 4.0)))  # the same stamp again: the later arrival counts
    assert assembler.joint_position(NAMES).tolist() == [3.0, 4.0]


def test_what_is_not_needed_is_left_out(assembler: ObservationAssembler) -> None:
    assert not assembler.push(pose(0, "ball"))
    assert not assembler.push(ImageSample(0, "side", b""))
    assert assembler.missing == ("joint_states", "objects/cube/pose", "camera/top")


def test_missing_streams_are_named(assembler: ObservationAssembler) -> None:
    with pytest.raises(ObservationError, match=r"no sample yet on joint_states, .*got: nothing"):
        assembler.assemble(0)
    assembler.push(joints(0))
    with pytest.raises(ObservationError, match="objects/cube/pose, camera/top; got: joint_states"):
        assembler.assemble(0)


def test_reset_forgets(assembler: ObservationAssembler) -> None:
    assembler.push(joints(1_000))
    assembler.reset()
    with pytest.raises(ObservationError, match="no joint_states yet"):
        assembler.joint_position(NAMES)
    assert assembler.push(joints(1))  # a clock that was set back


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_change_nothing(assembler: ObservationAssembler, bad: float) -> None:
    assembler.push(joints(0))
    with pytest.raises(ObservationError, match="joint_states: joint_position holds a value that is not finite"):
        assembler.push(joints(1, (bad, 0.0)))
    with pytest.raises(ObservationError, match="objects/cube/pose"):
        assembler.push(pose(1, x=bad))
    assert assembler.joint_position(NAMES).tolist() == [1.0, 2.0]


def test_wrong_sizes_and_names_are_refused(assembler: ObservationAssembler) -> None:
    with pytest.raises(SpecError, match="lacks left"):
        assembler.push(joints(0, names=("lefty", "right")))
    empty = JointSample(0, NAMES, np.zeros(2), np.zeros(0), np.zeros(2))
    with pytest.raises(SpecError, match="one value for each of the joints"):
        assembler.push(empty)
    short = PoseSample(0, "cube", "base_link", np.zeros(1), np.array([0.0, 0.0, 0.0, 1.0]))
    with pytest.raises(ObservationError, match=r"cube\.object_position needs 3 values"):
        assembler.push(short)
    assert "joint_states" in assembler.missing


def test_efforts_may_be_empty_where_no_field_needs_them() -> None:
    field = ObservationField(kind="joint_position", joints=NAMES)
    assembler = ObservationAssembler(ObservationSpec(fields=(field,)))
    assert assembler.push(JointSample(0, NAMES, np.array([1.0, 2.0]), np.zeros(0), np.zeros(0)))
    assert assembler.assemble(0).vector.tolist() == [1.0, 2.0]
