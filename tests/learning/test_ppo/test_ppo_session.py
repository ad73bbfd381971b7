"""PPO in simulation: rollouts, resume after an interruption, and a policy like any other at the end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sealegs.cli import main
from sealegs_contract.errors import LearningError
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.timing import LoopTiming
from sealegs_learning.evaluation.evaluate import evaluate
from sealegs_learning.learners.experience import Collector
from sealegs_learning.learners.running import EpisodeTally, RewardScale, RunningMoments
from sealegs_learning.learners.settings import PPOSettings
from sealegs_learning.sessions.online import OnlineSession, online_session
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_actor, load_checkpoint, load_policy
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.training.run import read_curve
from sealegs_sim.locomotion import LocomotionEnv
from sealegs_sim.vector import BatchEnv


def config(out: Path, task: str = "Hopper-v5", **changes: object) -> TrainConfig:
    settings = {"steps": 1024, "envs": 4, "horizon": 64, "epochs": 2, "target_kl": 0.01, **changes}
    return TrainConfig(
        out=out, task=task, learner="ppo", hidden=(16, 16), batch_size=64, log_every=256, checkpoint_every=512,
        ppo=PPOSettings(**settings),  # type: ignore[arg-type]
    )  # fmt: skip


def weights(session: OnlineSession) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in session.learner.networks.parameters()])


def test_a_rollout_is_what_the_env_did(tmp_path: Path) -> None:
    session = online_session(config(tmp_path))
    rollout = session.collector.collect(session.learner, session.policy.normalizer)
    env = LocomotionEnv("Hopper-v5", 4, autoreset="same_step")
    observation = env.reset(seed=0)[0]
    action = rollout.action.reshape(64, 4, 3)
    finals = []
    for t in range(64):
        assert np.array_equal(observation, rollout.raw_observation[t])
        observation, reward, terminated, truncated, info = env.step(np.clip(action[t], -1.0, 1.0))
        assert np.array_equal(reward, rollout.reward[t])
        assert np.array_equal(terminated, rollout.terminated[t])
        assert np.array_equal(terminated | truncated, rollout.ended[t])
        finals += [info["final_obs"][i] for i in np.flatnonzero(rollout.ended[t])]
    assert len(finals) >= 4  # Hopper falls within 64 steps
    assert rollout.final_observation == pytest.approx(np.array(finals, dtype=np.float32), abs=1e-6)
    assert rollout.last_observation == pytest.approx(observation.astype(np.float32), abs=1e-6)
    expected = session.policy.log_prob(*(torch.from_numpy(a) for a in (rollout.observation, rollout.action)))
    assert rollout.log_prob.reshape(-1) == pytest.approx(expected.detach().numpy(), abs=1e-4)


def test_the_normaliser_holds_the_statistics_of_all_rollouts(tmp_path: Path) -> None:
    session = online_session(config(tmp_path))
    seen = []
    collect = session.collector.collect
    session.collector.collect = lambda *a: seen.append(collect(*a)) or seen[-1]  # type: ignore[method-assign]
    session.advance(768)
    rows = np.concatenate([rollout.raw_observation.reshape(-1, 11) for rollout in seen])
    assert len(rows) == 768
    assert session.policy.normalizer.mean.numpy() == pytest.approx(rows.mean(axis=0), abs=1e-5)
    assert session.policy.normalizer.std.numpy() == pytest.approx(rows.std(axis=0), rel=1e-5)
    raw = torch.from_numpy(rows[:5].astype(np.float32))
    by_hand = session.policy.actor((raw - session.policy.normalizer.mean) / session.policy.normalizer.std).clamp(-1, 1)
    assert torch.equal(session.policy(raw), by_hand)


@pytest.mark.parametrize("task", ["Hopper-v5", "drawer"])
def test_a_resumed_session_ends_with_the_same_weights(tmp_path: Path, task: str) -> None:
    straight = online_session(config(tmp_path, task))
    straight.advance(1024)
    first = online_session(config(tmp_path, task))
    first.advance(512)
    saved = {name: tensor.clone() for name, tensor in first.tensors().items()}
    second = online_session(dataclasses.replace(config(tmp_path, task)))
    second.advance(256)  # elsewhere
    second.load_tensors(saved, 512)
    second.advance(1024)
    assert torch.equal(weights(straight), weights(second))
    ours, theirs = straight.tensors(), second.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_run_killed_hard_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    code = "import sys; from sealegs.cli import entry_point; sys.argv[0] = 'sealegs'; entry_point()"
    flags = ["--task", "reach", "--learner", "ppo", "--hidden", "16", "16", "--batch-size", "64", "--ppo.envs", "4"]
    flags += ["--ppo.horizon", "64", "--ppo.steps", "4096", "--ppo.epochs", "2", "--checkpoint-every", "256"]

    def start(out: str, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-c", code, "train", "--out", str(tmp_path / out), *flags, *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ})

    run = start("killed")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint" / "checkpoint.json").exists():
        assert run.poll() is None, run.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    for process in (start("killed", "--resume"), start("straight")):
        output = process.communicate(timeout=200)[0].decode()
        assert process.returncode == 0, output
    killed, straight = (load_checkpoint(tmp_path / name) for name in ("killed", "straight"))
    assert killed.update == straight.update == 4096
    assert killed.tensors.keys() == straight.tensors.keys()
    for name, tensor in straight.tensors.items():
        assert torch.equal(tensor, killed.tensors[name]), name
    curves = [read_curve(tmp_path / name / "train.jsonl") for name in ("killed", "straight")]
    for rows in curves:
        for row in rows:
            del row["seconds"]
    assert curves[0] == curves[1]


def test_ppo_learns_to_reach_and_gives_a_policy_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    flags = ["--task", "reach", "--learner", "ppo", "--hidden", "16", "16", "--batch-size", "64", "--ppo.envs", "16"]
    assert main(["train", "--out", str(run), *flags, "--ppo.horizon", "64", "--ppo.steps", "40960"]) == 0
    curve = [row["episode_return"] for row in read_curve(run / "train.jsonl") if "episode_return" in row]
    assert curve[-1] > curve[0] + 25.0  # of 200 at most
    policy = load_policy(run)
    assert (policy.task, policy.activation, policy.bound) == ("reach", "tanh", "clip")
    trained = evaluate(policy, "reach", 16, 500)
    assert main(["evaluate", "--policy", str(run), "--episodes", "16", "--seed", "500", "--record"]) == 0
    assert main(["export", "--policy", str(run), "--out", str(bundle)]) == 0

    # The graph has the running statistics in it: raw observations in, targets in rad out.
    graph, env = PolicyRuntime(load_bundle(bundle)), BatchEnv("reach", 16)
    observation, returns = env.reset(seed=500)[0], np.zeros(16)
    for _ in range(200):
        raw = np.stack([graph.infer(row) for row in observation])
        observation, reward, *_ = env.step(env.scene.action_spec.to_action(raw))
        returns += reward
    assert returns == pytest.approx(np.array(trained.returns), abs=1e-3)
    assert graph.manifest.provenance.learner == "ppo"


def test_the_total_is_whole_rollouts(tmp_path: Path) -> None:
    shown = []
    report = train(config(tmp_path / "run", steps=300), lambda done, total, _: shown.append((done, total)))
    assert shown == [(256, 512), (512, 512)]  # 4 envs, 64 steps each
    assert report.done == 512


def test_a_benchmarks_actor_is_read_back(tmp_path: Path) -> None:
    report = train(config(tmp_path / "run", steps=512))
    actor = load_actor(report.checkpoint)
    outcome = evaluate(actor, "Hopper-v5", 2, 0)
    assert (report.unit, report.done, len(outcome.returns)) == ("step", 512, 2)
    assert actor.bound == "clip"


def test_errors_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(LearningError, match=r"give --task; available: HalfCheetah-v5, Hopper-v5, Walker2d-v5, drawer"):
        online_session(config(tmp_path, "backflip"))
    with pytest.raises(LearningError, match=r"ppo\.horizon must be at least 1, got 0"):
        train(config(tmp_path, horizon=0))
    with pytest.raises(LearningError, match=r"^seed must be from 0 to 2\^32 - 1, got -1"):
        train(dataclasses.replace(config(tmp_path), seed=-1))
    with pytest.raises(LearningError, match="device 'cuda' is for iql and bc on a dataset alone"):
        train(dataclasses.replace(config(tmp_path), device="cuda"))
    with pytest.raises(LearningError, match="autoreset same_step, got NextStep"):
        Collector(LocomotionEnv("Hopper-v5", 2), 8, 0)


def test_running_moments_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).normal(5.0, 3.0, (90, 2))
    moments = RunningMoments(2)
    for part in (rows[:7], rows[7:50].reshape(43, 1, 2), rows[50:]):
        moments.update(part)
    assert moments.mean == pytest.approx(rows.mean(axis=0))
    assert moments.variance == pytest.approx(rows.var(axis=0))
    twin = RunningMoments(2)
    twin.load_tensors(moments.tensors())
    assert np.array_equal(twin.variance, moments.variance)
    assert twin.count == 90


def test_rewards_are_divided_by_the_deviation_of_their_sums() -> None:
    scale = RewardScale(1, 0.5)
    no = np.zeros((2, 1), dtype=bool)
    # Sums: 2, then 0.5 * 2 + 4 = 5: deviation 1.5.
    assert scale(np.array([[2.0], [4.0]]), no)[:, 0] == pytest.approx([2 / 1.5, 4 / 1.5])
    # The next sums go on from 5: 2.5 and 1.25. All four: 2, 5, 2.5, 1.25.
    deviation = np.std([2.0, 5.0, 2.5, 1.25])
    assert scale(np.array([[0.0], [0.0]]), no)[:, 0] == pytest.approx([0.0, 0.0])
    assert np.sqrt(scale.moments.variance[0]) == pytest.approx(deviation)
    calm = RewardScale(1, 0.0)
    calm(np.zeros((1000, 1)), np.zeros((1000, 1), dtype=bool))
    assert calm(np.array([[1e6], [0.0]]), no).max() == RewardScale.LIMIT


def test_the_tally_keeps_finished_episodes() -> None:
    tally = EpisodeTally(2)
    assert tally.figures() == {}
    for step in range(3):
        tally.step(np.array([1.0, 2.0]))
        ended = np.array([step == 2, step == 1])
        if ended.any():
            tally.end(ended, np.array([True, False]))
    # Env 1 ends after two steps with 4, env 0 after three with 3.
    assert tally.figures() == {"episode_return": 3.5, "episode_length": 2.5, "episode_success": 0.5}
    walker = EpisodeTally(1)
    walker.end(np.array([True]), None)
    assert walker.figures() == {"episode_return": 0.0, "episode_length": 0.0}


def timing_file(path: Path, latency_ms: float) -> Path:
    timing = LoopTiming(20_000_000)
    for step in range(100):
        timing.observation_age.add(1_000_000)
        timing.sent(step * 20_000_000, round((latency_ms + 0.1 * step) * 1e6))
    path.write_text(json.dumps(timing.full()))
    return path


def test_a_run_with_measured_delays_resumes_bit_for_bit_and_knows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, slower = (timing_file(tmp_path / f"{ms}.json", ms) for ms in (25, 60))
    one = dataclasses.replace(
        config(tmp_path / "a", "reach", steps=512, horizon=32, randomise=True),
        delays=slow, evaluate_every=256, evaluate_episodes=2, checkpoint_every=256,
    )  # fmt: skip
    train(one)
    whole = load_checkpoint(one.out)
    stopped = dataclasses.replace(one, out=tmp_path / "b")

    class StopError(Exception):
        pass

    def stop(done: int, total: int, figures: object) -> None:
        if done > 256:
            raise StopError

    with pytest.raises(StopError):
        train(stopped, stop)
    assert load_checkpoint(stopped.out).update == 256
    with pytest.raises(LearningError, match=r"its robot \(delays\) differs"):
        train(dataclasses.replace(stopped, resume=True, delays=slower))
    train(dataclasses.replace(stopped, resume=True))
    resumed = load_checkpoint(stopped.out)
    assert all(torch.equal(whole.tensors[name], resumed.tensors[name]) for name in whole.tensors)
    undelayed = dataclasses.replace(one, out=tmp_path / "c", delays=None)
    train(undelayed)
    name = "networks.policy.actor.0.weight"
    assert not torch.equal(load_checkpoint(undelayed.out).tensors[name], whole.tensors[name])

    results = []
    for extra in ([], ["--delays", str(slow)], ["--delays", str(slower)]):
        out = tmp_path / "result.json"
        assert main(["evaluate", "--policy", str(one.out), "--episodes", "2", "--json", str(out), *extra]) == 0
        results.append(json.loads(out.read_text())["mean_return"])
    assert len(set(results)) == 3
    assert main(["evaluate", "--policy", str(one.out), "--delays", str(tmp_path / "result.json")]) == 2
    assert "is not the timing of a policy node" in capsys.readouterr().err


def test_delays_where_they_mean_nothing_are_refused(tmp_path: Path) -> None:
    slow = timing_file(tmp_path / "timing.json", 25)
    with pytest.raises(LearningError, match="a walker of its own"):
        train(dataclasses.replace(config(tmp_path / "a"), delays=slow))
    with pytest.raises(LearningError, match="would ignore them"):
        train(TrainConfig(tmp_path / "b", tmp_path / "data", learner="bc", delays=slow))
