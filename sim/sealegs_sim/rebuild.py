"""From an observation back to a state that can be rendered: films of dataset rows, other cameras on old logs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sealegs_sim.scene import Scene
from sealegs_sim.starts import PAN_AXIS_X_M, Start, yaw_quaternion


def state_of(scene: Scene, observation: NDArray[np.floating]) -> Start:
    """State behind one observation vector (D,): exact but for the cube's own rotation, which is not observed.

    Render it with `renderer.render_state(s.qpos, camera, s.mocap_pos, s.mocap_quat)`.
    """
    fields: Mapping[str, NDArray] = scene.observation_spec.split(np.asarray(observation, dtype=np.float64))
    qpos = scene.model.qpos0.copy()
    qpos[scene.joint_qpos] = fields["joint_position"]
    mocap_quat = np.array([[1.0, 0.0, 0.0, 0.0]])
    match scene.task.name:
        case "reach":
            position = fields["target.object_position"].copy()
        case "push":
            at = scene.joint_address("cube")
            qpos[at : at + 3] = fields["cube.object_position"]
            position = fields["target.object_position"].copy()
            position[2] = 0.0  # the object's height is the cube's, the zone lies on the table
        case _:
            position = fields["drawer.object_position"].copy()
            mocap_quat = yaw_quaternion(np.arctan2(position[1], position[0] - PAN_AXIS_X_M))[None]
            opening = np.linalg.norm(fields["handle.object_position"] - position)
            qpos[scene.joint_address("drawer")] = opening
    return Start(qpos, position[None], mocap_quat)
