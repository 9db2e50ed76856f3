"""The page of a comparison: results, curves, and the options that differ between the runs."""

from collections.abc import Sequence
from typing import Any

from common.claims.verdicts import LEVEL, mean_and_half_width
from common.comparison import figures, runs
from common.comparison.runs import Compared, Group
from common.report import assembly, page
from common.report.assembly import PictureFolder, Progress, Step
from common.report.page import Picture, Section
from common.run import summary

_ABSENT = "–"


def comparison_html(compared: Sequence[Compared], pictures: PictureFolder | None = None) -> str:
    """The comparison of these runs as HTML. pictures: the folder that also gets each picture."""
    groups = runs.group_runs(compared)
    steps: list[Step] = [
        ("Results", lambda: results(groups)),
        ("Learning curves", lambda: curves(groups)),
        ("Differences between the configs", lambda: differences(groups)),
        ("Each run", lambda: each_run(compared)),
    ]
    head = [page.paragraph(text) for text in runs.notes(groups)]
    names = sorted({run.info.name for run in compared})
    parts = [*head, *assembly.sections(steps, Progress(shown=False), pictures)]
    return page.document(f"{len(compared)} runs on {', '.join(names)}", parts)


def summary_lines(groups: Sequence[Group]) -> list[str]:
    """A line for the terminal on each group: its test error and, for several seeds, the interval of the mean."""
    return [f"{group.name}: {_told(group)}" for group in groups]


def _told(group: Group) -> str:
    errors, split = errors_of(group)
    if not errors:
        return "no error is recorded yet"
    seeds = f", {_seeds(group, errors)} seeds" if len(group.runs) > 1 else ""
    return f"{split} error {interval(errors)}{seeds}"


def _seeds(group: Group, errors: Sequence[float]) -> str:
    """The number of runs whose errors are shown and, if it is another, the number of all runs: '2 of 3'."""
    return f"{len(errors)} of {len(group.runs)}" if 0 < len(errors) < len(group.runs) else f"{len(group.runs)}"


def results(groups: Sequence[Group]) -> Section:
    """The errors of the groups with their intervals, and what the runs cost."""
    caption = (
        "The error of each run, from its summary.json: on the test set or, if that was not read, the lowest on the "
        "validation set. Runs whose configs differ only in the seed share a row, which has their mean and, in "
        "brackets, its 95% interval (Student's t, cut at 0 and 100%). One seed says nothing about the spread. "
        "Unfinished seeds count only in a group without a finished one. Multiply-adds are for one image in the forward "
        "pass; the time is that of training."
    )
    errors, splits = zip(*map(errors_of, groups), strict=True)
    names = [group.name for group in groups]
    if len(set(splits)) > 1:
        names = [f"{name}, {split}" for name, split in zip(names, splits, strict=True)]
    parts: list[str | Picture] = []
    if any(errors):
        parts.append(Picture(figures.results(names, errors), "errors of the runs"))
    heading = ["runs", "seeds", "error", "split", "training error", "parameters", "multiply-adds"]
    heading += ["epochs", "time", "images/s"]
    parts.append(page.cells(heading, map(_row, groups)))
    return Section("results", "Results", caption, parts)


def _row(group: Group) -> list[str]:
    errors, split = errors_of(group)
    first, done = group.runs[0], [run.summary for run in group.runs if run.summary]
    last = max((record["step"] for run in group.runs for record in run.records), default=0)
    return [
        group.name,
        _seeds(group, errors),
        interval(errors) if errors else _ABSENT,
        split,
        interval([one["train"]["error"] for one in done]) if done else _ABSENT,
        _count(first.parameters),
        _count(first.multiply_adds),
        page.three_digits(first.epochs(last)) if first.is_network else _ABSENT,
        _mean_text([summary.training_seconds(one) for one in done], "{:,.0f} s"),
        _mean_text([one["images_per_second"] for one in done], "{:,.0f}"),
    ]


