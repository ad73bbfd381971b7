"""Check an SROS2 keystore without ROS: files, modes, certificates, signatures, and what each enclave may do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Options of `sealegs security check`."""

    keystore: Annotated[Path, tyro.conf.Positional]
    """Keystore: of `sealegs security init`, or one that `ros2 security` wrote or added to."""
    show: bool = False
    """Also list every DDS topic that each enclave may publish and read."""


def run(config: Config) -> int:
    """0 when it is sound. Raises SecurityError naming everything that is not."""
    from sealegs.security.check import check_keystore
    from sealegs_contract.errors import SecurityError

    report = check_keystore(config.keystore)
    if report.problems:
        raise SecurityError(f"{config.keystore} is not sound: {'; '.join(report.problems)}")
    for enclave, granted in report.permissions.items():
        until = f"{granted.validity.end:%Y-%m-%d}"
        print(f"{enclave}: may publish {len(granted.publish)} and read {len(granted.subscribe)} DDS topics, to {until}")
        if config.show:
            for verb, names in (("publish", granted.publish), ("read", granted.subscribe)):
                print("\n".join(f"  {verb} {name}" for name in sorted(names)))
    for note in report.notes:
        print(note)
    print(f"may command the robot: {', '.join(report.commanders) or 'nobody'}")
    print(f"{config.keystore} is sound")
    return 0
