"""One module a verb. Each holds `Config` (a frozen dataclass that tyro reads) and `run(config) -> int`."""
