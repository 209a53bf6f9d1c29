"""What a study's numbers say: comparisons, the verdict in one sentence, the table and the picture.

A run has scores, of tasks and in percent, or *measures*, numbers in units of their own, or both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import f

ROUNDING_POINTS = 1.6  # what rounding alone moved a score by, same seed (docs/log.md): less decides nothing
RELATIVE = 0.1  # of a measure: with one seed a smaller difference decides nothing. A convention, not a measurement.


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One comparison.

    Args:
        holds: None: not decided.
        words: with the numbers.
    """

    holds: bool | None
    words: str


def values(results: dict[str, Any], name: str, task: str | None = None) -> list[float]:
    """Of a variant, by seed: the score of a task, a measure, or the mean of all tasks."""
    runs = results["variants"][name]["runs"].values()
    return [{**run["scores"], **run.get("measures", {})}[task] if task else run["mean"] for run in runs]


def spread(found: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (of a sample; None for one value) and number of values."""
    sd = round(statistics.stdev(found), 3) if len(found) > 1 else None
    return {"mean": round(statistics.fmean(found), 3), "sd": sd, "n": len(found)}


def margin(*groups: Sequence[float]) -> tuple[float, str]:
    """How large a difference between two of the groups may come by chance, in points, and where that is from."""
    if min(map(len, groups)) < 2:
        return ROUNDING_POINTS, f"{ROUNDING_POINTS:g} points (one seed)"
    largest = sorted((statistics.stdev(group) for group in groups), reverse=True)[:2]
    points = math.hypot(*largest)
    return points, f"{points:.1f} points (spread of seeds)"


def better(where: str, first: tuple[str, Sequence[float]], second: tuple[str, Sequence[float]]) -> Finding:
    """Whether the first is better than the second; both are (name, score of each seed)."""
    (name, ours), (other, theirs) = first, second
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    limit, reason = margin(ours, theirs)
    numbers = f"{statistics.fmean(ours):.1f} against {statistics.fmean(theirs):.1f}"
    if abs(difference) <= limit:
        words = f"the difference of {abs(difference):.1f} points between {name} and {other} ({numbers}) is within "
        return Finding(holds=None, words=f"{where}, {words}{reason}")
    relation = "better" if difference > 0 else "worse"
    return Finding(holds=difference > 0, words=f"{where}, {name} is {relation} than {other} ({numbers})")


def larger(where: str, first: tuple[str, Sequence[float]], second: tuple[str, Sequence[float]]) -> Finding:
    """Whether a measure of the first is larger than that of the second; both are (name, value of each seed)."""
    (name, ours), (other, theirs) = first, second
    means = statistics.fmean(ours), statistics.fmean(theirs)
    if min(len(ours), len(theirs)) > 1:
        limit, reason = math.hypot(statistics.stdev(ours), statistics.stdev(theirs)), "the spread of seeds"
    else:
        limit, reason = RELATIVE * max(map(abs, means)), f"{RELATIVE:.0%} (one seed)"
    numbers = f"({means[0]:.3g} against {means[1]:.3g})"
    if abs(means[0] - means[1]) <= limit:
        return Finding(holds=None, words=f"{where}, {name} and {other} {numbers} differ by no more than {reason}")
    relation = "above" if means[0] > means[1] else "below"
    return Finding(holds=means[0] > means[1], words=f"{where}, {name} is {relation} {other} {numbers}")


def steadier(where: str, first: tuple[str, Sequence[float]], second: tuple[str, Sequence[float]]) -> Finding:
    """Whether the first varies less over seeds: the ratio of variances against Fisher's F, two-sided, at 95%."""
    (name, ours), (other, theirs) = first, second
    if min(len(ours), len(theirs)) < 2:
        return Finding(holds=None, words=f"{where}, which of {name} and {other} is steadier takes several seeds")
    sds = statistics.stdev(ours), statistics.stdev(theirs)
    low, high = f.ppf([0.025, 0.975], len(theirs) - 1, len(ours) - 1)
    numbers = f"(standard deviations {sds[0]:.1f} and {sds[1]:.1f})"
    if low * sds[0] ** 2 <= sds[1] ** 2 <= high * sds[0] ** 2:
        words = f"{where}, {len(ours)} seeds do not tell which of {name} and {other} is steadier {numbers}"
        return Finding(holds=None, words=words)
    relation = "steadier" if sds[0] < sds[1] else "less steady"
    return Finding(holds=sds[0] < sds[1], words=f"{where}, {name} is {relation} than {other} {numbers}")


def level(where: str, groups: dict[str, Sequence[float]]) -> Finding:
    """Whether all of them, name to score of each seed, are about the same."""
    means = {name: statistics.fmean(group) for name, group in groups.items()}
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    distance = means[high] - means[low]
    limit, reason = margin(*groups.values())
    numbers = f"from {means[low]:.1f} ({low}) to {means[high]:.1f} ({high})"
    inside = "within" if distance <= limit else "more than"
    words = f"{where}, scores go {numbers}, a distance of {distance:.1f}: {inside} {reason}"
    return Finding(holds=distance <= limit, words=words)


def verdict(findings: Sequence[Finding]) -> str:
    """One sentence of all comparisons."""
    found = {finding.holds for finding in findings}
    if found == {True}:
        head = "Holds"
    elif True in found:
        head = "Holds in part"
    elif False in found:
        head = "Does not hold"
    else:
        head = "Not decided"
    return f"{head}: {'; '.join(finding.words for finding in findings)}."


def table(results: dict[str, Any], study: str) -> str:
    """The results as Markdown."""
    settings, variants = results["settings"], results["variants"]
    tasks, measures = settings["metrics"], settings.get("measures", {})

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def shown(found: Sequence[float], form: str = ".1f") -> str:
        known = spread(found)
        return format(known["mean"], form) + (f" ± {known['sd']:{form}}" if known["sd"] is not None else "")

    header = ["", *(f"{name}, {unit}" for name, unit in {**tasks, **measures}.items())]
    header += ["mean", "against raw", "n"] if tasks else ["n"]

    lines = [
        f"# {results['title']}, preset `{settings['preset']}`",
        "",
        f"Claim: {results['finding']}",
        "",
        f"**{results['verdict']}**",
        "",
        row(header),
        "|" + "---|" * len(header),
    ]
    finished = {name: variant for name, variant in variants.items() if variant["runs"]}
    for name, variant in finished.items():
        cells = [shown(values(results, name, task)) for task in tasks]
        cells += [shown(values(results, name, measure), ".3g") for measure in measures]
        if tasks:
            found = values(results, name)
            before = variant["settings"].get("before")
            change = ""
            if before in finished:
                change = f"{round(statistics.fmean(found) - values(results, before)[0], 1) + 0:+.1f}"
            cells += [shown(found), change]
        lines.append(row([name, *cells, str(len(variant["runs"]))]))
    if tasks:
        lines.append(
            row(["items", *(settings["items"][task] for task in tasks), *[""] * (len(header) - len(tasks) - 1)])
        )
    lines.append("")
    if tasks:
        lines += [
            "In percent; n is the number of training seeds, ± their standard deviation. A difference of two rows "
            f"decides nothing within the spread of seeds or, with one seed, within {ROUNDING_POINTS:g} points: "
            "rounding alone has moved a score as much.",
            "",
        ]
    else:
        lines += [
            "n is the number of training seeds, ± their standard deviation. A difference of two rows decides nothing "
            f"within the spread of seeds or, with one seed, within {RELATIVE:.0%}, by convention.",
            "",
        ]
    if tasks and settings["subsamples"]:
        lines += [
            "**The tasks are fixed seeded subsamples** (the row *items*), so the numbers do not compare with "
            "published ones; retrieval searches one passage an article only.",
            "",
        ]
    runs = [run for variant in finished.values() for run in variant["runs"].values()]
    where = results["environment"]
    stages = {
        f"- `{name}`: {stage['steps']} steps, batch {stage['batch_size']}, length {stage['max_length']}, "
        f"learning rate {stage['learning_rate']:g}"
        for variant in finished.values()
        if "recipe" in variant["settings"]
        for name, stage in variant["settings"]["recipe"]["stages"].items()
    }
    minutes = math.ceil(sum(run["wall_seconds"] for run in runs) / 60)
    memory = max((run.get("peak_memory_gib_of_the_process", 0) for run in runs), default=0)
    lines += [
        *sorted(stages),
        f"- model `{settings['model']}`, trained and encoded in {settings['dtype']}, tagger `{settings['tagger']}`",
        f"- {where['accelerator'] or where['processor']}, {where['cores']} cores; {minutes} min in all"
        + (f", {memory:.1f} GiB at most" if memory else ""),
        f"- `python studies/{study}.py --preset {settings['preset']}`, [picture]({study}_{settings['preset']}.svg)",
    ]
    return "\n".join(lines) + "\n"


def picture(results: dict[str, Any], file: Path) -> None:
    """One panel for the mean and one for every task or measure: a dot a variant, hollow where nothing was trained."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    variants = {name: variant for name, variant in results["variants"].items() if variant["runs"]}
    metrics, measures = results["settings"]["metrics"], results["settings"].get("measures", {})
    panels = [*([None, *metrics] if metrics else []), *measures]
    places = range(len(variants), 0, -1)
    with matplotlib.rc_context({"svg.hashsalt": file.stem, "svg.fonttype": "path", "font.size": 9}):
        size = (2.2 * len(panels) + 2, 0.32 * len(variants) + 1.2)
        figure, axes = pyplot.subplots(1, len(panels), sharey=True, figsize=size, layout="constrained", squeeze=False)
        axes = axes[0]
        for axis, task in zip(axes, panels, strict=True):
            for place, (name, variant) in zip(places, variants.items(), strict=True):
                known = spread(values(results, name, task))
                colour = "0.4" if variant["settings"].get("raw") else "tab:blue"
                filled = "white" if variant["settings"].get("raw") else colour
                axis.errorbar(
                    known["mean"], place, xerr=known["sd"], fmt="o", color=colour, markerfacecolor=filled, capsize=3
                )
            axis.set_title(task or "mean of tasks")
            axis.grid(axis="x", color="0.9")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_yticks(list(places), list(variants))
        axes[0].set_ylim(0.4, len(variants) + 0.6)
        unit = " (percent)" if not measures else " (tasks in percent)" if metrics else ""
        figure.suptitle(f"{results['title']}, preset {results['settings']['preset']}{unit}")
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
