"""What this machine has and lacks. One function per check; slow ones try the real thing in a process of their own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

TRIAL_TIMEOUT_S = 60.0
MINIMUM_DISK_GB = 2.0
MINIMUM_MEMORY_GB = 3.0
MINIMUM_SHARED_MEMORY_MB = 60.0  # a 64 MB /dev/shm, the default in containers, holds some 100 ROS participants

State = Literal["ok", "lacks", "fails"]


@dataclass(frozen=True, slots=True)
class Check:
    """One row: `lacks` is optional, `fails` keeps the demo from running; `fix` says what to do about either."""

    name: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial process printed last, and whether it ended well."""

    worked: bool
    text: str


def try_python(code: str, **environment: str) -> Trial:
    """Run `code` in a fresh interpreter, so that a crash in a native library is a finding and not our end."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=TRIAL_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        return Trial(False, f"no answer within {TRIAL_TIMEOUT_S:.0f} s")
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    last = lines[-1] if lines else "no output"
    return Trial(done.returncode == 0, last if done.returncode >= 0 else f"killed by signal {-done.returncode}: {last}")


def check_python() -> Check:
    """Python itself; pip refuses to install Sealegs where it is too old."""
    return Check("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def check_package(name: str, distribution: str, extra: str) -> Check:
    """An installed distribution, by its metadata: nothing is imported."""
    try:
        return Check(name, "ok", metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return Check(name, "fails", "not installed", f"pip install 'sealegs[{extra}]'")


def check_ros() -> Check:
    """rclpy really starts and stops a context."""
    trial = try_python("import rclpy; rclpy.init(); rclpy.shutdown(); print(rclpy.__file__)")
    sourced = os.environ.get("ROS_DISTRO", "")
    if trial.worked:
        # The wheels' own bootstrap sets ROS_DISTRO too: where rclpy lies tells one from the other.
        wheels = "site-packages" in trial.text and sys.prefix in trial.text
        return Check("ROS 2", "ok", "rclpy wheels (Jazzy)" if wheels else f"installation, {sourced or trial.text}")
    fix = "source /opt/ros/DISTRO/setup.bash and start again, or: pip install 'sealegs[ros]' (x86_64)"
    return Check("ROS 2", "fails", trial.text, fix)


_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 3"/><geom size=".2"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
spread = int(renderer.render().max()) - int(renderer.render().min())
renderer.close()
assert spread > 10, f"the picture is blank (spread {spread})"
print("ok")
"""


def check_rendering() -> Check:
    """MuJoCo draws a sphere without a screen."""
    backend = os.environ.get("MUJOCO_GL") or "osmesa"
    trial = try_python(_RENDER, MUJOCO_GL=backend)
    if trial.worked:
        return Check("rendering", "ok", f"MuJoCo draws through {backend}")
    fix = "sudo apt-get install -y libosmesa6 (or MUJOCO_GL=egl where a GPU driver offers EGL)"
    return Check("rendering", "fails", f"{backend}: {trial.text}", fix)


_PROVIDERS = """
import json, onnxruntime
from sealegs_deploy.providers import probe
print(json.dumps([onnxruntime.__version__, probe()]))
"""


def check_onnxruntime() -> Check:
    """onnxruntime loads, and which of its execution providers really start."""
    trial = try_python(_PROVIDERS)
    if not trial.worked:
        return Check("onnxruntime", "fails", trial.text, "pip install 'sealegs[runtime]'")
    version, providers = json.loads(trial.text)
    found = [name if not why else f"{name} (does not start)" for name, why in providers.items()]
    fix = "" if all(not why for why in providers.values()) else "GPU: its driver, and pip install 'sealegs[gpu]'"
    if {"onnxruntime", "onnxruntime-gpu"} <= installed():
        fix = "onnxruntime and onnxruntime-gpu overwrite each other: pip uninstall both, then install 'sealegs[gpu]'"
    return Check("onnxruntime", "lacks" if fix else "ok", f"{version}; providers: {', '.join(found)}", fix)


