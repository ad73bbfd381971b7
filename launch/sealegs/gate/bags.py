"""Recorded bags as the gate replays them: episodes with their samples in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sealegs_contract.episode import EpisodeInfo, Outcome
from sealegs_contract.errors import BagError
from sealegs_contract.robot import RobotProfile
from sealegs_deploy.certificate import ExaminedBag
from sealegs_deploy.gate_replay import GateEpisode
from sealegs_deploy.manifest import Manifest
from sealegs_learning.data.bag import Bag, find_bags
from sealegs_learning.data.episodes import BagCounts, read_episodes

SUCCEEDED = {Outcome.SUCCESS: True, Outcome.FAILURE: False, Outcome.ABORTED: False}


@dataclass(frozen=True)
class Recording:
    """What the gate replays, the bags with their digests, and what of them could not be used."""

    episodes: tuple[GateEpisode, ...]
    bags: tuple[ExaminedBag, ...]
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def read_recording(paths: Sequence[Path], manifest: Manifest, robot: RobotProfile) -> Recording:
    """All episodes of the bags at `paths` (bags, or folders of bags), without those that were discarded.

    A bag of another profile of the robot is refused: its limits are not the ones that the policy will meet. Raises
    BagError for a bag that cannot be read, and where nothing is left.
    """
    episodes: list[GateEpisode] = []
    bags: list[ExaminedBag] = []
    notes: list[str] = []
    found = find_bags(paths)
    for path in found:
        bag, counts = Bag(path), BagCounts()
        info, profile = bag.metadata()
        if profile is not None and profile.digest != robot.digest:
            raise BagError(
                f"{path} was recorded with another profile of robot {profile.name} (digest {profile.digest[:12]}) than "
                f"{robot.name}'s here ({robot.digest[:12]})"
            )
        info = info or EpisodeInfo(task="", task_text="", robot=robot.name, profile_digest=robot.digest)
        inside = list(read_episodes(bag, info, counts, manifest.observation.streams, None, {}))
        for number, episode in enumerate(inside):
            if episode.discarded:
                notes.append(f"{path.name}: a discarded episode was left out")
                continue
            name = path.name if len(inside) == 1 else f"{path.name}:{number}"
            episodes.append(GateEpisode(name, episode.samples, SUCCEEDED.get(episode.info.outcome)))
        notes += [*(f"{path.name}: {damage}" for damage in bag.problems.damage), *counts.notes]
        bags.append(ExaminedBag(name=path.name, sha256=bag.sha256(), episodes=len(inside)))
    if not episodes:
        raise BagError(f"{len(found)} bag(s), but no episode with joint_states in them")
    return Recording(tuple(episodes), tuple(bags), tuple(found), tuple(notes))
