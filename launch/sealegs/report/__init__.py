"""The report of a run: its summary (what the demo measured) and one self-contained HTML page about it."""
