"""Strangers on the network, with a meeting or two of real processes; and that one who gets through is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="starts real nodes")
pytest.importorskip("mujoco", reason="starts the simulated robot")

from sealegs.faults.frame import Trials
from sealegs.faults.live.hosts import Host, two_hosts
from sealegs.faults.live.nodes import domain_of_this_process
from sealegs.faults.rows import network
from sealegs.faults.rows.network import Place, meet
from sealegs_contract.errors import MachineError

HOME = domain_of_this_process()


@contextmanager
def no_hosts() -> Iterator[tuple[Host, Host]]:
    raise MachineError("not here")
    yield


def test_another_domain_is_not_heard_and_one_that_is_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = network._apart
    places = {0: apart(0, None), 1: (Place(HOME), Place(HOME))}
    monkeypatch.setattr(network, "_apart", lambda number, hosts: places[number])
    monkeypatch.setattr(network, "two_hosts", no_hosts)
    found = network._isolation(Trials(2, tmp_path, lambda done, total: None))
    assert (found.trials, found.failures) == (2, 1)
    assert found.values[0] == 0.0
    assert found.values[1] > 0.0
    assert f"messages got through from domain {HOME} to {HOME}" in found.notes[0]
    assert any("other host: not tried, not here" in note for note in found.notes)


def test_the_shipped_profile_keeps_out_a_host_that_knows_our_address(tmp_path: Path) -> None:
    try:
        with two_hosts() as (ours, theirs):
            stranger = Place(HOME, "SUBNET", theirs, ours.address)
            open_door = meet(Place(HOME, "SUBNET", ours), stranger, tmp_path / "open", 20.0)
            shut = meet(Place(HOME, host=ours, here_only=True), stranger, tmp_path / "shut", 3.0 * open_door.after_s)
    except MachineError as error:
        pytest.skip(f"no two hosts: {error}")
    assert open_door.by_robot > 0
    assert open_door.by_rogue > 0
    assert shut.total == 0


def test_rows_without_an_experiment_say_why() -> None:
    reasons = {fault.row: fault.unverified for fault in network.FAULTS if fault.run is None}
    assert reasons[39] == "there is no web page yet"
    assert "has no DDS security" in reasons[37]
