from __future__ import annotations

import numpy as np
import pytest

from sealegs_contract.action import ActionDecoder
from sealegs_contract.errors import ActionError
from sealegs_contract.spec import ActionSpec


@pytest.fixture
def delta() -> ActionDecoder:
    spec = ActionSpec(joints=("a", "b"), scale_rad=(0.1, 0.1), offset_rad=(0.0, 0.0), maximum_lead_rad=0.3)
    return ActionDecoder(spec)


def test_delta_by_hand(delta: ActionDecoder) -> None:
    target = delta.decode(np.array([0.1, -0.1]), np.array([1.0, 2.0]), np.array([0.95, 2.0]))
    np.testing.assert_allclose(target, [1.1, 1.9], atol=1e-15)


def test_the_lead_over_the_measured_position_is_limited(delta: ActionDecoder) -> None:
    target = delta.decode(np.array([0.1, -0.1]), np.array([1.0, 2.0]), np.array([0.7, 2.3]))
    np.testing.assert_allclose(target, [1.0, 2.0], atol=1e-15)  # 0.7 + 0.3 and 2.3 - 0.3
    stuck = np.zeros(2)
    for _ in range(100):
        stuck = delta.decode(np.array([0.1, 0.1]), stuck, np.zeros(2))
    np.testing.assert_allclose(stuck, 0.3, atol=1e-15)  # no wind-up against an obstacle


def test_position_kind_is_the_target_itself() -> None:
    spec = ActionSpec(kind="joint_position", joints=("a",), scale_rad=(1.0,), offset_rad=(0.0,))
    decoder = ActionDecoder(spec)
    assert decoder.decode(np.array([0.7]), np.array([0.0]), np.array([0.0])).tolist() == [0.7]
    assert decoder.encode(np.array([[0.7], [0.8]]), np.array([0.0])).tolist() == [[0.7], [0.8]]


def test_batches_equal_single_rows(delta: ActionDecoder) -> None:
    rng = np.random.default_rng(0)
    output, previous, measured = rng.normal(size=(3, 20, 2))
    together = delta.decode(output, previous, measured)
    one_by_one = [delta.decode(o, p, m) for o, p, m in zip(output, previous, measured, strict=True)]
    np.testing.assert_array_equal(together, one_by_one)


def test_encode_inverts_decode_where_no_lead_limit_is_active(delta: ActionDecoder) -> None:
    outputs = np.random.default_rng(1).uniform(-0.1, 0.1, (200, 2))
    start = np.array([0.4, -0.2])
    target, targets = start, []
    for output in outputs:
        target = delta.decode(output, target, target)
        targets.append(target)
    np.testing.assert_allclose(delta.encode(np.array(targets), start), outputs, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused(delta: ActionDecoder, bad: float) -> None:
    with pytest.raises(ActionError, match="not finite"):
        delta.decode(np.array([bad, 0.0]), np.zeros(2), np.zeros(2))


@pytest.mark.parametrize(
    ("output", "previous", "measured"),
    [
        (np.zeros(3), np.zeros(3), np.zeros(3)),
        (np.zeros(2), np.zeros(2), np.zeros((4, 2))),
        (np.zeros(2), np.zeros(1), np.zeros(2)),
        (np.zeros(()), np.zeros(2), np.zeros(2)),
    ],
)
def test_wrong_shapes_are_refused(
    delta: ActionDecoder, output: np.ndarray, previous: np.ndarray, measured: np.ndarray
) -> None:
    with pytest.raises(ActionError, match=r"expected \(..., 2\)"):
        delta.decode(output, previous, measured)
