"""`sealegs VERB ...`: finds the verb's module, reads its options, and turns errors into one line.

Only the chosen verb's module is imported, so help answers at once and a robot without torch can run what it needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import itertools
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType

COMMANDS: dict[str, tuple[str, str]] = {
    # verb: (module in sealegs.commands, one line of help), in the order of the main job
    "demo": ("demo", "run the main job end to end: collect, label, learn, export, drive the robot over ROS 2"),
    "test": ("test", "run the test suite (from a checkout)"),
    "doctor": ("doctor", "say what this machine has and lacks, with the fix for each"),
    "collect": ("collect", "write simulated episodes as bags, faster than real time and without DDS"),
    "import": ("import_", "turn bags into a dataset (LeRobot v3 layout)"),
    "info": ("info", "show a bag, dataset, bundle, checkpoint or demo run"),
    "judge train": ("judge_train", "train the embedded judge in simulation"),
    "judge evaluate": ("judge_evaluate", "measure a judge against true progress"),
    "label": ("label", "ask a judge for preferences on pairs of frames of a dataset"),
    "reward": ("reward", "learn a reward from labels and write it beside the dataset as a sidecar"),
    "train": ("train", "train a policy from a dataset, or by PPO in simulation"),
    "sweep": ("sweep", "train and evaluate a grid of settings with several seeds, and rank them with intervals"),
    "evaluate": ("evaluate", "run policies in simulation and report success and return with intervals"),
    "fqe": ("fqe", "estimate from logs alone what policies are worth, with intervals"),
    "export": ("export", "turn a checkpoint into a signed ONNX bundle"),
    "gate": ("gate", "replay recorded bags through a bundle in the real controller, and refuse what fails"),
    "verify": ("verify", "check a bundle's signature and digests"),
    "keys list": ("keys_list", "show your own signing keys and the signers that you trust"),
    "keys make": ("keys_make", "make a signing key of your own"),
    "keys trust": ("keys_trust", "trust a signer's public key"),
    "keys revoke": ("keys_revoke", "trust a signer no longer"),
    "security init": ("security_init", "write an SROS2 keystore with least-privilege permissions for the nodes"),
    "security check": ("security_check", "check an SROS2 keystore: files, certificates, signatures, permissions"),
    "launch": ("launch", "run a ROS 2 launch file (XML) where only pip is installed"),
    "drive": ("drive", "run closed-loop episodes of a bundle over ROS 2 against the simulated robot node"),
    "view": ("view", "look at a task in the simulator, with a scripted or trained policy"),
    "report": ("report", "write one self-contained HTML page about a run"),
    "faults": ("faults", "inject the faults of the safety catalogue into real nodes, and count what they do"),
    "bench": ("bench", "measure one of the benches, resumably, with its results file and pictures"),
}

PURPOSE = "From robot logs without rewards to a policy running safely on the robot."
SEEDS = range(1 << 32)
VERDICTS = frozenset({"gate"})
"""Verbs whose 1 says no: an error of ours is a 2 there, so that it is no verdict."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0 fine, 1 our fault (of VERDICTS: no), 2 what the user can mend."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if set(arguments[1:]) <= {"-h", "--help", "help"} and _below(arguments[0]):
        print(usage(arguments[0]))
        return 0
    if arguments[0] in {"-V", "--version"}:
        from importlib.metadata import version

        print(f"sealegs {version('sealegs')}")
        return 0
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    verb = " ".join(arguments[:words])
    if verb not in COMMANDS:
        return _fail(f"unknown command {verb!r}; {_suggestion(verb)}")
    return _run_verb(verb, arguments[words:], debug)


