"""The whole main job at a tiny size: every stage runs for real, including the nodes over ROS 2."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sealegs.demo.job import STAGES, find_run, new_run, read_settings, run_job
from sealegs.demo.settings import DemoSettings, quick_settings
from sealegs.demo.stages import StageLog
from sealegs.demo.summarise import claims
from sealegs.launching.this_host import this_host_only
from sealegs.report.summary import Summary
from sealegs_contract.errors import MachineError

TINY = replace(
    quick_settings("drawer", 3),
    episodes=6,
    live_episodes=1,
    pairs=200,
    reward_epochs=3,
    policy_updates=60,
    evaluation_episodes=4,
    ros_episodes=1,
)


@pytest.fixture(scope="module")
def private_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Own keys and an own ROS domain, so that nothing of the user's machine is touched or met."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 90))
        for name, value in this_host_only().items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def finished(private_machine: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    run = new_run(tmp_path_factory.mktemp("runs"), TINY)
    return run, run_job(run, Console(quiet=True))


def test_every_stage_leaves_its_part_of_the_summary(finished: tuple[Path, Summary]) -> None:
    _, summary = finished
    assert summary.status == "complete"
    assert [stage.name for stage in summary.stages] == [name for name, _ in STAGES]
    assert summary.data is not None
    assert summary.data.episodes == 7
    assert summary.data.recorded_live == 1
    assert summary.data.rows > 7 * 190
    assert summary.labels is not None
    assert summary.labels.pairs == 200
    assert summary.labels.accuracy is not None
    assert summary.labels.accuracy > 0.6
    assert summary.reward is not None
    assert len(summary.reward.strips) == 3
    assert [arm.reward for arm in summary.arms] == ["judge", "true", "constant", ""]
    assert all(arm.episodes == 4 and arm.curve[-1]["update"] == 60 for arm in summary.arms)
    assert summary.bundle is not None
    assert summary.bundle.export_difference is not None
    assert summary.bundle.export_difference <= 1e-5
    assert summary.ros is not None
    assert summary.ros.episodes == 1
    assert summary.ros.command_latency is not None
    assert summary.ros.command_latency.count > 150


def test_bags_and_dataset_carry_no_reward(finished: tuple[Path, Summary]) -> None:
    run, _ = finished
    import pyarrow.parquet as pq
    from mcap.reader import make_reader

    for bag in [*(run / "bags").rglob("*.mcap"), *(run / "live_bags").rglob("*.mcap")]:
        with bag.open("rb") as stream:
            channels = make_reader(stream).get_summary().channels.values()  # type: ignore[union-attr]
        assert not [channel.topic for channel in channels if re.search("reward|progress|success", channel.topic)]
    columns = pq.read_schema(next((run / "dataset" / "data").rglob("*.parquet"))).names
    assert "next.reward" not in columns


def test_collected_and_live_bags_name_who_drove_in_the_same_way(finished: tuple[Path, Summary]) -> None:
    from sealegs_learning.data.bag import Bag
    from sealegs_sim.policies.behaviours import MixedConfig

    run, _ = finished
    operators = {operator.name for operator in MixedConfig().operators}
    bags = [path.parent for folder in ("bags", "live_bags") for path in (run / folder).rglob("metadata.yaml")]
    for bag in bags:
        info, _ = Bag(bag).metadata()
        assert info is not None
        assert (info.policy, info.operator in operators) == ("mixed", True), bag


def test_the_page_and_the_results_file_are_written(finished: tuple[Path, Summary]) -> None:
    run, summary = finished
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert summary.task_text in page.lower()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert {"name", "command", "versions", "machine", "seconds", "seeds", "rows", "claims"} <= set(results)
    assert {"claim", "value", "interval", "target", "holds"} == set(results["claims"][0])


def test_a_finished_run_resumes_to_the_same_summary_at_once(finished: tuple[Path, Summary]) -> None:
    run, summary = finished
    started = time.monotonic()
    again = run_job(run, Console(quiet=True))
    assert again == summary
    assert time.monotonic() - started < 20.0


def test_interrupt_keeps_bags_and_says_how_to_go_on(private_machine: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, replace(TINY, episodes=40))
    command = [sys.executable, "-m", "sealegs", "demo", "--resume", "--run", run.name, "--runs", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 180.0
    while len(list((run / "bags").glob("*/metadata.yaml"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    assert len(list((run / "bags").glob("*/metadata.yaml"))) >= 2
    assert not (run / "stages.json").exists()
    assert _gone(process.pid), "the interrupted run left processes behind"


def _gone(group: int) -> bool:
    """Whether no process of the group is left; helpers of multiprocessing end a moment after their parent."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_stage_log_runs_a_stage_once(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []
    log = StageLog(tmp_path, lambda name, _seconds, old: seen.append((name, old)))
    assert log.stage("a", lambda: {"x": (1, 2)}) == {"x": [1, 2]}
    with pytest.raises(KeyboardInterrupt):
        log.stage("b", _interrupted)
    fresh = StageLog(tmp_path, lambda name, _seconds, old: seen.append((name, old)))
    assert fresh.stage("a", _interrupted) == {"x": [1, 2]}
    assert list(fresh.done) == ["a"]
    assert seen == [("a", False), ("a", True)]


