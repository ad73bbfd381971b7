"""Rows about a bundle's files: bits flipped, another set than the signed one, files swapped while they are read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sealegs.faults.counting import Seen, outcome
from sealegs.faults.frame import Fault, Outcome, Trials
from sealegs.faults.hostile.signed import Signer, accepted, expected_action, first_action, policy_files
from sealegs.faults.live.nodes import isolated
from sealegs.faults.tools.children import child
from sealegs_contract.errors import BundleError
from sealegs_deploy.bundle import VerifiedBundle, zip_bytes
from sealegs_deploy.manifest import MANIFEST_NAME, POLICY_NAME
from sealegs_deploy.rollback import no_rollback
from sealegs_deploy.signing import SIGNATURE_NAME

NAMES = (MANIFEST_NAME, POLICY_NAME, SIGNATURE_NAME)
OLD, NEW = 1, 2
AGREEMENT_RAD = 1e-5
Trick = Callable[[Path, Path, int], Path]
"""Changes the bundle folder, given another one of the same signer and a number; what to load in its place."""


def flip_bits(trials: Trials) -> Outcome:
    """A bit anywhere in a file of the folder or in the .zip; every file is hit equally often."""
    signer = Signer.new()
    folder = signer.write(policy_files(0), trials.folder / "flipped")
    archive = signer.write(policy_files(0), trials.folder / "flipped.zip")
    seen = []
    for trial in range(trials.count):
        file = (*(folder / name for name in NAMES), archive)[trial % 4]
        sound = file.read_bytes()
        flipped = bytearray(sound)
        bit = int(np.random.default_rng(trial).integers(8 * len(sound)))
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        bundle = archive if file is archive else folder
        seen.append(Seen(accepted(lambda bundle=bundle: signer.load(bundle))))  # type: ignore[misc]
        file.write_bytes(sound)
        trials.progress(trial + 1, trials.count)
    for bundle in (folder, archive):
        signer.run(bundle)
    return outcome(seen, [f"of {NAMES} and the .zip, {folder.name}: {_total(folder)} bytes"])


def change_file_set(trials: Trials) -> Outcome:
    """One trick of TRICKS each, in turn."""
    signer, seen = Signer.new(), []
    with isolated(trials.folder / "configuration"):
        newer = signer.write(policy_files(1, NEW), trials.folder / "newer")
        with no_rollback(signer.load(newer)):
            pass
        for trial in range(trials.count):
            name, trick = list(TRICKS.items())[trial % len(TRICKS)]
            place = trials.folder / "trick"
            shutil.rmtree(place, ignore_errors=True)
            folder = signer.write(policy_files(0, NEW), place / "bundle")
            other = signer.write(policy_files(1, OLD), place / "other")
            signer.run(folder)
            path = trick(folder, other, trial // len(TRICKS))
            failure = accepted(lambda path=path: _configure(signer, path))  # type: ignore[misc]
            seen.append(Seen(f"{name}: {failure}" if failure else ""))
            trials.progress(trial + 1, trials.count)
    return outcome(seen, [f"{len(TRICKS)} tricks, in turn: {', '.join(TRICKS)}"])


def _configure(signer: Signer, path: Path) -> None:
    """As the policy node does: verified, not older than what ran here, and started."""
    bundle = signer.load(path)
    with no_rollback(bundle):
        first_action(bundle)


def _extra(name: str) -> Trick:
    def trick(bundle: Path, other: Path, trial: int) -> Path:
        (bundle / name).write_bytes(b"extra")
        return bundle

    return trick


def _extra_folder(bundle: Path, other: Path, trial: int) -> Path:
    (bundle / "folder").mkdir()
    return bundle


def _missing(bundle: Path, other: Path, trial: int) -> Path:
    (bundle / NAMES[trial % 3]).unlink()
    return bundle


def _renamed(bundle: Path, other: Path, trial: int) -> Path:
    file = bundle / NAMES[trial % 3]
    file.rename(file.with_name(file.name.upper()))
    return bundle


def _symlinked(bundle: Path, other: Path, trial: int) -> Path:
    file = bundle / NAMES[trial % 3]
    file.rename(bundle.parent / "elsewhere")
    file.symlink_to(bundle.parent / "elsewhere")
    return bundle


def _symlinked_bundle(bundle: Path, other: Path, trial: int) -> Path:
    alias = bundle.with_name("alias")
    alias.symlink_to(bundle)
    return alias


def _hard_linked(bundle: Path, other: Path, trial: int) -> Path:
    os.link(bundle / NAMES[trial % 3], bundle.parent / "elsewhere")
    return bundle


def _pipe(bundle: Path, other: Path, trial: int) -> Path:
    file = bundle / NAMES[trial % 3]
    file.unlink()
    os.mkfifo(file)
    return bundle


def _older_file(bundle: Path, other: Path, trial: int) -> Path:
    name = NAMES[trial % 3]
    shutil.copyfile(other / name, bundle / name)
    return bundle


def _all_but_one_older(bundle: Path, other: Path, trial: int) -> Path:
    for name in NAMES:
        if name != NAMES[trial % 3]:
            shutil.copyfile(other / name, bundle / name)
    return bundle


def _names_swapped(bundle: Path, other: Path, trial: int) -> Path:
    first, second = (bundle / NAMES[(trial + offset) % 3] for offset in range(2))
    first.rename(bundle / "between")
    second.rename(first)
    (bundle / "between").rename(second)
    return bundle


def _older_version(bundle: Path, other: Path, trial: int) -> Path:
    return other


def _zip(change: Callable[[dict[str, bytes], Mapping[str, bytes], int], None]) -> Trick:
    """The .zip of the bundle's files, changed."""

    def trick(bundle: Path, other: Path, trial: int) -> Path:
        files, others = ({name: (folder / name).read_bytes() for name in NAMES} for folder in (bundle, other))
        change(files, others, trial)
        path = bundle.with_suffix(".zip")
        path.write_bytes(zip_bytes(files))
        return path

    return trick


