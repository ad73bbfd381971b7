"""A small dataset on disk: six reaches of unequal quality."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealegs.cli import main


@pytest.fixture(scope="session")
def reach_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported bags of the simulator, without images."""
    folder = tmp_path_factory.mktemp("reach")
    arguments = ["--task", "reach", "--policy", "noisy", "--episodes", "4", "--no-images", "--jobs", "1"]
    assert main(["collect", "--out", str(folder / "bags"), *arguments]) == 0
    assert main(["import", str(folder / "bags"), "--out", str(folder / "dataset")]) == 0
    return folder / "dataset"
