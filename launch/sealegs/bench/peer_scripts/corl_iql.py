"""CORL's IQL (algorithms/offline/iql.py) on given arrays, timed: its own classes, buffer and training step.

    python corl_iql.py FILE REQUEST.json     for each line `THREADS UPDATES` on stdin, the seconds they took

FILE is CORL's own; what it imports for environments, configuration and logging is not needed to train, nor here.
"""

import contextlib
import importlib.util
import io
import json
import sys
import time
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

torch.set_num_threads(1)


def load(path: str) -> ModuleType:
    """CORL's file as a module, without the packages that it takes for environments and logging."""
    for name in ("d4rl", "gym", "pyrallis", "wandb"):
        sys.modules[name] = MagicMock()
    spec = importlib.util.spec_from_file_location("corl_iql_file", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make(corl: ModuleType, request: dict[str, Any]) -> tuple[Any, Any]:
    """Trainer and replay buffer, put together as CORL's own `train` does it."""
    with np.load(request["data"], allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    torch.manual_seed(request["seed"])
    np.random.seed(request["seed"])
    states, actions = data["observation"].shape[1], data["action"].shape[1]
    device, rate = request["device"], request["learning_rate"]
    buffer = corl.ReplayBuffer(states, actions, len(data["action"]), device)
    with contextlib.redirect_stdout(io.StringIO()):
        buffer.load_d4rl_dataset(
            {
                "observations": data["observation"],
                "actions": data["action"],
                "rewards": data["reward"],
                "next_observations": np.roll(data["observation"], -1, axis=0),  # only its speed is measured
                "terminals": data["terminal"],
            }
        )
    q, v = corl.TwinQ(states, actions).to(device), corl.ValueFunction(states).to(device)
    actor = corl.GaussianPolicy(states, actions, 1.0).to(device)
    adam = torch.optim.Adam
    trainer = corl.ImplicitQLearning(
        max_action=1.0,
        actor=actor,
        actor_optimizer=adam(actor.parameters(), lr=rate),
        q_network=q,
        q_optimizer=adam(q.parameters(), lr=rate),
        v_network=v,
        v_optimizer=adam(v.parameters(), lr=rate),
        iql_tau=request["tau"],
        beta=request["beta"],
        max_steps=request["updates"],
        discount=request["gamma"],
        tau=request["polyak"],
        device=device,
    )
    return trainer, buffer


def run(trainer: Any, buffer: Any, updates: int, batch_size: int, device: str) -> float:
    """Seconds of `updates` gradient steps, sampling included, as in CORL's loop."""
    began = time.perf_counter()
    for _ in range(updates):
        trainer.train([part.to(device) for part in buffer.sample(batch_size)])
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Answer until stdin ends."""
    with open(sys.argv[2], encoding="utf-8") as stream:
        request = json.load(stream)
    trainer, buffer = make(load(sys.argv[1]), request)
    print("ready", flush=True)
    for line in sys.stdin:
        threads, updates = map(int, line.split())
        torch.set_num_threads(threads)
        print(run(trainer, buffer, updates, request["batch_size"], request["device"]), flush=True)


main()
