"""Best of N: scorers whose answer is known by hand, exported and run as on the robot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import torch

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import RobotProfile
from sealegs_deploy.bundle import VerifiedBundle, load_bundle, write_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.gate import examine
from sealegs_deploy.gate_replay import GateEpisode
from sealegs_deploy.gate_thresholds import default_thresholds
from sealegs_deploy.manifest import MANIFEST_NAME, REWARD_NAME, parse_manifest, summary
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.scoring import (
    BestOfNPolicy,
    antithetic_noise,
    best_of_n,
    check_budget,
    gains,
    make_policy,
    pick_minimum,
)
from sealegs_deploy.scoring_export import Scorer, with_scorer
from sealegs_deploy.signing import SigningKey
from sealegs_deploy.states import ControllerConfig

STD = (0.3, 0.3, 0.3, 0.3, 0.3, 0.3)


class Preference(torch.nn.Module):
    """score_k = w_k . a / scale + v_k . o, members k: what follows a is linear, what o adds is the same for all a."""

    def __init__(self, observed: int, scale: Any, members: int = 3, alike: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        moved = len(scale)
        weight = torch.randn(1 if alike else members, moved, generator=generator).expand(members, moved)
        if not alike:
            weight = torch.cat([weight[:1], -weight[:1]])
        self.weight = torch.nn.Parameter((weight / torch.tensor(scale, dtype=torch.float32)).T.contiguous())
        self.offset = torch.nn.Parameter(torch.randn(observed, self.weight.shape[1], generator=generator) / observed)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return action @ self.weight + observation @ self.offset


def exported(module: Any, request: ExportRequest, key: SigningKey, out: Path, alike: bool) -> VerifiedBundle:
    scorer = Preference(request.observation.size, request.action.scale_rad, alike=alike).eval()
    wide, files = with_scorer(request, Scorer(scorer, scorer.weight.shape[1], STD, "judged", "ab"))
    export_bundle(module, wide, out, key, files=files)
    return load_bundle(out)


@pytest.fixture(scope="module")
def scoring(
    module: Any, request_: ExportRequest, key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> VerifiedBundle:
    return exported(module, request_, key, tmp_path_factory.mktemp("scoring") / "bundle", alike=True)


def observations(bundle: VerifiedBundle, count: int = 20) -> Any:
    return np.random.default_rng(0).standard_normal((count, bundle.manifest.observation.size)).astype(np.float32)


def test_the_minimum_asks_every_member_and_reads_differences_only() -> None:
    scores = np.array([[0.0, 0.0], [3.0, -0.1], [1.0, 0.5], [0.4, 9.0]], np.float32)
    assert pick_minimum(scores) == 2  # 0.5 at least; the mean would take 3
    # A member's level, which no reward determines, decides nothing: by absolute values the first member never counts.
    shifted = scores + np.array([100.0, -100.0], np.float32)
    assert pick_minimum(shifted) == 2
    np.testing.assert_allclose(gains(shifted), gains(scores), atol=1e-4)
    assert pick_minimum(np.array([[0.0, 0.0], [5.0, -5.0], [-5.0, 5.0]], np.float32)) == 0  # they disagree
    noise = antithetic_noise(0, np.ones(3, np.float32), 5, 2)
    np.testing.assert_array_equal(noise[1], -noise[0])
    np.testing.assert_array_equal(noise, antithetic_noise(0, np.ones(3, np.float32), 5, 2))
    assert not np.array_equal(noise, antithetic_noise(0, np.zeros(3, np.float32), 5, 2))
    assert not np.array_equal(noise, antithetic_noise(1, np.ones(3, np.float32), 5, 2))


def test_the_gate_examines_the_best_of_n(scoring: VerifiedBundle, robot: RobotProfile, samples_at: Any) -> None:
    at = [(10**9 + 20_000_000 * k, robot.home_rad + 0.1 * np.sin(0.1 * k)) for k in range(60)]
    episodes = [GateEpisode("one", [sample for stamp, q in at for sample in samples_at(stamp, q)])]
    found = {n: examine(scoring, robot, episodes, default_thresholds(), candidates=n) for n in (1, 8)}
    policy, _ = make_policy(scoring, candidates=8)
    for n, asked in ((1, PolicyRuntime(scoring)), (8, policy)):
        one = found[n].replayed[0]
        expected = np.stack([asked.infer(x) for x in one.inputs])
        np.testing.assert_array_equal(one.output[one.asked], expected)
    assert found[8].figures.repetition == 0.0  # the noise is the observation's
    assert found[8].figures.sensitivity > 2.0 * found[1].figures.sensitivity
    assert found[8].figures.loop_gain == found[1].figures.loop_gain  # of the graph alone


def test_the_candidate_that_the_scorer_likes_is_taken(scoring: VerifiedBundle) -> None:
    alone, choice = make_policy(scoring)
    assert isinstance(alone, PolicyRuntime)
    assert choice.used == "cpu"
    best, choice = make_policy(scoring, candidates=16)
    assert isinstance(best, BestOfNPolicy)
    assert "; best of 16: " in choice.line
    action = scoring.manifest.action
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 6, generator=generator).numpy()[0]
    for observation in observations(scoring):
        output = alone.infer(observation, {})
        own = action.to_action(output)
        noise = antithetic_noise(0, observation, 15, 6)
        normalised = np.concatenate([own[None], np.clip(own + np.array(STD) * noise, -1.0, 1.0)])
        expected = normalised[int(np.argmax(normalised @ weight))]
        got = best.infer(observation)
        np.testing.assert_allclose(action.to_action(got), expected, atol=1e-6)
        np.testing.assert_array_equal(got, best.infer(observation))  # the same in a replay
        assert np.abs(action.to_action(got)).max() <= 1.0 + 1e-9
    assert best.counts.taken + best.counts.kept == 40
    assert best.counts.taken > 30  # of a linear preference one of every pair is better


def test_where_members_disagree_the_policys_own_action_stays_bit_for_bit(
    module: Any, request_: ExportRequest, key: SigningKey, tmp_path: Path
) -> None:
    bundle = exported(module, request_, key, tmp_path / "bundle", alike=False)
    best, _ = make_policy(bundle, candidates=8)
    assert isinstance(best, BestOfNPolicy)
    for observation in observations(bundle, 5):
        np.testing.assert_array_equal(best.infer(observation), PolicyRuntime(bundle).infer(observation))
    assert (best.counts.taken, best.counts.kept) == (0, 5)


def test_the_controller_commands_the_chosen_candidate(
    scoring: VerifiedBundle, bundle: VerifiedBundle, robot: RobotProfile, clock: Any, samples_at: Any
) -> None:
    commanded = []
    for candidates in (1, 16):
        controller = Controller(robot, ControllerConfig(candidates=candidates), host_ns=clock)
        choice = controller.configure(scoring)
        assert ("best of 16" in choice.line) == (candidates == 16)
        now = 10_000 * 10**9
        for tick in range(3):
            for sample in samples_at(now + tick * 20_000_000):
                controller.push(sample)
            if tick == 0:
                controller.arm(now)
            command = controller.tick(now + tick * 20_000_000)
        assert command is not None
        commanded.append(command.position)
    assert not np.array_equal(*commanded)
    with pytest.raises(BundleError, match=r"has no reward\.onnx"):
        Controller(robot, ControllerConfig(candidates=2), host_ns=clock).configure(bundle)


def signed_with(bundle: VerifiedBundle, key: SigningKey, out: Path, **files: bytes | None) -> VerifiedBundle:
    """The bundle with other files, signed again."""
    content = {**bundle.files, **{name.replace("_", "."): data for name, data in files.items()}}
    write_bundle({name: data for name, data in content.items() if data is not None}, out, key)
    return load_bundle(out)


def graph_of(bundle: VerifiedBundle, body: str, members: int = 3, domain: str = "") -> bytes:
    """A reward.onnx by hand."""
    size = bundle.manifest.observation.size
    text = f"""<ir_version: 10, opset_import: ["" : 20{', "odd" : 1' if domain else ""}]>
    scorer (float[batch, {size}] observation, float[batch, 6] action) => (float[batch, {members}] score) {{ {body} }}"""
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def test_scores_that_are_not_finite_leave_the_policys_action(
    scoring: VerifiedBundle, key: SigningKey, tmp_path: Path
) -> None:
    slices = "i = Constant <value_ints = [0, 1, 2]> () part = Gather <axis = 1> (action, i)"
    data = graph_of(scoring, f"{slices} root = Sqrt(part) score = Add(root, part)")
    bundle = signed_with(scoring, key, tmp_path / "bundle", reward_onnx=data)
    best = best_of_n(bundle, PolicyRuntime(bundle), 8)
    for observation in observations(bundle, 10):
        np.testing.assert_array_equal(best.infer(observation), PolicyRuntime(bundle).infer(observation))
    assert best.counts.not_finite == 10  # some candidate has a negative part each time


def test_what_cannot_be_scored_is_refused_in_words(
    bundle: VerifiedBundle, scoring: VerifiedBundle, key: SigningKey, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"8 candidates, but bundle small has no reward\.onnx .*export --best-of-n"):
        make_policy(bundle, candidates=8)
    without = signed_with(scoring, key, tmp_path / "without", reward_onnx=None)
    with pytest.raises(BundleError, match=r"has no reward\.onnx"):
        make_policy(without, candidates=2)
    with pytest.raises(BundleError, match="expected 1 to 256"):
        make_policy(scoring, candidates=257)
    slices = "i = Constant <value_ints = [0, 1]> () score = Gather <axis = 1> (action, i)"
    narrow = signed_with(scoring, key, tmp_path / "narrow", reward_onnx=graph_of(scoring, slices, members=2))
    with pytest.raises(BundleError, match=r"reward\.onnx has outputs 'score' float32 .* expected only 'score' .* 3"):
        make_policy(narrow, candidates=2)
    foreign = graph_of(scoring, "score = odd.Thing(action)", domain="odd")
    with pytest.raises(BundleError, match=r"reward\.onnx uses operators of odd"):
        make_policy(signed_with(scoring, key, tmp_path / "odd", reward_onnx=foreign), candidates=2)
    slow = best_of_n(scoring, PolicyRuntime(scoring), 64)
    with pytest.raises(BundleError, match=r"64 candidates take .* budget is 1e-06 ms; about 1 would fit"):
        check_budget(slow, 1e-6)


def test_the_manifest_describes_the_scorer_and_old_manifests_load(
    bundle: VerifiedBundle, scoring: VerifiedBundle
) -> None:
    best = scoring.manifest.best_of_n
    assert best is not None
    assert (best.members, best.std, best.reward) == (3, STD, "judged")
    assert best.max_relative_difference <= 1e-5
    assert "3 members" in summary(scoring.manifest)["best of n"]
    old = json.loads(bundle.files[MANIFEST_NAME])
    del old["best_of_n"]
    assert parse_manifest(json.dumps(old).encode()) == bundle.manifest
    assert REWARD_NAME not in bundle.files
    wrong = json.loads(scoring.files[MANIFEST_NAME])
    wrong["best_of_n"]["std"] = [0.1]
    with pytest.raises(BundleError, match="best_of_n has 1 deviations"):
        parse_manifest(json.dumps(wrong).encode())
