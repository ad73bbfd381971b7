"""How a training runs: configuration, the run and its checkpoints, grids of settings, policy cards."""
