"""The gymnasium ids Sealegs/Reach-v0, Sealegs/Push-v0 and Sealegs/Drawer-v0."""

from __future__ import annotations

ENV_IDS = {"reach": "Sealegs/Reach-v0", "push": "Sealegs/Push-v0", "drawer": "Sealegs/Drawer-v0"}


def register_envs() -> None:
    """Register the ids, once. The time limit is the env's own (`truncated` at the task's horizon)."""
    try:
        from gymnasium.envs.registration import register, registry
    except ModuleNotFoundError:
        return  # tasks, scenes and the backend work without gymnasium
    for task, env_id in ENV_IDS.items():
        if env_id not in registry:
            register(
                id=env_id,
                entry_point="sealegs_sim.env:SealegsEnv",
                vector_entry_point="sealegs_sim.vector:BatchEnv",
                kwargs={"task": task},
            )
