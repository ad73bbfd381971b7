"""`sealegs gate` on recorded episodes: a sound bundle passes and is certified, every seeded bad one is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sealegs.bench.gate_bundles import NOMINAL, RESTATED, RESTING, SIBLING, Spoiling, spoil
from sealegs.cli import main
from sealegs.collect import CollectConfig, collect
from sealegs.gate.bags import read_recording
from sealegs.gate.value import ValueSettings, measure_value
from sealegs_contract.errors import BundleError
from sealegs_contract.robot import load_robot
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.certificate import check_certificate
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.gate import examine
from sealegs_deploy.gate_thresholds import RULES, default_thresholds, judge
from sealegs_deploy.manifest import Provenance
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import import_bags
from sealegs_learning.evaluation.rollouts import roll_out
from sealegs_learning.learners.settings import FQESettings, ModelSettings
from sealegs_learning.transitions import normalised_actions
from sealegs_sim.tasks import get_task

TASK = "reach"
FAST = ValueSettings(FQESettings(updates=20, members=2), ModelSettings(steps=5, updates=20, starts=30))


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """Twelve episodes; the policy is fitted to the first six and gated on the others."""
    out = tmp_path_factory.mktemp("bags")
    collect(CollectConfig(out / "train", TASK, episodes=6, images=False, jobs=1))
    collect(CollectConfig(out / "gate", TASK, episodes=6, seed=100, images=False, jobs=1))
    return out


class Line(torch.nn.Module):
    """The least-squares line through recorded observations and actions, within [-1, 1]: sound, and made at once."""

    def __init__(self, state: np.ndarray, action: np.ndarray) -> None:
        super().__init__()
        x = np.concatenate([(state - state.mean(0)) / state.std(0).clip(1e-6), np.ones((len(state), 1))], axis=1)
        weights = np.linalg.solve(x.T @ x + 10.0 * np.eye(x.shape[1]), x.T @ action)
        for name, values in (("mean", state.mean(0)), ("std", state.std(0).clip(1e-6)), ("weights", weights)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        x = (observation - self.mean) / self.std
        return (x @ self.weights[:-1] + self.weights[-1]).clamp(-1.0, 1.0)


@pytest.fixture(scope="module")
def line(bags):
    import_bags([bags / "train"], bags / "dataset")
    data = Dataset.open(bags / "dataset")
    actions = np.concatenate([normalised_actions(data, data.rows(e.index)) for e in data.episodes])
    return Line(data.state.astype(np.float64), actions.astype(np.float64))


@pytest.fixture(scope="module")
def sound(bags, line, key):
    robot, task = load_robot("so101"), get_task(TASK)
    request = ExportRequest(
        name="line",
        robot=robot,
        observation=task.observation_spec(robot),
        action=task.action_spec(robot),
        provenance=Provenance(task=TASK),
    )
    export_bundle(line, request, bags / "sound", key, (line.mean.numpy(), line.std.numpy()))
    return bags / "sound"


def test_a_sound_bundle_passes_and_is_certified(sound, bags, tmp_path, capsys):
    command = ["gate", str(sound), "--bags", str(bags / "gate"), "--no-value"]
    assert main([*command, "--certify", "--out", str(tmp_path / "r.html"), "--json", str(tmp_path / "r.json")]) == 0
    assert "passed" in capsys.readouterr().out
    certificate = check_certificate(load_bundle(sound), default_thresholds())
    assert (certificate.figures.episodes, len(certificate.bags)) == (6, 6)
    said = json.loads((tmp_path / "r.json").read_text())
    assert said["passed"]
    assert len(said["by_episode"]) == 6
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert main(["verify", str(sound)]) == 0
    assert "passed 20" in capsys.readouterr().out
    assert main(["info", str(sound)]) == 0
    # Certified by thresholds that a robot with the shipped ones does not share.
    (tmp_path / "lax.yaml").write_text("foreign_joint_margin: 2.0\n")
    assert main([*command, "--certify", "--thresholds", str(tmp_path / "lax.yaml")]) == 0
    assert "a node needs gate_thresholds of its own" in capsys.readouterr().out
    with pytest.raises(BundleError, match="foreign_joint_margin 2"):
        check_certificate(load_bundle(sound), default_thresholds())
    # Refused later, under thresholds that nothing keeps: the certificate goes.
    (tmp_path / "hard.yaml").write_text("episodes_min: 1000\n")
    assert main([*command, "--certify", "--thresholds", str(tmp_path / "hard.yaml")]) == 1
    assert "FAIL  episodes_min" in capsys.readouterr().out
    with pytest.raises(BundleError, match="no gate certificate"):
        check_certificate(load_bundle(sound))


@pytest.fixture(scope="module")
def recording(sound, bags):
    manifest = load_bundle(sound).manifest
    return read_recording([bags / "gate"], manifest, manifest.robot)


@pytest.fixture(scope="module")
def sibling(line):
    """Moments of another task's data; those of its own elements as they are here."""
    mean, deviation, data = line.mean.numpy().copy(), line.std.numpy().copy(), roll_out("drawer", "mixed", 4, seed=0)
    names = get_task(TASK).observation_spec(load_robot("so101")).element_names
    for place, name in enumerate(data.observation_spec.element_names):
        if name in names:
            column = data.state[:, place]
            mean[names.index(name)], deviation[names.index(name)] = column.mean(), max(column.std(), 1e-3)
    return mean, deviation


