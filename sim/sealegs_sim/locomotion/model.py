"""Loading gymnasium's models as they are, without a word about what only their makers can change."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mujoco

from sealegs_contract.errors import SimulationError

DEPRECATED = "compiler attribute 'settotalmass' is deprecated"
"""HalfCheetah has it. Doing without (mj_setTotalmass) leaves another `stat.meaninertia`, at which the solver stops."""


def load_model(path: Path) -> mujoco.MjModel:
    """The model in an XML file. SimulationError where it does not load."""
    with _unsaid(DEPRECATED):
        try:
            return mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise SimulationError(f"{path} does not load: {error}") from error


@contextmanager
def _unsaid(beginning: str) -> Iterator[None]:
    """MuJoCo's warnings that begin so are dropped; others go where they went, or to Python's where nobody listens.

    By itself MuJoCo prints each and appends it to MUJOCO_LOG.TXT. Its handler is one for the whole process.
    """
    before = mujoco.get_mju_user_warning()

    def handle(text: str) -> None:
        if text.startswith(beginning):
            return
        if before is not None:
            before(text)
        else:
            warnings.warn(f"MuJoCo: {text}", RuntimeWarning, stacklevel=2)

    mujoco.set_mju_user_warning(handle)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
