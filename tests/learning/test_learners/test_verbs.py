"""The verbs on a real dataset: bags from the simulator, imported, labelled, rewarded, trained on and evaluated."""

import json

import numpy as np
import pytest

from sealegs.cli import main
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.judge.labels import Labels, write_labels
from sealegs_learning.reward.builtin import true_progress
from sealegs_learning.reward.sidecar import read_reward
from sealegs_learning.training.checkpoint import load_checkpoint
from sealegs_learning.transitions import build_transitions, episode_slices, normalised_actions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    arguments = ["--task", "reach", "--policy", "noisy", "--episodes", "6", "--no-images", "--jobs", "1"]
    assert main(["collect", "--out", str(folder / "bags"), *arguments]) == 0
    assert main(["import", str(folder / "bags"), "--out", str(folder / "dataset")]) == 0
    return folder / "dataset"


def label_truthfully(path, pairs=300):
    data = Dataset.open(path)
    truth = true_progress(data)
    a, b = np.random.default_rng(0).integers(0, len(truth), (2, pairs))
    probability = np.where(truth[b] > truth[a], 0.95, 0.05)
    status = np.full(pairs, "ok")
    write_labels(data, "truth", Labels(a, b, probability, np.zeros(pairs, bool), status), {"judge": "test"})


def test_actions_from_bags_replay_the_episode(dataset):
    """Encoded actions, stepped through the env from the same seed, visit the logged states."""
    from sealegs_sim.env import SealegsEnv

    data = Dataset.open(dataset)
    episode = data.episodes[0]
    rows = episode_slices(data.episode_index)[0]
    env = SealegsEnv("reach")
    observation, _ = env.reset(seed=episode.seed)
    actions = normalised_actions(data, rows)
    for t in range(100):
        np.testing.assert_allclose(observation, data.state[rows][t], atol=1e-4)
        observation, *_ = env.step(actions[t])


def test_imported_and_rolled_out_transitions_have_one_meaning(dataset):
    imported = Dataset.open(dataset)
    memory = roll_out("reach", "noisy", 1)
    assert imported.observation_spec == memory.observation_spec
    assert imported.action_spec == memory.action_spec
    transitions = build_transitions(imported, true_progress(imported))
    assert len(transitions) == len(imported.state) - len(imported.episodes)


def test_reward_train_resume_evaluate_and_export(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # the key that signs
    label_truthfully(dataset)
    names = ["--dataset", str(dataset), "--labels", "truth", "--name", "learned", "--epochs", "5"]
    assert main(["reward", *names]) == 0
    assert "order against true progress: spearman" in capsys.readouterr().out
    reward = read_reward(Dataset.open(dataset), "learned")
    assert len(reward.mean) == len(Dataset.open(dataset).state)

    run = tmp_path / "run"
    train = ["train", "--dataset", str(dataset), "--out", str(run), "--reward", "learned", "--hidden", "32", "32"]
    assert main([*train, "--updates", "60", "--log-every", "20"]) == 0
    description = load_checkpoint(run).description
    assert description["reward"]["labels"]["name"] == "truth"
    assert description["policy"]["task"] == "reach"
    assert main([*train, "--updates", "60", "--resume"]) == 0
    assert main([*train, "--updates", "80", "--resume"]) == 2
    assert "its config (updates) differs" in capsys.readouterr().err
    out = tmp_path / "evaluation.json"
    assert main(["evaluate", "--policy", str(run), "--episodes", "2", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["task"] == "reach"

    export = ["export", "--policy", str(run), "--out", str(tmp_path / "bundle"), "--no-support"]
    scorer = ["--best-of-n.dataset", str(dataset), "--best-of-n.updates", "20"]
    assert main([*export, *scorer, "--best-of-n.reward", "nobody"]) == 2
    assert "no reward 'nobody'" in capsys.readouterr().err
    assert main([*export, *scorer]) == 0
    assert "reward.onnx: 5 members, reward learned, differs by" in capsys.readouterr().out


def test_fqe_values_policies_from_the_logs(dataset, tmp_path, capsys):
    train = ["train", "--dataset", str(dataset), "--hidden", "16"]
    for name, learner in (("a", "bc"), ("b", "iql")):
        assert main([*train, "--out", str(tmp_path / name), "--learner", learner, "--updates", "5"]) == 0
    fqe = ["fqe", "--dataset", str(dataset), "--updates", "40", "--members", "2", "--hidden", "16"]
    fqe += ["--model.updates", "20", "--model.steps", "10", "--model.hidden", "16"]
    both = ["--policy", str(tmp_path / "a"), "--policy", str(tmp_path / "b")]
    out = tmp_path / "values.json"
    assert main([*fqe, *both, "--json", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["dataset_fingerprint"] == Dataset.open(dataset).fingerprint
    assert [row["policy"] for row in content["values"]] == [str(tmp_path / "a"), str(tmp_path / "b"), "logs"]
    for row in content["values"]:
        assert len(row["members"]) == 2
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
        assert 0.0 <= row["value"] <= 100.0  # progress is in [0, 1]
    capsys.readouterr()
    assert main([*fqe, *both, "--reward", "nobody"]) == 2
    assert "no reward 'nobody'" in capsys.readouterr().err
    assert main([*fqe, *both, "--members", "1"]) == 2
    assert "fqe.members must be at least 2" in capsys.readouterr().err
    assert main([*fqe, *both, "--hidden", "0"]) == 2
    assert "fqe.hidden must be positive sizes, got (0,)" in capsys.readouterr().err
    assert main([*fqe, *both, "--json", str(tmp_path)]) != 0  # before the work, not after it
    assert "name a file" in capsys.readouterr().err


def test_unknown_names_say_what_is_available(dataset, tmp_path, capsys):
    train = ["train", "--dataset", str(dataset), "--out", str(tmp_path / "x")]
    assert main([*train, "--reward", "nobody"]) == 2
    assert "no reward 'nobody'" in capsys.readouterr().err
    assert main(["reward", "--dataset", str(dataset), "--labels", "nobody", "--name", "x"]) == 2
    assert "nobody" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
