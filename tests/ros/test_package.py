"""The ament package builds with the real colcon, and its nodes run from the install space."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "ros_ws" / "src" / "sealegs_ros"


@pytest.mark.skipif(
    importlib.util.find_spec("colcon_core") is None, reason="needs pip install colcon-common-extensions"
)
def test_colcon_builds_what_ros2_run_and_ros2_launch_need(tmp_path: Path) -> None:
    """In a copy, so that nothing is left in the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "build", "install", "log", "*.egg-info")
    shutil.copytree(REPOSITORY / "ros_ws", tmp_path / "ros_ws", ignore=ignored)
    shutil.copytree(REPOSITORY / "launch", tmp_path / "launch", ignore=ignored)
    workspace = tmp_path / "ros_ws"
    environment = dict(os.environ, COLCON_LOG_PATH=str(tmp_path / "log"))
    build = [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_direct+"]
    done = subprocess.run(build, cwd=workspace, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

    install = workspace / "install" / "sealegs_ros"
    share = install / "share" / "sealegs_ros"
    assert (install / "share/ament_index/resource_index/packages/sealegs_ros").is_file()
    assert (share / "package.xml").is_file()
    launch_files = {path.name for path in (REPOSITORY / "launch").glob("*.launch.xml")}
    assert {path.name for path in (share / "launch").glob("*.launch.xml")} == launch_files >= {"sim.launch.xml"}
    for path in (share / "launch").glob("*.launch.xml"):
        for element in ElementTree.parse(path).iter("node"):
            assert os.access(install / "lib" / element.attrib["pkg"] / element.attrib["exec"], os.X_OK)
        for default in re.findall(r"\$\(dirname\)/([\w./]+)", path.read_text()):
            assert (share / "launch" / default).is_file(), f"{path.name}: {default}"

    node = install / "lib" / "sealegs_ros" / "recorder_node"
    script = f". {workspace}/install/setup.sh && exec {node} --ros-args -p robot:=r2d2"
    ran = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "unknown robot 'r2d2'" in ran.stderr
    where = f". {workspace}/install/setup.sh && {sys.executable} -c 'import sealegs_ros; print(sealegs_ros.__file__)'"
    imported = subprocess.run(["sh", "-c", where], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert imported.stdout.startswith(str(install))


def test_a_copy_of_the_workspace_alone_says_that_it_installs_no_launch_files(tmp_path: Path) -> None:
    def egg_info(checkout: Path) -> subprocess.CompletedProcess[str]:
        """setup.py as far as it costs little, in a copy of the package."""
        package = checkout / "ros_ws" / "src" / "sealegs_ros"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        command = [sys.executable, "setup.py", "-q", "egg_info"]
        return subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=60)

    alone = egg_info(tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert f"warning: no launch files at {tmp_path / 'alone' / 'launch'}" in alone.stderr
    shutil.copytree(REPOSITORY / "launch", tmp_path / "whole" / "launch")
    whole = egg_info(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert "launch files" not in whole.stderr


def test_package_manifest_names_every_message_package() -> None:
    manifest = ElementTree.parse(SOURCE / "package.xml").getroot()
    assert manifest.attrib["format"] == "3"
    assert manifest.findtext("export/build_type") == "ament_python"
    depends = {element.text for element in manifest.iter("exec_depend")}
    imported = set()
    for path in (SOURCE / "sealegs_ros").glob("*.py"):
        imported |= set(
            re.findall(r"^\s*(?:from|import) (\w+_(?:msgs|srvs|interfaces)|rclpy)\b", path.read_text(), re.M)
        )
    assert imported
    assert imported <= depends, imported - depends
