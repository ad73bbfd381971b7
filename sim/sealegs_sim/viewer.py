"""MuJoCo's own window on a running simulation. It only shows: the simulation is stepped elsewhere."""

from __future__ import annotations

from sealegs_sim.opengl import require_display
from sealegs_sim.simulation import Simulation


class Viewer:
    """A window on `simulation`, until it is closed. Raises MachineError where there is no display."""

    def __init__(self, simulation: Simulation) -> None:
        require_display("the viewer")
        import mujoco.viewer

        self._window = mujoco.viewer.launch_passive(simulation.scene.model, simulation.data)

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        return bool(self._window.is_running())

    def sync(self) -> None:
        """Show the present state; nothing once the window is closed."""
        if self.is_open:
            self._window.sync()

    def close(self) -> None:
        """Close the window."""
        self._window.close()
