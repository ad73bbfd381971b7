"""The newest version of each signer's policy that was configured here: an older one is refused from then on.

`policy_versions.json` in the configuration folder holds `SIGNER/NAME: version`. It only ever rises. A file that cannot
be read refuses every policy: starting anew would let an older one in.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sealegs_contract.errors import BundleError
from sealegs_contract.robot import FrozenModel
from sealegs_deploy.bundle import VerifiedBundle
from sealegs_deploy.manifest import BUNDLE_NAME
from sealegs_deploy.own_files import locked, replace_file
from sealegs_deploy.signing import configuration_folder

MAXIMUM_BYTES = 1024 * 1024


class _Memory(FrozenModel):
    schema_version: Literal[1] = 1
    newest: Mapping[
        Annotated[str, Field(pattern=f"^[0-9a-f]{{16}}/{BUNDLE_NAME}$")], Annotated[int, Field(ge=0, strict=True)]
    ] = {}


def versions_path() -> Path:
    """Where the versions are remembered; it need not exist."""
    return configuration_folder() / "policy_versions.json"


@contextlib.contextmanager
def no_rollback(bundle: VerifiedBundle, allow_rollback: bool = False) -> Iterator[None]:
    """Around configuring `bundle`: refuse it when a newer version ran here, and remember it once it was configured.

    Under `allow_rollback` the memory is neither asked nor changed. Raises BundleError.
    """
    if allow_rollback:
        yield
        return
    check_version(bundle)
    yield
    remember_version(bundle)


def check_version(bundle: VerifiedBundle) -> None:
    """BundleError when a higher version of this signer's policy of this name was configured here."""
    newest = _read(versions_path()).get(_name(bundle), 0)
    if bundle.manifest.version < newest:
        raise BundleError(
            f"{bundle.path}: version {bundle.manifest.version} of {bundle.manifest.name} is older than {newest}, which "
            f"ran here before ({versions_path()}); to go back on purpose, set allow_rollback:=true"
        )


def remember_version(bundle: VerifiedBundle) -> None:
    """Raise this policy's newest version to that of `bundle`."""
    path, name = versions_path(), _name(bundle)
    try:
        with locked(path.parent):
            newest = dict(_read(path))
            if bundle.manifest.version > newest.get(name, -1):
                newest[name] = bundle.manifest.version
                content = _Memory(newest=newest).model_dump(mode="json")
                replace_file(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise BundleError(
            f"cannot remember in {path} which version ran here ({error.strerror}); make the folder writable, "
            "choose another with XDG_CONFIG_HOME, or do without and set allow_rollback:=true"
        ) from error


def _name(bundle: VerifiedBundle) -> str:
    return f"{bundle.key_id}/{bundle.manifest.name}"


def _read(path: Path) -> Mapping[str, int]:
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
        if len(data) > MAXIMUM_BYTES:
            raise ValueError(f"larger than {MAXIMUM_BYTES} bytes")
        return _Memory.model_validate(json.loads(data)).newest
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        first = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BundleError(
            f"{path}, which remembers the versions that ran here, cannot be read ({first}); mend it, or delete it if "
            "every version may run again"
        ) from error
