from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sealegs_contract.errors import BundleError
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.rollback import no_rollback, versions_path


def test_the_newest_version_that_was_configured_is_remembered_and_older_ones_refused(
    bundle: VerifiedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def at(version: int, **changes: str) -> VerifiedBundle:
        return replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version}), **changes)

    with pytest.raises(ZeroDivisionError), no_rollback(at(9)):
        raise ZeroDivisionError  # what was not configured is not remembered
    assert not versions_path().exists()
    for version in (3, 5, 5):
        with no_rollback(at(version)):
            pass
    memory = versions_path().read_text()
    assert json.loads(memory)["newest"] == {f"{bundle.key_id}/small": 5}
    with pytest.raises(BundleError, match=r"version 4 of small is older than 5.*allow_rollback"), no_rollback(at(4)):
        raise AssertionError
    with no_rollback(at(4), allow_rollback=True), no_rollback(at(1, key_id="0" * 16)):
        pass
    assert json.loads(versions_path().read_text())["newest"] == {f"{bundle.key_id}/small": 5, f"{'0' * 16}/small": 1}

    for damaged in (memory[:-9], "", "{}x", memory.replace("5", '"5"'), memory.replace("5", "-1"), "[" * 100_000):
        versions_path().write_text(damaged)
        with pytest.raises(BundleError, match="delete it if every version may run again"), no_rollback(at(9)):
            raise AssertionError
        assert versions_path().read_text() == damaged
