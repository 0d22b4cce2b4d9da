# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm sweep`: arguments, and what is done with them."""

import argparse
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from jvlm.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options; --config is the caller's."""
    add = parser.add_argument
    add("--workdir", required=True, help="of the sweep; alone, goes on with the sweep in it")
    add("--metric", help="name in report.json (default: the config's checkpoint.best)")
    add("--mode", choices=("max", "min"), help="what is better (default: min for a loss, or max)")

    points = parser.add_argument_group(
        "what is tried, if not what sweep() of the config file yields (keys may be repeated)"
    )
    point = points.add_argument
    point("--grid", action="append", default=[], metavar="KEY=A,B,C", help="product of values")
    point(
        "--random",
        action="append",
        default=[],
        metavar="KEY=RANGE",
        help="LOW..HIGH, log:LOW..HIGH (int or float, as in the config) or A,B,C",
    )
    point("--tpe", action="append", default=[], metavar="KEY=RANGE", help="the same, by TPE")
    point("--trials", type=int, help="how many --random or --tpe draw (default 20)")
    point("--seed", type=int, default=0, help="of the draws (default 0)")
    point(
        "--prune",
        choices=("none", "median", "halving"),
        default="none",
        help="stop a trial whose evaluation is below the median of earlier ones at its step, or "
        "by successive halving (default none)",
    )

    places = parser.add_argument_group(
        "where it runs; more workers may join at any time"
    ).add_argument
    places("--jobs", type=int, default=1, help="trials at a time, which share the GPUs (default 1)")
    places(
        "--slurm",
        nargs="?",
        const="",
        metavar="'OPTIONS'",
        help="as an array of --jobs workers; OPTIONS are sbatch's, such as --gpus=1",
    )
    places(
        "--gke",
        metavar="'OPTIONS'",
        help="each trial as a JobSet, --jobs at a time; OPTIONS are those of launch/gke.py",
    )
    places("--command", help="what trains, in place of 'jvlm train'; takes its arguments")
    places("--retry", action="store_true", help="do failed trials again, from where they stopped")
    places("--dry-run", action="store_true", help="print the commands, and do nothing")
    places("--report", action="store_true", help="only the results so far")
    # A worker of an array: leaves when no trial is left to start.
    places("--worker", choices=("slurm",), help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    """Sweeps, or reports; exits with 75 when it was preempted, so that launchers requeue it."""
    try:
        from jvlm.sweep import gke, results, study, worker
    except ImportError as error:
        if error.name not in ("optuna", "matplotlib"):
            raise
        raise UserError(f"sweeps need {error.name}: pip install 'jvlm[sweep]'") from None

    workdir = Path(args.workdir)
    if args.report:
        _show(args, results, study.Study(workdir))
        return
    definition, points = _define(args, study, workdir)
    if args.dry_run:
        _print_commands(args, worker.trial_command, definition, points)
        return
    environments = worker.environments(args.jobs, remote=gke.MODULE in (definition.command or ()))
    shared = study.Study(workdir, definition)
    shared.add(points)
    if args.retry:
        shared.retry()
    ended, to_do = shared.count()
    print(f"{workdir}: {to_do} trials to do, {ended} have ended", file=sys.stderr)
    if args.slurm is not None:
        _submit(_sbatch(args, workdir))
        print(f"the results so far: {sys.argv[0]} --workdir={workdir} --report")
        return
    say = lambda line: print(line, file=sys.stderr, flush=True)
    stopped_by = worker.work(shared, environments, waits=args.worker is None, say=say)
    if stopped_by == signal.SIGTERM and args.worker == "slurm":
        _requeue()
    if stopped_by:
        sys.exit(worker.PREEMPTED if stopped_by == signal.SIGTERM else 130)
    _show(args, results, shared)


def _define(args: argparse.Namespace, study, workdir: Path):
    """The sweep's definition and its points; without a config, what the study has."""
    from jvlm import config as config_lib
    from jvlm.sweep import space

    modes = [name for name in ("grid", "random", "tpe") if getattr(args, name)]
    if len(modes) > 1:
        raise UserError(f"--{modes[0]} and --{modes[1]}: give one of them")
    if args.gke is not None and (args.slurm, args.command) != (None, None):
        raise UserError("--gke says what trains, and where: give it without --slurm and --command")
    if args.trials is not None and not (args.random or args.tpe):
        raise UserError("--trials is for --random and --tpe")
    if args.trials is not None and args.trials < 1:
        raise UserError(f"--trials {args.trials}: at least 1")
    if not args.config:
        if modes or args.overrides:
            raise UserError("--config is missing: what is swept?")
        recorded = study.Study(workdir).definition
        resolved = config_lib.to_dict(config_lib.load(recorded.config, recorded.overrides))
        return dataclasses.replace(recorded, resolved=resolved), []

    base = space.Base(args.config, tuple(args.overrides))
    config = base.load()
    if not config.get("eval", {}).get("evaluators"):
        raise UserError(f"{args.config}: eval.evaluators is empty: there is no metric to sweep by")
    best = dict(config.get("checkpoint", {}))
    metric = args.metric or best.get("best")
    if not metric:
        raise UserError("--metric is missing, and the config names no checkpoint.best")
    guessed = "min" if "loss" in metric else "max"
    guessed = best.get("best_mode", guessed) if metric == best.get("best") else guessed
    definition = study.Definition(
        config=base.config,
        overrides=list(base.overrides),
        metric=metric,
        mode=args.mode or guessed,
        prune=args.prune,
        command=_trainer(args),
        resolved=config_lib.to_dict(config),
    )
    if args.grid:
        points = space.grid(base, args.grid)
    elif args.random:
        ranges = space.parse_ranges(base, args.random, "--random")
        points = space.draws(base, ranges, args.trials or 20, args.seed)
    elif args.tpe:
        ranges = space.parse_ranges(base, args.tpe, "--tpe")
        definition.ranges = {key: dataclasses.asdict(range_) for key, range_ in ranges.items()}
        definition.trials, definition.seed = args.trials or 20, args.seed
        points = []
    else:
        points = space.from_config(base)
    return definition, points


def _print_commands(args: argparse.Namespace, trial_command, definition, points) -> None:
    from jvlm.sweep.space import to_texts

    folder = Path(args.workdir) / "trials"
    if args.slurm is not None:
        print(shlex.join(_sbatch(args, Path(args.workdir))))
    for number, point in enumerate(points):
        print(shlex.join(trial_command(definition, folder / str(number), to_texts(point))))
    if args.tpe:
        ranges = dict(option.split("=", 1) for option in args.tpe)
        print(f"# {definition.trials} trials, with values drawn from the ranges:")
        print(shlex.join(trial_command(definition, folder / "NUMBER", ranges)))


def _trainer(args: argparse.Namespace) -> list[str] | None:
    if args.gke is None:
        return shlex.split(args.command) if args.command else None
    from jvlm.sweep import gke

    options = shlex.split(args.gke)
    first = [f"--config={args.config}", f"--workdir={Path(args.workdir) / 'trials' / '0'}"]
    gke.check([*options, *first])
    return gke.trainer(options)


def _show(args: argparse.Namespace, results, study) -> None:
    rows = results.collect(study)
    paths = results.write(study, rows)
    if args.json:
        print(json.dumps(rows))
    else:
        print(results.table(study, rows))
        print("results:", *paths)
    failed = [row for row in rows if row["state"] == "failed"]
    if failed and len(failed) == len(rows):
        raise UserError(
            f"every trial has failed; trial {failed[0]['number']}: {failed[0]['reason']}"
        )


def _sbatch(args: argparse.Namespace, workdir: Path) -> list[str]:
    """The submission of workers, each of which takes trials from the study until none is left."""
    workdir = workdir.resolve()
    worker = [sys.executable, "-m", "jvlm.cli", "sweep", f"--workdir={workdir}", "--worker=slurm"]
    return [
        "sbatch",
        f"--array=0-{args.jobs - 1}",
        f"--job-name={workdir.name}",
        f"--output={workdir}/slurm-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        # B: to the batch shell, which exec has made the worker; two minutes to save.
        "--signal=B:TERM@120",
        *shlex.split(args.slurm),
        f"--wrap=exec {shlex.join(worker)}",
    ]


def _requeue() -> None:
    """Back to the queue, unless it was scancel that ended this task."""
    task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    query = ["squeue", "--noheader", f"--jobs={task}", "--format=%T"]
    state = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    if state not in ("CANCELLED", "COMPLETING"):
        _submit(["scontrol", "requeue", task])


def _submit(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found; is this a Slurm machine?") from None
    if done.returncode:
        raise UserError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    print(done.stdout.strip())
