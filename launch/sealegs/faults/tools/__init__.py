"""Child processes, servers and data that experiments use."""
