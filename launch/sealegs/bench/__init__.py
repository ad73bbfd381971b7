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
    "gate": ("gate", "bad bundles of many kinds, and the sound ones that they were made from, before the replay gate"),
    "delays": ("delays", "policies trained with measured delays and without, on robots that have them or have not"),
    "finetune": ("finetune", "PPO and IQL going on from policies of logs, against PPO from nothing, at equal steps"),
    "best-of-n": ("best_of_n", "the best of 1 to 64 candidate actions by reward.onnx: success, the turn-down, latency"),
    "support": ("support", "what the support guard notices, how soon, and how often it stops a robot for nothing"),
    "guard": ("guard", "what a command through the guard costs, beside ruckig's step, and a million hostile ones"),
    "swap": ("swap", "policies swapped in motion, rolled back, and shadowed: gaps between commands, and latency"),
}


def find_bench(name: str) -> Bench:
    """The bench of this name; only its module is imported. Raises MachineError naming those there are."""
    if name not in BENCHES:
        raise MachineError(f"no bench {name!r}; {available(BENCHES)}")
    bench: Bench = importlib.import_module(f"sealegs.bench.{BENCHES[name][0]}").BENCH
    return bench
