"""Rows about the network: strangers in another domain, on another host, or inside the graph."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.live.hosts import Host, two_hosts
from sealegs.faults.live.nodes import domain_of_this_process
from sealegs.launching.this_host import PROFILE, this_host_only
from sealegs_contract.errors import MachineError

LISTENING_S = 3.0
"""At least; and thrice as long as the first message took where nothing was in its way."""
BASELINE_S = 20.0
START_S = 60.0
DOMAINS = 101
NOT_ARRIVALS = frozenset({"commands_late", "commands_limited"})


@dataclass(frozen=True)
class Place:
    """Where a process runs: its part of the environment, and its host where that is not this one."""

    domain: int
    discovery: str = "LOCALHOST"
    host: Host | None = None
    peers: str = ""
    here_only: bool = False
    """With the shipped middleware profile that leaves no way in from another host."""

    def command(self, *words: str) -> list[str]:
        """Python with these words, there."""
        return [*(self.host.enter if self.host else ()), sys.executable, *words]

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a process there."""
        ours = {"ROS_DOMAIN_ID": str(self.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": self.discovery}
        return {**os.environ, **ours, "ROS_STATIC_PEERS": self.peers, **(this_host_only() if self.here_only else {})}


@dataclass(frozen=True)
class Heard:
    """Messages that got through in one meeting."""

    by_robot: int
    by_rogue: int
    after_s: float = 0.0
    """When the stranger heard the first one."""

    @property
    def total(self) -> int:
        """Both ways."""
        return self.by_robot + self.by_rogue


def meet(robot: Place, rogue: Place, folder: Path, seconds: float) -> Heard:
    """A robot node at one place, a commanding stranger at the other; for so long, or until they hear each other."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = folder / "robot.json"
    counts.unlink(missing_ok=True)
    parameters = ["-p", "task:=reach", "-p", "images:=false", "-p", f"timing_path:={counts}"]
    with _running(robot, folder / "robot.log", "-m", "sealegs_ros.robot_node", "--ros-args", *parameters) as node:
        _wait_for(folder / "robot.log", "ready: task", node)
        words = rogue.command("-m", "sealegs.faults.live.rogue", str(seconds))
        done = subprocess.run(words, env=rogue.environment, capture_output=True, text=True, timeout=START_S)
        if done.returncode:
            raise MachineError(f"the stranger did not run: {done.stderr.strip()[-500:]}")
    said = json.loads(done.stdout)
    if not counts.is_file():
        raise MachineError(
            f"the robot node left no counts: {(folder / 'robot.log').read_text(errors='replace')[-500:]}"
        )
    counted = json.loads(counts.read_text(encoding="utf-8"))
    # A late command is among the accepted ones.
    got = sum(int(n) for name, n in counted.items() if name.startswith("commands_") and name not in NOT_ARRIVALS)
    return Heard(got, int(said["heard"]), float(said["after_s"] or 0.0))


def _isolation(trials: Trials) -> Outcome:
    """Another domain on this host, and in turn another host in this domain, where this machine can make one."""
    with ExitStack() as stack:
        notes, hosts = [], None
        try:
            hosts = stack.enter_context(two_hosts())
        except MachineError as error:
            notes.append(f"other host: not tried, {error}; all trials are of another domain")
        baselines = list(_baselines(trials.folder, hosts))
        notes += [note for note, _ in baselines]
        seconds = max(LISTENING_S, 3.0 * max(heard.after_s for _, heard in baselines))
        seen = []
        for number in range(trials.count):
            robot, rogue = _apart(number, hosts)
            heard = meet(robot, rogue, trials.folder / f"trial-{number}", seconds)
            failure = "" if not heard.total else f"messages got through from {_described(robot, rogue)}"
            seen.append(Seen(failure, float(heard.total)))
            trials.progress(number + 1, trials.count)
    return outcome(seen, notes)


def _apart(number: int, hosts: tuple[Host, Host] | None) -> tuple[Place, Place]:
    """In turn: another domain; another host that looks everywhere; one that knows our address, against the profile."""
    home = domain_of_this_process()
    if hosts is None or number % 3 == 0:
        other = 1 + (home + number) % DOMAINS
        return Place(home), Place(other)
    ours, theirs = hosts
    if number % 3 == 1:
        return Place(home, host=ours), Place(home, "SUBNET", theirs)
    return Place(home, host=ours, here_only=True), Place(home, "SUBNET", theirs, ours.address)


def _baselines(folder: Path, hosts: tuple[Host, Host] | None) -> Iterator[tuple[str, Heard]]:
    """What gets through where nothing is done against it: the experiment must be able to see a stranger."""
    home = domain_of_this_process()
    same = meet(Place(home), Place(home), folder / "same-domain", BASELINE_S)
    if not (same.by_robot and same.by_rogue):
        raise MachineError(f"within one domain only {same} got through: the experiment would see no stranger")
    yield f"without isolation, same domain: {_counted(same)}", same
    if hosts is not None:
        subnet = meet(
            Place(home, "SUBNET", hosts[0]), Place(home, "SUBNET", hosts[1]), folder / "same-network", BASELINE_S
        )
        if not subnet.total:
            raise MachineError("two hosts that look for each other do not meet: the experiment would see no stranger")
        yield f"without isolation, other host (discovery range SUBNET on both): {_counted(subnet)}", subnet
        named = Place(home, "SUBNET", hosts[1], hosts[0].address)
        directed = meet(Place(home, host=hosts[0]), named, folder / "named-host", BASELINE_S)
        note = (
            "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST alone does not keep out a host that knows our address "
            f"(ROS_STATIC_PEERS): {_counted(directed)}; {PROFILE} is tried against it in every third trial"
        )
        yield note, directed


def _described(robot: Place, rogue: Place) -> str:
    if robot.host is None:
        return f"domain {rogue.domain} to {robot.domain}"
    return f"a host that knows our address, against {PROFILE}" if rogue.peers else "another host"


def _counted(heard: Heard) -> str:
    return f"{heard.by_robot} commands reached the robot, {heard.by_rogue} joint states the stranger"


@contextmanager
def _running(place: Place, log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end, and killed where it does not."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            place.command(*words),
            env=place.environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while text not in (said := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > end:
            raise MachineError(f"the robot node did not start: {said[-500:]}")
        time.sleep(0.02)


FAULTS: tuple[Fault, ...] = (
    Fault(
        37,
        "rogue publisher under SROS2 Enforce",
        "refuse it",
        trials=0,
        quick=0,
        unverified="the pip-installed middleware has no DDS security; in its place the keystore of `sealegs security "
        "init` is checked: certificates, signatures, and permissions equal to what the real nodes open; without "
        "ROS, a Fast DDS with security refused a rogue once, by hand (docs/concepts/network-security.md); without "
        "security a rogue is heard (baseline of 38), and beside a policy it is a FAULT (17)",
    ),
    Fault(
        38,
        "other domain or host",
        "keep both unheard",
        trials=21,
        quick=3,
        run=_isolation,
        figure="messages received",
        target="== 0",
        settings={"listening_s": LISTENING_S},
    ),
    Fault(
        39,
        "web page: LAN, cross-origin POST, forged Host, traversal",
        "refuse them",
        trials=0,
        quick=0,
        unverified="there is no web page yet",
    ),
)
