"""What a learner learns from: logs, the simulation, or one after the other; each session advances and resumes."""
