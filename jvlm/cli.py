# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm <verb>`: each verb a thin call into the library.

Nothing heavy is imported before a verb runs, so --help answers at once.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from jvlm import __version__
from jvlm.errors import Preempted, UserError, did_you_mean
from jvlm.sweep import command


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 1 for a plan that does not fit, or an error's status and line."""
    parser = make_parser()
    arguments = list(sys.argv[1:] if argv is None else argv)
    args, rest = parser.parse_known_args(arguments)
    try:
        overrides = [
            item.removeprefix("--config.") for item in rest if item.startswith("--config.")
        ]
        unknown = [item for item in rest if not item.startswith("--config.")]
        if unknown or (overrides and not hasattr(args, "overrides")):
            word = (unknown or rest)[0]
            known = [option for option in vars(args) if option not in ("verb", "run")]
            hint = did_you_mean(word.lstrip("-").split("=")[0], known)
            raise UserError(f"unknown argument {word}.{hint} See jvlm {args.verb} --help.")
        if hasattr(args, "overrides"):
            args.overrides = overrides
        args.run(args)
    except UserError as error:
        print("jvlm:", " ".join(str(error).split()), file=sys.stderr)
        _exit(error.status)
    except KeyboardInterrupt:
        print("jvlm: interrupted", file=sys.stderr)
        _exit(130)
    except Exception:  # A mistake of ours. JAX's way out would wait for the run's other processes.
        traceback.print_exc()
        _exit(1)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog="jvlm", description="Vision-language models in JAX.")
    parser.add_argument("--version", action="version", version=f"jvlm {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(name: str, run, text: str) -> argparse.ArgumentParser:
        # allow_abbrev: '--conf.steps=3' must not be taken for '--config'.
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    train = verb("train", run_train, "Train a config, or go on with a run.")
    _add_config(train, required=True)
    train.add_argument("--workdir", required=True, help="run directory")
    train.add_argument(
        "--profile", metavar="A:B", help="trace steps A to B, counted from 0, into WORKDIR/profile"
    )

    evaluate = verb("evaluate", run_evaluate, "Run evaluators on a checkpoint.")
    _add_config(evaluate, required=False)
    which = evaluate.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", dest="model", help="run directory; its own config by default")
    which.add_argument("--model", help="run or published checkpoint; needs --config")
    evaluate.add_argument("--step", default="best", help="best (default), latest or a step")
    evaluate.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    evaluate.add_argument("--out", metavar="FILE.json", help="also write a report")
    _add_json(evaluate)

    sweep = verb("sweep", command.run, "Try hyperparameters: train a config once per point.")
    _add_config(sweep, required=False)
    command.add_arguments(sweep)
    _add_json(sweep)

    plan = verb("plan", run_plan, "Compile a config for a machine you do not have: does it fit?")
    _add_config(plan, required=False)
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
    _add_json(plan)

    data = verb("data", run_data, "Prepare a data set, describe it, or look at it.")
    data.add_argument("action", choices=("prepare", "info", "preview"))
    data.add_argument(
        "name", help="data set, such as digit_scenes/small; for prepare also a config"
    )
    data.add_argument("--data_dir", help="default $TFDS_DATA_DIR or ~/tensorflow_datasets")
    data.add_argument("--split", default="train", help="for preview (default train)")
    data.add_argument("--count", type=int, default=24, help="images of the preview (default 24)")
    data.add_argument("--out", default="preview.png", help="PNG of the preview")
    data.set_defaults(overrides=[])
    _add_json(data)

    import_ = verb("import", run_import, "Turn a published checkpoint into a jvlm model.")
    _add_source(import_)
    import_.add_argument("destination", metavar="DST", help="folder, new or empty")
    import_.add_argument("--image_size", type=int, help="another side in pixels than trained with")
    import_.add_argument("--dtype", help="of the weights: float32 (default) or bfloat16")
    _add_forms(import_)
    import_.add_argument("--merge", action="store_true", help="add the adapter to the weights")
    _add_json(import_)

    export = verb("export", run_export, "Write a model in a published format.")
    _add_source(export)
    export.add_argument("destination", metavar="DST", help="folder, new or empty")
    export.add_argument(
        "--format", default="hf", help="hf (default, transformers), open_clip, or peft: adapters"
    )
    export.add_argument("--dtype", default="float32", help="float32 (default), float16 or bfloat16")
    _add_json(export)

    inspect = verb("inspect", run_inspect, "Say what a checkpoint is, and what does not fit.")
    _add_source(inspect)
    inspect.add_argument("--tensors", action="store_true", help="list every tensor")
    _add_json(inspect)

    classify = verb("classify", run_classify, "Zero-shot classification of image files.")
    classify.add_argument("images", nargs="+", metavar="IMAGE")
    classify.add_argument("--labels", required=True, nargs="+", help="class names")
    prompts = classify.add_mutually_exclusive_group()
    prompts.add_argument("--template", action="append", help="prompt with {}; may be repeated")
    prompts.add_argument(
        "--templates", help="a known set, such as imagenet, or one of a file: FILE.json:NAME"
    )
    _add_model(classify)

    embed = verb("embed", run_embed, "Write the embeddings of images or texts into files.")
    what = embed.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", nargs="+", metavar="PATH", help="image files, or folders")
    what.add_argument("--texts", metavar="FILE.txt", help="one text a line")
    embed.add_argument(
        "--out",
        required=True,
        help="OUT.npz, OUT.parquet, or a folder of parts, which is resumed when it is there",
    )
    embed.add_argument("--shard_size", type=int, help="inputs a part of a folder (default 65536)")
    embed.add_argument("--batch_size", type=int, default=256, help="rows at a time (default 256)")
    embed.add_argument("--dtype", default="float32", help="of the files: float32 or float16")
    embed.add_argument(
        "--max_bad_share", type=float, default=0.01, help="unreadable images to bear (0.01)"
    )
    _add_model(embed)

    search = verb("search", run_search, "Find the images that fit a text or an image.")
    search.add_argument("query", help="what to look for")
    search.add_argument("--image_query", action="store_true", help="the query is an image file")
    where = search.add_mutually_exclusive_group(required=True)
    where.add_argument("--images", help="folder, searched with its subfolders; its index is kept")
    where.add_argument("--index", help="what jvlm embed wrote")
    search.add_argument("--cache", help="where indexes are kept (default $XDG_CACHE_HOME/jvlm)")
    search.add_argument("--top", type=int, default=5, help="how many to show (default 5)")
    _add_model(search)

    generate = verb("generate", run_generate, "Continue prompts with a language model.")
    generate.add_argument("prompts", nargs="+", metavar="PROMPT", help="text; - reads lines")
    generate.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    _add_forms(generate)
    _add_generation(generate)
    _add_model(generate)
    return parser


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
    _exit(Preempted.status)


def run_evaluate(args: argparse.Namespace) -> None:
    from jvlm.config import load
    from jvlm.evaluate import evaluate

    if args.overrides and not args.config:
        raise UserError("--config.x=... needs --config")
    config = load(args.config, args.overrides) if args.config else None
    step = args.step if args.step in ("best", "latest") else _integer("--step", args.step)
    metrics = evaluate(args.model, config, step=step, dtype=args.dtype, out=args.out)
    _print(args, metrics, [f"{name:24} {value:.4f}" for name, value in metrics.items()])


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
    _print(args, result, plan.describe(result))
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
    _print(args, result, plan_decode.describe(result))
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


def run_data(args: argparse.Namespace) -> None:
    from jvlm.data import commands

    if args.action == "prepare":
        places = commands.prepare(args.name, args.data_dir, args.overrides)
        _print(args, {"paths": places}, [f"ready: {place}" for place in places])
    elif args.action == "info":
        info = commands.info(args.name, args.data_dir)
        lines = [f"{args.name} {info['version']} in {info['path']}", info["description"]]
        lines += [f"  split {split}: {size:,} examples" for split, size in info["splits"].items()]
        lines += [f"  {name}: {kind}" for name, kind in info["features"].items()]
        _print(args, info, lines)
    else:
        commands.preview(args.name, args.split, args.data_dir, args.count, args.out)
        _print(args, {"path": args.out}, [f"wrote {args.out}"])


def run_import(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    given = {**_family(args), **_forms(args)}
    m = load(args.source, dtype=args.dtype, image_size=args.image_size, **given)
    m = m.merge_adapters() if args.merge else m
    m.save(args.destination)
    _print(args, {"path": args.destination}, [f"wrote {args.destination}: {m.describe()}"])


def run_export(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    m = load(args.source, **_family(args))
    m.export(args.destination, format=args.format, dtype=args.dtype)
    _print(args, {"path": args.destination}, [f"wrote {args.destination}: {m.describe()}"])


def run_inspect(args: argparse.Namespace) -> None:
    from jvlm.convert import inspect

    facts = inspect(args.source, **_family(args))
    lines = [f"{key}: {value}" for key, value in facts.items() if key not in ("config", "tensors")]
    lines += [f"{key} = {value}" for key, value in facts["config"].items()]
    if args.tensors:
        lines += [f"{key} {shape}" for key, shape in facts["tensors"].items()]
    else:
        del facts["tensors"]
    _print(args, facts, lines)


def run_classify(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    templates = args.templates or args.template or ["{}"]
    probabilities = load(args.model).classify(args.images, args.labels, templates)
    results, lines = [], []
    for image, row in zip(args.images, probabilities.tolist()):
        ranked = sorted(zip(args.labels, row), key=lambda pair: -pair[1])
        results.append({"image": image, "probabilities": dict(ranked)})
        lines.append(f"{image}: " + ", ".join(f"{label} {p:.1%}" for label, p in ranked[:5]))
    _print(args, results, lines)


def run_embed(args: argparse.Namespace) -> None:
    from jvlm import distributed
    from jvlm.data.sources import image_files
    from jvlm.embeddings import embed
    from jvlm.evaluators.templates import read_lines

    if args.images:
        found = [image_files(p) if Path(p).is_dir() else [p] for p in args.images]
        kind, inputs = "images", [file for files in found for file in files]
    else:
        kind, inputs = "texts", read_lines(args.texts)
    with distributed.joined():
        result = embed(
            _load_on_all_devices(args.model),
            kind,
            inputs,
            args.out,
            dtype=args.dtype,
            shard_size=args.shard_size,
            batch_size=args.batch_size,
            max_bad_share=args.max_bad_share,
        )
    _warn_bad(result["bad"])
    line = f"wrote {result['count']:,} embeddings of {result['dim']} numbers to {args.out}"
    _print(args, result, [line])


def run_search(args: argparse.Namespace) -> None:
    from jvlm import embeddings
    from jvlm.search import folder_index, search

    model = _load_on_all_devices(args.model)
    embed = model.embed_images if args.image_query else model.embed_text
    query = embed([args.query])
    if args.index:
        parts, identity = embeddings.read(args.index), embeddings.fingerprint(model)
    else:
        index, bad = folder_index(model, args.images, cache=args.cache)
        _warn_bad(bad)
        parts, identity = [index], None
    results = search(query, parts, args.top, identity)[0]
    _print(args, results, [f"{r['score']:.4f}  {r.get('image', r.get('text'))}" for r in results])


def run_generate(args: argparse.Namespace) -> None:
    from jvlm.generation import make_options
    from jvlm.pretrained import load

    prompts = []
    for prompt in args.prompts:
        prompts += sys.stdin.read().splitlines() if prompt == "-" else [prompt]
    options = _generation_options(args)
    model = load(args.model, dtype=args.dtype, **_forms(args))
    choice = {name: value for name, value in options.items() if name != "allowed_texts"}
    several = make_options(choice, model.generation).width > 1  # The checkpoint may ask for it.
    if len(prompts) == 1 and not several and not args.json:
        for text in model.stream(prompts[0], **options):
            print(text, end="", flush=True)
        print()
        return
    texts = model.generate(prompts=prompts, **options)
    each = len(texts) // len(prompts)
    groups = [texts[i * each : (i + 1) * each] for i in range(len(prompts))]
    results = [{"prompt": prompt, "texts": group} for prompt, group in zip(prompts, groups)]
    _print(args, results, texts)


def _load_on_all_devices(path: str):
    """Loads a model for bulk work: a batch is spread over the devices of this host."""
    import jax

    from jvlm import sharding
    from jvlm.pretrained import load

    return load(path, mesh=sharding.make_mesh(devices=jax.local_devices()))


def _warn_bad(lines: Sequence[str]) -> None:
    """Names the first images that were left out."""
    for line in lines[:10]:
        print(f"jvlm: left out: {line}", file=sys.stderr)
    if len(lines) > 10:
        print(f"jvlm: and {len(lines) - 10} more", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """One line for a wrong command line, not a page of usage."""

    def error(self, message: str):
        print(f"{self.prog}: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(2)


def _add_config(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--config",
        required=required,
        metavar="FILE.py[:ARGS]",
        help="config file, or a name below configs/; --config.key=value changes an entry",
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="published folder or file; a jvlm model")
    parser.add_argument("--family", help="of a file that does not tell: clip, open_clip, ...")
    parser.add_argument("--variant", help="its size, such as ViT-B/32")


def _family(args: argparse.Namespace) -> dict:
    return {"family": args.family, "variant": args.variant}


def _add_forms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quantise", metavar="KIND", help="keep layers' kernels as int8 or int4")
    parser.add_argument("--adapter", metavar="DIR", help="LoRA adapter in PEFT's format")


def _forms(args: argparse.Namespace) -> dict:
    return {"quantise": args.quantise, "adapter": args.adapter}


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="run, or published checkpoint"
    )
    _add_json(parser)


# Option -> (how it is read, its help); names and meaning are `generation.Options`'.
_GENERATION = {
    "max_new_tokens": (int, "tokens at most (default 64)"),
    "min_new_tokens": (int, "no end before so many tokens"),
    "num_beams": (int, "width of beam search (default 1, none)"),
    "num_return_sequences": (int, "samples, or best beams, per prompt (default 1)"),
    "temperature": (float, "draw tokens at this temperature; 0, the default, takes the likeliest"),
    "top_k": (int, "draw from the k likeliest tokens"),
    "top_p": (float, "draw from the likeliest tokens that have probability p together"),
    "length_penalty": (float, "beams: exponent of the length that scores are divided by (1)"),
    "repetition_penalty": (float, "above 1 makes tokens that were there unlikelier (1)"),
    "no_repeat_ngram_size": (int, "no so many tokens in a row twice"),
    "eos_token_id": (int, "another end token than the checkpoint's"),
    "pad_token_id": (int, "another padding token than the checkpoint's"),
    "seed": (int, "of samples (default 0)"),
}


def _add_generation(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that writes text."""
    group = parser.add_argument_group("generation", "greedy by default")
    for name, (kind, text) in _GENERATION.items():
        group.add_argument(f"--{name}", type=kind, help=text)
    group.add_argument(
        "--do_sample", action="store_const", const=True, help="draw tokens, at temperature 1"
    )
    group.add_argument(
        "--early_stopping",
        choices=("true", "false", "never"),
        help="beams: end when enough have ended; when none can get better soon (false); ever",
    )
    group.add_argument(
        "--allowed_text",
        action="append",
        dest="allowed_texts",
        metavar="TEXT",
        help="answer with this text, or another one so given, only; may be repeated",
    )
    group.add_argument(
        "--bad_words_ids",
        type=json.loads,
        metavar="JSON",
        help="id sequences to avoid: [[5],[7,8]]",
    )


def _generation_options(args: argparse.Namespace) -> dict:
    """Those that were given."""
    names = (*_GENERATION, "do_sample", "early_stopping", "allowed_texts", "bad_words_ids")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if options.get("early_stopping") in ("true", "false"):
        options["early_stopping"] = options["early_stopping"] == "true"
    return options


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _print(args: argparse.Namespace, value, lines: Sequence[str]) -> None:
    print(json.dumps(value) if args.json else "\n".join(lines))


def _integer(option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{option} {text!r}: a number, best or latest") from None


def _exit(status: int) -> None:
    """Ends the process without waiting for background threads of a run that has failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
