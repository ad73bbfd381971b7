"""The sections of the page, one function each: a part of the summary in, HTML out (empty where it lacks)."""

from __future__ import annotations

from pathlib import Path

from sealegs.report import charts, html, images, svg
from sealegs.report.summary import Arm, Film, Interval, LabelBin, RosSummary, Strip, Summary, Timing
from sealegs_learning.results import Claim

STRIP_FRAMES = 7
FILM_FRAMES = 240
LATENCY_TARGET_MS = 10.0
AGE_IN_SIMULATION = (
    "The age is 0 ms because this run kept simulated time, which stands still between two ticks: an observation is "
    "used in the tick that made it. Under wall time (use_sim_time:=false) it is the delay from the robot's stamp."
)


def duration(seconds: float) -> str:
    """`0.42 s`, `41 s`, `12 min 5 s`, `2 h 3 min`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: float | None) -> str:
    """Four significant digits, or a dash where nothing is known."""
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def interval_text(interval: Interval | None) -> str:
    """`[0.79, 0.92]`, or a dash."""
    return "\N{EN DASH}" if interval is None else f"[{interval[0]:.4g}, {interval[1]:.4g}]"


def heading(run: Summary) -> str:
    """The title and the key figures."""
    facts = [run.name, run.robot, run.started, duration(run.seconds), "" if run.status == "complete" else "interrupted"]
    title = run.task_text or run.task or run.name
    subtitle = " \N{MIDDLE DOT} ".join(fact for fact in facts if fact)
    brand = html.paragraph(f"Sealegs {run.version}", "brand")
    top = f"{brand}<h1>{html.escape(title[:1].upper() + title[1:])}</h1>{html.paragraph(subtitle, 'soft')}"
    small = "A quick run: every stage ran, with numbers so small that the figures mean little."
    note = html.paragraph(small) if run.arguments.get("quick") else ""
    return f"<header>{top}{note}{html.tiles(_key_figures(run))}</header>\n"


def _key_figures(run: Summary) -> list[tuple[str, str]]:
    items = []
    if run.ros is not None:
        items.append((charts.percent(run.ros.rate), f"success over ROS 2, {run.ros.episodes} closed-loop episodes"))
    if run.labels is not None and run.labels.accuracy is not None:
        items.append(
            (charts.percent(run.labels.accuracy), "of the judge's answers are right, where frames clearly differ")
        )
    if run.ros is not None and run.ros.command_latency is not None:
        latency = run.ros.command_latency.p99_ms
        items.append((f"{latency:.1f} ms", "observation to command, 99th percentile"))
    if run.claims:
        items.append((f"{sum(c.holds for c in run.claims)} of {len(run.claims)}", "claims hold"))
    return items


def claims(run: Summary) -> str:
    """What was promised, and what came out."""
    if not run.claims:
        return ""
    rows = [(c.claim, number(c.value), interval_text(c.interval), c.target, _verdict(c)) for c in run.claims]
    table = html.table(("claim", "value", "95 % interval", "target", "verdict"), rows, numeric={1, 2, 3})
    return html.section("Claims", "Each target was set before the run; the verdict is computed from the value.", table)


def _verdict(claim: Claim) -> tuple[str, str]:
    return ("\N{CHECK MARK} holds", "holds") if claim.holds else ("\N{MULTIPLICATION X} does not hold", "fails")


def what_was_run(run: Summary) -> str:
    """Stages with seconds; machine, arguments and versions behind a click."""
    rows = [(s.name, f"{s.seconds:.1f}", _details(s.details)) for s in run.stages]
    stages = html.table(("stage", "seconds", "details"), rows, numeric={1}) if rows else ""
    lead = f"{duration(run.seconds)} in all. "
    lead += f"To run it again: {run.command}" if run.command else ""
    folds = [
        html.folded(title, html.pairs([(name, _plain(value)) for name, value in content.items()]))
        for title, content in (("Machine", run.machine), ("Arguments", run.arguments), ("Versions", run.versions))
        if content
    ]
    return html.section("What was run", lead.strip(), stages, *folds)


def _details(details: object) -> str:
    items = details.items() if isinstance(details, dict) else ()
    return ", ".join(f"{name} {_plain(value)}" for name, value in items)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def data(run: Summary) -> str:
    """What the logs hold."""
    if run.data is None:
        return ""
    d = run.data
    facts = [
        ("episodes", f"{d.episodes}, from {d.bags} bags; {d.recorded_live} recorded through the live ROS 2 graph"),
        ("rows", f"{d.rows:,}"),
        ("success", f"{charts.percent(d.success_rate)} of the episodes"),
        ("outcomes", ", ".join(f"{name} {count}" for name, count in d.outcomes.items())),
        ("operators", ", ".join(f"{name} {count}" for name, count in d.operators.items())),
    ]
    lead = "Recorded episodes of unequal quality. No bag and no row of the dataset carries a reward."
    return html.section("The data", lead, html.pairs([(name, text) for name, text in facts if text]))


def labels(run: Summary) -> str:
    """How often the judge was right, and where it abstained."""
    if run.labels is None:
        return ""
    part = run.labels
    apart = f" on pairs that differ by more than {part.minimum_difference:g}" if part.minimum_difference else ""
    right = "" if part.accuracy is None else f" {charts.percent(part.accuracy)} of its answers{apart} were right"
    right += (
        f" (95 % interval {charts.percent_range(part.interval)})." if right and part.interval else "." if right else ""
    )
    lead = (
        f"The judge ({part.judge}) saw {part.pairs} pairs of camera frames and the task sentence, "
        f"and abstained on {part.abstained}.{right}"
    )
    figures = html.cards(_accuracy_figure(part.bins), _coverage_figure(part.bins)) if part.bins else ""
    return html.section("The labels", lead, figures, _bin_table(part.bins))


def _accuracy_figure(bins: tuple[LabelBin, ...]) -> str:
    body, height = charts.label_accuracy(bins)
    drawing = svg.drawing(charts.WIDTH, height, body, "label accuracy by difference in true progress")
    return html.figure(drawing, "Accuracy over answered pairs, with 95 % intervals. Close pairs are hard for anyone.")


def _coverage_figure(bins: tuple[LabelBin, ...]) -> str:
    body, height = charts.label_coverage(bins)
    drawing = svg.drawing(charts.WIDTH, height, body, "pairs answered and abstained by difference in true progress")
    return html.figure(drawing, "Pairs asked. Where the judge is not sure it abstains, and the pair is dropped.")


def _bin_table(bins: tuple[LabelBin, ...]) -> str:
    if not bins:
        return ""
    rows = [
        (f"{b.low:g} to {b.high:g}", str(b.pairs), str(b.abstained), number(b.accuracy), interval_text(b.interval))
        for b in bins
    ]
    head = ("true difference", "pairs", "abstained", "accuracy", "95 % interval")
    return html.folded("The same in numbers", html.table(head, rows, numeric={1, 2, 3, 4}))


def reward(run: Summary, run_dir: Path) -> str:
    """The learned reward over film strips."""
    if run.reward is None:
        return ""
    part = run.reward
    facts = [
        (part.held_out_accuracy, "agrees with {} of the judge's held-out answers", True),
        (part.spearman, "Spearman correlation with true progress {}", False),
        (part.pearson, "Pearson {}", False),
    ]
    figures = [text.format(charts.percent(v) if share else f"{v:.3f}") for v, text, share in facts if v is not None]
    lead = f"{part.members} networks learned one reward from the answers: " + "; ".join(figures) + "."
    lead = lead if figures else f"{part.members} networks learned one reward from the answers."
    return html.section("The reward", lead, *(_strip_figure(strip, run_dir) for strip in part.strips))


def _strip_figure(strip: Strip, run_dir: Path) -> str:
    body, height, missing = strip_body(strip, run_dir)
    title = f"Episode {strip.episode}: {strip.outcome}"
    note = f" ({missing} of {len(strip.frames)} frames are missing from the run folder)" if missing else ""
    return html.figure(svg.drawing(charts.STRIP_WIDTH, height, body, title), title + note, wide=True)


def strip_body(strip: Strip, run_dir: Path) -> tuple[str, float, int]:
    """Body and height of a strip's drawing, and the number of frames that were missing."""
    chosen = charts.frame_choice(strip, STRIP_FRAMES) if strip.frames else []
    frames, missing = images.load_frames(tuple(strip.frames[k] for k in chosen), run_dir)
    size = images.image_size(frames[0]) if frames else None
    body, height = charts.reward_strip(strip, frames, size[0] / size[1] if size else 4.0 / 3.0)
    return body, height, missing


