from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.episode import EpisodeInfo, Outcome, SuccessMonitor
from sealegs_contract.errors import SpecError
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample, reorder, stream_of


def test_reorder_matches_by_name() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert reorder(("a", "b", "c"), values, ("c", "a")).tolist() == [[3.0, 1.0], [6.0, 4.0]]
    assert reorder(("a", "b", "c"), values, ("a", "b", "c")) is values


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (("a", "b"), ("a", "c"), "lacks c"),
        (("a", "a", "b"), ("a", "b"), "repeats a name"),
        ((), ("a",), "lacks a"),
    ],
)
def test_reorder_refuses(names: tuple[str, ...], wanted: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        reorder(names, np.zeros(len(names)), wanted)


@pytest.mark.parametrize("wanted", [("a", "b"), ("b", "a")])
def test_reorder_refuses_fewer_values_than_names(wanted: tuple[str, ...]) -> None:
    # rclpy delivers an empty velocity where the publisher left it out.
    with pytest.raises(SpecError, match=r"one value for each of the joints \['a', 'b'\], got shape \(0,\)"):
        reorder(("a", "b"), np.zeros(0), wanted)


def test_streams_by_sample() -> None:
    empty = np.zeros(0)
    assert stream_of(JointSample(0, (), empty, empty, empty)) == "joint_states"
    assert stream_of(PoseSample(0, "cube", "base_link", np.zeros(3), np.zeros(4))) == "objects/cube/pose"
    assert stream_of(ImageSample(0, "front", b"")) == "camera/front"
    assert stream_of(CommandSample(0, ("a",), np.zeros((1, 1)), (1,))) == "joint_trajectory"


def test_command_rows_hold_until_their_time() -> None:
    command = CommandSample(1_000, ("a", "b"), np.array([[1.0, 2.0], [3.0, 4.0]]), (10, 30))
    assert command.expires_ns == 1_030
    held = {now: command.target_at(now) for now in (1_000, 1_009, 1_010, 1_029, 1_030, 2_000)}
    assert [None if row is None else row.tolist() for row in held.values()] == [
        [1.0, 2.0],
        [1.0, 2.0],
        [3.0, 4.0],
        [3.0, 4.0],
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("position", "until", "message"),
    [
        (np.zeros(2), (1,), "shape"),
        (np.zeros((1, 3)), (1,), "shape"),
        (np.zeros((2, 2)), (1,), "shape"),
        (np.zeros((0, 2)), (), "at least one point"),
        (np.zeros((1, 2)), (0,), "positive and increase"),
        (np.zeros((2, 2)), (5, 5), "positive and increase"),
        (np.zeros((2, 2)), (5, 4), "positive and increase"),
        (np.zeros((1, 2)), (-1,), "positive and increase"),
    ],
)
def test_malformed_commands(position: np.ndarray, until: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        CommandSample(0, ("a", "b"), position, until)


def test_success_needs_an_unbroken_run_and_sticks() -> None:
    monitor = SuccessMonitor(hold_steps=3)
    assert [monitor.update(a) for a in (True, True, False, True, True, True, False)] == [
        *(False, False, False, False, False),
        *(True, True),
    ]
    monitor.reset()
    assert not monitor.succeeded
    assert [monitor.update(True) for _ in range(3)] == [False, False, True]


def test_success_needs_at_least_one_step() -> None:
    with pytest.raises(SpecError, match="hold_steps is 0"):
        SuccessMonitor(hold_steps=0)
    assert SuccessMonitor(hold_steps=1).update(True)


def test_episode_info_survives_json() -> None:
    info = EpisodeInfo(task="drawer", task_text="open the drawer", robot="so101", profile_digest="ab", seed=3)
    assert info.outcome is Outcome.UNKNOWN
    assert EpisodeInfo.model_validate_json(info.model_dump_json()) == info
