"""Trainings as a person sees them: live figures of one, many at once in processes of their own, sweeps."""