def success_rows(run: Summary) -> list[charts.SuccessRow]:
    """A bar per arm, and the closed loop last."""
    rows = [
        charts.SuccessRow(arm.name, arm.successes, arm.episodes, arm.interval, charts.slot(k))
        for k, arm in enumerate(run.arms)
    ]
    if run.ros is not None:
        ros = run.ros
        rows.append(charts.SuccessRow("over ROS 2, closed loop", ros.successes, ros.episodes, ros.interval, 5))
    return rows


def policies(run: Summary) -> str:
    """Success of the arms, how they learned, and the figures in a table."""
    rows = success_rows(run)
    if not rows:
        return ""
    body, height = charts.success_bars(rows)
    bars = html.figure(
        svg.drawing(charts.WIDTH, height, body, "success by policy"),
        "Bars: share of episodes that succeeded. Whiskers: Wilson intervals.",
    )
    lead = "All policies learned from the same data. The constant reward is the control: it knows nothing."
    return html.section("The policies", lead, html.cards(bars, *_curve_figures(run.arms)), _arm_table(run.arms))


def _curve_figures(arms: tuple[Arm, ...]) -> list[str]:
    slots = {arm.name: charts.slot(k) for k, arm in enumerate(arms)}
    figures = []
    for metric in charts.curve_metrics(arms):
        body, height = charts.curves(charts.curve_series(arms, metric), slots, metric)
        figures.append(html.figure(svg.drawing(charts.WIDTH, height, body, f"{metric} during training")))
    return figures


