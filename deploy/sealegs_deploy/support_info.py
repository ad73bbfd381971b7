"""What the manifest says of support.onnx."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sealegs_contract.robot import FrozenModel, Positive

SUPPORT_NAME = "support.onnx"
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]


class SupportInfo(FrozenModel):
    """support.onnx: how unlike the training data an observation is, and the scores at which to slow and to stop.

    In go `observation` and `previous` (that of the period before), float32 (batch, history * D), raw; out comes
    `score` float32 (batch,). The median of the newest `window` scores decides. At most `false_alarms` of the episodes
    that are exchangeable with the calibration ones pass `hold`, and at most `slow_downs` pass `slow` at all.
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
        return (
            f"{self.kind}, fitted on {self.episodes[0]} episodes; at most {self.false_alarms:.2g} of episodes hold "
            f"falsely, {self.slow_downs:.2g} slow down (over {self.episodes[2]} {self.calibrated_on})"
        )
