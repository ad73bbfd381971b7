"""The `sealegs` command: sits on top of all packages and imports them lazily."""
