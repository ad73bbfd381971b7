"""sealegs collect: deterministic, resumable, in several processes, with the pictures of the live nodes."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image

from sealegs.cli import main
from sealegs.collect import CollectConfig, collect
from sealegs_contract.errors import BagError, ProfileError, SimulationError, SpecError
from sealegs_contract.sample import CommandSample, ImageSample, JointSample
from sealegs_learning.data.bag import Bag
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import import_bags


def content(path):
    """Everything that a bag says, decoded: CDR padding is not content."""
    result = []
    for message in Bag(path).messages():
        fields = (
            [getattr(message.sample, name) for name in message.sample.__slots__] if message.sample else [message.text]
        )
        result.append(
            [message.stream, message.log_time_ns, *(v.tobytes() if hasattr(v, "tobytes") else v for v in fields)]
        )
    return result


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    config = CollectConfig(tmp_path_factory.mktemp("base") / "bags", episodes=3, seed=5, cameras=(), jobs=1, steps=30)
    calls = []
    return config, collect(config, lambda done, total: calls.append((done, total))), calls


def test_bags_hold_the_brief(base):
    _, result, calls = base
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [e.path.name for e in result.episodes] == ["episode_0000", "episode_0001", "episode_0002"]
    for index, path in enumerate(result.paths):
        info, profile = Bag(path).metadata()
        assert (info.task, info.policy, info.seed, info.origin) == ("drawer", "mixed", 5 + index, "sim")
        assert info.operator
        assert info.outcome in {"success", "failure"}
        assert profile.digest == info.profile_digest
        samples = [m.sample for m in Bag(path).messages() if m.sample is not None]
        states = [s.stamp_ns for s in samples if isinstance(s, JointSample)]
        commands = [s.stamp_ns for s in samples if isinstance(s, CommandSample)]
        assert len(states) == 31
        assert commands == states[:-1]
        assert set(np.diff(states)) == {20_000_000}


def test_same_seed_same_content_in_any_number_of_processes(base, tmp_path):
    config, result, _ = base
    again = collect(dataclasses.replace(config, out=tmp_path / "two", jobs=2))
    for a, b in zip(result.paths, again.paths, strict=True):
        assert content(a) == content(b)
        assert (a / f"{a.name}_0.mcap").read_bytes() == (b / f"{b.name}_0.mcap").read_bytes()
    one = collect(dataclasses.replace(config, out=tmp_path / "last", seed=7, episodes=1))
    assert content(one.paths[0]) == content(result.paths[2])  # independent of the episodes before
    assert content(result.paths[0]) != content(result.paths[1])


def test_resume_keeps_complete_and_redoes_partial_bags(base, tmp_path):
    config, result, _ = base
    config = dataclasses.replace(config, out=tmp_path / "bags")
    first = collect(dataclasses.replace(config, episodes=2))
    stamp = (first.paths[0] / "episode_0000_0.mcap").stat().st_mtime_ns
    (first.paths[1] / "metadata.yaml").unlink()  # as a kill leaves it
    (config.out / ".partial" / "episode_0002").mkdir(parents=True)
    second = collect(config)
    assert [e.skipped for e in second.episodes] == [True, False, False]
    assert (first.paths[0] / "episode_0000_0.mcap").stat().st_mtime_ns == stamp
    assert content(second.paths[1]) == content(result.paths[1])
    assert sorted(p.name for p in config.out.iterdir()) == ["episode_0000", "episode_0001", "episode_0002"]
    assert [e.outcome for e in second.episodes] == [e.outcome for e in result.episodes]


def test_another_configuration_is_refused_not_mixed(base):
    config, _, _ = base
    with pytest.raises(BagError, match="episode of another run.*choose another --out"):
        collect(dataclasses.replace(config, policy="scripted"))
    with pytest.raises(BagError, match="episode of another run"):
        collect(dataclasses.replace(config, seed=6))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task": "fly"}, SimulationError, "unknown task 'fly'; available: drawer, push, reach"),
        ({"policy": "genius"}, SimulationError, "unknown policy 'genius'; available"),
        ({"robot": "r2d2"}, ProfileError, "unknown robot"),
        ({"cameras": ("rear",)}, ProfileError, "no camera 'rear'; available: front, wrist"),
        ({"episodes": 0}, SpecError, "at least 1"),
        ({"jobs": 0}, SpecError, "at least 1"),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        collect(dataclasses.replace(CollectConfig(tmp_path / "bags"), **change))
    assert not (tmp_path / "bags").exists()


def test_the_verb_s_options_are_the_function_s(tmp_path):
    """--no-images leaves the cameras out, --steps cuts the episode: the command line is the config itself."""
    arguments = ["--episodes", "1", "--jobs", "1", "--steps", "7", "--no-images", "--seed", "3"]
    assert main(["collect", "--out", str(tmp_path / "bags"), *arguments]) == 0
    messages = list(Bag(tmp_path / "bags" / "episode_0000").messages())
    assert not [m for m in messages if isinstance(m.sample, ImageSample)]
    assert sum(isinstance(m.sample, JointSample) for m in messages) == 8


def test_interrupt_leaves_only_complete_bags(tmp_path):
    config = CollectConfig(tmp_path / "bags", episodes=4, cameras=(), jobs=1, steps=5)

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(config, interrupt)
    assert sorted(p.name for p in config.out.iterdir()) == ["episode_0000", "episode_0001"]
    assert [e.skipped for e in collect(config).episodes] == [True, True, False, False]


def test_pictures_by_the_command_line(tmp_path, capsys):
    out = tmp_path / "bags"
    arguments = ["--task", "reach", "--policy", "scripted", "--episodes", "1", "--jobs", "1", "--cameras", "front"]
    assert main(["collect", "--out", str(out), *arguments]) == 0
    assert "1 episodes, 1 successful" in capsys.readouterr().out
    images = [m.sample for m in Bag(out / "episode_0000").messages() if isinstance(m.sample, ImageSample)]
    assert len(images) == 41  # 4 s at 10 Hz, both ends
    assert set(np.diff([i.stamp_ns for i in images])) == {100_000_000}
    assert Image.open(io.BytesIO(images[0].data)).size == (160, 120)
    report = import_bags([out], tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    assert (report.rows, report.dropped, dataset.cameras) == (201, {}, ("front",))
    assert dataset.images("front", [0, 7, 200]) == [images[0].data, images[1].data, images[40].data]
    assert main(["collect", "--out", str(out), *arguments]) == 0
    assert "1 of them from an earlier run" in capsys.readouterr().out


def test_damage_costs_a_second_of_an_episode_and_is_named(tmp_path):
    config = CollectConfig(tmp_path / "bags", episodes=1, seed=5, cameras=(), jobs=1, steps=150)
    bag = next(collect(config).paths[0].glob("*.mcap"))
    with bag.open("rb") as stream:
        chunks = make_reader(stream).get_summary().chunk_indexes
    assert len(chunks) >= 3
    data = bytearray(bag.read_bytes())
    middle = chunks[1].chunk_start_offset + chunks[1].chunk_length // 2
    data[middle : middle + 20] = bytes(byte ^ 0xFF for byte in data[middle : middle + 20])
    bag.write_bytes(data)
    report = import_bags([bag], tmp_path / "dataset")
    assert 49 <= report.rows < 151
    assert report.problems


def test_a_bag_damaged_throughout_says_so(tmp_path):
    config = CollectConfig(tmp_path / "bags", episodes=1, seed=5, cameras=(), jobs=1, steps=20)
    bag = next(collect(config).paths[0].glob("*.mcap"))
    data = bytearray(bag.read_bytes())
    data[3000:] = bytes(byte ^ 0xFF for byte in data[3000:])
    bag.write_bytes(data)
    with pytest.raises(BagError, match=bag.name):
        import_bags([bag], tmp_path / "dataset")
