"""Answer-token probabilities to a soft label."""

from __future__ import annotations

from collections.abc import Mapping

from sealegs_learning.judge.base import Preference, Provenance, abstention

# Below this share of probability on the three answers, the model was about to say something else.
MINIMUM_ANSWER_MASS = 0.5


def soft_preference(mass: Mapping[str, float], raw: str, provenance: Provenance) -> Preference | None:
    """P(B better) = P(1) / (P(0) + P(1)) from the probabilities of the first answer token.

    `mass` maps token texts to probabilities; "-" counts as the start of -1. A tie wins when it is the likeliest of the
    three. None when the three answers together hold less than half: then the text must be read instead.
    """
    p: dict[str, float] = {"0": 0.0, "1": 0.0, "-1": 0.0}
    for token, probability in mass.items():
        answer = {"-": "-1"}.get(token.strip(), token.strip())
        if answer in p:
            p[answer] += probability
    if sum(p.values()) < MINIMUM_ANSWER_MASS:
        return None
    if p["-1"] >= max(p["0"], p["1"]):
        return abstention("tie", raw, provenance)
    return Preference(min(1.0, p["1"] / (p["0"] + p["1"])), raw=raw, provenance=provenance)


def hard_preference(verdict: str, raw: str, provenance: Provenance) -> Preference:
    """A parsed verdict as a preference: 0 or 1, or an abstention of its own kind."""
    match verdict:
        case "first":
            return Preference(0.0, raw=raw, provenance=provenance)
        case "second":
            return Preference(1.0, raw=raw, provenance=provenance)
        case "tie":
            return abstention("tie", raw, provenance)
        case "refusal":
            return abstention("refusal", raw, provenance)
    return abstention("malformed", raw, provenance)


def vote(answers: list[Preference], provenance: Provenance) -> Preference:
    """Several sampled answers to one: the share of decided votes for B; a tie or nothing decided abstains.

    Not decided by votes that could not be read: when most votes abstain, the commonest reason is the status.
    """
    raw = " | ".join(answer.raw for answer in answers)
    decided = [answer.probability_b_better for answer in answers if not answer.abstain]
    if 2 * len(decided) <= len(answers):
        reasons = [answer.status for answer in answers if answer.abstain]
        return abstention(max(sorted(set(reasons)), key=reasons.count), raw, provenance)
    share = sum(decided) / len(decided)
    return abstention("tie", raw, provenance) if share == 0.5 else Preference(share, raw=raw, provenance=provenance)
