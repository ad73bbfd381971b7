"""The rows of the catalogue: what injects each fault, and what it counts."""
