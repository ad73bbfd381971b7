from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sealegs_contract.errors import LearningError
from sealegs_contract.spec import ActionSpec, ObservationField, ObservationSpec
from sealegs_learning.transitions import (
    build_transitions,
    episode_slices,
    normalised_actions,
    return_range_scaled,
    standardised,
)


@pytest.fixture
def two_episodes(make_data):
    """Lengths 3 and 2. Actions of the first: +0.05, -0.1 | (dropped); of the second: 0.3 (beyond full scale) |."""
    state = np.array([[0.0, 0.0], [0.05, 0.0], [-0.05, 0.0], [0.5, 0.2], [0.8, 0.2]])
    action = np.array([[0.05, 0.0], [-0.05, 0.0], [0.0, 0.1], [0.8, 0.2], [0.8, 0.2]])
    return make_data(state, action, np.array([0, 0, 0, 1, 1]))


def test_transitions_are_those_written_by_hand(two_episodes):
    transitions = build_transitions(two_episodes, np.array([10, 11, 12, 20, 21], np.float32))
    batch = transitions.rows(torch.arange(3))
    undo = lambda x: x * transitions.normalizer.std + transitions.normalizer.mean  # noqa: E731
    torch.testing.assert_close(undo(batch.observation), torch.tensor([[0.0, 0.0], [0.05, 0.0], [0.5, 0.2]]))
    torch.testing.assert_close(undo(batch.next_observation), torch.tensor([[0.05, 0.0], [-0.05, 0.0], [0.8, 0.2]]))
    # Deltas over the full scale of 0.1: +0.05, -0.1; the second episode starts from its own measured position, clipped.
    torch.testing.assert_close(batch.action, torch.tensor([[0.5, 0.0], [-1.0, 0.0], [1.0, 0.0]]), atol=1e-6, rtol=0)
    # Reward of the NEXT frame: 11, not 10, for the first transition. 10 and 20 belong to no transition's end.
    assert batch.reward.tolist() == [11.0, 12.0, 21.0]
    assert len(transitions) == 3


def test_no_transition_crosses_episodes(point_world, goal_reward):
    transitions = build_transitions(point_world, goal_reward(point_world.state))
    assert len(transitions) == 60 * 19
    batch = transitions.rows(torch.arange(len(transitions)))
    step = (batch.next_observation - batch.observation) * transitions.normalizer.std
    assert step.abs().max() <= 0.1 + 1e-6
    # In this world the step is the action: they agree row by row only if s, a and s' belong together.
    torch.testing.assert_close(step, 0.1 * batch.action, atol=1e-5, rtol=0)


def test_actions_follow_joint_names_not_positions(make_data):
    data = make_data(np.array([[0.3, -0.2], [0.3, -0.2]]), np.array([[-0.15, 0.3], [-0.15, 0.3]]), np.zeros(2, int))
    data.action_spec = ActionSpec(joints=("elbow_flex", "shoulder_pan"), scale_rad=(0.1, 0.1), offset_rad=(0.0, 0.0))
    assert normalised_actions(data, slice(0, 2))[0] == pytest.approx([0.5, 0.0], abs=1e-6)


def test_absolute_actions_need_no_joint_positions(make_data):
    data = make_data(np.zeros((2, 2)), np.array([[0.4, -0.4], [0.0, 0.0]]), np.zeros(2, int))
    data.observation_spec = ObservationSpec(
        fields=(ObservationField(kind="joint_velocity", joints=("shoulder_pan", "elbow_flex")),)
    )
    with pytest.raises(LearningError, match="joint positions"):
        normalised_actions(data, slice(0, 2))
    data.action_spec = data.action_spec.model_copy(
        update={"kind": "joint_position", "scale_rad": (0.8, 0.8), "offset_rad": (0.0, 0.4)}
    )
    assert normalised_actions(data, slice(0, 2)) == pytest.approx(np.array([[0.5, -1.0], [0.0, -0.5]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: setattr(d, "episode_index", np.array([0, 1, 0, 1, 1])), "contiguous"),
        (lambda d: setattr(d, "episode_index", np.arange(5)), "no transition"),
        (lambda d: d.state.__setitem__((1, 0), np.nan), "state holds 1"),
    ],
)
def test_unusable_data_is_refused(two_episodes, change, message):
    change(two_episodes)
    with pytest.raises(LearningError, match=message):
        build_transitions(two_episodes, np.zeros(5, np.float32))


def test_wrong_number_of_rewards_is_refused(two_episodes):
    with pytest.raises(LearningError, match=r"5 rows.*\(4,\)"):
        build_transitions(two_episodes, np.zeros(4, np.float32))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_slices_tile_the_rows(lengths):
    slices = episode_slices(np.repeat(np.arange(len(lengths)) * 3, lengths))
    assert [s.stop - s.start for s in slices] == lengths
    assert slices[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(slices))


def test_batches_are_seeded(point_world, goal_reward):
    transitions = build_transitions(point_world, goal_reward(point_world.state))
    draw = lambda seed: transitions.sample(torch.Generator().manual_seed(seed), 64).action  # noqa: E731
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_standardising_ignores_unit_and_offset():
    reward = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    expected = np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)
    assert standardised(reward) == pytest.approx(expected, rel=1e-6)
    assert standardised(250.0 * reward - 7.0, scale=2.0) == pytest.approx(2.0 * expected, rel=1e-5)
    assert standardised(np.full(5, 0.7, np.float32)).tolist() == [0.0] * 5


def test_return_range_is_the_papers():
    reward = np.array([1.0, 2.0, 5.0, 5.0], np.float32)  # returns 3 and 10
    scaled = return_range_scaled(reward, np.array([0, 0, 1, 1]))
    assert scaled == pytest.approx(reward * 1000.0 / 7.0)
    assert return_range_scaled(np.ones(4, np.float32), np.array([0, 0, 1, 1])) == pytest.approx(np.ones(4))
