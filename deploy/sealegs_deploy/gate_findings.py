"""What the gate found: figures over all episodes and by episode, as they stand in report and certificate."""

from __future__ import annotations

from sealegs_contract.robot import Finite, FrozenModel

Measured = Finite | None
"""None: not measured."""


class ValueFigures(FrozenModel):
    """Off-policy values from the record, in the reward's unit, with 95% bootstrap intervals."""

    reward: str
    policy: Finite
    policy_interval: tuple[Finite, Finite]
    record: Finite
    record_interval: tuple[Finite, Finite]
    gain: Finite
    gain_interval: tuple[Finite, Finite]


class Figures(FrozenModel):
    """What was measured over all episodes; gate.yaml says what each is."""

    episodes: int
    periods: int
    minutes: Finite
    unarmed_episodes: int
    policy_holds: int
    stream_holds: int
    stream_holds_per_minute: Measured
    support_alarmed: Measured
    support_alarmed_low: Measured
    refused_samples: int
    limited_share: Measured
    saturated_share: Measured
    saturation_excess: Measured
    jump_ratio: Measured
    acceleration_q99: Measured
    correlation: Measured
    predictable: Measured
    agreement: Measured
    explained: Measured
    bias: Measured
    weakest_joint: Measured
    foreign_joints: int | None
    size_ratio: Measured
    slope: Measured
    repetition: Measured
    sensitivity: Measured
    loop_gain: Measured
    inference_p50_ms: Measured
    inference_p99_ms: Measured
    inference_max_ms: Measured
    inference_budget_share: Measured
    normalisation_mismatch: Measured = None
    input_shift: Measured = None
    input_spread: Measured = None
    renormalised_gain: Measured = None
    value_gain_high: Measured = None
    value: ValueFigures | None = None
    value_note: str = ""

    def with_value(self, value: ValueFigures | None, note: str) -> Figures:
        """With an off-policy value, or with the reason why there is none."""
        high = value.gain_interval[1] if value else None
        return self.model_copy(update={"value": value, "value_gain_high": high, "value_note": note})


class EpisodeFigures(FrozenModel):
    """What was measured in one episode."""

    name: str
    succeeded: bool | None
    periods: int
    limited_share: Measured
    saturated_share: Measured
    correlation: Measured
    jump_ratio: Measured
    policy_holds: tuple[str, ...]
    stream_holds: tuple[str, ...]
    support_alarmed: bool
    inference_p99_ms: Measured
