"""Rewards: learned from preferences, or built in (`true`, `constant`); versioned sidecars beside the dataset."""
