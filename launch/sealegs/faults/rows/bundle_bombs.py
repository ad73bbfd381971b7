"""Row about files that are made to escape, to swell or to run: each is opened in a child process with a limit."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile import bundles as hostile
from sealegs.faults.hostile.bundles import ESCAPE, Make, checkpoint, endless, header, profile, replaced, zip_with
from sealegs.faults.hostile.signed import Signer, accepted
from sealegs.faults.tools.children import MIB, answer
from sealegs_deploy.bundle import load_bundle
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME
from sealegs_deploy.runtime import PolicyRuntime
from sealegs_deploy.signing import SIGNATURE_NAME

LIMIT_MIB = 2048
LIMIT_S = 60.0
NAMES = (
    f"../{ESCAPE}",
    f"../../../../../../../../tmp/{ESCAPE}",
    f"/tmp/{ESCAPE}",
    f"folder/../../{ESCAPE}",
    f"..\\{ESCAPE}",
    f"C:\\{ESCAPE}",
    f"{ESCAPE}\0.json",
    f"{ESCAPE}/",
    f"./{ESCAPE}",
    f"..\N{DIVISION SLASH}{ESCAPE}",
    "",
    POLICY_NAME,
    POLICY_NAME.upper(),
)


def bombs(trials: Trials) -> Outcome:
    """One of CASES each, in turn; a trial's value is the memory that it took at most."""
    signer, seen = Signer.new(), []
    for trial in range(trials.count):
        kind, name, make = CASES[trial * len(CASES) // trials.count % len(CASES)]
        place = trials.folder / "hostile"
        shutil.rmtree(place, ignore_errors=True)
        (place / "given").mkdir(parents=True)
        path = make(signer, place / "given")
        before = _tree(place)
        found = answer(attempt, kind, path, signer.key.public_key, limit_mib=LIMIT_MIB, timeout_s=LIMIT_S)
        failure, seconds, peak_mib = found.value or (found.error, LIMIT_S, float(LIMIT_MIB))
        if _tree(place) != before or _escaped():
            failure = "it wrote or ran something"
        seen.append(Seen(f"{name}: {failure}" if failure else "", peak_mib, {"time to refuse, s": seconds}))
        trials.progress(trial + 1, trials.count)
    return outcome(seen, [f"{len(CASES)} kinds of files; each child may take {LIMIT_MIB} MiB and {LIMIT_S:g} s"])


def attempt(kind: str, path: Path, public_key: str) -> tuple[str, float, float]:
    """In the child: what it did instead of refusing; seconds; peak memory, in MiB above that before."""
    opener = _opener(kind, public_key)
    # Sets the peak back to what is in use (proc(5)): imports do not count.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _peak_mib(), time.perf_counter()
    failure = accepted(lambda: opener(path))
    return failure, time.perf_counter() - started, max(0.0, _peak_mib() - before)


def _opener(kind: str, public_key: str) -> Callable[[Path], object]:
    """What reads that kind of file, with all that it needs imported."""
    if kind == "checkpoint":
        from sealegs_learning.training.checkpoint import load_checkpoint

        return load_checkpoint
    if kind == "profile":
        from sealegs_contract.robot import load_robot

        return load_robot
    import onnx
    import onnxruntime

    del onnx, onnxruntime
    return lambda path: PolicyRuntime(load_bundle(path, trusted_public_keys=(public_key,)))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def _tree(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(parent, name))
            found.append((os.path.join(parent, name), status.st_size, status.st_mtime_ns))
    return sorted(found)


def _escaped() -> bool:
    return any((folder / ESCAPE).exists() for folder in (Path.cwd(), Path.cwd().parent, Path("/tmp")))


def _cases() -> list[tuple[str, str, Make]]:
    """Kind of file, name, and how to make it."""
    found: list[tuple[str, str, Make]] = [
        ("bundle", f"zip entry {name!r}", partial(zip_with, name=name)) for name in NAMES
    ]
    found += [
        ("bundle", "zip entry that is a link", partial(zip_with, name="link", data=b"/etc/passwd", mode=0o120777)),
        ("bundle", "zip bomb", hostile.deflated),
        ("bundle", "zip bomb of overlapping entries", hostile.overlapping),
        ("bundle", "zip with 500,000 entries", hostile.many_entries),
        ("bundle", "zip entry of -1 bytes", partial(hostile.wrong_sizes, size=-1)),
        ("bundle", "zip entry of 2 GiB", partial(hostile.wrong_sizes, size=1 << 31)),
        ("bundle", "zip64 entry of -1 bytes", hostile.zip64),
        ("bundle", "largest zip", hostile.largest),
        ("bundle", "zip with a prefix", hostile.prefixed),
        ("bundle", "zip of a tebibyte", partial(endless, name="")),
        ("bundle", "folder of 5,000 files", hostile.crowded),
    ]
    for name in (POLICY_NAME, MANIFEST_NAME, SIGNATURE_NAME):
        signs = name != SIGNATURE_NAME
        found += [
            ("bundle", f"{name} of a tebibyte", partial(endless, name=name)),
            ("bundle", f"zip as {name}", partial(replaced, name=name, data=hostile.nested_zip, signs=signs)),
            ("bundle", f"pickle as {name}", partial(replaced, name=name, data=hostile.pickled, signs=signs)),
            ("bundle", f"deep JSON as {name}", partial(replaced, name=name, data=hostile.deep, signs=signs)),
            ("bundle", f"200,000 digits as {name}", partial(replaced, name=name, data=hostile.digits, signs=signs)),
        ]
    for make in (hostile.huge_tensor, hostile.swelling_graph, hostile.deep_graph):
        found.append(("bundle", make.__name__, partial(replaced, name=POLICY_NAME, data=make)))
    for make in (
        hostile.alias_bomb,
        hostile.merge_bomb,
        hostile.yaml_call,
        hostile.deep,
        hostile.digits,
        hostile.pickled,
    ):
        found.append(("profile", f"robot profile: {make.__name__}", partial(profile, data=make)))
    headers = {
        "of 2^63 bytes": partial(header, claimed=1 << 63),
        "of 90 MB": partial(header, text=b'{"__metadata__":{"a":"' + b" " * 90_000_000 + b'"}}'),
        "of 200 MB": partial(header, text=b" " * 200_000_000),
        "that is deep": partial(header, text=b'{"a":' * 100_000),
        "beyond the file": partial(
            header, text=b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
        ),
    }
    for name, weights in headers.items():
        found.append(("checkpoint", f"safetensors header {name}", partial(checkpoint, weights=weights)))
    found += [
        ("checkpoint", "pickle as weights", partial(checkpoint, weights=hostile.pickled)),
        ("checkpoint", "deep JSON", partial(checkpoint, weights=hostile.pickled, description=b"[" * 100_000)),
    ]
    return found


CASES = _cases()

FAULTS: tuple[Fault, ...] = (
    Fault(
        25,
        "zip-slip, zip or YAML bomb, pickle, huge header",
        "refuse, and write nothing",
        len(CASES),
        12,
        bombs,
        "MiB of memory at the peak",
        f"<= {LIMIT_MIB}",
    ),
)
