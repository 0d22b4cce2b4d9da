# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm train | evaluate | sweep | plan`."""

import argparse
import signal
import sys
from pathlib import Path

from jvlm.cli import options
from jvlm.errors import Preempted, UserError
from jvlm.sweep import command


def add(verb) -> None:
    """Adds these verbs to the command line; `verb` makes one."""
    train = verb("train", run_train, "Train a config, or go on with a run.")
    options.add_config(train, required=True)
    train.add_argument("--workdir", required=True, help="run directory")
    train.add_argument(
        "--profile", metavar="A:B", help="trace steps A to B, counted from 0, into WORKDIR/profile"
    )

    evaluate = verb("evaluate", run_evaluate, "Run evaluators on a checkpoint.")
    options.add_config(evaluate, required=False)
    which = evaluate.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", dest="model", help="run directory; its own config by default")
    which.add_argument("--model", help="run or published checkpoint; needs --config")
    evaluate.add_argument("--step", default="best", help="best (default), latest or a step")
    evaluate.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    evaluate.add_argument("--out", metavar="FILE.json", help="also write a report")
    evaluate.add_argument(
        "--predictions", metavar="DIR", help="also write each sample's prediction, for jvlm score"
    )
    options.add_json(evaluate)

    sweep = verb("sweep", command.run, "Try hyperparameters: train a config once per point.")
    options.add_config(sweep, required=False)
    command.add_arguments(sweep)
    options.add_json(sweep)

    plan = verb("plan", run_plan, "Compile a config for a machine you do not have: does it fit?")
    options.add_config(plan, required=False)
    plan.add_argument(
        "--topology",
        required=True,
        metavar="MACHINE",
        help="v5e:8x8, 2xv5p:4x4x8 (two slices), cpu:8, gpu:h100:8 (its temporaries an estimate)",
    )
    plan.add_argument(
        "--find-batch", action="store_true", help="the largest batch, and the remat it takes"
    )
    plan.add_argument("--memory", type=float, metavar="GIB", help="per chip, instead of the chip's")
    decode = plan.add_argument_group("of generation, in place of training")
    decode.add_argument("--decode", action="store_true", help="plan generation")
    decode.add_argument("--model", help="run or published checkpoint, in place of --config")
    decode.add_argument("--mesh", default="tensor=-1", help="default tensor=-1: over all chips")
    decode.add_argument("--batch", type=int, default=1, help="prompts at a time (default 1)")
    decode.add_argument("--length", type=int, default=2048, help="prompt and answer (default 2048)")
    decode.add_argument("--beams", type=int, default=1, help="or samples per prompt (default 1)")
    decode.add_argument("--dtype", default="bfloat16", help="of weights and cache (bfloat16)")
    decode.add_argument("--quantise", metavar="KIND", help="layers' kernels as int8 or int4")
    options.add_json(plan)


def run_train(args: argparse.Namespace) -> None:
    from jvlm.config import load
    from jvlm.trace import parse_span
    from jvlm.train import train

    # Until the run itself waits for it: there is nothing to save yet.
    signal.signal(signal.SIGTERM, _end_before_the_run)
    config = load(args.config, args.overrides)
    profile = parse_span(args.profile) if args.profile else None
    report = train(config, args.workdir, profile)
    print("  ".join(f"{name} {value:.4f}" for name, value in report["metrics"].items()))
    print(f"{report['steps']:,} steps, {report['samples_per_second']:.0f} samples/s")
    picture = Path(args.workdir) / "samples.png"
    shown = f"  picture: {picture}" if picture.exists() else ""
    print(f"report: {Path(args.workdir) / 'report.md'}{shown}")


def _end_before_the_run(number, frame) -> None:
    print("jvlm: the machine is taken away before the run has begun", file=sys.stderr)
    options.end(Preempted.status)


def run_evaluate(args: argparse.Namespace) -> None:
    from jvlm.config import load
    from jvlm.evaluate import evaluate

    if args.overrides and not args.config:
        raise UserError("--config.x=... needs --config")
    config = load(args.config, args.overrides) if args.config else None
    step = args.step if args.step in ("best", "latest") else _integer("--step", args.step)
    metrics = evaluate(
        args.model,
        config,
        step=step,
        dtype=args.dtype,
        out=args.out,
        predictions=args.predictions,
    )
    options.show(args, metrics, [f"{name:24} {value:.4f}" for name, value in metrics.items()])


def _integer(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{option} {text!r}: a number, best or latest") from None


def run_plan(args: argparse.Namespace) -> None:
    from jvlm import plan
    from jvlm.config import load

    if args.decode:
        return _run_plan_decode(args)
    if not args.config:
        raise UserError("plan: give --config, or --decode with --model")
    machine = plan.Plan(load(args.config, args.overrides), args.topology, args.memory)
    print(f"jvlm: compiling for {args.topology}; large models take minutes", file=sys.stderr)
    if args.find_batch:
        result = plan.search(machine, None if args.json else lambda line: print(line, flush=True))
    else:
        result = machine.step()
    options.show(args, result, plan.describe(result))
    if not result["fits"]:
        sys.exit(1)


def _run_plan_decode(args: argparse.Namespace) -> None:
    from jvlm import plan_decode
    from jvlm.config import load
    from jvlm.models import build_model
    from jvlm.precision import Compute

    if bool(args.config) == bool(args.model):
        raise UserError("plan --decode: give --config or --model")
    compute = Compute(dtype=args.dtype)
    if args.config:
        config = load(args.config, args.overrides)
        model, form = build_model(config.model.to_dict(), compute), dict
    else:
        model, form = plan_decode.model_of(args.model, compute)
    result = plan_decode.plan_decode(
        model,
        args.topology,
        mesh=_mesh(args.mesh),
        batch=args.batch,
        length=args.length,
        sequences=args.beams,
        form=form,
        quantise=args.quantise,
        memory=args.memory,
    )
    options.show(args, result, plan_decode.describe(result))
    if not result["fits"]:
        sys.exit(1)


def _mesh(text: str) -> dict[str, int]:
    """'fsdp=2,tensor=4' as sizes; axes that are not named are 1."""
    sizes = {"data": 1}
    for item in text.split(","):
        name, _, size = item.partition("=")
        if not size.removeprefix("-").isdigit():
            raise UserError(f"--mesh {text!r}: give sizes of axes, such as fsdp=2,tensor=4")
        sizes[name] = int(size)
    return sizes