def _arm_table(arms: tuple[Arm, ...]) -> str:
    if not arms:
        return ""
    head = ("policy", "learner", "reward", "updates", "seconds", "success", "95 % interval")
    rows = [
        (
            arm.name,
            arm.learner,
            arm.reward or "none",
            str(arm.updates),
            f"{arm.seconds:.1f}",
            f"{arm.successes}/{arm.episodes}",
            interval_text(arm.interval),
        )
        for arm in arms
    ]
    return html.folded("The same in numbers", html.table(head, rows, numeric={3, 4, 5, 6}))


def closed_loop(run: Summary, run_dir: Path) -> str:
    """The policy on the robot node: films and delays."""
    if run.ros is None:
        return ""
    ros = run.ros
    rate = f" at {ros.control_rate_hz:g} Hz" if ros.control_rate_hz else ""
    lead = (
        f"The bundle ran in the policy node and drove the robot node through ROS 2 topics{rate}: "
        f"{ros.successes} of {ros.episodes} episodes succeeded, 95 % interval {charts.percent_range(ros.interval)}."
    )
    films = "".join(_film(film, run_dir) for film in ros.films)
    return html.section("On the robot node", lead, html.cards(films, *_timing_figures(ros)) if films else "") + (
        "" if films else html.cards(*_timing_figures(ros))
    )


def _film(film: Film, run_dir: Path) -> str:
    chosen = svg.thinned(len(film.frames), FILM_FRAMES)
    frames, missing = images.load_frames(tuple(film.frames[k] for k in chosen), run_dir)
    note = f" ({missing} frames are missing from the run folder)" if missing else ""
    if not frames:
        return html.figure("", f"{film.caption}{note}")
    return html.film(frames, film.rate_hz * len(chosen) / len(film.frames), film.caption + note)


def _timing_figures(ros: RosSummary) -> list[str]:
    measured: list[tuple[Timing | None, str, str, float | None]] = [
        (ros.command_latency, "observation to command", "s1", LATENCY_TARGET_MS),
        (ros.observation_age, "age of the observation at its use", "s2", None),
        (ros.inference, "inference", "s4", None),
    ]
    figures = []
    for timing, title, classes, limit in measured:
        if timing is not None:
            body, height = charts.timing_histogram(timing, title, classes, limit)
            note = AGE_IN_SIMULATION if timing is ros.observation_age and timing.max_ms == 0.0 else ""
            figures.append(html.figure(svg.drawing(charts.WIDTH, height, body, f"{title}, histogram in ms"), note))
    return figures


def bundle(run: Summary) -> str:
    """The file that goes to the robot."""
    if run.bundle is None:
        return ""
    part = run.bundle
    facts = [
        ("file", part.path),
        ("digest", part.digest),
        ("signed by key", part.key_id),
        ("size", f"{part.size_bytes / 1e6:.2f} MB" if part.size_bytes else ""),
        (
            "torch against ONNX Runtime",
            ""
            if part.export_difference is None
            else f"at most {part.export_difference:.2g} rad apart over {part.export_inputs} inputs",
        ),
    ]
    lead = "What goes to the robot: one signed ONNX bundle, with normalisation and action scale inside the graph."
    return html.section("The bundle", lead, html.pairs([(name, text) for name, text in facts if text]))