# Replay alone tells what was exported wrong, and a line fitted to six episodes hardly minds: bench gate measures it.
@pytest.mark.parametrize("kind", sorted(NOMINAL.keys() - RESTATED.keys()))
def test_every_seeded_badness_is_refused(kind, sound, line, sibling, recording, key, tmp_path):
    good = load_bundle(sound)
    mean, deviation = line.mean.numpy(), line.std.numpy()
    other = {RESTING: (mean, np.full_like(deviation, 1e-3)), SIBLING: sibling}
    path = spoil(good, kind, Spoiling(good.manifest, mean, deviation, other, NOMINAL[kind], 0), tmp_path / "bad", key)
    bad = load_bundle(path)  # signature, manifest and digests are all in order
    found = examine(bad, bad.manifest.robot, recording.episodes, default_thresholds())
    failed = {verdict.threshold for verdict in judge(found.figures, default_thresholds()) if not verdict.passed}
    assert failed
    assert ("normalisation_mismatch_max" in failed) == (kind == "high gain" or "normalisation" in kind)


def test_mistakes_are_named(sound, bags, tmp_path, capsys):
    assert main(["gate", str(sound), "--bags", str(tmp_path)]) == 2
    assert "no bags" in capsys.readouterr().err
    assert main(["gate", str(sound), "--bags", str(bags / "gate"), "--thresholds", str(tmp_path / "none.yaml")]) == 2
    assert "no thresholds" in capsys.readouterr().err
    (tmp_path / "off.yaml").write_text("".join(f"{name}: null\n" for name in RULES))
    assert main(["gate", str(sound), "--bags", str(bags / "gate"), "--thresholds", str(tmp_path / "off.yaml")]) == 2
    assert "off.yaml: thresholds: Value error, every threshold is null" in capsys.readouterr().err
    assert main(["gate", str(sound), "--bags", str(bags / "gate"), "--dataset", str(bags / "dataset")]) == 2
    assert "was not imported from" in capsys.readouterr().err


def test_values_need_a_reward(sound, bags):
    bundle, paths = load_bundle(sound), sorted((bags / "gate").iterdir())
    value, note = measure_value(bundle, paths, settings=FAST)
    assert note == ""
    assert value.reward == "true"
    assert value.gain == pytest.approx(value.policy - value.record)
    data = Dataset.open(bags / "dataset")
    from sealegs.gate.value import outcome_rewards, rewards_of

    assert rewards_of(data, "").name == "true"
    kinds = {episode.outcome for episode in data.episodes}
    found = outcome_rewards(data)
    if kinds == {"success", "failure"}:
        assert found.reward.sum() == sum(episode.outcome == "success" for episode in data.episodes)
        assert found.terminal.sum() == len(data.episodes)
    else:
        assert found is None
