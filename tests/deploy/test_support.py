"""The support guard of a bundle: its law by hand, what it refuses, and bundles without one as before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from sealegs_contract.errors import ActionError, BundleError
from sealegs_contract.support import filtered, speed_of
from sealegs_deploy.bundle import VerifiedBundle, load_bundle, write_bundle
from sealegs_deploy.controller import Controller
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.manifest import MANIFEST_NAME, parse_manifest, summary
from sealegs_deploy.signing import SIGNATURE_NAME, SigningKey
from sealegs_deploy.support import SupportRuntime, load_support
from sealegs_deploy.support_export import SupportModel, with_support
from sealegs_deploy.support_info import SUPPORT_NAME, SupportCalibration

SLOW, HOLD = 2.0, 4.0


class Furthest(torch.nn.Module):
    """The first element, and how far it moved: a score that is easily told."""

    def forward(self, observation: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return observation[:, 0] + 100.0 * (observation[:, 1] - previous[:, 1]).abs()


CALIBRATIONS = tuple(
    SupportCalibration(on=on, episodes=n, false_alarms=rate, slow_downs=10 * rate, false_alarms_sure=3 * rate)
    for on, n, rate in (("held-out episodes", 49, 0.02), ("own runs", 200, 0.01))
)


@pytest.fixture(scope="module")
def guarded(
    module: torch.nn.Module, request_: ExportRequest, key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> VerifiedBundle:
    examples = np.random.default_rng(0).normal(size=(50, request_.observation.size)).astype(np.float32)
    model = SupportModel(Furthest(), examples, "combined", SLOW, HOLD, CALIBRATIONS, (40, 20))
    request, files = with_support(request_, model)
    out = tmp_path_factory.mktemp("guarded") / "bundle"
    export_bundle(module, request, out, key, files=files)
    return load_bundle(out)


@pytest.fixture
def support(guarded: VerifiedBundle) -> SupportRuntime:
    found = load_support(guarded)
    assert isinstance(found, SupportRuntime)
    return found


def seen(first: float, second: float = 0.0) -> Any:
    observation = np.zeros(18, np.float32)
    observation[:2] = first, second
    return observation


def test_it_slows_then_holds_and_one_wild_sample_does_nothing(support: SupportRuntime) -> None:
    for _ in range(5):
        assert support.check(seen(1.0)) == (verdict := support.check(seen(1.0)))
        assert (verdict.speed, verdict.alarm) == (1.0, "")
    assert support.check(seen(1e6)).speed == 1.0
    assert support.check(seen(1e6)).speed == 1.0  # two of five
    assert "unlike the training data" in support.check(seen(1e6)).alarm
    support.forget()
    speeds = [support.check(seen(3.0)).speed for _ in range(3)]
    assert speeds == pytest.approx([1.0, 1.0, 0.55])  # half way from slow to hold: 1 - 0.9 / 2
    support.forget()
    assert support.check(seen(0.0, 5.0)).score == 0.0  # no period before the first: nothing moved
    assert support.check(seen(0.0, 5.0)).score == 0.0


def test_it_is_the_law_that_fitting_and_benches_use(support: SupportRuntime) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(2.0, 2.0, (300, 18)).astype(np.float32)
    rows[:, 1] *= 0.01
    raw = rows[:, 0] + 100.0 * np.abs(np.diff(rows[:, 1], prepend=rows[0, 1]))
    expected = filtered(raw)
    found = [support.check(row) for row in rows]
    np.testing.assert_allclose([one.score for one in found], expected, rtol=1e-5)
    np.testing.assert_allclose([one.speed for one in found], speed_of(expected, SLOW, HOLD, 0.1), atol=1e-5)
    assert [bool(one.alarm) for one in found] == (expected > HOLD).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_alarms_at_once(support: SupportRuntime, value: float) -> None:
    verdict = support.check(seen(value))
    assert "not finite" in verdict.alarm
    assert 0.0 < verdict.speed <= 1.0
    with pytest.raises(ActionError, match="the support expects"):
        support.check(np.zeros(3, np.float32))


def test_the_manifest_says_what_it_promises(guarded: VerifiedBundle) -> None:
    info = guarded.manifest.support
    assert info is not None
    assert (info.slow, info.hold, info.false_alarms, info.episodes) == (SLOW, HOLD, 0.02, (40, 20, 249))
    said = "at most 0.02 of episodes like 49 held-out episodes, at most 0.01 of episodes like 200 own runs"
    assert said in summary(guarded.manifest)["support"]
    before = info.model_copy(update={"calibrations": ()})  # bundles of before name none
    assert "at most 0.02 of episodes (over 249 held-out episodes and own runs)" in before.line


def test_a_bundle_without_one_is_as_before(bundle: VerifiedBundle) -> None:
    assert bundle.manifest.support is None
    assert load_support(bundle) is None
    old = json.loads(bundle.files[MANIFEST_NAME])
    del old["support"]
    assert parse_manifest(json.dumps(old).encode()).support is None


def signed(bundle: VerifiedBundle, changed: Mapping[str, bytes | None], key: SigningKey, out: Path) -> VerifiedBundle:
    """The bundle with other files, signed by one who is trusted."""
    files = {**bundle.files, **changed}
    content = {name: data for name, data in files.items() if data is not None and name != SIGNATURE_NAME}
    return load_bundle(write_bundle(content, out, key))


def test_a_graph_that_is_not_what_the_manifest_says_is_refused(
    guarded: VerifiedBundle, bundle: VerifiedBundle, key: SigningKey, tmp_path: Path
) -> None:
    graph = guarded.files[SUPPORT_NAME]
    foreign = onnx.ModelProto.FromString(graph)
    foreign.opset_import.append(helper.make_opsetid("com.example", 1))
    outside = onnx.ModelProto.FromString(graph)
    tensor = outside.graph.initializer.add(name="outside", data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    cases: dict[str, tuple[VerifiedBundle, bytes | None, str]] = {
        "missing": (guarded, None, "has no support.onnx"),
        "not said": (bundle, graph, "manifest does not say so"),
        "other inputs": (guarded, guarded.policy, "support.onnx has inputs"),
        "no graph": (guarded, b"\x00\x01garbage", "support.onnx"),
        "foreign": (guarded, foreign.SerializeToString(), "com.example"),
        "outside": (guarded, outside.SerializeToString(), "in another file"),
    }
    for name, (base, data, reason) in cases.items():
        with pytest.raises(BundleError, match=reason):
            load_support(signed(base, {SUPPORT_NAME: data}, key, tmp_path / name.replace(" ", "_")))


def test_thresholds_must_make_sense(request_: ExportRequest) -> None:
    examples = np.zeros((2, request_.observation.size), np.float32)
    model = SupportModel(Furthest(), examples, "combined", 5.0, 4.0, CALIBRATIONS, (1, 1))
    info = with_support(request_, model)[0].support
    assert info is not None
    assert info.slow == pytest.approx(3.6)  # few episodes give both the same score: slow stays below hold
    with pytest.raises(BundleError, match="must be positive"):
        with_support(request_, model._replace(hold=0.0))


def test_the_controller_holds_and_says_why(guarded: VerifiedBundle, samples_at: Any, clock: Any) -> None:
    """The second joint jumps by 0.05 rad a period: a score of 5 and more, where 4 holds; the third one decides."""
    robot, now = guarded.manifest.robot, 1_000_000_000
    controller = Controller(robot, host_ns=clock)
    controller.configure(guarded, now_ns=now)
    states = []
    for k in range(-2, 6):
        now += robot.control_period_ns
        clock.advance_ms(20.0)
        position = robot.home_rad + 0.05 * np.eye(6)[1] * max(k - 2, 0)
        for sample in samples_at(now, position):
            controller.push(sample, now)
        if k == -1:
            controller.arm(now)
        controller.tick(now)
        states.append(str(controller.state))
    assert states == ["disarmed", *["active"] * 6, "hold"]
    assert controller.reason.startswith("support: unlike the training data for 3 periods: ")
