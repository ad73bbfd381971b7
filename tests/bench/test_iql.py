import json
import sys

import gymnasium
import numpy as np
import pytest
import torch

from sealegs.bench import find_bench
from sealegs.bench.iql import DATA, SPEED, _return_claims, _tables, cells, summarise
from sealegs.bench.iql_arms import ARMS, SEALEGS, SETTINGS, d3rlpy_request, make_learner, new_actor, read_actor, train
from sealegs.bench.iql_claims import speed_claims
from sealegs.bench.iql_data import Logs, acting, joined, make_data, normalised, roll_out
from sealegs.bench.iql_speed import _asked
from sealegs.bench.options import BenchOptions
from sealegs_contract.errors import MachineError
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.transitions import Transitions


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def logs() -> Logs:
    """An episode of three rows that ends by time, and one of two rows that ends by failure."""
    return Logs(
        observation=np.array([[0, 5], [1, 5], [2, 5], [10, 7], [11, 7]], np.float32),
        action=np.array([[0.1], [0.2], [0.3], [0.4], [0.5]], np.float32),
        reward=np.array([1, 2, 3, 4, -8], np.float32),
        terminal=np.array([0, 0, 0, 0, 1], np.float32),
        episode=np.array([0, 0, 0, 1, 1], np.int64),
    )


def test_only_failures_are_terminal_and_the_last_row_of_a_time_limit_is_left_out():
    data = logs().transitions()
    batch = data.rows(torch.arange(len(data)))
    assert len(data) == 4
    assert batch.terminal.tolist() == [0, 0, 0, 1]
    assert batch.action.flatten().tolist() == pytest.approx([0.1, 0.2, 0.4, 0.5])
    # Returns are 6 and -4: rewards are scaled by 1000 / 10.
    assert batch.reward.tolist() == pytest.approx([100.0, 200.0, 400.0, -800.0])
    raw = batch.next_observation * data.normalizer.std + data.normalizer.mean
    assert raw[:3, 0].tolist() == pytest.approx([1.0, 2.0, 11.0], abs=1e-5)
    constant = logs().transitions(constant_reward=True)
    assert len(set(constant.rows(torch.arange(4)).reward.tolist())) == 1


def test_the_peer_is_given_the_same_rows(tmp_path):
    request = d3rlpy_request(logs(), tmp_path, 7, 3, "cpu")
    json.dumps(request)
    assert (request["updates"], request["seed"], request["tau"]) == (7, 3, SETTINGS.tau)
    with np.load(request["data"]) as given:
        assert given["timeout"].tolist() == [0, 0, 1, 0, 0]
        assert given["terminal"].tolist() == [0, 0, 0, 0, 1]
        ours = logs().transitions()
        kept = [0, 1, 3, 4]
        np.testing.assert_allclose(given["observation"][kept], ours.packed[:, :2], atol=1e-6)
        np.testing.assert_allclose(given["reward"][kept], ours.packed[:, 3])


def test_episodes_are_gymnasiums(tmp_path):
    actions = np.random.default_rng(0).uniform(-1, 1, (200, 3, 3)).astype(np.float32)
    steps = iter(actions)
    found = roll_out("Hopper-v5", lambda observation: next(steps), 3, seed=40)
    for k in range(3):
        env = gymnasium.make("Hopper-v5")
        observation, total, ended = env.reset(seed=40 + k)[0], 0.0, False
        rows = np.flatnonzero(found.episode == k)
        for row, action in zip(rows, actions[:, k], strict=False):
            np.testing.assert_allclose(found.observation[row], observation, rtol=1e-6)
            observation, reward, ended, _, _ = env.step(action)
            total += float(reward)
        assert ended  # a random hopper falls well before 200 steps
        assert found.returns[k] == pytest.approx(total, rel=1e-5)
        assert found.terminal[rows].tolist() == [0.0] * (len(rows) - 1) + [1.0]
        env.close()
    twice = joined([found, found])
    assert len(twice.returns) == 6
    twice.save(tmp_path / "logs.npz")
    np.testing.assert_array_equal(Logs.load(tmp_path / "logs.npz").returns, twice.returns)


def test_data_is_made_of_three_kinds(tmp_path):
    figures = make_data("Hopper-v5", tmp_path, 8_192, 2, 400, 0, lambda done, total: None)
    for kind in ("medium", "replay", "medium-expert"):
        data = Logs.load(tmp_path / f"{kind}.npz")
        assert len(data.reward) == figures[kind]["rows"] >= 400
        assert figures[kind]["return"] == pytest.approx(data.returns.mean())
        assert np.abs(data.action).max() <= 1.0
        assert 0 < data.terminal.sum() <= len(data.returns)
    assert normalised(figures["expert"], tmp_path) == pytest.approx(100.0)
    assert normalised(figures["random"], tmp_path) == pytest.approx(0.0)
    assert figures["snapshot_returns"][-1] == figures["expert"]


