"""The page: well formed, self-contained, complete, and robust against what a run may lack."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sealegs.cli import main
from sealegs.report.page import render_report, write_images, write_report
from sealegs.report.summary import Strip, Summary, Timing, read_summary, write_summary
from sealegs_contract.errors import ReportError

VOID = {"meta", "img", "input", "br", "link", "hr"}
SVG_EMPTY = {"rect", "line", "polyline", "polygon", "image"}


class _Page(HTMLParser):
    """Checks nesting and collects attributes and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.raw: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_EMPTY | VOID
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"style", "script"}:
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def _read(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_well_formed_and_shows_every_number(summary: Summary, run_dir: Path) -> None:
    page = _read(render_report(summary, run_dir))
    expected = [
        *(
            "9.8.7",
            "2026-11-21 00:10 UTC",
            "12 min 33 s",
            "so101",
            "./sealegs demo",
            "61.2",
            "episodes 207",
            "two cores",
        ),
        *("212, from 211 bags; 5 recorded", "41,234", "17 %", "success 36, failure 176", "scripted 43", "2.13.0"),
        *("4003 pairs", "abstained on 617", "92 %", "91 to 93 %", "0.8125", "[0.79, 0.84]"),
        *("94 %", "0.913", "0.871", "Episode 12: success"),
        *("91/100", "[0.838, 0.952]", "25/100", "83.5", "500", "value_loss"),
        *("18 of 20", "70 to 97 %", "50 Hz", "p50 3.00", "max 9.50 ms; n = 5", "episode three"),
        *("policy.bundle", "ab" * 32, "1234abcd", "3.1e-07 rad apart over 10000 inputs"),
        *("judge over true", "0.968", "[0.94, 0.99]", ">= 0.9", "p99 latency, ms", "12.5", "<= 10", "1 of 2"),
    ]
    assert [item for item in expected if item not in page.text] == []
    assert page.text.count("\N{CHECK MARK} holds") == 1
    assert page.text.count("\N{MULTIPLICATION X} does not hold") == 1


def test_the_page_asks_for_nothing_outside_itself(summary: Summary, run_dir: Path) -> None:
    content = render_report(summary, run_dir)
    page = _read(content)
    assert re.search(r"https?://", content) is None
    links = [value for _, name, value in page.attributes if name in {"src", "href", "data", "poster", "action"}]
    assert links
    assert all(value.startswith("data:image/jpeg;base64,") for value in links)
    assert {tag for tag, _, _ in page.attributes}.isdisjoint({"link", "iframe", "object", "embed", "base"})
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy


def test_the_film_carries_all_its_frames(summary: Summary, run_dir: Path) -> None:
    content = render_report(summary, run_dir)
    block = re.search(r'<script type="application/json">(.*?)</script>', content)
    assert block is not None
    frames = json.loads(block[1])
    decoded = [base64.b64decode(frame.partition(",")[2]) for frame in frames]
    assert decoded == [(run_dir / f"frames/{k}.jpg").read_bytes() for k in range(12)]


def test_text_from_a_run_cannot_become_markup(summary: Summary, run_dir: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    arms = tuple(arm.model_copy(update={"name": f"{arm.name}{hostile}"}) for arm in summary.arms)
    changed = summary.model_copy(update={"task_text": hostile, "arms": arms, "machine": {hostile: hostile}})
    page = _read(render_report(changed, run_dir))
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert hostile in page.text


@pytest.mark.parametrize("part", ["data", "labels", "reward", "arms", "bundle", "ros", "claims", "stages"])
def test_a_missing_part_is_left_out(summary: Summary, run_dir: Path, part: str) -> None:
    default = Summary.model_fields[part].default
    page = _read(render_report(summary.model_copy(update={part: default}), run_dir))
    assert "9.8.7" in page.text


def test_a_bare_summary_still_makes_a_page(tmp_path: Path) -> None:
    bare = Summary(name="demo", version="1", started="now", status="partial", seconds=3.0)
    text = _read(render_report(bare, tmp_path)).text
    assert "interrupted" in text
    assert "3 s" in text


def test_optional_pieces_of_parts_may_be_missing(summary: Summary, run_dir: Path) -> None:
    assert summary.labels is not None
    assert summary.reward is not None
    assert summary.ros is not None
    assert summary.bundle is not None
    changed = summary.model_copy(
        update={
            "labels": summary.labels.model_copy(update={"accuracy": None, "interval": None, "bins": ()}),
            "reward": summary.reward.model_copy(
                update={
                    "spearman": None,
                    "pearson": None,
                    "held_out_accuracy": None,
                    "strips": (Strip(episode=1, outcome="failure", times_s=(0.0, 1.0), reward=(0.0, 0.0)),),
                }
            ),
            "ros": summary.ros.model_copy(update={"command_latency": None, "films": ()}),
            "bundle": summary.bundle.model_copy(update={"export_difference": None, "key_id": ""}),
        }
    )
    page = _read(render_report(changed, run_dir))
    assert "Episode 1: failure" in page.text
    assert "nan" not in page.text.lower().split()


@pytest.mark.parametrize(("ages_ms", "explained"), [([0.0, 0.0, 0.0], True), ([0.0, 0.0, 2.5], False)])
def test_an_age_of_nothing_is_explained(summary: Summary, run_dir: Path, ages_ms: list[float], explained: bool) -> None:
    assert summary.ros is not None
    ros = summary.ros.model_copy(update={"observation_age": Timing.of(ages_ms)})
    page = _read(render_report(summary.model_copy(update={"ros": ros}), run_dir))
    assert ("simulated time, which stands still between two ticks" in page.text) is explained


def test_a_quick_run_says_that_it_means_little(summary: Summary, run_dir: Path) -> None:
    assert "mean little" not in render_report(summary, run_dir)
    assert "mean little" in render_report(summary.model_copy(update={"arguments": {"quick": True}}), run_dir)


def test_missing_frames_are_counted(summary: Summary, run_dir: Path) -> None:
    (run_dir / "frames" / "5.jpg").unlink()
    text = _read(render_report(summary, run_dir)).text
    assert "(1 frames are missing from the run folder)" in text
    for file in (run_dir / "frames").iterdir():
        file.unlink()
    text = _read(render_report(summary, run_dir)).text
    assert "(12 frames are missing from the run folder)" in text


def test_a_frame_that_is_no_image_is_refused(summary: Summary, run_dir: Path) -> None:
    (run_dir / "frames" / "0.jpg").write_text("not an image")
    with pytest.raises(ReportError, match="expected a JPEG, PNG or GIF"):
        render_report(summary, run_dir)


def test_a_frame_may_not_lead_out_of_the_run(summary: Summary, run_dir: Path) -> None:
    secret = run_dir.parent / "secret.jpg"
    secret.write_bytes((run_dir / "frames" / "0.jpg").read_bytes())
    (run_dir / "frames" / "0.jpg").unlink()
    (run_dir / "frames" / "0.jpg").symlink_to(secret)
    with pytest.raises(ReportError, match="leads out"):
        render_report(summary, run_dir)


def test_a_mapping_is_validated(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="stages"):
        write_report({"name": "a", "version": "1", "started": "x", "stages": [{"name": "s"}]}, tmp_path, tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_the_images_for_a_readme_are_whole_files(summary: Summary, run_dir: Path, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ET

    paths = write_images(summary, run_dir, tmp_path / "images")
    assert [path.name for path in paths] == ["success.svg", "reward.svg", "latency.svg", "labels.svg"]
    reward = ET.parse(paths[1]).getroot()
    pictures = [one.get("href", "") for one in reward.iter("{http://www.w3.org/2000/svg}image")]
    assert len(pictures) == 7
    assert all(one.startswith("data:image/jpeg") for one in pictures)


def test_the_command_rewrites_the_page(
    summary: Summary, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_summary(summary, run_dir / "summary.json")
    assert read_summary(run_dir / "summary.json") == summary
    assert main(["report", str(run_dir), "--images", str(tmp_path / "images")]) == 0
    assert (run_dir / "report.html").read_text(encoding="utf-8") == render_report(summary, run_dir)
    assert (tmp_path / "images" / "success.svg").is_file()
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "{", '{"name": 1}', '{"schema_version": 2}'])
def test_a_bad_run_folder_is_one_line_and_exit_code_2(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sealegs: error: ")
    assert error.count("\n") == 1
