"""The guard under fuzzed commands, judged by an oracle that shares no code with it."""
