"""How the embedded judge is made and measured: sentences, simulated frames, training, evaluation."""

import sealegs_sim  # noqa: F401 - chooses the OpenGL library, which must happen before MuJoCo is imported