def test_noise_is_the_policys_own():
    policy = GaussianActor(2, 3, (8,), Normalizer(torch.zeros(2), torch.ones(2)), torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.log_std.fill_(-3.0)
        policy.actor[-1].weight.mul_(0.1)
    observation = np.zeros((4000, 2))
    mean, noisy = acting(policy)(observation), acting(policy, 1)(observation)
    np.testing.assert_allclose(noisy.mean(axis=0), mean[0], atol=5e-3)
    np.testing.assert_allclose(noisy.std(axis=0), np.exp(-3.0), rtol=0.05)


def random_transitions() -> Transitions:
    g = torch.Generator().manual_seed(0)
    s = torch.randn(300, 4, generator=g)
    a = torch.tanh(s[:, :2])
    return Transitions.pack(s, a, s[:, 0], s, torch.zeros(300), Normalizer.fit(s))


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "d3rlpy"])
def test_every_arm_learns(arm):
    data = random_transitions()
    before, _ = new_actor(data, 0)
    learner = make_learner(arm, data, 30, 0)
    policy = train(learner, data, 30, 0)
    x, a = data.packed[:, :4], data.packed[:, 4:6]
    errors = [float((actor.mean_action(x) - a).square().mean()) for actor in (before, policy)]
    assert errors[1] < errors[0]


def test_the_eager_loop_is_the_same_algorithm():
    data = random_transitions()
    eager, fast = make_learner("eager", data, 20, 0), make_learner(SEALEGS, data, 20, 0)
    with torch.no_grad():  # the same first weights
        for mine, theirs in zip(eager.value.parameters(), _interleaved(fast.value, 0), strict=True):
            mine.copy_(theirs)
        for k in range(2):
            for nets in (eager.q, eager.target):
                for mine, theirs in zip(nets[k].parameters(), _interleaved(fast.q, k), strict=True):
                    mine.copy_(theirs)
    x = data.packed[:, :4]
    actors = [train(learner, data, 20, 0).mean_action(x) for learner in (eager, fast)]
    torch.testing.assert_close(*actors, atol=1e-4, rtol=1e-3)


def _interleaved(stack, k: int) -> list[torch.Tensor]:
    """Weight, bias, weight, ... of member k, as nn.Linear has them."""
    pairs = zip(stack.weights, stack.biases, strict=True)
    return [tensor for weight, bias in pairs for tensor in (weight[k].T, bias[k, 0])]


def test_a_peers_actor_is_read_and_checked(tmp_path):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)]
    probe = torch.randn(8, 4)
    action = torch.tanh(layers[1](torch.relu(layers[0](probe)))).detach().numpy()
    weights = {}
    for k, layer in enumerate(layers):
        weights |= {f"weight{k}": layer.weight.detach().numpy(), f"bias{k}": layer.bias.detach().numpy()}
    normalizer = Normalizer(torch.ones(4), 2 * torch.ones(4))
    np.savez(tmp_path / "w.npz", probe=probe.numpy(), action=action, **weights)
    actor = read_actor(tmp_path / "w.npz", normalizer)
    np.testing.assert_allclose(actor(probe * 2 + 1).detach().numpy(), action, atol=1e-6)
    np.savez(tmp_path / "w.npz", probe=probe.numpy(), action=-action, **weights)
    with pytest.raises(MachineError, match="differ"):
        read_actor(tmp_path / "w.npz", normalizer)


def test_claims_are_computed_from_the_rows():
    options = BenchOptions(tasks=("Hopper-v5/replay",))
    assert find_bench("iql").cells is cells
    score = {
        "sealegs": 80.0,
        "sealegs bfloat16": 79.0,
        "d3rlpy": 70.0,
        "constant reward": 20.0,
        "bc": 95.0,
    }
    rates = {
        "sealegs": [200.0, 210.0],
        "sealegs bfloat16": [300.0, 330.0],
        "eager": [100.0, 100.0],
        "d3rlpy": [70.0, 75.0],
        "CORL": [100.0, 140.0],
    }
    kinds = {k: {"rows": 1, "episodes": 1, "return": 0.0} for k in ("medium", "replay", "medium-expert")}
    rows = []
    for cell in cells(options):
        row = {"arm": cell.arm, "task": cell.task, "seed": cell.seed}
        if cell.arm == DATA:
            row |= {"random": 0.0, "expert": 1.0, **kinds}
        elif cell.arm == SPEED:
            row |= {"updates_per_second": {"1": rates}}
        else:
            row |= {"normalised": score[cell.arm] + cell.seed, "return": 0.0}
        rows.append(row)
    assert len(rows) == 1 + 5 * 3 + 1
    summary = summarise(rows, options)
    claims = {claim.claim: claim for claim in summary.claims}
    assert claims["normalised return: sealegs minus d3rlpy, paired by seed"].value == pytest.approx(10.0)
    assert claims["normalised return: sealegs minus d3rlpy, paired by seed"].holds
    assert not claims["normalised return: sealegs minus bc, paired by seed"].holds
    ratio = claims["updates per second, sealegs / eager, on cpu, one thread"]
    assert ratio.value == pytest.approx(np.sqrt(2.0 * 2.1))
    assert ratio.holds
    ratio = claims["updates per second, sealegs / CORL, on cpu, one thread"]
    assert ratio.value == pytest.approx(np.sqrt(2.0 * 1.5))
    assert ratio.target == "low >= 1.5"
    assert ratio.holds == (ratio.interval.low >= 1.5)
    assert summary.notes[0].startswith("1 of the 9 pairs")
    assert "15,000;" in summary.notes[-1]
    assert "(200;" in summarise(rows, BenchOptions(quick=True)).notes[-1]
    assert set(summary.plots) == {"iql"}