def errors_of(group: Group) -> tuple[list[float], str]:
    """The errors of a group's runs, fractions, and their split; runs without a result are left out.

    They are the test errors of the finished runs: an unfinished run's error is of another number of updates. If none is
    finished, or one of them has not read the test set, they are the lowest validation errors so far or, without a
    validation set, the last test errors.
    """
    shown = [run for run in group.runs if run.summary] or group.runs
    tested = [run.summary["test"]["error"] for run in shown if run.summary and "test" in run.summary]
    if len(tested) == len(shown):
        return tested, "test"
    split = group.runs[0].watched
    found = [[record["error"] for record in run.records if record["split"] == split] for run in shown]
    if split == "validation":
        return [min(errors) for errors in found if errors], "validation"
    return [errors[-1] for errors in found if errors], "test"


def interval(errors: Sequence[float]) -> str:
    """The mean of errors, fractions, and for several the ends of its 95% interval, cut at 0 and 100%."""
    mean, half = mean_and_half_width(errors, LEVEL, random=True)
    if len(errors) < 2:
        return f"{mean:.2%}"
    low, high = figures.ends(mean, half)
    return f"{mean:.2%} [{low:.2%}, {high:.2%}]"


def _count(number: int | None) -> str:
    return _ABSENT if number is None else f"{number:,}"


def _mean_text(values: Sequence[float], form: str) -> str:
    return form.format(sum(values) / len(values)) if values else _ABSENT


def curves(groups: Sequence[Group]) -> list[Section]:
    """The learning curves in one picture; no section if nothing is recorded."""
    if not any(run.records for group in groups for run in group.runs):
        return []
    caption = (
        "Loss and error over passes through the training set. Thin dashed lines are training. Bold lines are "
        "evaluations on the validation set or, for a run without one, on the test set. For several seeds a line is the "
        "mean at the steps that all of them have recorded, and the band is its 95% interval. Compare losses only "
        "between networks with the same loss."
    )
    return [Section("curves", "Learning curves", caption, [Picture(figures.curves(groups), "curves of the runs")])]


def differences(groups: Sequence[Group]) -> Section:
    """The options that differ between the groups, as a table with a column for each."""
    rows = [(path, *map(_text, values)) for path, values in differing(groups).items()]
    if not rows:
        return Section("options", "Differences between the configs", "The configs differ only in their seeds.")
    caption = (
        "Options whose values differ between the runs; a dash marks a run without the option. Options that do not "
        "change the result, such as the number of devices, are left out."
    )
    table = page.cells(("option", *(group.name for group in groups)), rows)
    return Section("options", "Differences between the configs", caption, [table])


def differing(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The options that differ between groups: path -> the value in each group, None if the group lacks the option.

    If some groups lack an option and the others agree on it, it only counts if it is a name, a family or a variant.
    """
    configs = [{**group.runs[0].options, "seed": None} for group in groups]
    found = {}
    for path in dict.fromkeys(path for config in configs for path in config):
        values = [config.get(path) for config in configs]
        present = [config[path] for config in configs if path in config]
        lacking = len(present) < len(configs) and path.rpartition(".")[2] in ("name", "family", "variant")
        if lacking or any(value != present[0] for value in present):
            found[path] = values
    return found


def _text(value: Any) -> str:
    if value is None:
        return _ABSENT
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "none"


def each_run(compared: Sequence[Compared]) -> Section:
    """Every run's own result, and the commit, command and date that made it."""
    rows = []
    for run in compared:
        done = run.summary or {}
        said = summary.test_error_text(done) if done else "not finished"
        changed = " and changes" if done.get("uncommitted_changes") else ""
        commit = f"{done['commit'][:10]}{changed}" if done.get("commit") else _ABSENT
        rows.append((run.name, f"{run.seed}", said, done.get("date", _ABSENT), commit, done.get("command", _ABSENT)))
    caption = (
        "The runs one by one. The commit is that of the code when the run was last started, 'and changes' if files "
        "differed from it. Runs of earlier versions lack some of this."
    )
    table = page.cells(("run", "seed", "result", "date", "commit", "command"), rows)
    return Section("runs", "Each run", caption, [table])
