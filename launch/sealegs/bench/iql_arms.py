"""The arms of `bench iql`: each learns one dataset with one seed; all see the same numbers and the same settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sealegs.bench.iql_data import Logs
from sealegs.bench.iql_eager import EagerIQL
from sealegs.bench.peers import Peer
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.bc import BC
from sealegs_learning.learners.graphed import GraphedUpdates
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.settings import BCSettings, IQLSettings
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.transitions import Transitions

SEALEGS, BFLOAT16, EAGER, D3RLPY = "sealegs", "sealegs bfloat16", "eager", "d3rlpy"
CONSTANT, BC_ARM = "constant reward", "bc"
CORL = "CORL"
"""Timed only, and only where its file is: it is no package."""
ARMS = (SEALEGS, BFLOAT16, D3RLPY, CONSTANT, BC_ARM)
"""Those that learn to the end; the eager loop is only timed: an update of it is ours but for rounding, by a test."""

SETTINGS = IQLSettings()
LEARNING_RATE, BATCH, HIDDEN = 3e-4, 256, (256, 256)
PEER = Peer("d3rlpy", ("d3rlpy==2.8.1",))


def corl_file(peers: Path) -> Path:
    """Where CORL's algorithms/offline/iql.py is looked for."""
    return peers / "corl" / "iql.py"


def new_actor(transitions: Transitions, seed: int) -> tuple[GaussianActor, torch.Generator]:
    """The first policy of a seed, and the generator that goes on with the other networks."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (transitions.observation_size, transitions.action_size)
    return GaussianActor(*sizes, HIDDEN, transitions.normalizer, generator), generator


def make_learner(arm: str, transitions: Transitions, updates: int, seed: int) -> Learner | EagerIQL:
    """The learner of an arm, on the device of its data."""
    policy, generator = new_actor(transitions, seed)
    policy.to(transitions.packed.device)
    common = (LEARNING_RATE, updates, generator)
    match arm:
        case "bc":
            return BC(policy, BCSettings(), LEARNING_RATE, updates)
        case "eager":
            return EagerIQL(policy, SETTINGS, *common)
        case "sealegs bfloat16":
            return IQL(policy, replace(SETTINGS, precision="bfloat16"), *common)
        case _:
            return IQL(policy, SETTINGS, *common)


def train(
    learner: Learner | EagerIQL,
    transitions: Transitions,
    updates: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GaussianActor:
    """`updates` gradient steps on seeded batches; the policy."""
    generator, block = torch.Generator().manual_seed(seed + 1), 500
    graphed = None
    if transitions.packed.is_cuda and isinstance(learner, Learner):
        graphed = GraphedUpdates(learner, transitions, BATCH)
    for start in range(0, updates, block):
        count = min(block, updates - start)
        if graphed:
            graphed.advance([generator], count)
        else:
            for _ in range(count):
                rows = transitions.draw(generator, BATCH)[0].to(transitions.packed.device)
                learner.update(transitions.rows(rows), measured=False)
        progress(start + count, updates)
    return learner.policy.cpu()


def d3rlpy_request(logs: Logs, folder: Path, updates: int, seed: int, device: str) -> dict[str, Any]:
    """What the peer's script is asked; the data is written beside, normalised and scaled as ours."""
    data = folder / "d3rlpy_data.npz"
    np.savez(data, **_arrays(logs))
    return {
        "data": str(data),
        "weights": str(folder / "d3rlpy_weights.npz"),
        "updates": updates,
        "seed": seed,
        "device": device,
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH,
        "gamma": SETTINGS.gamma,
        "tau": SETTINGS.tau,
        "beta": SETTINGS.beta,
        "advantage_cap": SETTINGS.advantage_cap,
        "polyak": SETTINGS.polyak,
    }


def read_actor(path: Path, normalizer: Normalizer) -> GaussianActor:
    """d3rlpy's actor around our normaliser. MachineError where it does not give d3rlpy's own actions."""
    from sealegs_contract.errors import MachineError

    with np.load(path, allow_pickle=False) as arrays:
        found: Mapping[str, Any] = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    count = sum(name.startswith("weight") for name in found)
    hidden = tuple(len(found[f"bias{k}"]) for k in range(count - 1))
    sizes = (found["weight0"].shape[1], len(found[f"bias{count - 1}"]))
    actor = GaussianActor(*sizes, hidden, normalizer, torch.Generator())
    layers = [module for module in actor.actor if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.copy_(found[f"weight{k}"])
            layer.bias.copy_(found[f"bias{k}"])
        error = float((actor.mean_action(found["probe"]) - found["action"]).abs().max())
    if error > 1e-4:
        raise MachineError(f"d3rlpy's weights give actions that differ from its own by {error:.2g}")
    return actor


def _arrays(logs: Logs) -> dict[str, Any]:
    """Rows as d3rlpy takes them: an episode ends by `terminal` or by `timeout`."""
    from sealegs_learning.transitions import return_range_scaled

    last = np.append(np.diff(logs.episode) != 0, True)
    observation = Normalizer.fit(torch.from_numpy(logs.observation))(torch.from_numpy(logs.observation)).numpy()
    return {
        "observation": observation,
        "action": logs.action,
        "reward": return_range_scaled(logs.reward, logs.episode),
        "terminal": logs.terminal,
        "timeout": (last & (logs.terminal == 0.0)).astype(np.float32),
    }
