"""The wheel, built, installed into a fresh venv and used away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sealegs_contract", "sealegs_deploy", "sealegs_sim", "sealegs_learning", "sealegs_ros", "sealegs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a venv that holds the wheel, and sees the dependencies of ours but not the editable checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=240)
    ours = Path(sysconfig.get_path("purelib"))
    (site,) = folder.glob("lib/python*/site-packages")
    # A path file's own path files are not read: those that dependencies need are repeated, the checkout's is not.
    lines = [str(ours), *(p.read_text() for p in sorted(ours.glob("*.pth")) if "sealegs" not in p.name)]
    (site / "dependencies.pth").write_text("\n".join(lines))
    return folder


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}}
    return subprocess.run(
        [str(installed / "bin" / words[0]), *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_the_wheel_holds_what_the_packages_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in {
        "sealegs_contract": "deploy/sealegs_contract",
        "sealegs_sim": "sim/sealegs_sim",
        "sealegs_learning": "learning/sealegs_learning",
    }.items():
        tracked = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        parent = Path(folder).parent
        assert {str(Path(path).relative_to(parent)) for path in tracked} <= names, package
    for name in ("sim", "record", "policy"):
        assert f"sealegs/share/launch/{name}.launch.xml" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "sim/", "deploy/"))]
    assert wheel.stat().st_size < 20e6


def test_metadata_names_the_licence_the_extras_and_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
    text = archive.read(metadata).decode()
    for line in ("Name: sealegs", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        assert f"\n{line}\n" in text
    extras = {line.split(": ")[1] for line in text.splitlines() if line.startswith("Provides-Extra: ")}
    assert {"sim", "learning", "runtime", "ros", "gpu", "hardware", "dev"} <= extras
    (entry,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
    assert "sealegs = sealegs.cli:entry_point" in archive.read(entry).decode()


_IMPORT_ALL = """
import importlib, json, pkgutil, sys
failed, count = {}, 0
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
                count += 1
            except Exception as error:
                failed[module.name] = repr(error)
places = sorted({p for n in sys.argv[1:] for p in importlib.import_module(n).__path__})
print(json.dumps({"failed": failed, "count": count, "places": places}))
"""


def test_every_module_imports_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "python", "-c", _IMPORT_ALL, *PACKAGES)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failed"] == {}
    assert found["count"] > 100
    assert [place for place in found["places"] if not place.startswith(str(installed))] == []


def test_the_command_works_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "usage: sealegs VERB" in run(installed, tmp_path, "sealegs", "--help").stdout
    assert run(installed, tmp_path, "sealegs", "--version").stdout == "sealegs 0.1.0\n"
    doctor = run(installed, tmp_path, "sealegs", "doctor")
    assert "The demo can run." in doctor.stdout, doctor.stdout + doctor.stderr
    tests = run(installed, tmp_path, "sealegs", "test")
    assert tests.returncode == 2
    assert "the tests are in a checkout" in tests.stderr
    arguments = run(installed, tmp_path, "sealegs", "launch", "sim", "-s")
    assert "task (default: 'drawer')" in arguments.stdout


_USE = """
import gymnasium, sealegs_sim
from sealegs.launching import plan_launch, shipped_launch_files
from sealegs_contract.robot import shipped_robots
for name in ("Reach", "Push", "Drawer"):
    env = gymnasium.make(f"Sealegs/{name}-v0")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    observation, reward, *_ = env.step(env.action_space.sample())
    assert 0.0 <= reward <= 1.0, reward
    env.close()
files = [f for p in plan_launch("sim").processes for f in p.parameter_files]
assert all(f.path is None or f.path.is_file() for f in files)
print(sorted(shipped_robots()), sorted(shipped_launch_files()))
"""


def test_envs_robots_and_launch_files_work_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "python", "-c", _USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['so101'] ['policy', 'record', 'sim']"


def test_the_shipped_judge_loads_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "from sealegs_learning.judge.make import make_judge; j = make_judge('embedded'); print(type(j).__name__)"
    done = run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Judge" in done.stdout


def test_a_robot_runs_policies_without_torch(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
import importlib, pkgutil, sealegs_contract, sealegs_deploy
for package in (sealegs_contract, sealegs_deploy):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name != "sealegs_deploy.export":
            importlib.import_module(module.name)
print([name for name in ("mujoco", "rclpy", "transformers", "gymnasium", "pyarrow") if name in sys.modules])
"""
    done = run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
