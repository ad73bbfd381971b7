"""What the manifest says of support.onnx."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sealegs_contract.robot import FrozenModel, Positive

SUPPORT_NAME = "support.onnx"
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]


class SupportCalibration(FrozenModel):
    """What the thresholds promise for episodes like these: the share that passes, on average and 95% sure."""

    on: str
    episodes: Annotated[int, Field(ge=1)]
    false_alarms: Rate
    slow_downs: Rate
    false_alarms_sure: Rate

    @property
    def line(self) -> str:
        """For people."""
        return f"at most {self.false_alarms:.2g} of episodes like {self.episodes} {self.on}"


class SupportInfo(FrozenModel):
    """support.onnx: how unlike the training data an observation is, and the scores at which to slow and to stop.

    In go `observation` and `previous` (that of the period before), float32 (batch, history * D), raw; out comes
    `score` float32 (batch,). The median of the newest `window` scores decides. At most `false_alarms` of the episodes
    that are exchangeable with the calibration ones pass `hold`, and at most `slow_downs` pass `slow` at all: of several
    `calibrations` (none are named in bundles of before) these are the loosest.
    """

    file: Literal["support.onnx"] = "support.onnx"
    kind: str
    slow: Positive
    hold: Positive
    lowest_speed: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    window: Annotated[int, Field(ge=1, le=64)] = 5
    false_alarms: Rate
    slow_downs: Rate
    episodes: tuple[int, int, int]
    calibrated_on: str
    calibrations: tuple[SupportCalibration, ...] = ()
    dataset_fingerprint: str = ""
    opset: int
    inputs: Annotated[int, Field(ge=1)]
    max_relative_difference: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _ordered(self) -> SupportInfo:
        if not self.slow < self.hold:
            raise ValueError(f"it slows at {self.slow:g} and holds at {self.hold:g}; expected slow below hold")
        return self

    @property
    def line(self) -> str:
        """For people."""
        promised = ", ".join(one.line for one in self.calibrations) or (
            f"at most {self.false_alarms:.2g} of episodes (over {self.episodes[2]} {self.calibrated_on})"
        )
        return f"{self.kind}, fitted on {self.episodes[0]} episodes; holds falsely in {promised}"
