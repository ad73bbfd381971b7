"""The normalisation that the gate reads, compares with the manifest, and holds against the bags."""

from __future__ import annotations

import json

import numpy as np
import onnx.parser
import pytest

from sealegs_contract.errors import BundleError
from sealegs_deploy.gate_normalisation import (
    Normalisation,
    bag_moments,
    mismatch,
    normalisation_in,
    renormalised,
    renormalised_gain,
)
from sealegs_deploy.manifest import parse_manifest


def test_the_graph_is_read_for_what_it_normalises_by(bundle, module):
    said = Normalisation(1.0 / module.std.numpy(), -module.mean.numpy() / module.std.numpy())
    graph = onnx.ModelProto.FromString(bundle.policy).graph
    used = normalisation_in(graph, "observation", len(module.mean))
    assert mismatch(used, said) < 1e-5
    text = "g (float[N, 2] x) => (float[N, 2] y) {"
    affine = (
        "a = Constant <value = float[2] {1, 3}> () b = Constant <value = float[2] {2, 4}> () i = Identity (x) "
        "s = Sub (i, a) m = Mul (b, s) d = Add (m, b) "
    )
    read = normalisation_in(onnx.parser.parse_graph(text + affine + "y = Tanh (d) }"), "x", 2)
    np.testing.assert_allclose(read(np.array([[1.0, 3.0], [2.0, 2.0]])), [[2.0, 4.0], [4.0, 0.0]])
    # Used by others on the way, or the same for all elements (a unit): no normalisation that could be compared.
    assert normalisation_in(onnx.parser.parse_graph(text + affine + "y = Add (d, x) }"), "x", 2) is None
    unit = "c = Constant <value = float {2.0}> () m = Mul (x, c) y = Tanh (m) }"
    assert normalisation_in(onnx.parser.parse_graph(text + unit), "x", 2) is None


def test_normalisation_figures_against_hand_arithmetic():
    own = Normalisation(np.array([1.0, 0.5, 1000.0]), np.array([0.0, -1.0, 0.0]))  # means 0, 2, 0; stds 1, 2, 0.001
    assert mismatch(own, own) == 0.0
    assert mismatch(Normalisation(own.scale, np.add(own.offset, [0.0, 0.25, 0.0])), own) == pytest.approx(0.25)
    assert mismatch(Normalisation(own.scale * [1.0, 1.5, 1.0], own.offset), own) == pytest.approx(0.5)
    # The last element moved less than the sensor's noise of 0.01 in training: the noise is its unit.
    mean, deviation, noise = np.array([0.5, 5.0, 0.01]), np.array([1.0, 1.0, 0.02]), np.full(3, 0.01)
    assert bag_moments(own, mean, deviation, noise) == pytest.approx((1.5, 2.0))
    inputs = np.array([[1.5, 4.0, 0.3]])
    anew = renormalised(own, inputs, mean, deviation, noise)
    np.testing.assert_allclose(own(anew)[0, :2], [1.0, -1.0])
    assert anew[0, 2] == 0.3  # the bags do not move it
    b = np.array([[1.0], [0.0]])
    assert renormalised_gain(b + 2.0, b + 1.0, b) == pytest.approx(np.log(4.0))
    assert renormalised_gain(b, b, b) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"std": s["std"][1:]}, "the policy's input has"),
        (lambda s: s | {"std": [0.0, *s["std"][1:]]}, "greater than 0"),
        (lambda s: s | {"mean": [1e999, *s["mean"][1:]]}, "finite"),
    ],
)
def test_statistics_that_cannot_be_are_refused(bundle, module, change, said):
    good = {"mean": module.mean.tolist(), "std": module.std.tolist()}
    content = json.loads(bundle.files["manifest.json"])
    assert parse_manifest(json.dumps(content | {"input_statistics": good}).encode()).input_statistics
    del content["input_statistics"]  # of an earlier release
    assert parse_manifest(json.dumps(content).encode()).input_statistics is None
    with pytest.raises(BundleError, match=said):
        parse_manifest(json.dumps(content | {"input_statistics": change(good)}).encode())
