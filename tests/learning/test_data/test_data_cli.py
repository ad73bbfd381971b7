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
