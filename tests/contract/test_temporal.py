from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from sealegs_contract.errors import SpecError
from sealegs_contract.temporal import ChunkPlayer, History, TemporalSpec, stack_history

PERIOD_NS = 20_000_000


def test_history_by_hand() -> None:
    frames = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    expected = [
        [1.0, 10.0, 1.0, 10.0, 1.0, 10.0],
        [1.0, 10.0, 1.0, 10.0, 2.0, 20.0],
        [1.0, 10.0, 2.0, 20.0, 3.0, 30.0],
        [2.0, 20.0, 3.0, 30.0, 4.0, 40.0],
    ]
    np.testing.assert_array_equal(stack_history(frames, 3), expected)
    np.testing.assert_array_equal(stack_history(frames, 1), frames)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_frame_by_frame_gives_what_whole_episodes_give(length: int) -> None:
    rng = np.random.default_rng(length)
    episodes = rng.normal(size=(4, 9, 3)).astype(np.float32)
    one, many = History(length), History(length)
    whole = np.stack([stack_history(episode, length) for episode in episodes])
    for t in range(9):
        assert many.push(episodes[:, t]).tobytes() == np.ascontiguousarray(whole[:, t]).tobytes()
    for episode, expected in zip(episodes, whole, strict=True):
        one.reset()
        for t, frame in enumerate(episode):
            np.testing.assert_array_equal(one.push(frame), expected[t])


def test_a_frame_that_its_caller_reuses_is_remembered_as_it_was() -> None:
    history, frame = History(2), np.zeros(1)
    history.push(frame)
    frame[0] = 7.0
    np.testing.assert_array_equal(history.push(frame), [0.0, 7.0])
    with pytest.raises(SpecError, match=r"shape \(1,\), got \(2,\)"):
        history.push(np.zeros(2))


def played(stamps_ns: list[int], spec: TemporalSpec) -> list[tuple[int, int]]:
    """(chunk number, index in it) of every tick."""
    player, result, chunks = ChunkPlayer(spec, PERIOD_NS), [], -1
    for stamp in stamps_ns:
        if player.due(stamp):
            chunks += 1
            player.begin(stamp, np.arange(spec.chunk) + 100 * chunks)
        value = int(player.action(stamp))
        result.append(divmod(value, 100))
    return result


def test_chunks_are_played_in_step_and_renewed_after_execute() -> None:
    spec = TemporalSpec(chunk=5, execute=3)
    ticks = [7 + k * PERIOD_NS for k in range(7)]
    assert played(ticks, spec) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert played(ticks[:3], TemporalSpec()) == [(0, 0), (1, 0), (2, 0)]


def test_jitter_shifts_nothing_and_a_missed_period_takes_its_action_with_it() -> None:
    spec = TemporalSpec(chunk=4, execute=4)
    jittered = [0, 22_000_000, 38_000_000, 61_000_000, 80_000_000]
    assert played(jittered, spec) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert played([0, 2 * PERIOD_NS, 3 * PERIOD_NS, 9 * PERIOD_NS], spec) == [(0, 0), (0, 2), (0, 3), (1, 0)]
    assert played([5 * PERIOD_NS, 0], spec) == [(0, 0), (1, 0)], "time that was set back ends a chunk"


def test_wrong_lengths_and_unplanned_actions_are_errors() -> None:
    player = ChunkPlayer(TemporalSpec(chunk=3, execute=2), PERIOD_NS)
    with pytest.raises(SpecError, match="no action is planned"):
        player.action(0)
    with pytest.raises(SpecError, match=r"chunk of 3 actions is expected, got shape \(2,\)"):
        player.begin(0, np.zeros(2))
    player.begin(0, np.zeros(3))
    player.forget()
    assert player.due(0)
    with pytest.raises(ValidationError, match="4 actions are to be executed of a chunk that holds 3"):
        TemporalSpec(chunk=3, execute=4)
