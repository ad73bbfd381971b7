"""Trains and evaluates stable-baselines3's PPO: python ppo_stable_baselines3.py REQUEST.json ANSWER.json."""

import json
import sys
import time
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize


class Curve(BaseCallback):
    """[steps, mean return of the last 100 episodes] after every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[float]] = []

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer
        if episodes:
            self.rows.append([self.num_timesteps, float(np.mean([episode["r"] for episode in episodes]))])

    def _on_step(self) -> bool:
        return True


def train(request: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The model, its envs, and what learning took."""
    s = request["settings"]
    envs = VecNormalize(
        make_vec_env(request["env"], n_envs=s["envs"], seed=request["seed"]),
        norm_reward=s["normalise_rewards"],
        gamma=s["gamma"],
    )
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=s["horizon"],
        batch_size=s["batch_size"],
        n_epochs=s["epochs"],
        learning_rate=s["learning_rate"],
        gamma=s["gamma"],
        gae_lambda=s["lam"],
        clip_range=s["clip"],
        vf_coef=s["value_weight"],
        ent_coef=s["entropy_weight"],
        max_grad_norm=s["max_gradient_norm"],
        policy_kwargs={"net_arch": list(s["hidden"]), "activation_fn": torch.nn.Tanh},
        seed=request["seed"],
        device="cpu",
    )
    curve, wall, cpu = Curve(), time.perf_counter(), time.process_time()
    model.learn(s["steps"], callback=curve)
    spent = {"train_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return model, envs, {**spent, "steps": int(model.num_timesteps), "curve": curve.rows}


def evaluate(model: Any, envs: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Returns of episodes with the mean action; episode i starts from seed + i."""
    env, returns, successes = gymnasium.make(request["env"]), [], []
    for i in range(request["episodes"]):
        observation, info = env.reset(seed=request["evaluate_seed"] + i)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(envs.normalize_obs(observation), deterministic=True)
            observation, reward, terminated, truncated, info = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        successes.append(bool(info.get("success", False)))
    return {"returns": returns, "successes": successes}


def main() -> None:
    """Train, evaluate, write the answer."""
    request_path, answer_path = sys.argv[1:]
    with open(request_path, encoding="utf-8") as stream:
        request = json.load(stream)
    torch.set_num_threads(1)
    sys.path[:0] = request["paths"]
    if request["env"].startswith("Sealegs/"):
        import sealegs_sim  # noqa: F401 - registers the ids
    model, envs, answer = train(request)
    answer |= evaluate(model, envs, request)
    answer["version"] = stable_baselines3.__version__
    with open(answer_path, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)


if __name__ == "__main__":
    main()
