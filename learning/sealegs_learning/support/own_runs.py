"""The policy's own episodes in simulation, as it sees them: what its thresholds are calibrated on besides the logs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sealegs_contract.selection import columns_of
from sealegs_contract.temporal import History
from sealegs_learning.networks import Policy
from sealegs_learning.policies.acting import PolicyActor

SIMULATED = "own runs in simulation"
FIRST_SEED = 7_000_000
"""Far from what `collect` and `evaluate` begin with: what these measure, no threshold has seen."""


def own_runs(policy: Policy, episodes: int, seed: int = FIRST_SEED) -> list[NDArray[np.float32]]:
    """Inputs (T, history * D) of each of `episodes` episodes of its task, on its robot as the profile has it.

    Failures are among them. SimulationError for a task that is not simulated.
    """
    from sealegs_sim.vector import BatchEnv

    env = BatchEnv(policy.task, num_envs=episodes, robot=policy.robot)
    actor, history = PolicyActor(policy, env), History(policy.temporal.history)
    columns = columns_of(policy.observation_spec, env.scene.observation_spec)
    seen: list[NDArray[np.float32]] = []
    try:
        observation, _ = env.reset(seed=[seed + i for i in range(episodes)])
        for _ in range(env.horizon_steps):
            frame = observation.astype(np.float32)
            seen.append(history.push(frame[:, columns]))
            observation = env.step(actor.act(frame))[0]
    finally:
        actor.close()
        env.close()
    return list(np.stack(seen, axis=1))
