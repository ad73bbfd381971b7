"""Writes sb3_update.json: one PPO update of stable-baselines3's own code on fixed data, with all that went in and out.

Run it with the interpreter of an environment that has stable-baselines3:  python record_sb3.py
"""

import json
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

OBSERVATIONS, ACTIONS, HIDDEN, STEPS, ENVS = 3, 2, 4, 8, 2
SETTINGS = {
    "gamma": 0.97, "lam": 0.9, "clip": 0.2, "epochs": 4, "learning_rate": 0.01, "value_weight": 0.5,
    "entropy_weight": 0.003, "max_gradient_norm": 0.5,
}  # fmt: skip


class Space(gymnasium.Env):
    """Only the spaces matter: the rollout is filled in by hand."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (OBSERVATIONS,), np.float32)
    action_space = gymnasium.spaces.Box(-10.0, 10.0, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(OBSERVATIONS, np.float32), {}

    def step(self, action):
        return np.zeros(OBSERVATIONS, np.float32), 0.0, False, False, {}


def weights(model: PPO) -> dict:
    return {name: tensor.tolist() for name, tensor in model.policy.state_dict().items()}


def main() -> None:
    torch.set_num_threads(1)
    s = SETTINGS
    model = PPO(
        "MlpPolicy", DummyVecEnv([Space] * ENVS), n_steps=STEPS, batch_size=STEPS * ENVS, n_epochs=s["epochs"],
        learning_rate=s["learning_rate"], gamma=s["gamma"], gae_lambda=s["lam"], clip_range=s["clip"],
        vf_coef=s["value_weight"], ent_coef=s["entropy_weight"], max_grad_norm=s["max_gradient_norm"], seed=5,
        policy_kwargs={"net_arch": [HIDDEN, HIDDEN]}, device="cpu",
    )  # fmt: skip
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((STEPS, ENVS, OBSERVATIONS)).astype(np.float32)
    action = rng.standard_normal((STEPS, ENVS, ACTIONS)).astype(np.float32)
    reward = rng.standard_normal((STEPS, ENVS)).astype(np.float32)
    terminated = rng.random((STEPS, ENVS)) < 0.2
    last = rng.standard_normal((ENVS, OBSERVATIONS)).astype(np.float32)
    shift = 0.3 * rng.standard_normal((STEPS, ENVS)).astype(np.float32)  # so that ratios are clipped at once
    before, log_probs, starts = weights(model), [], np.ones(ENVS)
    with torch.no_grad():
        for t in range(STEPS):
            value, log_prob, _ = model.policy.evaluate_actions(
                torch.from_numpy(observation[t]), torch.from_numpy(action[t])
            )
            log_probs.append((log_prob + torch.from_numpy(shift[t])).tolist())
            model.rollout_buffer.add(
                observation[t], action[t], reward[t], starts, value.flatten(), torch.tensor(log_probs[-1])
            )
            starts = terminated[t]
        last_value = model.policy.predict_values(torch.from_numpy(last)).flatten()
    model.rollout_buffer.compute_returns_and_advantage(last_value, terminated[-1])
    advantage, target = model.rollout_buffer.advantages.copy(), model.rollout_buffer.returns.copy()
    model.train()
    logged = {name.removeprefix("train/"): float(value) for name, value in model.logger.name_to_value.items()}
    content = {
        "versions": {"stable-baselines3": stable_baselines3.__version__, "torch": torch.__version__},
        "settings": s, "hidden": [HIDDEN, HIDDEN], "observation": observation.tolist(), "action": action.tolist(),
        "reward": reward.tolist(), "terminated": terminated.tolist(), "last_observation": last.tolist(),
        "log_prob": log_probs, "before": before, "advantage": advantage.tolist(), "target": target.tolist(),
        "logged": logged, "after": weights(model),
    }  # fmt: skip
    Path(__file__).with_name("sb3_update.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
