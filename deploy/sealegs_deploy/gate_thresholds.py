"""What a policy must keep to: thresholds from YAML, and the verdict line of each."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from sealegs_contract.errors import BundleError, available
from sealegs_contract.robot import Finite, FrozenModel, safe_yaml
from sealegs_deploy.gate_probe import SensorNoise

MAXIMUM_BYTES = 64 * 1024
DEFAULT_NAME = "gate.yaml"
Limit = Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None
"""null switches a line off."""


class Thresholds(FrozenModel):
    """One field a verdict; what each figure is stands in gate.yaml. The shipped file names every one of them."""

    schema_version: Literal[1] = 1
    episodes_min: Limit
    unarmed_episodes_max: Limit
    policy_holds_max: Limit
    stream_holds_per_minute_max: Limit
    support_alarmed_max: Limit
    limited_share_max: Limit
    saturation_excess_max: Limit
    jump_ratio_max: Limit
    agreement_min: Limit
    explained_min: Annotated[float, Field(allow_inf_nan=False)] | None
    bias_max: Limit
    weakest_joint_min: Limit
    foreign_joints_max: Limit
    size_ratio_min: Limit
    size_ratio_max: Limit
    slope_min: Limit
    slope_max: Limit
    repetition_max: Limit
    sensitivity_max: Limit
    loop_gain_max: Limit
    normalisation_mismatch_max: Limit = None
    input_shift_max: Limit = None
    input_spread_max: Limit = None
    renormalised_gain_max: Limit = None
    inference_budget_share_max: Limit
    value_gain_min: Annotated[float, Field(allow_inf_nan=False)] | None
    may_be_missing: tuple[str, ...] = ()
    foreign_joint_margin: Annotated[float, Field(ge=0.0, le=2.0)]
    noise: SensorNoise = SensorNoise()

    @model_validator(mode="after")
    def _known(self) -> Thresholds:
        unknown = [name for name in self.may_be_missing if name not in RULES]
        if unknown:
            raise ValueError(f"may_be_missing names {', '.join(unknown)}; {available(RULES)}")
        if all(getattr(self, name) is None for name in RULES):
            raise ValueError("every threshold is null: there is nothing to judge by; give at least one a limit")
        return self


class Verdict(FrozenModel):
    """One line: the figure (None: not measured), its limit, and whether it keeps to it."""

    threshold: str
    meaning: str
    value: Finite | None
    limit: Finite
    at_least: bool
    passed: bool

    @property
    def text(self) -> str:
        """`0.31 <= 0.4`, for people."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{value} (must be {'>=' if self.at_least else '<='} {self.limit:g})"


RULES: dict[str, tuple[str, str]] = {
    # threshold: (figure, what it is in words)
    "episodes_min": ("episodes", "recorded episodes replayed"),
    "unarmed_episodes_max": ("unarmed_episodes", "episodes in which the controller never acted"),
    "policy_holds_max": ("policy_holds", "holds that the policy caused: refused outputs, overruns"),
    "stream_holds_per_minute_max": ("stream_holds_per_minute", "holds a minute for streams that the policy needs"),
    "support_alarmed_max": ("support_alarmed_low", "episodes with support alarms, lower end of the 95% interval"),
    "limited_share_max": ("limited_share", "periods in which the guard changed the command"),
    "saturation_excess_max": ("saturation_excess", "actions at full scale, beyond the record's share"),
    "jump_ratio_max": ("jump_ratio", "change of action a period, over the record's"),
    "agreement_min": ("agreement", "correlation with the record, over a linear fit's"),
    "explained_min": ("explained", "share of the record's actions that is explained"),
    "bias_max": ("bias", "mean difference of a joint's action from the record's, in its deviations"),
    "weakest_joint_min": ("weakest_joint", "correlation with the record of the joint that has least"),
    "foreign_joints_max": ("foreign_joints", "joints that follow another joint's record"),
    "size_ratio_min": ("size_ratio", "size of the actions, over the record's"),
    "size_ratio_max": ("size_ratio", "size of the actions, over the record's"),
    "slope_min": ("slope", "recorded action per action of the policy"),
    "slope_max": ("slope", "recorded action per action of the policy"),
    "repetition_max": ("repetition", "difference between two answers to the same observation"),
    "sensitivity_max": ("sensitivity", "change of action under sensor noise, of full scale"),
    "loop_gain_max": ("loop_gain", "gain from joint position to command, rad/rad"),
    "normalisation_mismatch_max": ("normalisation_mismatch", "the graph's normalisation against the manifest's"),
    "input_shift_max": ("input_shift", "mean of a normalised input over the bags, in training deviations"),
    "input_spread_max": ("input_spread", "deviation of a normalised input over the bags, in training deviations"),
    "renormalised_gain_max": ("renormalised_gain", "what the bags' own normalisation would mend, as ln of the error"),
    "inference_budget_share_max": ("inference_budget_share", "inference here (p99) over the bundle's budget"),
    "value_gain_min": ("value_gain_high", "value less the record's, upper end of its 95% interval"),
}

