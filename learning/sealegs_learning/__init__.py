"""Datasets, judges, rewards, learners and evaluation."""
