"""Updates per second of the arms of `bench iql`, sampling included, in blocks that take turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sealegs.bench.frame import CellContext
from sealegs.bench.iql_arms import (
    BATCH,
    BFLOAT16,
    CORL,
    D3RLPY,
    EAGER,
    LEARNING_RATE,
    PEER,
    SEALEGS,
    SETTINGS,
    corl_file,
    d3rlpy_request,
    make_learner,
    new_actor,
)
from sealegs.bench.iql_data import Logs
from sealegs.bench.peers import SCRIPTS
from sealegs_contract.errors import MachineError
from sealegs_learning.files import write_json
from sealegs_learning.learners.base import Learner
from sealegs_learning.learners.graphed import GraphedUpdates
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.iql_many import ManyIQL
from sealegs_learning.transitions import Transitions

Timed = Callable[[int, int], float]
"""(threads, updates) -> seconds."""
MANY, MANY_MEMBERS = "sealegs, 16 runs as one", 16


def measure(
    logs: Logs, context: CellContext, rounds: int, block: int, threads: Sequence[int]
) -> dict[str, dict[str, list[float]]]:
    """Updates per second by number of threads and arm, one figure a round."""
    device = context.options.device
    found: dict[str, dict[str, list[float]]] = {}
    with _peers(logs, context, device) as peers:
        arms: dict[str, Timed] = {arm: _ours(arm, logs.transitions().to(device)) for arm in (SEALEGS, BFLOAT16, EAGER)}
        arms |= peers
        if device != "cpu":
            arms[MANY] = _many(logs.transitions().to(device))
        names = list(arms)
        for number in threads:
            for arm in arms.values():
                arm(number, max(block // 4, 5))
            rates: dict[str, list[float]] = {name: [] for name in names}
            for k in range(rounds):
                for name in names[k % len(names) :] + names[: k % len(names)]:
                    members = MANY_MEMBERS if name == MANY else 1
                    rates[name].append(members * block / arms[name](number, block))
                context.progress(k + 1, rounds)
            found[str(number)] = rates
    torch.set_num_threads(1)
    return found


def _ours(arm: str, transitions: Transitions) -> Timed:
    learner, generator = make_learner(arm, transitions, 1_000_000, 0), torch.Generator().manual_seed(1)
    device = transitions.packed.device
    if transitions.packed.is_cuda and isinstance(learner, Learner):
        graphed = GraphedUpdates(learner, transitions, BATCH)
        return _on_gpu(lambda updates: graphed.advance([generator], updates))

    def run(threads: int, updates: int) -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for _ in range(updates):
            learner.update(transitions.rows(transitions.draw(generator, BATCH)[0].to(device)), measured=False)
        if transitions.packed.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return run


def _many(transitions: Transitions) -> Timed:
    """Sixteen seeds as one batched model, on a GPU."""
    members = []
    for seed in range(MANY_MEMBERS):
        policy, generator = new_actor(transitions, seed)
        policy.to(transitions.packed.device)
        members.append(IQL(policy, SETTINGS, LEARNING_RATE, 1_000_000, generator))
    graphed = GraphedUpdates(ManyIQL(members), transitions, BATCH, MANY_MEMBERS)
    generators = [torch.Generator().manual_seed(seed + 1) for seed in range(MANY_MEMBERS)]
    return _on_gpu(lambda updates: graphed.advance(generators, updates))


def _on_gpu(advance: Callable[[int], Any]) -> Timed:
    def run(_threads: int, updates: int) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        advance(updates)
        torch.cuda.synchronize()
        return time.perf_counter() - began

    return run


@contextmanager
def _peers(logs: Logs, context: CellContext, device: str) -> Iterator[dict[str, Timed]]:
    """d3rlpy, and CORL where its file is, each in its own process, which computes only when asked."""
    request = context.folder / "speed_request.json"
    write_json(request, d3rlpy_request(logs, context.folder, 1_000_000, 0, device))
    python = PEER.python(context.options.peers_folder)
    commands = {D3RLPY: [str(python), str(SCRIPTS / "d3rlpy_iql.py"), str(request), "-"]}
    file = corl_file(context.options.peers_folder)
    if file.is_file():
        commands[CORL] = [sys.executable, str(SCRIPTS / "corl_iql.py"), str(file), str(request)]
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(_asked(name, command, context.folder / f"{name.lower()}.log"))
            for name, command in commands.items()
        }


@contextmanager
def _asked(name: str, command: Sequence[str], log: Path) -> Iterator[Timed]:
    """A peer's process that says `ready`, and then for each line `THREADS UPDATES` the seconds they took."""
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True) as process,
    ):
        questions, answers = process.stdin, process.stdout
        if questions is None or answers is None:
            raise MachineError(f"peer {name}: no pipes to its process")

        def answer() -> str:
            line = answers.readline().strip()
            if not line:
                raise MachineError(f"peer {name} ended early: see {log}")
            return line

        def timed(threads: int, updates: int) -> float:
            try:
                questions.write(f"{threads} {updates}\n")
                questions.flush()
            except BrokenPipeError as error:
                raise MachineError(f"peer {name} ended early: see {log}") from error
            return float(answer())

        try:
            while answer() != "ready":
                pass
            yield timed
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # what it never read
                questions.close()
