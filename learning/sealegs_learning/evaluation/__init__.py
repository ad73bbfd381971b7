"""What a policy is worth: rollouts in simulation, values from logs alone, rankings."""
