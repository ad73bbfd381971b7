"""Import against hand-made numbers: vectors, actions, alignment, and every drop accounted for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from sealegs_contract.errors import BagError, DatasetError, SpecError
from sealegs_learning.data.align import Policy
from sealegs_learning.data.dataset import Dataset
from sealegs_learning.data.importer import ImportOptions, import_bags


def test_numbers_survive_from_messages_to_dataset(tmp_path, recipe, mcap_bag, info):
    first, second = recipe(seed=1), recipe(seed=2, steps=12)
    a = mcap_bag(tmp_path / "bags" / "episode_2", first.messages(), info(outcome="success", seed=7, policy="scripted"))
    b = mcap_bag(tmp_path / "bags" / "episode_10", second.messages(), info(outcome="failure", operator="ada"))
    report = import_bags([tmp_path / "bags"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    expected = [first.state(s) for s in range(20)] + [second.state(s) for s in range(12)]
    np.testing.assert_array_equal(dataset.state, np.stack(expected))
    targets = [first.target(s) for s in range(20)] + [second.target(s) for s in range(12)]
    np.testing.assert_array_equal(dataset.action, np.stack(targets).astype(np.float32))
    assert dataset.episode_index.tolist() == [0] * 20 + [1] * 12
    assert dataset.frame_index.tolist() == [*range(20), *range(12)]
    np.testing.assert_allclose(dataset.timestamp[:4], [0, 0.02, 0.04, 0.06], atol=1e-7)
    assert dataset.stamp_ns[1] - dataset.stamp_ns[0] == 20_000_000
    one, two = dataset.episodes
    assert (one.source, one.outcome, one.seed, one.policy, one.task) == (
        "episode_2",
        "success",
        7,
        "scripted",
        "drawer",
    )
    assert (two.source, two.outcome, two.operator, two.start, two.length) == ("episode_10", "failure", "ada", 20, 12)
    assert report.accounted()
    assert (report.rows, report.joint_messages, report.dropped) == (32, 32, {})
    assert report.actions == {"commanded": 32}
    assert [bag.path for bag in report.bags] == [str(a), str(b)]
    assert dataset.robot == first.robot
    assert dataset.observation_spec.images == ()
    assert dataset.cameras == ("front",)


def test_images_are_those_of_their_time_and_stored_once(tmp_path, recipe, mcap_bag, info, make):
    episode = recipe(steps=100)
    mcap_bag(tmp_path / "bag", episode.messages(), info())
    import_bags([tmp_path / "bag"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    images = dataset.images("front", [0, 4, 5, 99, 12])
    assert images == [make.jpeg(s) for s in (0, 0, 5, 95, 10)]
    unique = sum(len(make.jpeg(step)) for step in range(0, 100, 5))
    size = sum(f.stat().st_size for f in (tmp_path / "out" / "data").rglob("*.parquet"))
    assert size < unique + 40_000  # five rows share a frame: without dictionaries it would be 5 * unique
    dataset.verify()
    with pytest.raises(DatasetError, match="no camera 'wrist'; available: front"):
        dataset.images("wrist", [0])
    with pytest.raises(DatasetError, match=r"rows 0..100 asked for"):
        dataset.images("front", [0, 100])


def test_action_is_newest_command_of_the_interval_else_the_last_goes_on(tmp_path, recipe, mcap_bag, info, make):
    names = recipe().robot.joint_names
    episode = recipe(steps=10, first_command=100)
    command = lambda offset, value, until=40_000_000: (  # noqa: E731
        make.start + offset,
        "/joint_trajectory",
        make.trajectory(make.start + offset, names, np.full(6, value), until),
    )
    late = make.period // 2
    extra = [
        command(2 * make.period, 0.1),
        command(2 * make.period + late, 0.2),  # newer, still in [t2, t3)
        command(6 * make.period, 0.3, until=make.period),
    ]
    messages = sorted(episode.messages() + extra, key=lambda m: m[0])
    mcap_bag(tmp_path / "bag", messages, info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    np.testing.assert_allclose(dataset.action[:, 0], [0.2, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3], rtol=1e-6)
    assert report.dropped == {"no_command": 2}
    # row 3 held; row 4 too (it ends at t4.5); row 5 expired; row 6 commanded; rows 7, 8, 9 expired
    assert report.actions == {"commanded": 2, "held": 2, "expired": 4}
    measured = import_bags([tmp_path / "bag"], tmp_path / "m", ImportOptions(before_first_command="measured"))
    assert measured.rows == 10
    np.testing.assert_array_equal(Dataset.open(tmp_path / "m").action[1], episode.joints(1)[0].astype(np.float32))


def test_joints_are_matched_by_name(tmp_path, recipe, mcap_bag, info, make):
    episode = recipe(steps=4)
    order = [3, 0, 5, 1, 4, 2]
    names = tuple(episode.robot.joint_names[i] for i in order)
    messages = []
    for log_time, topic, message in episode.messages():
        if topic == "/joint_states":
            message = make.joint_state(log_time, names, message.position[order], message.velocity[order], np.zeros(6))
        if topic == "/joint_trajectory":
            message = make.trajectory(log_time, names, message.points[0].positions[order])
        messages.append((log_time, topic, message))
    mcap_bag(tmp_path / "bag", messages, info())
    import_bags([tmp_path / "bag"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    np.testing.assert_array_equal(dataset.state[2], episode.state(2))
    np.testing.assert_array_equal(dataset.action[2], episode.target(2).astype(np.float32))


@pytest.mark.parametrize(
    ("policy", "rows", "dropped"),
    [
        # handle is missing at rows 5..13: asof tolerates 100 ms = 5 periods after row 4, so rows 10..13 go
        (Policy.ASOF, 16, {"stale:objects/handle/pose": 4}),
        (Policy.HOLD, 20, {}),
        (Policy.DROP, 11, {"no_match:objects/handle/pose": 9}),
    ],
)
def test_alignment_policies(tmp_path, recipe, mcap_bag, info, policy, rows, dropped):
    episode = recipe(skip={"objects/handle/pose": set(range(5, 14))})
    mcap_bag(tmp_path / "bag", episode.messages(), info(outcome="success"))
    options = ImportOptions(align={"objects/handle/pose": policy})
    report = import_bags([tmp_path / "bag"], tmp_path / "out", options)
    assert (report.rows, report.dropped) == (rows, dropped)
    assert report.accounted()
    dataset = Dataset.open(tmp_path / "out")
    if policy is Policy.HOLD:
        np.testing.assert_array_equal(dataset.state[9, 15:18], episode.place("handle", 4).astype(np.float32))
        assert [row.outcome for row in dataset.episodes] == ["success"]
    else:
        # A hole splits the episode; only the last part led to the outcome.
        assert [row.outcome for row in dataset.episodes] == ["unknown", "success"]
        assert [row.segment for row in dataset.episodes] == [0, 1]
        assert report.gaps_split == 1


def test_what_cannot_be_used_is_counted_by_reason(tmp_path, recipe, mcap_bag, info, make):
    names = recipe().robot.joint_names
    episode = recipe(steps=10, skip={"camera/front": {0}})  # first image at row 5
    nan = np.full(6, np.nan)
    messages = episode.messages()
    messages.append((make.start + 7 * make.period + 1, "/joint_states",
                     make.joint_state(make.start + 7 * make.period + 1, names, nan, nan, nan)))  # fmt: skip
    messages.append((make.start + 8 * make.period, "/joint_states",
                     make.joint_state(make.start + 8 * make.period, names, *[np.zeros(6)] * 3)))  # fmt: skip
    mcap_bag(tmp_path / "bag", messages, info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    assert report.joint_messages == 12
    assert report.dropped == {"no_sample:camera/front": 5, "not_finite:joint_states": 1, "duplicate_stamp": 1}
    assert report.rows == 5
    assert report.accounted()
    assert report.streams["joint_states"].rejected == {"not_finite": 1}
    saved = json.loads((tmp_path / "out" / "meta" / "sealegs.json").read_text())["report"]
    assert saved["dropped"] == report.dropped


def test_empty_velocity_is_refused_by_name_not_filled_in(tmp_path, recipe, mcap_bag, info, make):
    messages = []
    for log_time, topic, message in recipe(steps=5).messages():
        if topic == "/joint_states":
            message = make.joint_state(log_time, tuple(message.name), message.position, [], [])
        messages.append((log_time, topic, message))
    mcap_bag(tmp_path / "bag", messages, info())
    with pytest.raises(BagError, match=r"no rows in 1 bag.*5 dropped for not_finite:joint_states"):
        import_bags([tmp_path / "bag"], tmp_path / "out")


def test_slower_rate_decimates_and_counts(tmp_path, recipe, mcap_bag, info):
    episode = recipe(steps=21)
    mcap_bag(tmp_path / "bag", episode.messages(), info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out", ImportOptions(rate_hz=10))
    dataset = Dataset.open(tmp_path / "out")
    np.testing.assert_array_equal(dataset.state, np.stack([episode.state(s) for s in range(0, 21, 5)]))
    # the action of a row is the newest command before the next row
    np.testing.assert_array_equal(dataset.action[0], episode.target(4).astype(np.float32))
    assert report.dropped == {"decimated": 16}
    assert dataset.fps == 10
    with pytest.raises(BagError, match=r"50\.0 Hz, slower than the rate of 100 Hz; pass --rate 50"):
        import_bags([tmp_path / "bag"], tmp_path / "fast", ImportOptions(rate_hz=100))


def test_session_is_cut_by_markers(tmp_path, recipe, mcap_bag, info, make):
    episode = recipe(steps=60)
    marker = lambda step, **content: (make.start + step * make.period - 1, "/episode", make.text(json.dumps(content)))  # noqa: E731
    markers = [
        marker(5, event="start", seed=1), marker(15, event="stop", outcome="success"),
        marker(20, event="start"), marker(30, event="discard"),
        marker(40, event="start", operator="ada"), marker(50, event="stop", outcome="failure"),
    ]  # fmt: skip
    mcap_bag(tmp_path / "bag", sorted(episode.messages() + markers, key=lambda m: m[0]), info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert [(r.length, r.outcome, r.seed, r.operator) for r in dataset.episodes] == [
        (10, "success", 1, ""), (10, "failure", None, "ada")
    ]  # fmt: skip
    # the image of row 0 and 35..39 came before the starts at 5 and 40, and is carried over
    np.testing.assert_array_equal(dataset.state, np.stack([episode.state(s) for s in [*range(5, 15), *range(40, 50)]]))
    assert report.dropped == {"outside": 5 + 5 + 10 + 10, "discarded": 10}
    assert report.accounted()


def test_clock_that_jumps_back_starts_a_new_episode(tmp_path, recipe, mcap_bag, info):
    one, two = recipe(seed=1, start=9_000_000_000), recipe(seed=2, start=2_000_000_000)
    moved = [(t + 9_000_000_000, topic, message) for t, topic, message in two.messages()]
    mcap_bag(tmp_path / "bag", one.messages() + moved, info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert [r.length for r in dataset.episodes] == [20, 20]
    np.testing.assert_array_equal(dataset.state[20:], np.stack([two.state(s) for s in range(20)]))
    assert any("the clock went back by" in problem for problem in report.problems)


def test_late_messages_count_as_reordered_and_are_used_by_stamp(tmp_path, recipe, mcap_bag, info):
    episode = recipe(steps=10)
    messages = episode.messages()
    states = [i for i, m in enumerate(messages) if m[1] == "/joint_states"]
    messages[states[3]], messages[states[4]] = messages[states[4]], messages[states[3]]
    mcap_bag(tmp_path / "bag", messages, info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    np.testing.assert_array_equal(Dataset.open(tmp_path / "out").state, np.stack([episode.state(s) for s in range(10)]))
    assert report.streams["joint_states"].reordered == 1


def test_foreign_bag_needs_a_robot_and_namespaces_must_be_told_apart(tmp_path, recipe, rosbag2_bag):
    episode = recipe(steps=5)
    two = [(t, f"/{arm}{topic}", m) for t, topic, m in episode.messages() for arm in ("left", "right")]
    bag = rosbag2_bag(tmp_path / "bag", two)
    with pytest.raises(BagError, match=r"does not say which robot.*--robot"):
        import_bags([bag], tmp_path / "out")
    with pytest.raises(BagError, match="--namespace"):
        import_bags([bag], tmp_path / "out", ImportOptions(robot="so101"))
    options = ImportOptions(robot="so101", namespace="left", task="fold", task_text="fold the towel")
    report = import_bags([bag], tmp_path / "out", options)
    dataset = Dataset.open(tmp_path / "out")
    np.testing.assert_array_equal(dataset.state, np.stack([episode.state(s) for s in range(5)]))
    assert report.rows == 5
    assert (dataset.episodes[0].task_text, dataset.episodes[0].origin) == ("fold the towel", "real")


def test_remapped_topics(tmp_path, recipe, rosbag2_bag):
    messages = [(t, "/arm/js" if topic == "/joint_states" else topic, m) for t, topic, m in recipe(steps=5).messages()]
    bag = rosbag2_bag(tmp_path / "bag", messages)
    options = ImportOptions(robot="so101", task="drawer", remap={"/arm/js": "joint_states"})
    assert import_bags([bag], tmp_path / "out", options).rows == 5


def test_refusals_leave_nothing_behind(tmp_path, recipe, mcap_bag, info, robot):
    bag = mcap_bag(tmp_path / "bag", recipe(steps=5).messages(), info())
    other = robot.model_copy(update={"control_rate_hz": 100.0})
    stranger = mcap_bag(
        tmp_path / "stranger", recipe(steps=5).messages(), info(profile_digest=other.digest), profile=other
    )
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(BagError, match="different robot profiles"):
        import_bags([bag, stranger], tmp_path / "out")
    with pytest.raises(BagError, match="another profile of so101"):
        import_bags([stranger], tmp_path / "out", ImportOptions(robot="so101"))
    with pytest.raises(SpecError, match="does not publish object"):
        import_bags([bag], tmp_path / "out", ImportOptions(objects=("teapot",)))
    with pytest.raises(SpecError, match=r"camera/wrist.*available"):
        import_bags([bag], tmp_path / "out", ImportOptions(align={"camera/wrist": Policy.HOLD}))
    with pytest.raises(BagError, match="no rows"):
        import_bags([bag], tmp_path / "out", ImportOptions(objects=("cube",)))
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_existing_output_is_kept_unless_overwritten(tmp_path, recipe, mcap_bag, info):
    bag = mcap_bag(tmp_path / "bag", recipe(steps=5).messages(), info())
    first = import_bags([bag], tmp_path / "out")
    with pytest.raises(DatasetError, match=r"exists.*--overwrite"):
        import_bags([bag], tmp_path / "out")
    with pytest.raises(BagError, match="no rows"):
        import_bags([bag], tmp_path / "out", ImportOptions(overwrite=True, objects=("cube",)))
    assert Dataset.open(tmp_path / "out").fingerprint == first.fingerprint
    again = import_bags([bag], tmp_path / "out", ImportOptions(overwrite=True))
    assert again.fingerprint == first.fingerprint
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(DatasetError, match="is no dataset; it is not overwritten"):
        import_bags([bag], tmp_path / "precious", ImportOptions(overwrite=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "out", "precious"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sealegs_learning.data.importer import ImportOptions, import_bags

point, bag, out = sys.argv[1:]
real, renames = Path.rename, []

def rename(self, target):
    if str(point) == str(len(renames)):
        os.kill(os.getpid(), signal.SIGKILL)
    renames.append(target)
    return real(self, target)

Path.rename = rename
import_bags([bag], out, ImportOptions(overwrite=True))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("point", [0, 1])
@pytest.mark.parametrize("opened_by", ["dataset", "import"])
def test_a_kill_while_overwriting_costs_no_dataset(tmp_path, recipe, mcap_bag, info, point, opened_by):
    """Killed before its first rename an import leaves the old dataset, killed before its second one the new."""
    old_bag = mcap_bag(tmp_path / "old_bag", recipe(steps=5).messages(), info())
    new_bag = mcap_bag(tmp_path / "new_bag", recipe(steps=9).messages(), info())
    out = tmp_path / "out"
    old = import_bags([old_bag], out)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(point), str(new_bag), str(out)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert out.exists() == (point == 0)
    if opened_by == "import":
        with pytest.raises(DatasetError, match=r"exists.*--overwrite"):
            import_bags([old_bag], out)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new_bag", "old_bag", "out"]
    found = Dataset.open(out)
    assert (found.fingerprint == old.fingerprint) == (point == 0)
    assert len(found) == (old.rows if point == 0 else 9 + old.rows - 5)


def test_an_interrupted_replacement_without_its_successor_restores_the_old_one(tmp_path, recipe, mcap_bag, info):
    bag = mcap_bag(tmp_path / "bag", recipe(steps=5).messages(), info())
    first = import_bags([bag], tmp_path / "out")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "out").rename(tmp_path / f".out.old-{ended.pid}")
    assert Dataset.open(tmp_path / "out").fingerprint == first.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "out"]


def test_fingerprint_is_of_content(tmp_path, recipe, mcap_bag, info):
    one = mcap_bag(tmp_path / "one", recipe(steps=6).messages(), info(outcome="success"))
    same = mcap_bag(tmp_path / "same", recipe(steps=6).messages(), info(outcome="success"), chunk_size=200)
    other = mcap_bag(tmp_path / "other", recipe(steps=6).messages(), info(outcome="failure"))
    prints = [import_bags([bag], tmp_path / f"out{i}").fingerprint for i, bag in enumerate((one, same, other))]
    assert prints[0] == prints[1] != prints[2]
