"""Two hosts on one machine: network namespaces of their own, joined by a virtual cable. Linux, no root needed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sealegs_contract.errors import MachineError

NEEDED = ("unshare", "nsenter", "ip", "mount")
ADDRESSES = ("10.213.0.1", "10.213.0.2")
START_S = 10.0
# Shared memory of its own: the middleware would otherwise find the other "host" there. Then tell that it is done.
_HOST = "mount -t tmpfs tmpfs /dev/shm && ip link set lo up && echo ready && exec sleep infinity"


@dataclass(frozen=True)
class Host:
    """Where a command runs if its words follow `enter`."""

    pid: int
    address: str

    @property
    def enter(self) -> list[str]:
        """Prefix of a command."""
        return ["nsenter", "-t", str(self.pid), "-U", "-n", "-m", "--preserve-credentials"]


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Both exist until the end. Raises MachineError where this machine does not let us."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise MachineError(f"no {', '.join(missing)} on this machine")
    with _host(["unshare", "-rnm"]) as first_pid:
        first = Host(first_pid, ADDRESSES[0])
        with _host([*first.enter, "unshare", "-nm"]) as second_pid:
            second = Host(second_pid, ADDRESSES[1])
            _run(first, "ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
            _run(first, "ip", "link", "set", "cable1", "netns", str(second.pid))
            for host, cable in ((first, "cable0"), (second, "cable1")):
                _run(host, "ip", "address", "add", f"{host.address}/24", "dev", cable)
                _run(host, "ip", "link", "set", cable, "up")
            yield first, second


@contextmanager
def _host(prefix: list[str]) -> Iterator[int]:
    """A process that keeps its namespaces alive; its id."""
    process = subprocess.Popen(
        [*prefix, "sh", "-c", _HOST], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    out, error = process.stdout, process.stderr
    try:
        if out is None or error is None or out.readline() != b"ready\n":
            process.wait(START_S)
            said = error.read().decode(errors="replace").strip() if error else ""
            raise MachineError(f"this machine allows no network namespaces: {said or 'unshare failed'}")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        for pipe in (out, error):
            if pipe is not None:
                pipe.close()


def _run(host: Host, *command: str) -> None:
    done = subprocess.run([*host.enter, *command], capture_output=True, text=True, timeout=START_S)
    if done.returncode:
        raise MachineError(f"cannot join two network namespaces: {' '.join(command)}: {done.stderr.strip()}")
