"""MuJoCo scenes, tasks, gymnasium envs, the vectorised env and the robot node's simulated backend.

Importing this package is cheap: it chooses an OpenGL backend by environment variable (before MuJoCo reads it) and
registers the gymnasium ids where gymnasium is installed. MuJoCo itself is imported by the modules that need it.
"""

from __future__ import annotations

from sealegs_sim.opengl import choose_opengl
from sealegs_sim.registration import register_envs

choose_opengl()
register_envs()
