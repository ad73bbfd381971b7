"""Labels of a dataset: preferences on pairs of its rows, beside it as DATASET/labels/NAME.parquet and NAME.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sealegs_contract.errors import DatasetError, available
from sealegs_learning.files import replaced_file, write_json

SCHEMA_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class LabelledDataset(Protocol):
    """What labels need to know of a dataset."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of its content."""
        ...


@dataclass(frozen=True, slots=True)
class Labels:
    """Preferences on pairs of global rows; arrays are (pairs,).

    `status` is "ok" where there is a label; else why there is none: tie, refusal, malformed or disagreement (of the
    two orders). `abstain` is true exactly there, and such pairs must not train anything.
    """

    index_a: NDArray[np.int64]
    index_b: NDArray[np.int64]
    probability_b_better: NDArray[np.float64]
    abstain: NDArray[np.bool_]
    status: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.index_a)

    def counts(self) -> dict[str, int]:
        """Pairs by status."""
        names, numbers = np.unique(self.status, return_counts=True)
        return {str(name): int(number) for name, number in zip(names, numbers, strict=True)}


def labels_folder(dataset: LabelledDataset) -> Path:
    """Where a dataset's labels and ledger lie."""
    return Path(dataset.path) / "labels"


def checked_name(name: str) -> str:
    """`name` if it can name a label set; raises DatasetError."""
    if not _NAME.fullmatch(name):
        raise DatasetError(f"a label set's name has up to 64 letters, digits, '_', '.', '-', got {name!r}")
    return name


def write_labels(dataset: LabelledDataset, name: str, labels: Labels, report: Mapping[str, Any]) -> Path:
    """Write both files, each whole or not at all; the JSON comes last and names the parquet's digest."""
    path = labels_folder(dataset) / f"{checked_name(name)}.parquet"
    table = pa.table(
        {
            "index_a": pa.array(labels.index_a, pa.int64()),
            "index_b": pa.array(labels.index_b, pa.int64()),
            "probability_b_better": pa.array(labels.probability_b_better, pa.float64()),
            "abstain": pa.array(labels.abstain, pa.bool_()),
            "status": pa.array(labels.status.tolist(), pa.string()),
        }
    )
    with replaced_file(path) as temporary:
        pq.write_table(table, temporary)
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "dataset_fingerprint": dataset.fingerprint,
        "labels_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "counts": labels.counts(),
        **report,
    }
    write_json(path.with_suffix(".json"), content)
    return path


def read_labels(dataset: LabelledDataset, name: str) -> Labels:
    """A label set of this dataset; DatasetError when it is missing, damaged, or made for other data."""
    report = read_label_report(dataset, name)
    path = labels_folder(dataset) / f"{name}.parquet"
    try:
        content = path.read_bytes()
        table = pq.read_table(pa.BufferReader(content))
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path}: not readable as labels ({str(error).splitlines()[0]})") from error
    if hashlib.sha256(content).hexdigest() != report["labels_sha256"]:
        raise DatasetError(
            f"{path} is not the file that {name}.json describes; label again: sealegs label --name {name}"
        )
    if report["dataset_fingerprint"] != dataset.fingerprint:
        raise DatasetError(
            f"labels {name} were made for dataset {report['dataset_fingerprint'][:12]}, but {dataset.path} is "
            f"{dataset.fingerprint[:12]}; label again: sealegs label --name {name}"
        )
    return Labels(
        table["index_a"].to_numpy(),
        table["index_b"].to_numpy(),
        table["probability_b_better"].to_numpy(),
        table["abstain"].to_numpy(),
        np.array(table["status"].to_pylist(), dtype=np.str_),
    )


def read_label_report(dataset: LabelledDataset, name: str) -> dict[str, Any]:
    """NAME.json: judge, options, counts, accuracy where truth is known, and what it took."""
    folder = labels_folder(dataset)
    path = folder / f"{checked_name(name)}.json"
    if not path.is_file():
        raise DatasetError(
            f"{dataset.path} has no labels {name!r}; {available(p.stem for p in folder.glob('*.parquet'))}"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["schema_version"] != SCHEMA_VERSION:
            raise DatasetError(f"{path}: version {report['schema_version']}; this Sealegs knows {SCHEMA_VERSION}")
        return dict(report)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not a label report ({error})") from error
