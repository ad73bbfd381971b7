"""Bad bundles for bench `gate`, made from good ones by surgery on their graphs, then signed like any other.

Every badness has a size, from hardly there to plain; `NOMINAL` are those that the gate must refuse. The graph keeps
its inputs and outputs, so that signature, manifest and graph checks all pass: only what it does is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sealegs_deploy.bundle import VerifiedBundle, write_bundle
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME, InputStatistics, Manifest
from sealegs_deploy.signing import SigningKey

SEEN, DONE = "raw_observation", "good_action"
"""Names of the values that surgery comes between: what the good policy now sees, and what it put out."""


@dataclass(frozen=True)
class Spoiling:
    """What a badness is made of. `mean`, `deviation` (D,): of the good policy's training data; `other`: of others."""

    manifest: Manifest
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    other: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    size: float
    seed: int

    def rng(self, kind: str) -> np.random.Generator:
        """Equal for equal badness and seed, whatever its size."""
        return np.random.default_rng([self.seed, zlib.crc32(kind.encode())])

    def towards(self, source: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation (D,), the share `size` of the way to those of other data."""
        mean, deviation = self.other[source]
        return self.mean + self.size * (mean - self.mean), self.deviation * (deviation / self.deviation) ** self.size

    @property
    def full(self) -> NDArray[np.float32]:
        """Full scale of each joint's output (J,), rad."""
        return np.asarray(self.manifest.action.scale_rad, dtype=np.float32)

    @property
    def centre(self) -> NDArray[np.float32]:
        """Output of action 0 (J,), rad."""
        return np.asarray(self.manifest.action.offset_rad, dtype=np.float32)

    def columns(self, kind: str) -> list[int]:
        """Places of a joint field in the observation."""
        names = self.manifest.observation.element_names
        return [names.index(f"{joint}.{kind}") for joint in self.manifest.joint_names]


class Surgeon:
    """A graph under the knife: `seen` and `done` are the values that the next change takes up."""

    def __init__(self, data: bytes) -> None:
        import onnx

        self.model = onnx.ModelProto.FromString(data)
        self._graph = self.model.graph
        for node in self._graph.node:
            for names, old, new in ((node.input, "observation", SEEN), (node.output, "action", DONE)):
                for k, name in enumerate(names):
                    if name == old:
                        names[k] = new
        self.seen, self.done = "observation", DONE
        self._before: list[Any] = []
        self._after: list[Any] = []
        self._count = 0

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        from onnx import numpy_helper

        self._count += 1
        name = f"spoilt_{self._count}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def see(self, operator: str, *others: str, **attributes: Any) -> str:
        """What the policy sees goes through an operator first."""
        self.seen = self._node(self._before, operator, (self.seen, *others), attributes)
        return self.seen

    def do(self, operator: str, *others: str, **attributes: Any) -> str:
        """What the policy put out goes through an operator."""
        self.done = self._node(self._after, operator, (self.done, *others), attributes)
        return self.done

    def of(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A value beside, of `inputs`."""
        return self._node(self._after, operator, inputs, attributes)

    def within(self, s: Spoiling) -> None:
        """Clip the output to its full scale, as every exported policy keeps to it."""
        self.do("Max", self.constant(s.centre - s.full))
        self.do("Min", self.constant(s.centre + s.full))

    def weights(self) -> list[Any]:
        """The matrices of the layers."""
        return [tensor for tensor in self._graph.initializer if len(tensor.dims) == 2]

    def bytes(self) -> bytes:
        """The graph, whole again."""
        from onnx import helper

        ends = [helper.make_node("Identity", [self.done], ["action"])]
        starts = [helper.make_node("Identity", [self.seen], [SEEN])]
        nodes = [*self._before, *starts, *self._graph.node, *self._after, *ends]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        return bytes(self.model.SerializeToString())

    def _node(self, where: list[Any], operator: str, inputs: tuple[str, ...], attributes: Mapping[str, Any]) -> str:
        from onnx import helper

        self._count += 1
        name = f"spoilt_{self._count}"
        where.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name


def swapped(cut: Surgeon, s: Spoiling) -> None:
    """`size` joints take each other's commands in a ring."""
    joints = len(s.manifest.joint_names)
    ring = s.rng("swapped joints").permutation(joints)[: round(s.size)]
    order = np.arange(joints)
    order[ring] = np.roll(ring, 1)
    cut.do("Gather", cut.constant(order, np.int64), axis=-1)


def scaled(cut: Surgeon, s: Spoiling) -> None:
    """Actions `size` times as large, within their full scale."""
    cut.do("Sub", cut.constant(s.centre))
    cut.do("Mul", cut.constant(s.size))
    cut.do("Add", cut.constant(s.centre))
    cut.within(s)


def noisy(cut: Surgeon, s: Spoiling) -> None:
    """Every action differs by noise of `size` full scales, even where the observation is the same."""
    noise = cut.of("RandomNormalLike", cut.done, scale=float(s.size), seed=float(s.seed))
    cut.do("Add", cut.of("Mul", noise, cut.constant(s.full)))
    cut.within(s)


def jittery(cut: Surgeon, s: Spoiling) -> None:
    """The same from the observation's last digits: sin of a steep function of it, `size` full scales high."""
    rng = s.rng("jittery")
    steep = 60.0 * rng.standard_normal((len(s.mean), len(s.full))) / s.deviation[:, None]
    phase = cut.of("Sin", cut.of("MatMul", "observation", cut.constant(steep)))
    cut.do("Add", cut.of("Mul", phase, cut.constant(1.4 * s.size * s.full)))
    cut.within(s)


def high_gain(cut: Surgeon, s: Spoiling) -> None:
    """What differs from the mean observation counts `size` times."""
    cut.see("Sub", cut.constant(s.mean))
    cut.see("Mul", cut.constant(s.size))
    cut.see("Add", cut.constant(s.mean))


def runaway(cut: Surgeon, s: Spoiling) -> None:
    """Whatever moves is driven on: its speed over `1 / size` of the full scale is added to the action."""
    moving = cut.of("Gather", "observation", cut.constant(s.columns("joint_velocity"), np.int64), axis=-1)
    full_speed = s.full * s.manifest.rate_hz
    share = cut.of("Mul", moving, cut.constant(s.size / full_speed))
    cut.do("Add", cut.of("Mul", share, cut.constant(s.full)))
    cut.within(s)


def oscillating(cut: Surgeon, s: Spoiling) -> None:
    """A joint position loop of gain `size` rad/rad around the mean pose: above 2 it must oscillate, delayed above 1."""
    places = s.columns("joint_position")
    at = cut.of("Gather", "observation", cut.constant(places, np.int64), axis=-1)
    error = cut.of("Sub", cut.constant(s.mean[places]), at)
    cut.do("Add", cut.of("Mul", error, cut.constant(s.size)))
    cut.within(s)


def shifted(cut: Surgeon, s: Spoiling) -> None:
    """Normalisation of data whose mean lay `size` deviations off, in every element one way or the other."""
    signs = s.rng("shifted").choice([-1.0, 1.0], len(s.mean))
    cut.see("Sub", cut.constant(s.size * signs * s.deviation))


def stretched(cut: Surgeon, s: Spoiling) -> None:
    """Normalisation of data that spread more or less, element by element, by up to exp(size)."""
    factor = np.exp(s.size * s.rng("stretched").uniform(-1.0, 1.0, len(s.mean)))
    cut.see("Sub", cut.constant(s.mean))
    cut.see("Mul", cut.constant(factor))
    cut.see("Add", cut.constant(s.mean))


def foreign(cut: Surgeon, s: Spoiling, source: str) -> None:
    """The share `size` of the way to the normalisation of other data: mean, and deviation by its logarithm."""
    mean, deviation = s.towards(source)
    cut.see("Sub", cut.constant(mean))
    cut.see("Mul", cut.constant(s.deviation / deviation))
    cut.see("Add", cut.constant(s.mean))


def random_weights(cut: Surgeon, s: Spoiling) -> None:
    """Layers of which the share `size` is chance: w cos + noise sin, of the same deviation."""
    from onnx import numpy_helper

    rng, angle = s.rng("random weights"), 0.5 * np.pi * s.size
    for tensor in cut.weights():
        values = numpy_helper.to_array(tensor)
        chance = values.std() * rng.standard_normal(values.shape)
        mixed = np.cos(angle) * values + np.sin(angle) * chance
        tensor.CopyFrom(numpy_helper.from_array(mixed.astype(np.float32), tensor.name))


def constant(cut: Surgeon, s: Spoiling) -> None:
    """The share `size` of the action is always the same."""
    always = s.rng("constant").uniform(-0.5, 0.5, len(s.full)) * s.full + s.centre
    cut.do("Mul", cut.constant(1.0 - s.size))
    cut.do("Add", cut.constant(s.size * always))


Badness = Callable[[Surgeon, Spoiling], None]
RESTING, SIBLING = "a robot at rest", "another task"
"""Whose normalisation may be left in a bundle: names in `Spoiling.other`."""
RESTATED = {"exported with another task's": SIBLING}
"""Kinds whose manifest says the wrong numbers as well, as where the checkpoint itself held them at the export."""

KINDS: dict[str, tuple[Badness, float, tuple[float, ...]]] = {
    # name: (surgery, nominal size, sizes of the sweep)
    "swapped joints": (swapped, 2.0, (2.0, 3.0, 4.0, 6.0)),
    "too large": (scaled, 4.0, (1.25, 1.5, 2.0, 3.0, 4.0)),
    "too small": (scaled, 0.2, (0.8, 0.6, 0.4, 0.3, 0.2)),
    "reversed": (scaled, -1.0, (-0.25, -0.5, -1.0)),
    "noisy": (noisy, 0.5, (0.01, 0.03, 0.1, 0.2, 0.5)),
    "jittery": (jittery, 0.5, (0.01, 0.03, 0.1, 0.2, 0.5)),
    "high gain": (high_gain, 8.0, (1.5, 2.0, 3.0, 5.0, 8.0)),
    "runaway": (runaway, 3.0, (0.25, 0.5, 1.0, 2.0, 3.0)),
    "oscillating": (oscillating, 2.0, (0.05, 0.1, 0.3, 1.0, 2.0)),
    "shifted normalisation": (shifted, 2.0, (0.25, 0.5, 1.0, 1.5, 2.0)),
    "stretched normalisation": (stretched, 2.0, (0.25, 0.5, 1.0, 1.5, 2.0)),
    "normalisation of a robot at rest": (partial(foreign, source=RESTING), 1.0, (0.05, 0.1, 0.2, 0.5, 1.0)),
    "normalisation of another task": (partial(foreign, source=SIBLING), 1.0, (0.05, 0.1, 0.25, 0.5, 1.0)),
    "exported with another task's": (partial(foreign, source=SIBLING), 1.0, (0.25, 0.5, 1.0, 1.5, 2.0)),
    "random weights": (random_weights, 1.0, (0.1, 0.25, 0.5, 0.75, 1.0)),
    "constant output": (constant, 1.0, (0.25, 0.5, 0.75, 0.9, 1.0)),
}


NOMINAL = {kind: size for kind, (_, size, _) in KINDS.items()}
"""Sizes that the gate must refuse."""


def spoilt_graph(good: VerifiedBundle, kind: str, spoiling: Spoiling) -> bytes:
    """policy.onnx of the bad bundle."""
    surgeon = Surgeon(good.policy)
    KINDS[kind][0](surgeon, spoiling)
    return surgeon.bytes()


def spoil(good: VerifiedBundle, kind: str, spoiling: Spoiling, out: Path, key: SigningKey) -> Path:
    """Write the bad bundle: the good one's files with another graph, signed."""
    files = {**good.files, POLICY_NAME: spoilt_graph(good, kind, spoiling)}
    if kind in RESTATED:
        mean, std = (tuple(map(float, values)) for values in spoiling.towards(RESTATED[kind]))
        said = InputStatistics(mean=mean, std=std)
        files[MANIFEST_NAME] = good.manifest.model_copy(update={"input_statistics": said}).to_bytes()
    return write_bundle(files, out, key, overwrite=True)
