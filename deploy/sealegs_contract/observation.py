"""ObservationAssembler: timestamped samples in, a named and scaled vector out, with the age of every stream.

The simulator, the importer and the live controller all use this class, so a policy sees the same numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import ObservationError
from sealegs_contract.pixels import Pixels, decode_image
from sealegs_contract.sample import ImageSample, JointSample, PoseSample, Sample, reorder, stream_of
from sealegs_contract.spec import ObservationField, ObservationSpec


@dataclass(frozen=True, slots=True)
class Observation:
    """`vector` (D,) float32 in the spec's order; `images` by camera; `age_ns` by stream, newest stamp to `now_ns`.

    `pixels` by camera (height, width, 3) uint8, from an assembler that decodes.
    """

    now_ns: int
    vector: NDArray[np.float32]
    images: Mapping[str, ImageSample]
    age_ns: Mapping[str, int]
    stale: tuple[str, ...]
    pixels: Mapping[str, Pixels] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """No stream is stale."""
        return not self.stale

    @property
    def oldest_ns(self) -> int:
        """Age of the oldest stream, in ns."""
        return max(self.age_ns.values())


class ObservationAssembler:
    """Keeps the newest sample of each stream that the spec needs, and puts them together on request.

    `decode`: turn images into pixels as they arrive, so that no tick waits for it; an unreadable one is refused.
    """

    def __init__(self, spec: ObservationSpec, decode: bool = False) -> None:
        self.spec = spec
        self._images = {image.camera: image for image in spec.images} if decode else {}
        self._pixels: dict[str, Pixels] = {}
        self._slices = spec.slices()
        self._needed = frozenset(spec.streams)
        self._newest: dict[str, Sample] = {}

    def reset(self) -> None:
        """Forget every sample, for a new episode or a clock that was set back."""
        self._newest.clear()
        self._pixels.clear()

    def push(self, sample: Sample) -> bool:
        """Take a sample; True if it is now the newest of a needed stream. Older stamps never replace newer ones.

        Raises SpecError when joints are missing by name, ObservationError when a needed value is missing or not finite,
        or an image that is to be decoded cannot be read. A sample that is refused leaves the newest one as it was.
        """
        stream = stream_of(sample)
        if stream not in self._needed:
            return False
        held = self._newest.get(stream)
        if held is not None and sample.stamp_ns < held.stamp_ns:
            return False
        for wanted in self.spec.fields:
            if wanted.stream == stream:
                values = _field_values(wanted, sample)
                if values.shape != (wanted.size,):
                    raise ObservationError(
                        f"{stream}: {wanted.name} needs {wanted.size} values, got shape {values.shape}"
                    )
                if not np.isfinite(values).all():
                    raise ObservationError(
                        f"{stream}: {wanted.name} holds a value that is not finite: {values.tolist()}"
                    )
        if isinstance(sample, ImageSample) and sample.camera in self._images:
            size = self._images[sample.camera]
            self._pixels[sample.camera] = decode_image(sample.data, size.height, size.width)
        self._newest[stream] = sample
        return True

    @property
    def missing(self) -> tuple[str, ...]:
        """Needed streams that have not delivered anything yet."""
        return tuple(stream for stream in self.spec.streams if stream not in self._newest)

    def assemble(self, now_ns: int) -> Observation:
        """The observation at `now_ns`. Stale streams are named in it.

        Raises ObservationError when a needed stream never came.
        """
        if self.missing:
            raise ObservationError(
                f"no sample yet on {', '.join(self.missing)}; got: {', '.join(sorted(self._newest)) or 'nothing'}"
            )
        vector = np.empty(self.spec.size, dtype=np.float32)
        for part in self.spec.fields:
            vector[self._slices[part.name]] = _field_values(part, self._newest[part.stream]) * part.scale + part.offset
        age = {stream: now_ns - self._newest[stream].stamp_ns for stream in self.spec.streams}
        # A stamp from the future is as wrong as an old one: the clocks disagree.
        stale = tuple(stream for stream, ns in age.items() if abs(ns) > self.spec.timeout_ns(stream))
        images = {i.camera: s for i in self.spec.images if isinstance(s := self._newest[i.stream], ImageSample)}
        return Observation(now_ns, vector, images, age, stale, dict(self._pixels))

    def joint_position(self, joints: tuple[str, ...]) -> NDArray[np.float64]:
        """Newest measured position (J,) rad in the order `joints`."""
        sample = self._newest.get("joint_states")
        if not isinstance(sample, JointSample):
            raise ObservationError("no joint_states yet")
        return reorder(sample.names, sample.position, joints)


def _field_values(field: ObservationField, sample: Sample) -> NDArray[np.float64]:
    """Values of one field from a sample of its stream, unscaled."""
    match field.kind, sample:
        case "joint_position", JointSample():
            return reorder(sample.names, sample.position, field.joints)
        case "joint_velocity", JointSample():
            return reorder(sample.names, sample.velocity, field.joints)
        case "joint_effort", JointSample():
            return reorder(sample.names, sample.effort, field.joints)
        case "object_position", PoseSample():
            return sample.position
        case "object_orientation", PoseSample():
            return sample.orientation_xyzw
    raise ObservationError(f"{field.stream} delivered a {type(sample).__name__}, which has no {field.kind}")
