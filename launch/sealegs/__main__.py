"""`python -m sealegs`."""

from sealegs.cli import entry_point

entry_point()
