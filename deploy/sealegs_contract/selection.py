"""What part of an observation a policy sees: fields and cameras by name, and where they lie in the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.errors import SpecError, available
from sealegs_contract.spec import ImageField, ObservationSpec


def select_fields(
    spec: ObservationSpec, names: Sequence[str] = (), images: Sequence[ImageField] = ()
) -> ObservationSpec:
    """`spec` with only the fields `names`, in that order (all of them without names), and with the cameras `images`.

    Raises SpecError for a name that is no field.
    """
    fields = {field.name: field for field in spec.fields}
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise SpecError(f"the observation has no field {', '.join(unknown)}; {available(fields)}")
    return ObservationSpec(
        fields=tuple(fields[name] for name in names) if names else spec.fields,
        images=tuple(images),
        timeout_ms=spec.timeout_ms,
        image_timeout_ms=spec.image_timeout_ms,
    )


def columns_of(wanted: ObservationSpec, source: ObservationSpec) -> NDArray[np.intp]:
    """Elements of `source`'s vector (D,) that make `wanted`'s vector, in its order.

    Raises SpecError where a field is missing, or has other joints, scale or offset.
    """
    where, held = source.slices(), {field.name: field for field in source.fields}
    for field in wanted.fields:
        if held.get(field.name) != field:
            problem = "is missing" if field.name not in held else "has other joints, scale or offset"
            raise SpecError(f"observation field {field.name} {problem}; {available(held)}")
    return np.concatenate([np.arange(where[f.name].start, where[f.name].stop) for f in wanted.fields])