TRICKS: dict[str, Trick] = {
    "extra file": _extra("notes.txt"),
    "hidden file": _extra(".hidden"),
    "extra data file": _extra("policy.onnx.data"),
    "extra folder": _extra_folder,
    "missing file": _missing,
    "renamed file": _renamed,
    "file behind a symlink": _symlinked,
    "bundle behind a symlink": _symlinked_bundle,
    "hard-linked file": _hard_linked,
    "pipe in place of a file": _pipe,
    "file of an older bundle": _older_file,
    "all but one file of an older bundle": _all_but_one_older,
    "two files swapped": _names_swapped,
    "older version than ran before": _older_version,
    "zip: extra file": _zip(lambda files, others, trial: files.update({"notes.txt": b"extra"})),
    "zip: missing file": _zip(lambda files, others, trial: files.__delitem__(NAMES[trial % 3])),
    "zip: file of an older bundle": _zip(
        lambda files, others, trial: files.update({NAMES[trial % 3]: others[NAMES[trial % 3]]})
    ),
    "zip: older version": _zip(lambda files, others, trial: files.update(others)),
}


def swap_files(trials: Trials) -> Outcome:
    """A third after the verification, the others by a process that swaps all the time: in a folder, and a .zip."""
    signer, seen, ran = Signer.new(), [], 0
    sets = [policy_files(seed, version=seed) for seed in (OLD, NEW)]
    folder = signer.write(sets[0], trials.folder / "swapped")
    archive = signer.write(sets[0], trials.folder / "swapped.zip")
    shutil.copyfile(archive, trials.folder / "spare.zip")
    spares = [signer.write(files, trials.folder / f"spare{number}") for number, files in enumerate(sets)]
    quiet = signer.write(sets[0], trials.folder / "quiet")
    with child(_swapping, folder, archive, spares):
        while archive.read_bytes() == (trials.folder / "spare.zip").read_bytes():
            time.sleep(0.01)
        for trial in range(trials.count):
            path = (quiet, folder, archive)[trial % 3]
            try:
                bundle = signer.load(path)
            except BundleError:
                seen.append(Seen(value=0.0))  # caught in the middle of a swap
                continue
            ran += 1
            if path is quiet:
                _disturb(quiet, spares, trial)
            wrong = _wrong(bundle)
            seen.append(Seen("other bytes than the verified ones ran" if wrong else "", float(wrong)))
            if path is quiet:
                signer.write(sets[0], quiet)
            trials.progress(trial + 1, trials.count)
    return outcome(seen, [f"{ran} of {trials.count} were verified and ran; the others were refused in mid-swap"])


def _wrong(bundle: VerifiedBundle) -> bool:
    """Whether another graph runs than the one that was verified with this manifest."""
    difference = np.abs(first_action(bundle) - expected_action(bundle.manifest.version))
    return bool(difference.max() > AGREEMENT_RAD)


def _disturb(bundle: Path, spares: list[Path], trial: int) -> None:
    """Between verification and start: another policy, garbage, an empty file, or nothing at all in its place."""
    file = bundle / POLICY_NAME
    content = ((spares[1] / POLICY_NAME).read_bytes(), b"garbage", b"", None)[trial // 3 % 4]
    if content is None:
        shutil.rmtree(bundle)
    else:
        file.write_bytes(content)


def _swapping(folder: Path, archive: Path, spares: list[Path]) -> None:
    """Until killed: the files of either bundle in turn, replaced or rewritten in place, and their .zip."""
    contents = [{name: (spare / name).read_bytes() for name in NAMES} for spare in spares]
    temporary, rng = folder.parent / "swapping", np.random.default_rng(0)
    for turn in range(1, 1 << 62):
        files = contents[turn % 2]
        for path, content in (*((folder / name, files[name]) for name in NAMES), (archive, zip_bytes(files))):
            if turn % 4 < 2:
                temporary.write_bytes(content)
                temporary.replace(path)
            else:
                path.write_bytes(content)
        time.sleep(rng.uniform(0.0, 4e-3))


def _total(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


FAULTS: tuple[Fault, ...] = (
    Fault(21, "2,000 bit flips over all bundle files", "refuse", 2000, 40, flip_bits),
    Fault(
        22, "extra, missing, linked, older or swapped file", "refuse", 10 * len(TRICKS), len(TRICKS), change_file_set
    ),
    Fault(
        24, "file swapped after verification", "run the verified bytes", 1200, 30, swap_files, "swaps loaded", "== 0"
    ),
)
