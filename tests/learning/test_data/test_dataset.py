"""Opening datasets: ours, LeRobot's own, and malformed ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sealegs_contract.errors import DatasetError
from sealegs_learning.data import schema
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import import_bags
from sealegs_learning.data.stats import array_stats


@pytest.fixture
def made(tmp_path, recipe, mcap_bag, info):
    for seed in range(3):
        episode = recipe(seed=seed, steps=10 + seed)
        mcap_bag(tmp_path / "bags" / f"e{seed}", episode.messages(), info(outcome=("success", "failure")[seed % 2]))
    import_bags([tmp_path / "bags"], tmp_path / "out")
    return tmp_path / "out"


def test_layout_is_lerobot_v3(made):
    info = json.loads((made / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 33, 1, 50)
    assert info["features"]["observation.state"]["shape"] == [21]
    assert info["features"]["observation.state"]["names"][0] == "shoulder_pan.joint_position"
    assert info["features"]["observation.images.front"] == {
        "dtype": "image", "shape": [120, 160, 3], "names": ["height", "width", "channels"]
    }  # fmt: skip
    table = pq.read_table(made / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(table.column_names) == set(info["features"])
    assert table.schema.field("observation.state").type == pa.list_(pa.float32(), 21)
    assert table.column("index").to_pylist() == list(range(33))
    done = table.column("next.done").to_pylist()
    success = table.column("next.success").to_pylist()
    assert [i for i, value in enumerate(done) if value] == [9, 20, 32]
    assert [i for i, value in enumerate(success) if value] == [9, 32]
    episodes = pq.read_table(made / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["length"]) for e in episodes] == [
        (0, 10, 10), (10, 21, 11), (21, 33, 12)
    ]  # fmt: skip
    assert episodes[1]["tasks"] == ["open the drawer"]
    state = np.array(table.column("observation.state").to_pylist())
    np.testing.assert_allclose(episodes[1]["stats/observation.state/mean"], state[10:21].mean(0), rtol=1e-6)
    stats = json.loads((made / "meta/stats.json").read_text())
    np.testing.assert_allclose(stats["observation.state"]["std"], state.std(0), rtol=1e-6)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    assert 0 < stats["observation.images.front"]["mean"][0][0][0] < 1


def test_statistics_by_hand():
    stats = array_stats(np.array([[1.0, 10.0], [3.0, 20.0], [5.0, 60.0]]))
    assert stats["mean"] == [3.0, 30.0]
    assert stats["min"] == [1.0, 10.0]
    assert stats["max"] == [5.0, 60.0]
    assert stats["q50"] == [3.0, 20.0]
    assert stats["count"] == [3]
    np.testing.assert_allclose(stats["std"], [np.sqrt(8 / 3), np.sqrt((400 + 100 + 900) / 3)])


def test_row_lookup_across_files(made, monkeypatch, tmp_path, make):
    monkeypatch.setattr(schema, "DATA_FILE_MB", 0)  # every episode in a file of its own
    import_bags([made.parent / "bags"], tmp_path / "many")
    assert len(list((tmp_path / "many" / "data").rglob("*.parquet"))) == 3
    one, many = Dataset.open(made), Dataset.open(tmp_path / "many")
    assert one.fingerprint == many.fingerprint
    rows = np.array([32, 0, 20, 21, 9, 10])
    assert one.images("front", rows) == many.images("front", rows)
    assert one.images("front", 21) == [make.jpeg(2000)]
    assert [many.rows(i) for i in range(3)] == [slice(0, 10), slice(10, 21), slice(21, 33)]
    with pytest.raises(DatasetError, match=r"no episode 3; it has 0\.\.2"):
        many.episode(3)


def test_plain_lerobot_dataset_opens_as_far_as_it_goes(made):
    fingerprint = Dataset.open(made).fingerprint
    (made / "meta/sealegs.json").unlink()
    dataset = Dataset.open(made)
    assert dataset.sealegs is None
    assert dataset.state.shape == (33, 21)
    assert dataset.cameras == ("front",)
    assert len(dataset.images("front", [3])[0]) > 100
    assert [e.task_text for e in dataset.episodes] == ["open the drawer"] * 3
    assert dataset.fingerprint not in {fingerprint, ""}
    assert Dataset.open(made).fingerprint == dataset.fingerprint
    for name in ("robot", "observation_spec", "action_spec"):
        with pytest.raises(DatasetError, match="plain LeRobot dataset"):
            getattr(dataset, name)


def _rewrite(path, change):
    file = path / "data/chunk-000/file-000.parquet"
    table = change(pq.read_table(file))
    pq.write_table(table, file)


def _set(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def _with_nan(table):
    values = table.column("observation.state").combine_chunks().flatten().to_numpy(zero_copy_only=False).copy()
    values[100] = np.nan
    return _set(table, "observation.state", pa.FixedSizeListArray.from_arrays(pa.array(values), 21))


def _with_other_action(table):
    values = table.column("action").combine_chunks().flatten().to_numpy(zero_copy_only=False).copy()
    values[3] += 0.25
    return _set(table, "action", pa.FixedSizeListArray.from_arrays(pa.array(values), 6))


def _edit(path, name, change):
    file = path / name
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p), "no dataset at"),
        (lambda p: (p / "meta/info.json").unlink(), "has no meta/info.json"),
        (lambda p: (p / "meta/info.json").write_text("{"), "not readable as JSON"),
        (lambda p: (p / "meta/info.json").write_text("[1]"), "expected a JSON object"),
        (lambda p: (p / "meta/info.json").write_text("[" * 100_000), "not readable as JSON"),
        (
            lambda p: _edit(p, "meta/info.json", lambda c: c.update(codebase_version="v2.1")),
            "format v2.1, expected v3.0",
        ),
        (lambda p: _edit(p, "meta/info.json", lambda c: c.pop("fps")), "lacks fps"),
        (lambda p: _edit(p, "meta/info.json", lambda c: c["features"].pop("action")), "no feature 'action'; available"),
        (lambda p: _edit(p, "meta/info.json", lambda c: c.update(total_frames=34)), "33 rows, but info.json says 34"),
        (lambda p: _edit(p, "meta/sealegs.json", lambda c: c.pop("robot")), "sealegs.json: robot: Field required"),
        (lambda p: _edit(p, "meta/sealegs.json", lambda c: c["episodes"].pop()), "sums to 21 in 2"),
        (lambda p: shutil.rmtree(p / "data"), "has no data/"),
        (lambda p: (p / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1xxxxPAR1"), "unreadable"),
        (lambda p: _rewrite(p, lambda t: t.drop_columns(["action"])), r"lacks column\(s\) action"),
        (lambda p: _rewrite(p, lambda t: t.slice(0, 30)), "30 rows, but"),
        (lambda p: _rewrite(p, _with_nan), "observation.state of row 4 is not finite"),
        (lambda p: _rewrite(p, _with_other_action), "was changed after the import"),
        (lambda p: _rewrite(p, lambda t: _set(t, "action", pa.array(["x"] * 33))), "expected floats"),
        (lambda p: _rewrite(p, lambda t: t.take(pa.array([*range(32, -1, -1)]))), "do not lie in the order"),
        (lambda p: _edit(p, "meta/sealegs.json", lambda c: c["episodes"][0].update(outcome="failure")), "was changed"),
    ],
)
def test_malformed_is_one_line(made, damage, message):
    damage(made)
    with pytest.raises(DatasetError, match=message) as caught:
        Dataset.open(made)
    assert "\n" not in str(caught.value)


def test_changed_image_is_found_by_verify(made):
    def swap(table):
        column = table.column("observation.images.front").to_pylist()
        column[0] = {"bytes": column[7]["bytes"], "path": None}
        return _set(table, "observation.images.front", pa.array(column, schema.IMAGE_TYPE))

    Dataset.open(made).verify()
    _rewrite(made, swap)
    with pytest.raises(DatasetError, match="images were changed"):
        Dataset.open(made).verify()


def test_nothing_half_after_an_interrupt(tmp_path, recipe, mcap_bag, info):
    for number in range(3):
        mcap_bag(tmp_path / "bags" / f"e{number}", recipe(seed=number).messages(), info())

    def interrupt(done, total, name):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_bags([tmp_path / "bags"], tmp_path / "out", progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["bags"]
