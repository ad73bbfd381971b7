"""Drawing functions against hand arithmetic."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealegs.report import charts, svg
from sealegs.report.summary import Histogram, LabelBin, Strip, Timing


def _parse(body: str) -> ET.Element:
    return ET.fromstring(f"<svg>{body}</svg>")


def test_a_scale_maps_its_ends_and_its_middle() -> None:
    scale = svg.Scale(low=2.0, high=6.0, start=100.0, end=20.0)
    assert scale(2.0) == 100.0
    assert scale(6.0) == 20.0
    assert scale(3.0) == 80.0  # a quarter of the way: 100 - 80 / 4


def test_a_logarithmic_scale_maps_equal_ratios_to_equal_lengths() -> None:
    scale = svg.Scale(low=1.0, high=100.0, start=0.0, end=80.0, logarithmic=True)
    assert scale(10.0) == pytest.approx(40.0)
    assert scale.ticks(5) == pytest.approx((1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0))
    assert svg.decade_ticks(0.5, 2000.0) == pytest.approx((1.0, 10.0, 100.0, 1000.0))


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.0, 1.0, 4, (0.0, 0.25, 0.5, 0.75, 1.0)),
        (0.0, 10.0, 5, (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)),
        (-1.2, 1.2, 5, (-1.0, -0.5, 0.0, 0.5, 1.0)),
        (0.0, 20000.0, 4, (0.0, 5000.0, 10000.0, 15000.0, 20000.0)),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, most: int, expected: tuple[float, ...]) -> None:
    assert svg.nice_ticks(low, high, most) == pytest.approx(expected)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), most=st.integers(2, 9))
def test_ticks_stay_in_range_and_few(low: float, span: float, most: int) -> None:
    ticks = svg.nice_ticks(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in ticks)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.25, "0.25"), (20000, "20k"), (1500, "1.5k"), (1234, "1.23e+03"), (2e6, "2M"), (0, "0")]
)
def test_short_numbers(value: float, expected: str) -> None:
    assert svg.short_number(value) == expected


def test_coordinates_have_no_negative_zero() -> None:
    assert [svg.coordinate(v) for v in (-0.04, 0.0, 12.0, 12.54, -3.25)] == ["0", "0", "12", "12.5", "-3.2"]


def test_thinning_keeps_both_ends() -> None:
    assert svg.thinned(3, 10) == [0, 1, 2]
    assert svg.thinned(101, 5) == [0, 25, 50, 75, 100]
    assert svg.thinned(7, 1) == [0]


def test_a_polyline_passes_through_its_points() -> None:
    panel = svg.Panel(svg.Scale(0.0, 10.0, 0.0, 100.0), svg.Scale(0.0, 1.0, 50.0, 0.0))
    drawn = svg.polyline(panel, [0.0, 5.0, 10.0], [0.0, 0.5, 1.0], "s1")
    assert 'points="0,50 50,25 100,0"' in drawn


def test_a_band_goes_there_and_back() -> None:
    panel = svg.Panel(svg.Scale(0.0, 1.0, 0.0, 10.0), svg.Scale(0.0, 1.0, 10.0, 0.0))
    assert 'points="0,8 10,6 10,7 0,9"' in svg.band(panel, [0.0, 1.0], [0.1, 0.3], [0.2, 0.4], "s1")


def test_text_is_escaped() -> None:
    element = _parse(svg.text(1.0, 2.0, "<b>&", "ink"))[0]
    assert element.text == "<b>&"


def test_success_bars_have_the_right_lengths() -> None:
    body, height = charts.success_bars([charts.SuccessRow("a", 1, 4, (0.05, 0.7), 1)])
    root = _parse(body)
    bar = next(one for one in root.iter("rect") if one.get("class") == "s1")
    full = charts.WIDTH - 14.0 - 2.0
    assert float(bar.get("width", "0")) == pytest.approx(0.25 * full, abs=0.05)
    whisker = next(one for one in root.iter("line") if one.get("class") == "whisker")
    assert float(whisker.get("x1", "0")) == pytest.approx(2.0 + 0.05 * full, abs=0.05)
    assert float(whisker.get("x2", "0")) == pytest.approx(2.0 + 0.70 * full, abs=0.05)
    assert height > 44.0
    assert any("25 %" in (one.text or "") and "1/4" in (one.text or "") for one in root.iter("text"))


def test_histogram_bars_are_shares_of_all_ticks() -> None:
    timing = Timing.of([0.5, 0.5, 0.5, 1.5], bins=3)
    body, _ = charts.timing_histogram(timing, "title", "s2")
    bars = [one for one in _parse(body).iter("rect") if one.get("class") == "s2"]
    assert [bar.find("title").text.split(": ")[1] for bar in bars] == ["0.0 %", "75.0 %", "25.0 %"]  # type: ignore[union-attr]
    heights = [float(bar.get("height", "0")) for bar in bars]
    assert heights[0] == 0.0
    assert heights[1] == pytest.approx(3.0 * heights[2], abs=0.2)


def test_bins_that_widen_are_equally_wide_on_a_logarithmic_axis() -> None:
    histogram = Histogram(edges_ms=(1.0, 2.0, 4.0, 8.0), counts=(1, 2, 1))
    timing = Timing(count=4, p50_ms=3.0, p99_ms=7.0, max_ms=8.0, histogram=histogram)
    body, _ = charts.timing_histogram(timing, "title", "s2")
    widths = [float(one.get("width", "0")) for one in _parse(body).iter("rect") if one.get("class") == "s2"]
    assert widths == pytest.approx([widths[0]] * 3, abs=0.11)
    assert "logarithmic" in body


def test_coverage_stacks_abstentions_on_answers() -> None:
    body, _ = charts.label_coverage([LabelBin(low=0.0, high=1.0, pairs=100, abstained=25, accuracy=0.9)])
    bars = [one for one in _parse(body).iter("rect") if one.find("title") is not None]
    answered, abstained = (float(bar.get("height", "0")) for bar in bars)
    assert answered == pytest.approx(3.0 * abstained, abs=0.2)
    assert float(bars[1].get("y", "0")) + abstained == pytest.approx(float(bars[0].get("y", "0")), abs=0.11)


def test_film_strip_takes_the_frame_nearest_in_time() -> None:
    frames = tuple(f"{k}.jpg" for k in range(11))  # evenly over 0..10 s: frame k at k s
    strip = Strip(episode=0, outcome="", times_s=(0.0, 10.0), reward=(0.0, 1.0), frames=frames)
    assert charts.frame_choice(strip, 5) == [1, 3, 5, 7, 9]  # centres of five equal parts
    late = strip.model_copy(update={"frame_times_s": tuple(10.0 - k for k in range(11))})
    assert charts.frame_choice(late, 5) == [9, 7, 5, 3, 1]


def test_a_standalone_drawing_is_a_whole_xml_file() -> None:
    root = ET.fromstring(svg.drawing(10.0, 20.0, svg.text(0.0, 1.0, "x"), "a & b", standalone=True))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == "a & b"
    assert re.fullmatch(r"-12 -12 34 44", root.get("viewBox", ""))