def _run_verb(verb: str, arguments: list[str], debug: bool) -> int:
    from sealegs_contract.errors import SealegsError

    try:
        module = importlib.import_module(f"sealegs.commands.{COMMANDS[verb][0]}")
        if getattr(module, "PASSES_ARGUMENTS_ON", False) and not {"-h", "--help"} & set(arguments):
            arguments = ["--", *arguments]
        config = _parse(module, verb, arguments)
        _check_seeds(config)
        return int(module.run(config) or 0)
    except SealegsError as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if debug:
            traceback.print_exc()
        return _fail(
            f"{error}; install what this verb needs, for example: pip install 'sealegs[{_extra_of(error.name or '')}]'"
        )
    except BrokenPipeError:
        raise  # entry_point's business
    except OSError as error:
        if debug:
            traceback.print_exc()
        from sealegs.os_errors import advice

        return _fail(advice(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = 2 if verb in VERDICTS else 1
        return _fail(
            f"internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)", code
        )


def _parse(module: ModuleType, verb: str, arguments: list[str]) -> object:
    """The verb's options as its frozen Config. A mistake in them becomes one line, like all others."""
    import tyro

    from sealegs_contract.errors import SealegsError

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(module.Config, args=arguments, prog=f"sealegs {verb}", description=module.__doc__)
    except SystemExit as stop:
        if stop.code:
            # tyro draws a box: its words, without the frame and the title in it.
            lines = (line.strip(" │─╰╯") for line in complaint.getvalue().splitlines() if not line.startswith("╭"))
            raise SealegsError("; ".join(" ".join(words) for words in _paragraphs(lines))) from None
        raise


def _check_seeds(config: object, prefix: str = "--") -> None:
    """SealegsError on a seed of any verb that numpy's generators, torch's or a ROS parameter would not take."""
    from sealegs_contract.errors import SealegsError

    for field in dataclasses.fields(config) if dataclasses.is_dataclass(config) else ():
        value, name = getattr(config, field.name), prefix + field.name.replace("_", "-")
        _check_seeds(value, f"{name}.")
        if name.endswith(("seed", "seeds")):
            for seed in value if isinstance(value, tuple) else (value,):
                if seed is not None and seed not in SEEDS:
                    raise SealegsError(f"{name} must be from 0 to 2^32 - 1, got {seed}")


def _paragraphs(lines: Iterable[str]) -> list[list[str]]:
    """Runs of lines that are not empty."""
    return [list(run) for filled, run in itertools.groupby(lines, key=bool) if filled]


def usage(word: str = "") -> str:
    """The page that `sealegs --help` prints; with a `word`, of the verbs that begin with it."""
    shown = _below(word) if word else list(COMMANDS)
    width = max(map(len, shown))
    verbs = "\n".join(f"  {verb:<{width}}  {COMMANDS[verb][1]}" for verb in shown)
    head = f"{word} VERB [options]" if word else f"VERB [options]\n\n{PURPOSE}"
    hint = "`sealegs VERB --help` shows a verb's options; --debug shows tracebacks; --version the version."
    return f"usage: sealegs {head}\n\n{verbs}\n\n{hint}"


def _below(verb: str) -> list[str]:
    """The verbs that begin with the word `verb` and go on."""
    return [name for name in COMMANDS if name.startswith(f"{verb} ")]


def _suggestion(verb: str) -> str:
    import difflib

    if below := _below(verb):
        return f"there are {', '.join(map(repr, below))}"
    close = difflib.get_close_matches(verb, COMMANDS, n=1)
    return f"did you mean {close[0]!r}?" if close else "`sealegs --help` lists them"


_EXTRAS = {
    "mujoco": "sim",
    "gymnasium": "sim",
    "rclpy": "ros",
    "onnxruntime": "runtime",
    "cryptography": "runtime",
}


def _extra_of(module: str) -> str:
    root = module.split(".")[0]
    return "ros" if root.endswith("_msgs") else _EXTRAS.get(root, "learning")


def _fail(message: str, code: int = 2) -> int:
    print(f"sealegs: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def entry_point() -> None:
    """Console script."""
    # A closed pipe (`sealegs info x | head`) is no error worth a traceback.
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    entry_point()
