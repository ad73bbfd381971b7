"""Inputs on which an export is compared with what was trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import RobotProfile
from sealegs_contract.spec import ImageField, ObservationField, ObservationSpec
from sealegs_deploy.graph import image_input

PARITY_INPUTS = 10_000
IMAGE_PARITY_INPUTS = 500  # one by one, a convolution costs a hundred times an MLP
WIDE_FACTOR = 5.0
PIECE = 1_000
COARSE = 8  # pixels of one colour in the smooth half of the images

# Mean and deviation, (D,) or (history * D,) each.
Statistics = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]
# Rows by name of the graph's input, in the order of the module's arguments.
Inputs = Mapping[str, NDArray[Any]]


def comparison_inputs(
    robot: RobotProfile,
    spec: ObservationSpec,
    statistics: Statistics | None = None,
    seed: int = 0,
    history: int = 1,
    count: int | None = None,
) -> dict[str, NDArray[Any]]:
    """`observation` (count, history * D): half Gaussian with mean and deviation of the data, half five times as wide.

    Without data, mean and deviation are those of uniform values within the robot's limits (objects: within 1 m).
    `image_CAMERA` (count, height, width, 3): half white noise, half coarse patches. 10,000 inputs, 500 with cameras.
    """
    count = count or (IMAGE_PARITY_INPUTS if spec.images else PARITY_INPUTS)
    size = history * spec.size
    mean, deviation = (np.tile(values, history) for values in _limits_statistics(robot, spec))
    if statistics is not None:
        mean, deviation = statistics
        if mean.shape != (size,) or deviation.shape != (size,):
            raise BundleError(f"statistics have shapes {mean.shape} and {deviation.shape}, expected ({size},)")
    rng = np.random.default_rng(seed)
    width = np.where(np.arange(count) % 2 == 0, 1.0, WIDE_FACTOR)[:, None]
    vectors = (mean + width * deviation * rng.standard_normal((count, size))).astype(np.float32)
    return {"observation": vectors} | {image_input(i.camera): _images(i, count, rng) for i in spec.images}


def pieces(inputs: Inputs, size: int = PIECE) -> Iterator[Inputs]:
    """The rows of `inputs` in pieces of `size`, so that no batch of images fills the memory."""
    count = len(inputs["observation"])
    for start in range(0, count, size):
        yield {name: values[start : start + size] for name, values in inputs.items()}


def _images(field: ImageField, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(count, height, width, 3): white noise in the even rows, coarse patches in the odd ones."""
    images = rng.integers(0, 256, (count, field.height, field.width, 3), dtype=np.uint8)
    patches = images[1::2, ::COARSE, ::COARSE]
    images[1::2] = patches.repeat(COARSE, axis=1).repeat(COARSE, axis=2)[:, : field.height, : field.width]
    return images


def _limits_statistics(robot: RobotProfile, spec: ObservationSpec) -> Statistics:
    """Mean and deviation (D,) of uniform values within the limits, scaled as the assembler scales them."""
    joints = {joint.name: joint for joint in robot.joints}

    def bounds(field: ObservationField) -> list[tuple[float, float]]:
        match field.kind:
            case "joint_position":
                return [(joints[n].position_min_rad, joints[n].position_max_rad) for n in field.joints]
            case "joint_velocity":
                return [(-joints[n].velocity_max_rad_s, joints[n].velocity_max_rad_s) for n in field.joints]
            case "joint_effort":
                return [(-joints[n].effort_max_n_m, joints[n].effort_max_n_m) for n in field.joints]
        return [(-1.0, 1.0)] * field.size

    rows = [(low, high, f.scale, f.offset) for f in spec.fields for low, high in bounds(f)]
    low, high, scale, offset = np.array(rows).T
    return (low + high) / 2 * scale + offset, np.abs(scale) * (high - low) / np.sqrt(12.0)
