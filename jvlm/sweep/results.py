# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The results of a sweep: a table, results.csv, results.json and a picture."""

import ast
import csv
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jvlm.sweep.study import Study, directory

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def collect(study: Study) -> list[dict[str, Any]]:
    """A row per trial, the best first.

    The value of a pruned trial is its last evaluation's. Pruned trials come after those that ran to
    their end, whose values say more; then failed ones and those to come.
    """
    rows = []
    for trial in study.trials():
        attrs = trial.user_attrs
        rows.append(
            {
                "number": directory(trial),
                "state": STATES.get(trial.state.name, trial.state.name.lower()),
                "value": trial.value,
                "seconds": attrs.get("seconds"),
                "point": {key: _value(text) for key, text in attrs.get("overrides", {}).items()},
                "metrics": attrs.get("metrics", {}),
                "reason": attrs.get("reason", ""),
                "folder": str(study.workdir / "trials" / str(directory(trial))),
            }
        )
    sign = -1 if study.definition.mode == "max" else 1
    order = [*STATES.values(), "running", "waiting"]
    return sorted(
        rows, key=lambda r: (order.index(r["state"]), sign * (r["value"] or 0), r["number"])
    )


def table(study: Study, rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    keys = _keys(rows)
    lines = [("trial", study.definition.metric, *keys, "seconds", "state")]
    for row in rows:
        state = f"{row['state']}: {row['reason']}" if row["reason"] else row["state"]
        numbers = (_short(row["value"]), *(_short(row["point"].get(key)) for key in keys))
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f}"
        lines.append((str(row["number"]), *numbers, seconds, state))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(line, widths)), line[-1]])
        for line in lines
    )


def write(study: Study, rows: list[dict[str, Any]]) -> list[Path]:
    """Writes results.csv, results.json and, once there is a value, results.png."""
    keys, metrics = _keys(rows), sorted({name for row in rows for name in row["metrics"]})
    paths = [study.workdir / f"results.{suffix}" for suffix in ("csv", "json", "png")]
    definition = study.definition
    with study.locked():  # One of several workers that end together.
        with paths[0].open("w", newline="") as file:
            writer = csv.writer(file)
            facts = ("number", "state", "value", "seconds")
            writer.writerow([*facts, *keys, *metrics, "reason", "folder"])
            for row in rows:
                point = [row["point"].get(key) for key in keys]
                values = [row["metrics"].get(name) for name in metrics]
                writer.writerow(
                    [*(row[f] for f in facts), *point, *values, row["reason"], row["folder"]]
                )
        result = {"metric": definition.metric, "mode": definition.mode, "trials": rows}
        paths[1].write_text(json.dumps(result, indent=1))
        if all(row["value"] is None for row in rows):
            return paths[:2]
        plot(study, rows).savefig(paths[2])
    return paths


def plot(study: Study, rows: list[dict[str, Any]]) -> Any:
    """The metric as the sweep went, with the best so far, and against each parameter."""
    metric, best = study.definition.metric, {"max": max, "min": min}[study.definition.mode]
    keys = [key for key in _keys(rows) if len({str(row["point"].get(key)) for row in rows}) > 1]
    columns = min(len(keys) + 1, 4)
    lines = -(-(len(keys) + 1) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), dpi=120, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    valued = sorted((r for r in rows if r["value"] is not None), key=lambda r: r["number"])
    done = {state: [r for r in valued if r["state"] == state] for state in ("complete", "pruned")}
    styles = {"complete": dict(marker="o"), "pruned": dict(marker="x", color="gray")}

    numbers = [row["number"] for row in done["complete"]]
    values = [row["value"] for row in done["complete"]]
    bests = [best(values[: end + 1]) for end in range(len(values))]
    axes[0].step(numbers, bests, where="post", color="black", label="best so far")
    for state, some in done.items():
        if some:
            x, y = [row["number"] for row in some], [row["value"] for row in some]
            axes[0].scatter(x, y, label=state, **styles[state])
    axes[0].set(xlabel="trial", ylabel=metric)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend()
    for axis, key in zip(axes[1:], keys):
        # Matplotlib places texts as categories; they come first, so that both states agree.
        given = [row["point"].get(key) for row in valued]
        is_number = all(type(value) in (int, float) for value in given)
        convert = (lambda value: value) if is_number else str
        if is_number and min(given) > 0 and max(given) / min(given) > 20:
            axis.set_xscale("log")
        elif all(type(value) is int for value in given):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for state, some in done.items():
            x, y = [convert(row["point"].get(key)) for row in some], [row["value"] for row in some]
            axis.scatter(x, y, **styles[state])
        axis.set(xlabel=key, ylabel=metric)
    for axis in axes[len(keys) + 1 :]:
        axis.set_axis_off()
    return figure


def _keys(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row["point"]))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
