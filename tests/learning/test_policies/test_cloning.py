"""Cloned policies from data to checkpoint, evaluation and bundle; and the frames that a policy needs to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sealegs.cli import main
from sealegs_contract.errors import LearningError, MachineError
from sealegs_contract.temporal import TemporalSpec
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_learning.evaluation.evaluate import evaluate
from sealegs_learning.evaluation.rollouts import RolloutDataset
from sealegs_learning.learners.settings import BCSettings
from sealegs_learning.policies.acting import PolicyActor
from sealegs_learning.policies.cloned import ClonedPolicy
from sealegs_learning.policies.frames import with_images
from sealegs_learning.policies.settings import InputSettings
from sealegs_learning.policies.view import View
from sealegs_learning.sessions.offline import offline_session
from sealegs_learning.train import train
from sealegs_learning.training.checkpoint import load_checkpoint, load_policy
from sealegs_learning.transitions import build_transitions, learnable_episodes, normalised_actions

SEEING = InputSettings(
    fields=("joint_position", "gripper.object_position"), history=2, cameras=("front",), image_size=(24, 32), shift=2
)
CHUNKS = BCSettings(loss="bins", bins=11, chunk=4, execute=2)


@pytest.fixture(scope="module")
def trained(seen, tmp_path_factory):
    """A policy with everything: bins, chunks, history and a camera."""
    from sealegs_learning.training.config import TrainConfig

    config = TrainConfig(
        out=tmp_path_factory.mktemp("trained") / "run", learner="bc", updates=12, batch_size=16, hidden=(16,),
        checkpoint_every=5, inputs=SEEING, bc=CHUNKS,
    )  # fmt: skip
    torch.set_num_threads(1)
    train(config, dataset=seen)
    return config


def test_a_run_that_goes_on_ends_with_the_same_weights(trained, seen, tmp_path, monkeypatch):
    """What images are shifted and jittered by comes from the batches' generator, so it is resumed with it."""
    config = replace(trained, out=tmp_path / "again")
    session = offline_session(config, seen)
    assert session.transitions.augmentation == (2, 0.1, 0.1)
    session.advance(5)
    other = offline_session(config, seen)
    other.load_tensors({name: tensor.clone() for name, tensor in session.tensors().items()}, 5)
    other.advance(12)
    expected = load_checkpoint(trained.out).tensors
    actual = other.tensors()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_a_checkpoint_rebuilds_the_policy(trained, seen):
    policy = load_policy(trained.out)
    assert isinstance(policy, ClonedPolicy)
    assert (policy.bins, policy.temporal) == (11, TemporalSpec(history=2, chunk=4, execute=2, image_delay=1))
    assert [field.name for field in policy.observation_spec.fields] == list(SEEING.fields)
    session = offline_session(trained, seen)
    session.advance(12)
    vector, image = torch.randn(3, 18), torch.randint(0, 256, (3, 24, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        action = policy(vector, image)
        torch.testing.assert_close(action, session.policy.eval()(vector, image), rtol=0, atol=0)
    assert action.shape == (3, 4, 6)
    assert action.abs().max() <= 1.0 + 1e-6


def test_it_is_evaluated_with_rendering(trained):
    policy = load_policy(trained.out)
    result = evaluate(policy, "reach", 2, 7)
    assert len(result.returns) == 2
    assert evaluate(policy, "reach", 2, 7).returns == result.returns
    with pytest.raises(LearningError, match=r"target\.object_position, but task 'drawer' on so101 gives"):
        evaluate(load_policy_of_target(policy), "drawer", 1)


def load_policy_of_target(policy):
    """The policy, as if it observed the target, which the drawer's scene has not."""
    field = policy.observation_spec.fields[1].model_copy(update={"object_name": "target"})
    policy.observation_spec = policy.observation_spec.model_copy(
        update={"fields": (policy.observation_spec.fields[0], field)}
    )
    return policy


def test_its_bundle_gives_torchs_chunks(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    out = tmp_path / "bundle"
    assert main(["export", "--policy", str(trained.out), "--out", str(out)]) == 0
    bundle, policy = load_bundle(out), load_policy(trained.out)
    assert bundle.manifest.temporal == policy.temporal
    assert bundle.manifest.observation == policy.observation_spec
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(5, 18)).astype(np.float32)
    image = rng.integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = policy(torch.from_numpy(vector), torch.from_numpy(image)).numpy() * policy.action_spec.scale_rad
    runtime = PolicyRuntime(bundle)
    outputs = [runtime.infer(v, {"front": p}) for v, p in zip(vector, image, strict=True)]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


class Recorder(torch.nn.Module):
    """Acts as the noisy expert does on the newest frame, and keeps its inputs."""

    def __init__(self, view: View, seed: int) -> None:
        from sealegs_sim.policies import make_policy

        super().__init__()
        self.observation_spec, self.temporal = view.observation_spec, view.temporal
        self.expert = make_policy("noisy", "reach")
        self.expert.reset(np.random.default_rng((seed, 1)))
        self.inputs: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []

    def forward(self, observation: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        self.inputs.append(observation.numpy()[0].copy())
        self.pixels.append(image.numpy()[0].copy())
        newest = self.inputs[-1][-self.observation_spec.size :]
        return torch.from_numpy(self.expert.act(newest).astype(np.float32))[None]


def test_logged_rows_give_the_inputs_that_acting_saw(seen):
    """Bit for bit: stacked frames, and each image from the tick after its stamp."""
    from sealegs_sim.env import SealegsEnv

    view = View.make(seen, InputSettings(history=3, cameras=("front",), image_size=(24, 32), image_delay=1))
    episodes = learnable_episodes(seen)
    transitions = build_transitions(seen, np.zeros(len(seen.state), np.float32), view)
    loaded = with_images(transitions, seen, episodes, view.observation_spec.images, delay=1)
    recorder = Recorder(view, seen.episodes[0].seed)
    env = SealegsEnv("reach")
    actor = PolicyActor(recorder, env)
    observation, _ = env.reset(seed=seen.episodes[0].seed)
    for _ in range(60):
        observation, *_ = env.step(actor.act(observation[None])[0])
    actor.close()
    env.close()
    np.testing.assert_array_equal(np.stack(recorder.inputs), view.inputs(seen, episodes)[:60])
    logged = loaded.frames[0][loaded.frame_of[0][:60]].numpy()
    np.testing.assert_array_equal(np.stack(recorder.pixels), logged)
    assert len(loaded.frames[0]) == 2 * 40, "an image each 5 ticks, kept once"
    assert not np.array_equal(logged[5], logged[6])
    np.testing.assert_array_equal(logged[0], logged[5])


def test_the_second_episodes_first_rows_see_nothing_of_the_first(seen):
    view = View.make(seen, InputSettings(history=3))
    first = view.inputs(seen, learnable_episodes(seen))[200].reshape(3, -1)
    np.testing.assert_array_equal(first, np.repeat(seen.state[200][None], 3, axis=0))


def test_chunks_are_the_actions_that_followed(seen):
    view = View.make(seen, InputSettings(), chunk=3)
    transitions = build_transitions(seen, np.zeros(len(seen.state), np.float32), view)
    actions = normalised_actions(seen, slice(0, 200))
    batch = transitions.rows(torch.tensor([17]))
    np.testing.assert_array_equal(batch.action[0], actions[17:20].ravel())
    assert transitions.action_size == 18


def test_rollouts_with_images_survive_a_file(seen, tmp_path):
    seen.save(tmp_path / "rollouts.npz")
    again = RolloutDataset.load(tmp_path / "rollouts.npz", "reach")
    assert (again.fingerprint, again.episodes, again.frames) == (seen.fingerprint, seen.episodes, dict(seen.frames))
    assert again.observation_spec == seen.observation_spec
    np.testing.assert_array_equal(again.frame_index, seen.frame_index)
    with pytest.raises(LearningError, match="no camera 'wrist'; available: front"):
        again.images("wrist", [0])


def hidden_velocity_episodes(make_rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mass on a line steered by a PD law on position AND velocity; the log holds positions and forces only."""
    positions, forces = [], []
    for _ in range(40):
        x, v = make_rng.uniform(-1, 1), make_rng.uniform(-1, 1)
        for _ in range(30):
            force = np.clip(-1.5 * x - 1.5 * v + 0.05 * make_rng.standard_normal(), -1, 1)
            positions.append([x])
            forces.append([force])
            v += 0.2 * force
            x += 0.2 * v
    return np.array(positions, np.float32), np.array(forces, np.float32), np.repeat(np.arange(40), 30)


@pytest.mark.parametrize(("history", "low", "high"), [(1, 0.1, 3.0), (3, 0.0, 0.02)])
def test_history_restores_a_velocity_that_is_not_observed(settings, history, low, high):
    """Closed loop on the mass: position alone leaves it swinging, the last frames stop it."""
    from sealegs_contract.temporal import History, stack_history
    from sealegs_learning.learners.bc import BC
    from sealegs_learning.networks import GaussianActor, Normalizer
    from sealegs_learning.transitions import Transitions

    positions, forces, episode = hidden_velocity_episodes(np.random.default_rng(0))
    stacked = np.concatenate([stack_history(positions[episode == e], history) for e in range(40)])
    raw, action = torch.from_numpy(stacked), torch.from_numpy(forces)
    zeros = torch.zeros(len(raw))
    transitions = Transitions.pack(raw, action, zeros, raw, zeros, Normalizer.fit(raw))
    generator = torch.Generator().manual_seed(0)
    actor = GaussianActor(history, 1, (32, 32), transitions.normalizer, generator)
    learner = BC(actor, BCSettings(loss="mse"), 3e-3, 1500)
    while learner.done < 1500:
        learner.update(transitions.sample(generator, 128))
    x, v = np.linspace(-0.8, 0.8, 9, dtype=np.float32)[:, None], np.zeros((9, 1), np.float32)
    memory, speeds = History(history), []
    with torch.no_grad():
        for _ in range(150):
            v = v + 0.2 * actor(torch.from_numpy(memory.push(x))).numpy()
            x = x + 0.2 * v
            speeds.append(np.abs(v).mean())
    assert low <= np.mean(speeds[-50:]) <= high


def test_settings_that_do_not_go_together_are_refused(settings, seen):
    with pytest.raises(LearningError, match=r"inputs\.cameras are for learner bc"):
        train(settings(learner="iql", inputs=SEEING), dataset=seen)
    with pytest.raises(LearningError, match=r"bc\.execute must be from 1 to the chunk's 2, got 3"):
        train(settings(bc=BCSettings(chunk=2, execute=3)), dataset=seen)
    with pytest.raises(LearningError, match=r"inputs\.fields: .*no field cube\.object_position"):
        train(settings(inputs=InputSettings(fields=("cube.object_position",))), dataset=seen)
    with pytest.raises(LearningError, match=r"inputs\.history must be from 1 to 64, got 0"):
        train(settings(inputs=InputSettings(history=0)), dataset=seen)
    with pytest.raises(LearningError, match=r"inputs\.contrast must be in \[0, 1\), got 1\.5"):
        train(settings(inputs=replace(SEEING, contrast=1.5)), dataset=seen)
    blind = replace(seen, frames={})
    with pytest.raises(LearningError, match="no camera 'front'"):
        train(settings(inputs=SEEING), dataset=blind)
    torn = replace(seen, frames={"front": tuple(data[:50] for data in seen.frames["front"])})
    with pytest.raises(LearningError, match=r"camera front: an image of 50 bytes is not readable"):
        train(settings(inputs=SEEING), dataset=torn)


def test_iql_learns_on_history_too(settings, seen):
    report = train(settings(learner="iql", reward="constant", inputs=InputSettings(history=2)), dataset=seen)
    policy = load_policy(report.checkpoint)
    assert (policy.observations, policy.temporal.history) == (2 * seen.observation_spec.size, 2)
    assert np.isfinite(evaluate(policy, "reach", 1).returns[0])


def test_images_stay_on_the_cpu(settings, seen):
    session = offline_session(settings(inputs=SEEING), seen)
    with pytest.raises(MachineError, match="train on the cpu"):
        session.transitions.to("meta")
