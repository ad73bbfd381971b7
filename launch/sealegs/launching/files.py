"""Where launch files and package folders are: in a checkout, in the installed package, or in a ROS 2 installation."""

from __future__ import annotations

import os
from pathlib import Path

from sealegs_contract.errors import LaunchError, available

OWN_PACKAGE = "sealegs_ros"
SUFFIX = ".launch.xml"


def own_share() -> Path:
    """Folder that stands for `share/sealegs_ros`, with `launch/` in it: the wheel's data, or the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "share"
    return installed if installed.is_dir() else package.parents[1]


def shipped_launch_files() -> dict[str, Path]:
    """Launch files that come with Sealegs, by short name (`sim`)."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted((own_share() / "launch").glob(f"*{SUFFIX}"))}


def find_launch_file(name: str | Path) -> Path:
    """A launch file by path, or a shipped one by name (`sim` or `sim.launch.xml`)."""
    path = Path(name)
    if path.is_file():
        return path.resolve()
    shipped = shipped_launch_files()
    short = str(name).removesuffix(SUFFIX)
    if short in shipped:
        return shipped[short]
    raise LaunchError(f"no launch file at {path}, and none of that name is shipped; {available(shipped)}")


def find_package_share(package: str) -> Path:
    """`share/PACKAGE` of a sourced ROS 2 workspace; for Sealegs' own package also without one."""
    for prefix in _ament_prefixes():
        share = prefix / "share" / package
        if share.is_dir():
            return share
    if package == OWN_PACKAGE:
        return own_share()
    raise LaunchError(f"package {package!r} is not found: source the ROS 2 workspace that holds it (AMENT_PREFIX_PATH)")


def find_executable(package: str, executable: str) -> Path:
    """`lib/PACKAGE/EXECUTABLE` of a sourced ROS 2 workspace."""
    for prefix in _ament_prefixes():
        path = prefix / "lib" / package / executable
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise LaunchError(
        f"executable {executable!r} of package {package!r} is not found: source the ROS 2 workspace that holds it"
        " (AMENT_PREFIX_PATH)"
    )


def _ament_prefixes() -> list[Path]:
    return [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
