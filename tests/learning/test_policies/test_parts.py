"""Bins, chunks and the encoder, by hand and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sealegs_learning.policies.augmentation import Augmentation, jittered, shifted
from sealegs_learning.policies.bins import bin_of, centres, likely_action, log_likelihood
from sealegs_learning.policies.encoder import FEATURES, PixelEncoder, keypoints
from sealegs_learning.policies.view import chunked


def test_bins_by_hand():
    np.testing.assert_allclose(centres(5), [-1.0, -0.5, 0.0, 0.5, 1.0])
    actions = torch.tensor([[-1.0, -0.76, -0.74, 0.2, 0.26, 1.0, 3.0]])
    assert bin_of(actions, 5).tolist() == [[0, 0, 1, 2, 3, 4, 4]]


def test_log_likelihood_is_that_of_torchs_categorical():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 3, 7, generator=generator)
    action = torch.rand(9, 3, generator=generator) * 2 - 1
    expected = torch.distributions.Categorical(logits=logits).log_prob(bin_of(action, 7)).sum(-1)
    torch.testing.assert_close(log_likelihood(logits, action), expected)


def test_the_likely_action_goes_from_mean_to_mode():
    """Two ways round an obstacle, 60 : 40 at -1 and 1: the mean is -0.2, which nobody did."""
    logits = torch.log(torch.tensor([[[0.6, 1e-9, 0.4]]]))
    assert likely_action(logits, 1.0).item() == pytest.approx(-0.2, abs=1e-6)
    assert likely_action(logits, 20.0).item() == pytest.approx(-1.0, abs=1e-3)


def test_chunks_by_hand():
    actions = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], np.float32)
    stay = chunked(actions, 3, stay=True)
    np.testing.assert_array_equal(stay[1], [2.0, 20.0, 3.0, 30.0, 0.0, 0.0])
    np.testing.assert_array_equal(stay[0], actions.ravel())
    np.testing.assert_array_equal(chunked(actions, 3, stay=False)[2], [3.0, 30.0] * 3)
    assert chunked(actions, 1, stay=True) is actions


def test_keypoints_are_where_the_map_peaks():
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 1, 6] = maps[0, 1, 4, 0] = 50.0
    x0, x1, y0, y1 = keypoints(maps)[0].tolist()
    assert (x0, y0) == pytest.approx((2 * 6 / 8 - 1, 2 * 1 / 4 - 1), abs=1e-5)
    assert (x1, y1) == pytest.approx((-1.0, 1.0), abs=1e-5)
    np.testing.assert_allclose(keypoints(torch.zeros(1, 1, 5, 9)), [[0.0, 0.0]], atol=1e-6)


def test_shifting_moves_and_repeats_the_edge():
    image = torch.arange(12, dtype=torch.uint8).view(1, 3, 4, 1).expand(2, 3, 4, 1)
    moved = shifted(image, torch.tensor([[1, -2], [0, 0]]))[..., 0]
    assert moved[0].tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    torch.testing.assert_close(moved[1], image[1, ..., 0])


def test_random_shifts_are_seeded_and_bounded():
    image = torch.zeros(500, 9, 9, 1, dtype=torch.uint8)
    image[:, 4, 4] = 255
    moved = Augmentation(shift=2).draw(image, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved, Augmentation(shift=2).draw(image, torch.Generator().manual_seed(0)))
    places = {tuple(place[1:3]) for place in moved.nonzero().tolist()}
    assert places == {(y, x) for y in range(2, 7) for x in range(2, 7)}
    assert Augmentation().draw(image, torch.Generator()) is image


def test_jitter_by_hand():
    image = torch.tensor([50, 150], dtype=torch.uint8).view(1, 1, 2, 1).expand(4, 1, 2, 1)
    # Mean 100. As it is; 51 brighter; half the contrast; 1.5 times the contrast and 102 brighter: 127, and 277 cut.
    out = jittered(image, torch.tensor([0.0, 0.2, 0.0, 0.4]), torch.tensor([0.0, 0.0, -0.5, 0.5]))
    assert out.dtype == torch.uint8
    assert out.view(4, 2).tolist() == [[50, 150], [101, 201], [75, 125], [127, 255]]
    noise = torch.randint(0, 256, (3, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(jittered(noise, torch.zeros(3), torch.zeros(3)), noise, rtol=0, atol=0)


def test_every_image_gets_its_own_seeded_jitter_within_the_ranges():
    image = torch.tensor([100, 140], dtype=torch.uint8).view(1, 1, 2, 1).repeat(500, 1, 1, 1)
    draw = Augmentation(brightness=0.1, contrast=0.25).draw
    out = draw(image, torch.Generator().manual_seed(0)).view(500, 2).float()
    torch.testing.assert_close(out, draw(image, torch.Generator().manual_seed(0)).view(500, 2).float())
    # 120 +- 25.5 in the middle, 40 +- 10 from dark to bright, but for rounding; independent, all of the range in use.
    middle, span = out.mean(1), out[:, 1] - out[:, 0]
    ends = [float(value) for each in (middle, span) for value in (each.min(), each.max())]
    assert ends == pytest.approx([94.5, 145.5, 30.0, 50.0], abs=1.5)
    assert abs(float(torch.corrcoef(torch.stack([middle, span]))[0, 1])) < 0.15
    assert image.unique().tolist() == [100, 140]


def test_the_encoder_follows_what_moves_in_the_image():
    encoder = PixelEncoder(torch.Generator().manual_seed(0))
    images = torch.zeros(2, 60, 80, 3, dtype=torch.uint8)
    images[0, 10:20, 10:20] = images[1, 40:50, 60:70] = 255
    features = encoder(images)
    assert features.shape == (2, FEATURES)
    assert features.abs().max() <= 1.0
    assert (features[0] - features[1]).abs().max() > 0.1
    torch.testing.assert_close(PixelEncoder(torch.Generator().manual_seed(0))(images), features)