def _interrupted() -> dict[str, object]:
    raise KeyboardInterrupt


def test_damaged_records_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text("{", encoding="utf-8")
    with pytest.raises(MachineError, match="start a new run"):
        StageLog(tmp_path, lambda *_: None)
    (tmp_path / "settings.json").write_text('{"settings": {"task": "drawer"}, "started": "x"}', encoding="utf-8")
    with pytest.raises(MachineError, match="damaged"):
        read_settings(tmp_path)


def test_runs_are_found_by_name_and_by_age(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no run to resume"):
        find_run(tmp_path, "last")
    for name in ("20260101-000000", "20260102-000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text("{}", encoding="utf-8")
    assert find_run(tmp_path, "last").name == "20260102-000000"
    assert find_run(tmp_path, "20260101-000000").name == "20260101-000000"
    with pytest.raises(MachineError, match="20260101-000000, 20260102-000000"):
        find_run(tmp_path, "nope")


def _arm(learner: str, reward: str, successes: int, interval: tuple[float, float]) -> dict[str, object]:
    rate = successes / 100
    return {
        "name": f"{learner} {reward}",
        "learner": learner,
        "reward": reward,
        "successes": successes,
        "episodes": 100,
        "rate": rate,
        "interval": interval,
    }


@pytest.mark.parametrize(
    ("judge", "true", "constant", "verdicts"),
    [
        # 81 / 90 = 0.9 and 81 / 40 = 2.025, gap 0.72 - 0.50 > 0
        ((81, (0.72, 0.87)), (90, (0.83, 0.94)), (40, (0.31, 0.50)), [True, True, True]),
        # 80 / 90 < 0.9, 80 / 41 < 2, gap 0.71 - 0.71 = 0 is no gap
        ((80, (0.71, 0.87)), (90, (0.83, 0.94)), (41, (0.32, 0.71)), [False, False, False]),
        # nothing to divide by counts as half a success: 1 / 0.5 = 2
        ((1, (0.0, 0.05)), (1, (0.0, 0.05)), (0, (0.0, 0.04)), [True, True, False]),
    ],
)
def test_claims_compare_the_arms(
    judge: tuple[int, tuple[float, float]],
    true: tuple[int, tuple[float, float]],
    constant: tuple[int, tuple[float, float]],
    verdicts: list[bool],
    tmp_path: Path,
) -> None:
    from sealegs.demo.context import Context
    from sealegs.demo.settings import full_settings

    arms = [_arm("iql", "judge", *judge), _arm("iql", "true", *true), _arm("iql", "constant", *constant)]
    summary = Summary.model_validate({"name": "x", "version": "0", "started": "now", "status": "partial", "arms": arms})
    settings: DemoSettings = full_settings("drawer", 0)
    found = claims(Context(settings, tmp_path, Console(quiet=True)), summary)
    assert [claim.holds for claim in found] == verdicts


@pytest.mark.parametrize(("in_process", "holds"), [(18, True), (20, True), (8, False)])
def test_claim_over_ros_compares_the_same_starts(in_process: int, holds: bool, tmp_path: Path) -> None:
    """Wilson's 95% intervals: 18 of 20: [0.699, 0.972]; 20 of 20: [0.839, 1]; 8 of 20: [0.219, 0.613]."""
    from sealegs.demo.context import Context
    from sealegs.demo.settings import full_settings

    ros = {"episodes": 20, "successes": 18, "rate": 0.9, "interval": (0.699, 0.972), "in_process": in_process}
    content = {"name": "x", "version": "0", "started": "now", "status": "partial", "ros": ros}
    found = claims(Context(full_settings("push", 0), tmp_path, Console(quiet=True)), Summary.model_validate(content))
    assert [(claim.value, claim.holds) for claim in found] == [(0.9, holds)]


def test_drive_refuses_bad_input_in_one_line(private_machine: Path, tmp_path: Path) -> None:
    for arguments, reason in (
        (["--bundle", str(tmp_path / "none")], "none"),
        ([], "--bundle"),
        (["--bundle", "a", "--record", "b"], "--bundle"),
        (["--record", str(tmp_path / "bags"), "--task", "juggle"], "juggle"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sealegs", "drive", *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2, done.stderr
        assert reason in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
