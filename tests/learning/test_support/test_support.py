"""Scores against independent formulas, thresholds against their law, and a fit that notices a wrong joint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis

from sealegs_contract.errors import LearningError
from sealegs_contract.robot import load_robot
from sealegs_contract.support import filtered, speed_of
from sealegs_learning.evaluation.rollouts import RolloutDataset, roll_out
from sealegs_learning.networks import Normalizer, Policy
from sealegs_learning.support.conformal import conformal_threshold
from sealegs_learning.support.fit import (
    KINDS,
    SupportSettings,
    fit_support,
    maxima,
    observations_of,
    split_episodes,
)
from sealegs_learning.support.own_runs import own_runs
from sealegs_learning.support.prediction import Prediction, fit_prediction
from sealegs_learning.support.scores import Linear, Mahalanobis, Neighbours, Pair, Range, run
from sealegs_sim.env import SealegsEnv
from sealegs_sim.tasks import get_task


def test_the_median_of_five_and_the_speed_by_hand() -> None:
    scores = np.array([[9.0, 9.0, 1.0, 9.0, 1.0, 1.0, np.nan, np.nan, np.nan, -3.0]])
    # Windows: 0 0 0 0 9 | 0 0 0 9 9 | 0 0 9 9 1 | 0 9 9 1 9 | 9 9 1 9 1 | 9 1 9 1 1 | 1 9 1 1 inf | ...
    assert filtered(scores)[0].tolist() == [0.0, 0.0, 1.0, 9.0, 9.0, 1.0, 1.0, 9.0, np.inf, np.inf]
    speeds = speed_of(np.array([0.0, 2.0, 3.0, 4.0, np.inf]), 2.0, 4.0, 0.1)
    np.testing.assert_allclose(speeds, [1.0, 1.0, 0.55, 0.1, 0.1])


def test_a_conformal_threshold_keeps_its_rate_and_says_what_it_cannot() -> None:
    assert conformal_threshold(np.arange(1.0, 100.0), 0.01)[:2] == pytest.approx((99.0, 0.01))  # k = 99 of 99
    assert conformal_threshold(np.arange(1.0, 100.0), 0.1)[:2] == pytest.approx((90.0, 0.1))
    few = conformal_threshold(np.array([3.0, 1.0, 2.0, 0.0]), 0.01)
    assert few == pytest.approx((3.0, 0.2, 1.0 - 0.05**0.25))  # bounds 1/5 only; p > q where all four lie below 1 - q
    rng = np.random.default_rng(0)
    drawn = rng.standard_cauchy((4_000, 51))  # fifty calibrate, one is new
    passed = [row[50] > conformal_threshold(row[:50], 0.1).value for row in drawn]
    assert np.mean(passed) == pytest.approx(1.0 - 46 / 51, abs=0.015)
    with pytest.raises(LearningError, match="got 0 episodes"):
        conformal_threshold(np.array([]), 0.1)


def test_scores_are_what_their_formulas_say() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)
    x, new = torch.from_numpy(rows), torch.from_numpy(rng.normal(size=(20, 6)).astype(np.float32))
    inverse = np.linalg.inv(np.cov(rows.T))
    expected = [mahalanobis(one, rows.mean(0), inverse) / 6**0.5 for one in new.numpy()]
    np.testing.assert_allclose(Mahalanobis(x, floor=0.0)(new), expected, rtol=1e-3)
    kept = Neighbours(x, torch.Generator().manual_seed(0), count=50)
    np.testing.assert_allclose(kept(new), cdist(new, kept.rows).min(1) / 6**0.5, rtol=1e-3)
    assert (Range(x)(x) <= 0).all()
    beyond = x[:1].clone()
    beyond[0, 2] = x[:, 2].max() + 0.5 * (x[:, 2].max() - x[:, 2].min())
    assert float(Range(x)(beyond)) == pytest.approx(0.5, rel=1e-4)


def test_linear_consistency_is_the_residual_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(500, 4))
    rows[:, 3] = rows[:, 0] - 2.0 * rows[:, 1] + 0.1 * rng.normal(size=500)
    score = Linear(torch.from_numpy(rows.astype(np.float32)), torch.full((4,), 1e-6))
    centred, residuals = rows - rows.mean(0), []
    for i in range(4):
        others = np.delete(centred, i, axis=1)
        error = centred[:, i] - others @ np.linalg.lstsq(others, centred[:, i], rcond=None)[0]
        size = np.abs(error / error.std())
        residuals.append(size / np.quantile(size, 0.999))
    np.testing.assert_allclose(score(torch.from_numpy(rows.astype(np.float32))), np.max(residuals, 0), rtol=5e-3)


def test_what_never_changed_may_quiver_by_less_than_a_millimetre() -> None:
    """The second element stood still in the rows: a tenth of a millimetre is no news, a centimetre is."""
    frames = torch.randn(2_000, 2) * torch.tensor([0.3, 0.0]) + 0.1
    features = Pair(frames[1:], frames[:-1])
    x = features(frames[1:], frames[:-1])
    assert features.noise[[1, 3]].tolist() == [1.0, 1.0]
    scores = [Range(x), Linear(x, features.noise), fit_prediction(x, features.noise[:2], 50, torch.Generator())]
    for score in scores:
        quiver, jump = (frames[:1] + torch.tensor([0.0, size]) for size in (1e-4, 1e-2))
        assert float(score(features(quiver, frames[:1]))) < 1.5
        assert float(score(features(jump, frames[:1]))) > 3.0


def test_no_element_helps_to_predict_itself() -> None:
    """mu_i and s_i do not depend on x_i: moving x_i by d moves its residual by exactly d / s_i."""
    model, x = Prediction(8, torch.full((5,), 1e-3), torch.Generator().manual_seed(0)), torch.randn(3, 8)
    before, log_std = model.residuals(x)
    for i in range(5):
        moved = x.clone()
        moved[:, i] += 0.7
        after, again = model.residuals(moved)
        torch.testing.assert_close(again[:, i], log_std[:, i])
        torch.testing.assert_close(after[:, i] - before[:, i], 0.7 * torch.exp(-log_std[:, i]))


@pytest.fixture(scope="module")
def logs() -> RolloutDataset:
    return roll_out("reach", "noisy", 40)


@pytest.fixture(scope="module")
def policy() -> Policy:
    robot, task = load_robot("so101"), get_task("reach")
    observed = task.observation_spec(robot)
    normalizer = Normalizer(torch.zeros(observed.size), torch.ones(observed.size))
    return Policy(robot, observed, task.action_spec(robot), normalizer, (16, 16), torch.Generator(), "reach")


def test_a_fit_notices_a_joint_that_reads_wrong(logs: RolloutDataset, policy: Policy) -> None:
    settings = SupportSettings(false_alarms=0.05, slow_downs=0.3, updates=300)
    fitted = fit_support(logs, policy, settings)
    assert (fitted.fitted, fitted.calibrations[0].episodes) == ((16, 8), 16)
    assert fitted.calibrations[0].hold.bound == pytest.approx(1 / 17)
    assert 0.0 < fitted.slow <= fitted.hold
    split = split_episodes(observations_of(logs, policy), 0)
    assert sorted(len(part) for part in (split.fit, split.tune, split.calibrate)) == [8, 16, 16]
    assert (maxima(fitted.model, split.calibrate) <= fitted.hold).all()
    noisy = [one.copy() for one in split.calibrate]
    for episode in noisy:
        episode[100:, :6] += 0.05 * np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
    assert (maxima(fitted.model, noisy) > fitted.hold).all()
    again = fit_support(logs, policy, settings, {"noisy": noisy})
    assert again.calibrations[0] == fitted.calibrations[0]  # seeded
    assert again.hold == again.calibrations[1].hold.value == maxima(again.model, noisy).max()  # the higher one counts
    with pytest.raises(LearningError, match="expected at least 20"):
        split_episodes(split.fit, 0)


def test_own_runs_are_what_the_policy_sees_as_it_acts(policy: Policy) -> None:
    found = own_runs(policy, 2, seed=5)
    for number in range(2):
        env = SealegsEnv("reach", "so101")
        observation, _ = env.reset(seed=5 + number)
        for row in found[number]:
            np.testing.assert_allclose(row, observation, atol=1e-5)
            with torch.no_grad():
                action = policy(torch.from_numpy(observation.astype(np.float32))[None])[0].numpy()
            observation = env.step(action)[0]
        env.close()
    assert found[0].shape == (200, policy.observation_spec.size)


def test_every_kind_scores_an_episode(logs: RolloutDataset, policy: Policy) -> None:
    split = split_episodes(observations_of(logs, policy), 0)
    for kind, make in KINDS.items():
        scores = run(make(split, policy, SupportSettings(updates=2)), split.tune[0])
        assert scores.shape == (200,)
        assert np.isfinite(scores).all(), kind


def test_before_its_first_period_nothing_changed() -> None:
    frames = torch.randn(30, 4)
    features = Pair(frames[1:], frames[:-1])
    both = features(torch.cat([frames, frames], 1), torch.cat([frames, frames], 1))  # a history of two
    torch.testing.assert_close(both[:, 4:], torch.zeros(30, 4))
    torch.testing.assert_close(both[:, :4], (frames - frames[1:].mean(0)) / frames[1:].std(0))
