"""Reading bags: every storage that is read, every damage that is survived, every file that is refused."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from mcap.writer import CompressionType

from sealegs_contract.errors import BagError, ProfileError, SpecError
from sealegs_contract.sample import CommandSample, ImageSample, JointSample, PoseSample
from sealegs_learning.data.bag import Bag, find_bags
from sealegs_learning.data.importer import ImportOptions, import_bags
from sealegs_learning.data.messages import stream_of_topic


def joints_of(bag):
    return [m.sample for m in bag.messages() if isinstance(m.sample, JointSample)]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/joint_states", ("", "joint_states")),
        ("joint_states", ("", "joint_states")),
        ("/arm/left/joint_states", ("/arm/left", "joint_states")),
        ("/objects/cube/pose", ("", "objects/cube/pose")),
        ("/arm/camera/front/image_raw/compressed", ("/arm", "camera/front")),
        ("/camera/front/image_raw", None),
        ("/camera/front/camera_info", None),
        ("/my_joint_states", None),
        ("/joint_states/raw", None),
        ("/rosout", None),
    ],
)
def test_topics_to_streams(topic, expected):
    assert stream_of_topic(topic) == expected


@pytest.mark.parametrize("compression", list(CompressionType))
def test_every_compression(tmp_path, recipe, mcap_bag, info, compression):
    episode = recipe(steps=8)
    mcap_bag(tmp_path / "bag", episode.messages(), info(seed=5), compression=compression)
    bag = Bag(tmp_path / "bag")
    messages = list(bag.messages())
    joints = [m.sample for m in messages if isinstance(m.sample, JointSample)]
    np.testing.assert_array_equal([s.position for s in joints], [episode.joints(i)[0] for i in range(8)])
    np.testing.assert_array_equal([s.velocity for s in joints], [episode.joints(i)[1] for i in range(8)])
    assert joints[3].stamp_ns == episode.start + 3 * 20_000_000
    poses = [m.sample for m in messages if isinstance(m.sample, PoseSample) and m.sample.object_name == "handle"]
    np.testing.assert_array_equal([s.position for s in poses], [episode.place("handle", i) for i in range(8)])
    commands = [m.sample for m in messages if isinstance(m.sample, CommandSample)]
    np.testing.assert_array_equal([s.position[0] for s in commands], [episode.target(i) for i in range(8)])
    assert commands[0].until_ns == (100_000_000,)
    assert [m.text for m in messages if m.stream == "task"] == ["open the drawer"]
    assert len([m for m in messages if isinstance(m.sample, ImageSample)]) == 2
    assert bag.problems.damage == []
    assert bag.metadata()[0].seed == 5


def test_rosbag2_written_bag(tmp_path, recipe, rosbag2_bag):
    episode = recipe(steps=5)
    bag = Bag(rosbag2_bag(tmp_path / "bag", episode.messages()))
    np.testing.assert_array_equal([s.position for s in joints_of(bag)], [episode.joints(i)[0] for i in range(5)])
    assert bag.metadata() == (None, None)


def test_outcome_at_the_end_wins_over_the_start(tmp_path, recipe, mcap_bag, info):
    mcap_bag(tmp_path / "bag", recipe(steps=2).messages(), info(outcome="success"))
    assert Bag(tmp_path / "bag").metadata()[0].outcome == "success"


def test_split_bag_is_read_in_recording_order(tmp_path, recipe, mcap_bag, info):
    episode = recipe(steps=33)
    messages = episode.messages()
    folder = tmp_path / "split"
    folder.mkdir()
    for number in range(11):
        part = [m for m in messages if (m[0] - episode.start) // 20_000_000 // 3 == number]
        mcap_bag(tmp_path / f"part{number}", part, info())
        (tmp_path / f"part{number}" / f"part{number}_0.mcap").rename(folder / f"split_{number}.mcap")
    assert find_bags([folder]) == [folder]
    np.testing.assert_array_equal(
        [s.position for s in joints_of(Bag(folder))], [episode.joints(i)[0] for i in range(33)]
    )


def test_trailing_bytes_and_empty_arrays_of_real_ros_messages(tmp_path):
    """rclpy leaves up to four stray bytes behind empty arrays; they must neither fail nor shift the values."""
    from mcap.writer import Writer
    from rclpy.serialization import serialize_message
    from rosbags.typesys import Stores, get_typestore
    from sensor_msgs.msg import JointState

    definition, _ = get_typestore(Stores.ROS2_JAZZY).generate_msgdef("sensor_msgs/msg/JointState", ros_version=2)
    with (tmp_path / "a.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start("ros2")
        schema = writer.register_schema("sensor_msgs/msg/JointState", "ros2msg", definition.encode())
        channel = writer.register_channel("/joint_states", "cdr", schema)
        for number, names in enumerate((["a"], ["ab", "cde"], ["a", "b", "c"])):
            message = JointState(name=names, position=[0.5] * len(names), velocity=[], effort=[1.5] * len(names))
            writer.add_message(channel, number, serialize_message(message), number)
            message = JointState(name=names, position=[0.5] * len(names))
            writer.add_message(channel, number, serialize_message(message), number)
        writer.finish()
    bag = Bag(tmp_path / "a.mcap")
    samples = joints_of(bag)
    assert len(samples) == 6
    assert not bag.problems.undecodable
    for sample in samples:
        assert (sample.position == 0.5).all()
        assert np.isnan(sample.velocity).all()
        assert sample.velocity.shape == sample.effort.shape == (len(sample.names),)
    assert (samples[4].effort == 1.5).all()
    assert np.isnan(samples[5].effort).all()


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.NONE, CompressionType.LZ4])
def test_cut_anywhere_gives_a_prefix(tmp_path, recipe, mcap_bag, info, compression):
    episode = recipe(steps=40, cameras=())
    mcap_bag(tmp_path / "bag", episode.messages(), info(), compression=compression, chunk_size=4000)
    whole = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    expected = [episode.joints(i)[0] for i in range(40)]
    counts = []
    for cut in np.linspace(9, len(whole) - 1, 30).astype(int):
        path = tmp_path / "cut.mcap"
        path.write_bytes(whole[:cut])
        bag = Bag(path)
        samples = joints_of(bag)
        counts.append(len(samples))
        for sample, position in zip(samples, expected, strict=False):
            np.testing.assert_array_equal(sample.position, position)
        if bag.problems.damage:
            assert "cut off" in bag.problems.damage[0]
        else:
            assert len(samples) == 40  # only the index at the end is missing
    assert counts == sorted(counts)
    # a chunk here holds about 4 rows: what was cut in its middle is salvaged too, so most counts are distinct
    assert len(set(counts)) > 8


def test_truncated_bag_imports_up_to_its_last_message_and_says_so(tmp_path, recipe, mcap_bag, info):
    episode = recipe(steps=200)
    mcap_bag(tmp_path / "bag", episode.messages(), info(outcome="success"), chunk_size=20_000)
    file = tmp_path / "bag" / "bag_0.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    assert 60 < report.rows < 140
    assert report.accounted()
    assert len(report.problems) == 1
    assert "cut off" in report.problems[0]
    from sealegs_learning.data.dataset import Dataset

    dataset = Dataset.open(tmp_path / "out")
    np.testing.assert_array_equal(dataset.state, np.stack([episode.state(i) for i in range(report.rows)]))
    assert dataset.episodes[0].outcome == "unknown"  # the outcome was to be written at the end


def test_flipped_bit_in_a_chunk_ends_the_bag_there(tmp_path, recipe, mcap_bag, info):
    episode = recipe(steps=60, cameras=())
    mcap_bag(tmp_path / "bag", episode.messages(), info(), chunk_size=6000)
    file = tmp_path / "bag" / "bag_0.mcap"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)
    bag = Bag(tmp_path / "bag")
    samples = joints_of(bag)
    assert 0 < len(samples) < 60
    np.testing.assert_array_equal([s.position for s in samples], [episode.joints(i)[0] for i in range(len(samples))])
    assert "damaged record at byte" in bag.problems.damage[0]


def test_random_damage_never_escapes_as_another_error(tmp_path, recipe, mcap_bag, info):
    mcap_bag(tmp_path / "bag", recipe(steps=12).messages(), info(), chunk_size=3000, compression=CompressionType.NONE)
    whole = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(8, len(data), 5):
            data[place] = rng.integers(256)
        path = tmp_path / "damaged.mcap"
        path.write_bytes(data)
        for read in (lambda bag: bag.metadata(), lambda bag: list(bag.messages())):
            with contextlib.suppress(BagError, ProfileError):
                read(Bag(path))


def test_undecodable_message_is_counted_not_fatal(tmp_path, recipe, mcap_bag, info, make):
    class Garbage(bytes):
        __msgtype__ = "sensor_msgs/msg/JointState"

    messages = recipe(steps=6).messages()
    messages.insert(20, (make.start + 2 * make.period + 5, "/joint_states", Garbage(b"\x00\x01\x00\x00\x01")))
    mcap_bag(tmp_path / "bag", messages, info())
    report = import_bags([tmp_path / "bag"], tmp_path / "out")
    assert (report.rows, report.dropped) == (6, {"undecodable": 1})
    assert report.accounted()
    assert "1 message(s) of joint_states undecodable" in report.problems[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"#ROSBAG V2.0\nxxxx", "no MCAP file"),
        (b"SQLite format 3\x00" + b"\x00" * 100, "no MCAP file"),
        (b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, 1 << 60) + b"x" * 100, "no joint_states"),
        (b"\x89MCAP0\r\n" + b"\xff" * 1000, "no joint_states"),
    ],
)
def test_foreign_and_hostile_files_are_one_line(tmp_path, content, message):
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(BagError, match=message) as caught:
        import_bags([path], tmp_path / "out", ImportOptions(robot="so101"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_decompression_bomb_is_refused(tmp_path):
    import zstandard

    compressed = zstandard.compress(b"\x00" * (64 << 20))
    chunk = struct.pack("<QQQI", 0, 0, 2 << 30, 0) + struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(compressed))
    body = chunk + compressed
    (tmp_path / "bomb.mcap").write_bytes(b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, len(body)) + body)
    bag = Bag(tmp_path / "bomb.mcap")
    assert list(bag.messages()) == []
    assert "at most" in bag.problems.damage[0]


def test_what_is_no_bag_is_named(tmp_path, recipe, rosbag2_bag):
    sqlite = rosbag2_bag(tmp_path / "old", recipe(steps=2).messages(), sqlite=True)
    with pytest.raises(BagError, match=r"sqlite3 bag; convert it first: .*rosbags-convert"):
        Bag(sqlite)
    with pytest.raises(BagError, match="no bag at"):
        Bag(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no bags in"):
        find_bags([tmp_path / "empty"])
    with pytest.raises(BagError, match="holds no .mcap"):
        Bag(tmp_path / "empty")


def test_wrong_type_on_a_topic_is_named(tmp_path, make, mcap_bag, info):
    mcap_bag(tmp_path / "bag", [(1, "/joint_states", make.text("hello"))], info())
    with pytest.raises(BagError, match=r"/joint_states is std_msgs/msg/String, expected sensor_msgs/msg/JointState"):
        list(Bag(tmp_path / "bag").messages())


def test_the_same_bag_twice_is_refused(tmp_path, recipe, mcap_bag, info):
    bag = mcap_bag(tmp_path / "bags" / "a", recipe(steps=2).messages(), info())
    with pytest.raises(BagError, match="given twice"):
        find_bags([tmp_path / "bags", bag])


def test_fast_decoder_agrees_with_the_general_one(tmp_path, recipe, mcap_bag, info, make):
    """mcap_ros2's decoder is the independent truth; awkward string lengths shift every alignment."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    from sealegs_learning.data.cdr import fast_decoder
    from sealegs_learning.data.messages import to_sample

    rng = np.random.default_rng(1)
    messages = recipe(steps=6).messages()
    for number in range(40):
        names = tuple("abcdefghij"[k] * int(rng.integers(1, 9)) for k in range(int(rng.integers(0, 7))))
        values = [rng.normal(size=len(names)) if rng.random() < 0.7 else np.empty(0) for _ in range(3)]
        messages.append((number, "/joint_states", make.joint_state(number, names, *values)))
        state = make.pose(number, rng.normal(size=3))
        state.header.frame_id = "f" * int(rng.integers(0, 9))
        messages.append((number, "/objects/handle/pose", state))
        messages.append((number, "/joint_trajectory", make.trajectory(number, names, rng.normal(size=len(names)), 7)))
    bag = mcap_bag(tmp_path / "bag", messages, info())
    compared = 0
    with (bag / "bag_0.mcap").open("rb") as stream:
        for schema, channel, message, decoded in make_reader(
            stream, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            fast = fast_decoder(stream_of_topic(channel.topic)[1])
            if fast is None:
                continue
            a, b = fast(message.data), to_sample(stream_of_topic(channel.topic)[1], decoded)
            assert type(a) is type(b), schema.name
            for field in a.__slots__:
                np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
            for short in rng.integers(4, len(message.data), 3):
                with contextlib.suppress(ValueError, SpecError):
                    fast(message.data[:short])
            compared += 1
    assert compared > 150
