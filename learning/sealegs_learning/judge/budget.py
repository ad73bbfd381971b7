"""A budget that cannot be overdrawn: money and requests are reserved before a request is sent, and settled after it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sealegs_contract.errors import JudgeError


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class BudgetSpentError(JudgeError):
    """The next request could exceed the budget; all answers so far are in the ledger."""


class Budget:
    """Counts requests and money of one run, from many threads. A limit of None is no limit.

    A request that fails counts as a query, because it was sent; it costs money only when the server reported usage.
    """

    def __init__(self, maximum_queries: int | None = None, maximum_cost_usd: float | None = None) -> None:
        self.maximum_queries, self.maximum_cost_usd = maximum_queries, maximum_cost_usd
        self.queries, self.cost_usd = 0, 0.0
        self._reserved_usd = 0.0
        self._lock = threading.Lock()

    def reserve(self, estimate_usd: float) -> None:
        """Book one request that may cost up to `estimate_usd`; raises BudgetSpentError when it does not fit."""
        with self._lock:
            if self.maximum_queries is not None and self.queries >= self.maximum_queries:
                raise BudgetSpentError(
                    f"the budget of {self.maximum_queries} queries is spent; answers so far are kept in the ledger: "
                    "run again with a larger --max-queries to go on"
                )
            booked = self.cost_usd + self._reserved_usd + estimate_usd
            if self.maximum_cost_usd is not None and booked > self.maximum_cost_usd:
                raise BudgetSpentError(
                    f"the budget of {self.maximum_cost_usd:g} USD is spent ({self.cost_usd:.6f} USD so far, next "
                    f"request up to {estimate_usd:.6f}); answers so far are kept in the ledger: run again with a "
                    "larger --max-cost"
                )
            self.queries += 1
            self._reserved_usd += estimate_usd

    def settle(self, estimate_usd: float, cost_usd: float) -> None:
        """Replace a reservation by what the request really cost."""
        with self._lock:
            self._reserved_usd = max(0.0, self._reserved_usd - estimate_usd)
            self.cost_usd += cost_usd
