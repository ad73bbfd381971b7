"""The support of the training data: how unlike it an observation is, with thresholds of a known false-alarm rate."""
