"""Run a ROS 2 launch file (XML) where only pip is installed: sealegs launch sim task:=push."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sealegs_contract.errors import LaunchError


@dataclass(frozen=True)
class Config:
    """FILE and its arguments."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A launch file, or the name of a shipped one (sim, record, policy)."""
    arguments: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME:=VALUE ...")] = ()
    """Arguments of the launch file, each as name:=value."""
    show_args: Annotated[bool, tyro.conf.arg(aliases=["-s"]), tyro.conf.FlagCreatePairsOff] = False
    """List the arguments of the file, and start nothing."""
    log_dir: Path | None = None
    """Also write each process's output to a file in this folder."""


def run(config: Config) -> int:
    """Start the processes of the file and stay until they end or Ctrl-C."""
    from sealegs.launching.evaluate import declared_arguments
    from sealegs.launching.session import LaunchSession, run_session

    if config.show_args:
        path, arguments = declared_arguments(config.file)
        print(f"Arguments of {path}, given as name:=value:")
        for argument in arguments:
            default = "required" if argument.default is None else f"default: {str(argument.default)!r}"
            choices = f", one of {', '.join(argument.choices)}" if argument.choices else ""
            print(f"  {argument.name} ({default}{choices})\n      {argument.description or 'no description'}")
        return 0
    values: dict[str, str] = {}
    for text in config.arguments:
        name, separator, value = text.partition(":=")
        if not separator or not name:
            raise LaunchError(f"argument {text!r} is not understood; expected name:=value")
        values[name] = value
    session = LaunchSession(config.file, values, log_dir=config.log_dir)
    check_bundles(session.plan.declared("policy_path"), values)
    return run_session(session)


def check_bundles(serves_policy: bool, values: Mapping[str, str]) -> None:
    """Refuse a bundle that cannot run before anything is started; the policy node checks it again.

    Raises BundleError. A robot may lack what verifies bundles only if it serves none.
    """
    if not serves_policy:
        return
    from sealegs_deploy.bundle import load_bundle

    keys = [key for key in values.get("trusted_keys", "").split(":") if key]
    candidate = values.get("candidate_path", "")
    for path in (values["policy_path"], *([candidate] if candidate else [])):
        load_bundle(path, keys)