def test_what_was_not_measured_is_a_claim_that_says_what_it_needs():
    """Nothing of CORL's, and no GPU: two claims a thread count and three, all open."""
    rates = {SEALEGS: [200.0], "sealegs bfloat16": [300.0], "eager": [100.0], "d3rlpy": [70.0]}
    claims = speed_claims({"1": rates, "2": rates}, "cpu")
    open_ones = [claim for claim in claims if claim.value is None]
    assert len(claims) - len(open_ones) == 2 * 2 * 2
    assert sum("put CORL's algorithms/offline/iql.py at PEERS/corl/iql.py" in c.claim for c in open_ones) == 2 * 2
    assert sum("on a GPU (not measured: needs one, --device cuda)" in c.claim for c in open_ones) == 3
    assert not any(claim.holds for claim in open_ones)


def test_a_gpus_claims_by_hand():
    """2,000 updates a second are 1e6 / 2000 / 60 = 8.33 minutes a million; 40 times the eager loop's 50."""
    rates = {SEALEGS: [2000.0] * 3, "eager": [50.0] * 3, "sealegs, 16 runs as one": [9000.0] * 3}
    graph, minutes, many = speed_claims({"1": rates}, "cuda")
    assert [graph.value, minutes.value, many.value] == pytest.approx([40.0, 1e6 / 2000 / 60, 4.5])
    assert [claim.holds for claim in (graph, minutes, many)] == [True] * 3
    slow = speed_claims({"1": rates | {SEALEGS: [400.0] * 3}}, "cuda")
    assert [claim.holds for claim in slow] == [False, False, True]


def test_a_gpus_cells_are_not_the_cpus():
    on_cpu, on_gpu = ({cell.arm: cell for cell in cells(BenchOptions(device=d, seeds=(0,)))} for d in ("cpu", "cuda"))
    for arm, cell in on_cpu.items():
        assert "device" not in cell.settings  # or what is on record from before is lost
        assert (on_gpu[arm].key == cell.key) == (arm == DATA)
        assert on_gpu[arm].settings.get("device") == (None if arm == DATA else "cuda")


def test_datasets_are_no_trials_of_their_own():
    """Three seeds that differ by -6, 0, 6 on one dataset and by 20 on another: s = 3 of means 7, 10, 13."""
    options = BenchOptions(tasks=("Hopper-v5/replay", "Walker2d-v5/medium"))
    rows = []
    for cell in cells(options):
        row = {"arm": cell.arm, "task": cell.task, "seed": cell.seed}
        ours = {"Hopper-v5/replay": 6.0 * (cell.seed - 1), "Walker2d-v5/medium": 20.0}.get(cell.task, 0.0)
        kinds = {k: {"rows": 1, "episodes": 1, "return": 0.0} for k in ("medium", "replay", "medium-expert")}
        row |= {"random": 0.0, "expert": 1.0, **kinds} if cell.arm == DATA else {}
        row |= {"updates_per_second": {}} if cell.arm == SPEED else {}
        row |= {"normalised": ours if cell.arm == SEALEGS else 0.0} if cell.arm in ARMS else {}
        rows.append(row)
    learned = [row for row in rows if row["arm"] in ARMS]
    claim = _return_claims(learned)[0]
    half = 4.302653 * 3.0 / 3**0.5  # t_2(.975) s / sqrt(3)
    assert (claim.value, *claim.interval) == pytest.approx((10.0, 10.0 - half, 10.0 + half), abs=1e-5)
    by_task = {line[2]: line[3] for line in _tables(rows, learned, {}, (), ())[1].rows if line[1] == "d3rlpy"}
    assert by_task == pytest.approx({"Hopper-v5/replay": 0.0, "Walker2d-v5/medium": 20.0, "mean of tasks": 10.0})


def test_a_timed_peer_computes_only_when_asked_and_says_when_it_ended(tmp_path):
    script = "print('noise\\nready', flush=True); print(sum(map(int, input().split())), flush=True)"
    with _asked("peer", [sys.executable, "-c", script], tmp_path / "log") as timed:
        assert timed(2, 40) == 42.0
        with pytest.raises(MachineError, match="ended early"):
            timed(2, 40)


def test_corl_is_timed_where_its_file_is(tmp_path):
    def asked(options):
        return next(cell.settings["corl"] for cell in cells(options) if cell.arm == SPEED)

    options = BenchOptions(peers=tmp_path)
    assert not asked(options)
    (tmp_path / "corl").mkdir()
    (tmp_path / "corl" / "iql.py").touch()
    assert asked(options)
