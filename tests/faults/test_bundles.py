"""Rows 21 to 26 of the fault catalogue, with a few trials each, and with defects that they must find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile.signed import Signer, expected_action, first_action, policy_files
from sealegs.faults.rows import bundle_bombs, bundle_files, bundle_graphs, exports
from sealegs_deploy import graph, runtime, signing
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.manifest import POLICY_NAME
from sealegs_learning.results import target_holds

FAULTS = {
    fault.row: fault for module in (bundle_bombs, bundle_files, bundle_graphs, exports) for fault in module.FAULTS
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def run(row: int, folder: Path, count: int) -> tuple[Fault, Outcome]:
    fault = FAULTS[row]
    assert fault.run is not None
    return fault, fault.run(Trials(count, folder, lambda done, total: None))


def test_hand_made_bundles_compute_what_numpy_does(tmp_path: Path):
    signer = Signer.new()
    action = signer.run(signer.write(policy_files(3), tmp_path / "bundle"))
    np.testing.assert_allclose(action, expected_action(3), atol=1e-6)
    assert np.abs(expected_action(1) - expected_action(2)).max() > 100 * bundle_files.AGREEMENT_RAD


@pytest.mark.parametrize(
    ("row", "count"), [(21, 40), (22, len(bundle_files.TRICKS)), (23, 60), (24, 12), (25, 6), (26, 1)]
)
def test_every_fault_is_refused(row: int, count: int, tmp_path: Path):
    fault, outcome = run(row, tmp_path, count)
    assert outcome.trials == count
    assert outcome.failures == 0, outcome.notes
    if fault.target:
        assert target_holds(max(outcome.values), None, fault.target)


def test_flips_that_nobody_looks_for_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signing, "verify_files", lambda *_: None)
    _, outcome = run(21, tmp_path, 40)
    # Of the four places, the graph's own flips are seen by nothing else.
    assert outcome.failures >= 10


def test_graphs_that_nobody_checks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the checks onnxruntime runs, for example, its own operators and whatever a hard link leads to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(graph, "_check_data", lambda *_: None)
    _, outcome = run(23, tmp_path, FAULTS[23].trials)
    assert any("hard link" in note for note in outcome.notes)
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "check_graph", lambda *_: None)
    _, outcome = run(23, tmp_path, FAULTS[23].trials)
    assert any("'com.microsoft' in a node" in note for note in outcome.notes)


def test_a_policy_that_is_read_again_after_its_verification_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read_again(bundle: VerifiedBundle) -> NDArray[np.float64]:
        path = bundle.path / POLICY_NAME
        return first_action(replace(bundle, files={POLICY_NAME: path.read_bytes()}) if path.is_file() else bundle)

    monkeypatch.setattr(bundle_files, "first_action", read_again)
    signer = Signer.new()
    spares = [signer.write(policy_files(seed, seed), tmp_path / f"spare{seed}") for seed in (1, 2)]
    bundle = signer.load(spares[0])
    bundle_files._disturb(spares[0], spares, trial=0)
    assert bundle_files._wrong(bundle)
