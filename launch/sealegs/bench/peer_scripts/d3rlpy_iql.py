"""d3rlpy's IQL on given arrays, in d3rlpy's own environment.

    python d3rlpy_iql.py REQUEST.json ANSWER.json     train; weights of the actor into the request's `weights` file
    python d3rlpy_iql.py REQUEST.json -               for each line `THREADS UPDATES` on stdin, the seconds they took

Observations come normalised and rewards scaled, so all learners see the same numbers.
"""

import json
import logging
import sys
import time
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)
import d3rlpy  # noqa: E402
import structlog  # type: ignore[import-not-found]  # noqa: E402

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def make(request: dict[str, Any]) -> tuple[Any, Any]:
    """Algorithm and replay buffer."""
    with np.load(request["data"], allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    d3rlpy.seed(request["seed"])
    dataset = d3rlpy.dataset.MDPDataset(
        data["observation"],
        data["action"],
        data["reward"],
        data["terminal"],
        data["timeout"],
        action_space=d3rlpy.constants.ActionSpace.CONTINUOUS,
        action_size=data["action"].shape[1],
    )
    decay = d3rlpy.optimizers.lr_schedulers.CosineAnnealingLRFactory(T_max=request["updates"])
    config = d3rlpy.algos.IQLConfig(
        actor_learning_rate=request["learning_rate"],
        critic_learning_rate=request["learning_rate"],
        actor_optim_factory=d3rlpy.optimizers.AdamFactory(lr_scheduler_factory=decay),
        batch_size=request["batch_size"],
        gamma=request["gamma"],
        tau=request["polyak"],
        expectile=request["tau"],
        weight_temp=request["beta"],
        max_weight=request["advantage_cap"],
    )
    algorithm = config.create(device=request["device"] if request["device"] == "cuda" else False)
    algorithm.build_with_dataset(dataset)
    return algorithm, dataset


def run(algorithm: Any, dataset: Any, updates: int, batch_size: int) -> float:
    """Seconds of `updates` gradient steps, sampling included."""
    began = time.perf_counter()
    for _ in range(updates):
        algorithm.update(dataset.sample_transition_batch(batch_size))
    return time.perf_counter() - began


def main() -> None:
    """Answer the request."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        request = json.load(stream)
    algorithm, dataset = make(request)
    if sys.argv[2] == "-":
        print("ready", flush=True)
        for line in sys.stdin:
            threads, updates = map(int, line.split())
            torch.set_num_threads(threads)
            print(run(algorithm, dataset, updates, request["batch_size"]), flush=True)
        return
    seconds = run(algorithm, dataset, request["updates"], request["batch_size"])
    policy = algorithm.impl.modules.policy
    layers = [m for m in policy.modules() if isinstance(m, torch.nn.Linear)]
    weights: dict[str, Any] = {}
    for k, layer in enumerate(layers):
        weights[f"weight{k}"] = layer.weight.detach().numpy()
        weights[f"bias{k}"] = layer.bias.detach().numpy()
    probe = np.random.default_rng(0).standard_normal((8, layers[0].in_features)).astype(np.float32)
    np.savez(request["weights"], probe=probe, action=algorithm.predict(probe), **weights)
    with open(sys.argv[2], "w", encoding="utf-8") as stream:
        json.dump({"seconds": seconds, "version": d3rlpy.__version__}, stream)


main()
