"""Which OpenGL MuJoCo shall use, decided before MuJoCo is imported (it reads MUJOCO_GL once, at import)."""

from __future__ import annotations

import ctypes.util
import os
import sys

from sealegs_contract.errors import MachineError

FIX = "install it (Debian, Ubuntu: apt install libosmesa6), or set MUJOCO_GL=egl where a GPU driver offers EGL"


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose_opengl() -> None:
    """Set MUJOCO_GL to `osmesa` where there is no display and the user has not chosen.

    Without libosmesa6 it becomes `disabled`: physics works all the same (mujoco's import would fail otherwise), and
    rendering says what is missing.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen not in {"", "osmesa"} or (not chosen and has_display()):
        return
    os.environ["MUJOCO_GL"] = "osmesa" if ctypes.util.find_library("OSMesa") else "disabled"


def require_opengl() -> None:
    """Raise MachineError where rendering is impossible, with the fix."""
    if os.environ.get("MUJOCO_GL", "").strip().lower() in {"disable", "disabled", "off", "false", "0"}:
        raise MachineError(f"this machine cannot render: no display, and libosmesa6 is missing; {FIX}")


def require_display(what: str) -> None:
    """Raise MachineError where no window can be opened; `what` names what needs it."""
    if not has_display():
        raise MachineError(
            f"{what} needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; "
            "render without one: render_mode='rgb_array', or `sealegs view --film out.gif`"
        )
