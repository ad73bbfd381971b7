from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sealegs_contract.errors import ObservationError, SpecError
from sealegs_contract.observation import ObservationAssembler
from sealegs_contract.pixels import decode_image
from sealegs_contract.robot import load_robot
from sealegs_contract.sample import ImageSample, JointSample
from sealegs_contract.selection import columns_of, select_fields
from sealegs_contract.spec import ImageField, ObservationField, ObservationSpec, observation_spec

ROBOT = load_robot("so101")


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def test_png_pixels_are_exact_and_colours_keep_their_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(pixels, "PNG"), 12, 16), pixels)
    grey = encoded(pixels[..., 0], "PNG")
    np.testing.assert_array_equal(decode_image(grey, 12, 16), np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_other_sizes_are_scaled_and_the_whole_view_is_kept(kind: str) -> None:
    """Left half red, right half blue, at a quarter of the size."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, :80, 0] = pixels[:, 80:, 2] = 250
    small = decode_image(encoded(pixels, kind), 30, 40).astype(int)
    assert small.shape == (30, 40, 3)
    np.testing.assert_allclose(small[:, :19], np.broadcast_to([250, 0, 0], (30, 19, 3)), atol=12)
    np.testing.assert_allclose(small[:, 21:], np.broadcast_to([0, 0, 250], (30, 19, 3)), atol=12)


@pytest.mark.parametrize("data", [b"", b"not an image", encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")[:200]])
def test_an_unreadable_image_is_an_error_and_never_a_black_one(data: bytes) -> None:
    with pytest.raises(ObservationError, match=f"image of {len(data)} bytes is not readable"):
        decode_image(data, 8, 8)


def joints(stamp_ns: int) -> JointSample:
    zeros = np.zeros(6)
    return JointSample(stamp_ns, ROBOT.joint_names, zeros, zeros, zeros)


def test_a_decoding_assembler_keeps_the_newest_readable_image() -> None:
    field = ImageField(camera="front", height=12, width=16)
    spec = select_fields(observation_spec(ROBOT), ("joint_position",), (field,))
    assembler = ObservationAssembler(spec, decode=True)
    old, new = (np.full((12, 16, 3), value, np.uint8) for value in (10, 200))
    assembler.push(joints(0))
    assert assembler.missing == ("camera/front",)
    assembler.push(ImageSample(0, "front", encoded(old, "PNG"), "png"))
    with pytest.raises(ObservationError, match="not readable"):
        assembler.push(ImageSample(5, "front", b"torn"))
    np.testing.assert_array_equal(assembler.assemble(6).pixels["front"], old)
    assert assembler.assemble(6).age_ns["camera/front"] == 6
    assert assembler.push(ImageSample(7, "front", encoded(new, "PNG"), "png"))
    assert not assembler.push(ImageSample(6, "front", encoded(old, "PNG"), "png"))
    np.testing.assert_array_equal(assembler.assemble(8).pixels["front"], new)
    assembler.reset()
    assert assembler.missing == ("joint_states", "camera/front")


def test_columns_pick_the_named_fields() -> None:
    whole = observation_spec(ROBOT, ("gripper", "cube"))
    part = select_fields(whole, ("cube.object_position", "joint_position"))
    assert part.element_names[:4] == (
        "cube.object_position.x",
        "cube.object_position.y",
        "cube.object_position.z",
        "shoulder_pan.joint_position",
    )
    columns = columns_of(part, whole)
    assert [whole.element_names[i] for i in columns] == list(part.element_names)
    assert select_fields(whole) == whole
    with pytest.raises(SpecError, match=r"no field cube\.object_orientation; available: cube\.object_position"):
        select_fields(whole, ("cube.object_orientation",))
    scaled = ObservationSpec(fields=(ObservationField(kind="joint_position", joints=ROBOT.joint_names, scale=2.0),))
    with pytest.raises(SpecError, match="joint_position has other joints, scale or offset"):
        columns_of(scaled, whole)
    with pytest.raises(SpecError, match="joint_effort is missing"):
        columns_of(ObservationSpec(fields=(ObservationField(kind="joint_effort", joints=ROBOT.joint_names),)), whole)
