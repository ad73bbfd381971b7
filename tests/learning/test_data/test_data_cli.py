"""The verbs import and info, as a user types them."""

from __future__ import annotations

import json
import zipfile

import pytest

from sealegs.cli import main
from sealegs_learning.data.dataset import Dataset


@pytest.fixture
def bags(tmp_path, recipe, mcap_bag, info):
    for seed in range(2):
        mcap_bag(tmp_path / "bags" / f"e{seed}", recipe(seed=seed).messages(), info(outcome="failure", seed=seed))
    return tmp_path / "bags"


def test_import_prints_and_saves_its_report(tmp_path, bags, capsys):
    arguments = ["import", str(bags), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")]
    assert main([*arguments, "--align", "objects/handle/pose=hold", "camera/front=hold"]) == 0
    assert "40 rows in 2 episodes" in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rows"], report["episodes"], report["dropped"]) == (40, 2, {})
    options = Dataset.open(tmp_path / "out").sealegs.options
    assert options["align"] == {"objects/handle/pose": "hold", "camera/front": "hold"}
    assert main(["import", str(bags), "--out", str(tmp_path / "plain"), "--no-images"]) == 0
    assert Dataset.open(tmp_path / "plain").cameras == ()


def test_a_bag_that_cannot_be_read_is_skipped_and_reported(tmp_path, bags, capsys):
    """Flat files in one folder, a bag folder of its own, and an empty file at the end of a split bag."""
    flat = tmp_path / "flat"
    flat.mkdir()
    (bags / "e0" / "e0_0.mcap").rename(flat / "good.mcap")
    (flat / "empty.mcap").touch()
    (flat / "text.mcap").write_text("no bag")
    (bags / "e1" / "e1_1.mcap").touch()
    (bags / "e0" / "e0_0.mcap").touch()
    out = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")]
    assert main(["import", str(flat), str(bags), *out]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rows"], report["episodes"]) == (40, 2)
    problems = {bag["path"].rsplit("/", 1)[-1]: bag["problems"] for bag in report["bags"]}
    assert problems["good.mcap"] == []
    assert problems["e1"] == ["e1_1.mcap is empty"]
    for name, reason in (("empty.mcap", "is empty"), ("text.mcap", "no MCAP file"), ("e0", "is empty")):
        (problem,) = problems[name]
        assert problem.startswith("skipped: ")
        assert reason in problem
        assert reason in shown
    (flat / "good.mcap").unlink()
    assert main(["import", str(flat), "--out", str(tmp_path / "none")]) == 2
    assert "none of 2 bags can be read; the first: skipped: " in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BAGS"], "--out"),
        (["--out", "OUT"], "no bags given"),
        (["nowhere", "--out", "OUT"], "no bag at nowhere"),
        (["BAGS", "--out", "OUT", "--align", "hold"], "expected STREAM=POLICY"),
        (
            ["BAGS", "--out", "OUT", "--align", "camera/front=newest"],
            "unknown policy newest; available: asof, drop, hold",
        ),
        (["BAGS", "--out", "OUT", "--robot", "r2d2"], "unknown robot 'r2d2'"),
        (["BAGS", "--out", "OUT", "--cameras", "rear"], "has no camera 'rear'; available: front, wrist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, bags, capsys, arguments, message):
    filled = [a.replace("BAGS", str(bags)).replace("OUT", str(tmp_path / "out")) for a in arguments]
    try:
        code = main(["import", *filled])
    except SystemExit as error:  # tyro's own usage errors
        code = int(error.code or 0)
    output = capsys.readouterr()
    assert code == 2
    assert message in output.err + output.out
    assert "Traceback" not in output.err
    assert not (tmp_path / "out").exists()


def test_info_tells_every_kind_apart(tmp_path, bags, capsys):
    main(["import", str(bags), "--out", str(tmp_path / "out")])
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps({"schema_version": 1, "robot": {"name": "so101"}}))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps({"algorithm": "iql", "steps": 5}))
    capsys.readouterr()

    def info(path, *options):
        assert main(["info", str(path), *options]) == 0
        return capsys.readouterr().out

    bag = json.loads(info(bags / "e1", "--json"))
    assert (bag["task"], bag["outcome"], bag["seed"], bag["state"]) == ("drawer", "failure", 1, "complete")
    topics = {row["topic"]: row for row in bag["topics"]}
    assert (topics["/joint_states"]["messages"], topics["/joint_states"]["rate_hz"]) == (20, "50.0")
    assert json.loads(info(bags / "e1" / "e1_0.mcap", "--json"))["messages"] == bag["messages"]
    assert json.loads(info(bags, "--json"))["outcomes"] == {"failure": 2}
    dataset = json.loads(info(tmp_path / "out", "--json"))
    assert (dataset["rows"], dataset["episodes"], dataset["outcomes"]) == (40, 2, {"failure": 2})
    assert "observation.state" in info(tmp_path / "out")
    assert json.loads(info(tmp_path / "bundle", "--json"))["robot.name"] == "so101"
    assert "sealegs verify" in info(tmp_path / "bundle")
    assert "iql" in info(tmp_path / "checkpoint")
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.write(tmp_path / "bundle" / "manifest.json", "manifest.json")
    assert json.loads(info(tmp_path / "bundle.zip", "--json"))["robot.name"] == "so101"


def test_info_of_a_run_says_what_it_reached_and_where_its_parts_are(tmp_path, bags, capsys):
    run = tmp_path / "runs" / "20260101-000000"
    for part in ("arms/judge/checkpoint", "bundle", "film"):
        (run / part).mkdir(parents=True)
    (run / "bundle" / "manifest.json").write_text("{}")
    (run / "arms" / "judge" / "checkpoint" / "checkpoint.json").write_text("{}")
    (run / "settings.json").write_text("{}")
    bags.rename(run / "bags")

    def info(path):
        assert main(["info", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    expected = [{"path": str(run / part)} for part in ("bags", "bundle", "arms/judge")]
    assert info(run) == {"state": "stopped before its first stage was done", "arms": "none", "parts": expected}
    arm = {"name": "judge", "learner": "iql", "successes": 9, "episodes": 10, "rate": 0.9, "interval": [0.6, 1.0]}
    summary = {"name": "demo", "version": "0", "started": "now", "task": "drawer", "task_text": "open it"}
    (run / "summary.json").write_text(json.dumps({**summary, "status": "partial", "arms": [arm]}))
    (run / "report.html").write_text("")
    found = info(run)
    assert (found["state"], found["task"]) == ("partial", "drawer: open it")
    assert found["arms"] == [{"policy": "judge", "success": "9 of 10"}]
    assert found["parts"] == [{"path": str(run / "report.html")}, *expected]
    assert main(["info", str(run.parent)]) == 2
    assert f"knows what is in it: {run}" in capsys.readouterr().err


def test_info_of_a_cloned_policy_names_no_reward(tmp_path, capsys):
    for learner, reward in (("bc", "none"), ("iql", "true")):
        content = {"config": {"learner": learner, "reward": "true"}}
        (tmp_path / "checkpoint.json").write_text(json.dumps(content))
        assert main(["info", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["config.reward"] == reward


@pytest.mark.parametrize("name", ["nowhere", "folder", "file.txt", "broken", "broken.zip"])
def test_info_refuses_in_one_line(tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK")
    (tmp_path / "broken" / "manifest.json").write_text("{")
    assert main(["info", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sealegs: error: ")
    assert error.count("\n") == 1


def test_info_describes_a_damaged_bag(tmp_path, bags, capsys):
    file = bags / "e0" / "e0_0.mcap"
    file.write_bytes(file.read_bytes()[:3000])
    assert main(["info", str(bags / "e0"), "--json"]) == 0
    assert "cut off" in json.loads(capsys.readouterr().out)["state"]
