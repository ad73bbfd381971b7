"""MuJoCo scenes, tasks, gymnasium envs, the vectorised env and the robot node's simulated backend."""
