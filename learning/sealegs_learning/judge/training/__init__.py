"""How the embedded judge is made and measured: sentences, simulated frames, training, evaluation."""
