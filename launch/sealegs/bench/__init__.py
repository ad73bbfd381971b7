"""Benches: measurements that anyone can repeat with `sealegs bench NAME`. One module a bench, each with one BENCH."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sealegs_contract.errors import MachineError, available

if TYPE_CHECKING:
    from sealegs.bench.frame import Bench

BENCHES: dict[str, tuple[str, str]] = {
    # name: (module in sealegs.bench, one line of help)
    "policies": ("policies", "cloning with bins, action chunks, frames of the past and a camera, on the same logs"),
    "iql": ("iql", "IQL's returns and speed against d3rlpy and an eager loop, on locomotion data made here"),
    "ppo": ("ppo", "PPO against stable-baselines3's with the same settings: return and environment steps a second"),
    "inference": ("inference", "one action by PolicyRuntime, by the bare onnxruntime call and by torch eager"),
    "resume": ("resume", "trainings killed with SIGKILL at moments of chance, against ones left alone, byte for byte"),
    "fqe": ("fqe", "values of fourteen policies from logs alone, against simulation"),
    "finetune": ("finetune", "PPO and IQL going on from policies of logs, against PPO from nothing, at equal steps"),
}


def find_bench(name: str) -> Bench:
    """The bench of this name; only its module is imported. Raises MachineError naming those there are."""
    if name not in BENCHES:
        raise MachineError(f"no bench {name!r}; {available(BENCHES)}")
    bench: Bench = importlib.import_module(f"sealegs.bench.{BENCHES[name][0]}").BENCH
    return bench