# threshold: what else its figure depends on, beside policy and bags.
MEASURED_WITH = {
    "foreign_joints_max": "foreign_joint_margin",
    "sensitivity_max": "noise",
    "input_shift_max": "noise",
    "input_spread_max": "noise",
    "renormalised_gain_max": "noise",
}


def judge(figures: FrozenModel, thresholds: Thresholds) -> tuple[Verdict, ...]:
    """A verdict for every threshold that is on. What was not measured fails unless it may be missing."""
    lines = []
    for name, (figure, meaning) in RULES.items():
        limit = getattr(thresholds, name)
        if limit is None:
            continue
        value = getattr(figures, figure)
        at_least = name.endswith("_min")
        kept = value is not None and (value >= limit if at_least else value <= limit)
        passed = kept or (value is None and name in thresholds.may_be_missing)
        lines.append(
            Verdict(threshold=name, meaning=meaning, value=value, limit=limit, at_least=at_least, passed=passed)
        )
    return tuple(lines)


def failures(figures: FrozenModel, used: Thresholds, asked: Thresholds) -> list[str]:
    """What figures that were measured under `used` lack for `asked`, in words: figure, value, bound.

    A figure that was measured with another margin or noise than `asked` has is another figure: it is no answer.
    """
    lines = [f"{line.threshold}: {line.text}" for line in judge(figures, asked) if not line.passed]
    for setting in dict.fromkeys(MEASURED_WITH.values()):
        names = [name for name, by in MEASURED_WITH.items() if by == setting and getattr(asked, name) is not None]
        given, wanted = getattr(used, setting), getattr(asked, setting)
        if names and given != wanted:
            lines.append(f"{', '.join(names)}: measured with {setting} {given} (must be {wanted})")
    return lines


@cache
def default_thresholds() -> Thresholds:
    """The shipped ones."""
    return parse_thresholds(default_text(), DEFAULT_NAME)


def default_text() -> str:
    """The shipped file, with what each threshold is for: copy it to make your own."""
    return resources.files("sealegs_deploy").joinpath(DEFAULT_NAME).read_text(encoding="utf-8")


def load_thresholds(path: Path) -> Thresholds:
    """Thresholds from a YAML file; what it leaves out is as shipped. Raises BundleError naming the problem."""
    if not path.is_file():
        raise BundleError(f"no thresholds at {path}")
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAXIMUM_BYTES:
        raise BundleError(f"{path}: more than the {MAXIMUM_BYTES} bytes that thresholds may have")
    return parse_thresholds(data.decode("utf-8", errors="replace"), str(path), default_thresholds())


def parse_thresholds(text: str, source: str, base: Thresholds | None = None) -> Thresholds:
    """Thresholds from YAML text, over those of `base`."""
    try:
        content = safe_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BundleError(f"{source}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{source}: expected names with values, got {type(content).__name__}")
    whole: dict[str, Any] = (base.model_dump() if base else {}) | content
    try:
        return Thresholds.model_validate(whole)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "thresholds"
        known = f"; {available(Thresholds.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise BundleError(f"{source}: {where}: {first['msg']}{known}") from error