def installed() -> set[str]:
    """Names of all installed distributions, in lower case."""
    return {str(one.metadata["Name"]).lower() for one in metadata.distributions()}


def check_gpu() -> Check:
    """An NVIDIA GPU, as its driver reports it."""
    fix = "not needed; with an NVIDIA GPU install its driver and: pip install 'sealegs[gpu]'"
    if shutil.which("nvidia-smi") is None:
        return Check("GPU", "lacks", "no nvidia-smi", fix)
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=TRIAL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Check("GPU", "lacks", "nvidia-smi does not answer", fix)
    return Check("GPU", "ok", done.stdout.strip()) if done.returncode == 0 else Check("GPU", "lacks", "no GPU", fix)


def check_display() -> Check:
    """A display for --viewer."""
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if display:
        return Check("display", "ok", display)
    return Check("display", "lacks", "none", "needed by --viewer only: start from a desktop, or ssh -X")


def check_realtime() -> Check:
    """Whether this user may run under SCHED_FIFO: tried, with chrt."""
    fix = (
        'for p99 under 1 ms beside other load: echo "$USER - rtprio 95" | sudo tee /etc/security/limits.d/90-rt.conf,'
        " log in again, and start nodes with launch-prefix 'chrt -f 40'"
    )
    if shutil.which("chrt") is None:
        return Check("real-time priority", "lacks", "no chrt to try it with", "sudo apt-get install -y util-linux")
    done = subprocess.run(["chrt", "-f", "40", "true"], capture_output=True, text=True)
    if done.returncode == 0:
        return Check("real-time priority", "ok", "SCHED_FIFO is permitted")
    return Check("real-time priority", "lacks", "SCHED_FIFO is not permitted", fix)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Space for the ROS middleware's shared memory."""
    try:
        free = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        return Check("shared memory", "fails", str(error), f"mount a tmpfs at {folder}")
    if free >= MINIMUM_SHARED_MEMORY_MB and os.access(folder, os.W_OK):
        return Check("shared memory", "ok", f"{free:.0f} MB free in {folder}")
    fix = f"remove left-overs (rm {folder}/fastrtps_*); in a container: --shm-size=512m"
    return Check("shared memory", "fails", f"{free:.0f} MB free in {folder}, or not writable", fix)


def check_disk(folder: Path) -> Check:
    """Space where runs are written."""
    free = shutil.disk_usage(folder).free / 1e9
    state: State = "ok" if free >= MINIMUM_DISK_GB else "fails"
    fix = "" if state == "ok" else f"the demo needs {MINIMUM_DISK_GB:.0f} GB: make room, or start it in another folder"
    return Check("disk", state, f"{free:.1f} GB free in {folder}", fix)


def check_memory(source: Path = Path("/proc/meminfo")) -> Check:
    """RAM that is free or can be freed."""
    lines = dict(line.split(":", 1) for line in source.read_text().splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024 / 1e9
    state: State = "ok" if free >= MINIMUM_MEMORY_GB else "fails"
    fix = "" if state == "ok" else f"the demo needs {MINIMUM_MEMORY_GB:.0f} GB: end other programs"
    return Check("memory", state, f"{free:.1f} GB available, {os.cpu_count()} CPU cores", fix)


def examine(folder: Path) -> list[Check]:
    """All checks, in the order of the table; the slow ones run at the same time."""
    checks: list[Callable[[], Check]] = [
        check_python,
        check_ros,
        lambda: check_package("mujoco", "mujoco", "sim"),
        check_rendering,
        check_display,
        lambda: check_package("torch", "torch", "learning"),
        check_onnxruntime,
        check_gpu,
        check_realtime,
        check_shared_memory,
        lambda: check_disk(folder),
        check_memory,
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [future.result() for future in [pool.submit(check) for check in checks]]
