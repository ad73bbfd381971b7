"""Judges: which of two frames shows more progress on a task. Import what you need from the modules."""
