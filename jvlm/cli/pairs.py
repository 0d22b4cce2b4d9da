# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm match | ground | ask`: what models do that look at an image and a text together."""

import argparse
from pathlib import Path

from jvlm.cli import options


def add(verb) -> None:
    """Adds these verbs to the command line; `verb` makes one."""
    match = verb("match", run_match, "Say how well texts fit images, looking at both at once.")
    match.add_argument("images", nargs="+", metavar="IMAGE")
    match.add_argument("--texts", required=True, nargs="+", help="to compare with each image")
    options.add_model(match)

    ground = verb("ground", run_ground, "Find what phrases name in an image: boxes in its pixels.")
    ground.add_argument("image", metavar="IMAGE")
    ground.add_argument("phrases", nargs="+", metavar="PHRASE")
    ground.add_argument("--out", metavar="PICTURE.png", help="draw the boxes into a picture")
    ground.add_argument(
        "--gradcam",
        action="store_true",
        help="draw where the model looks, too: for each phrase, and for each of its words",
    )
    ground.add_argument("--mode", default="itm", help="what is looked into: itm (default) or itc")
    ground.add_argument("--layer", type=int, help="whose attention, from 0 on (two thirds up)")
    ground.add_argument(
        "--threshold", type=float, default=0.2, help="share of the maximum that is hot (0.2)"
    )
    options.add_model(ground)

    ask = verb("ask", run_ask, "Answer a question about an image.")
    ask.add_argument("image", metavar="IMAGE")
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument(
        "--answers",
        nargs="+",
        metavar="ANSWER",
        help="choose among these, or those of FILE.json or FILE.txt, instead of writing one",
    )
    ask.add_argument("--top", type=int, default=5, help="of the given answers show (default 5)")
    ask.add_argument("--dtype", help="float32 or bfloat16; default as trained")
    options.add_forms(ask)
    options.add_generation(ask)
    options.add_model(ask)


def run_match(args: argparse.Namespace) -> None:
    from jvlm.pretrained import load

    pairs = [(image, text) for image in args.images for text in args.texts]
    found = load(args.model).match(*zip(*pairs)).tolist()
    results = [dict(image=i, text=t, probability=p) for (i, t), p in zip(pairs, found)]
    options.show(args, results, [f"{p:.4f}  {i}  {t}" for (i, t), p in zip(pairs, found)])


def run_ground(args: argparse.Namespace) -> None:
    from jvlm import heat
    from jvlm.data.images import read
    from jvlm.data.preview import save
    from jvlm.errors import UserError
    from jvlm.pretrained import load

    if args.gradcam and not args.out:
        raise UserError("--gradcam draws: say where, with --out PICTURE.png")
    if not 0 < args.threshold <= 1:
        raise UserError(f"--threshold {args.threshold}: give 0 < x <= 1")
    pixels = read(args.image)
    heats = load(args.model).gradcam(
        [pixels] * len(args.phrases), args.phrases, mode=args.mode, layer=args.layer
    )
    boxes = [one.box(args.threshold).tolist() for one in heats]
    if args.out:
        drawn = heat.picture(pixels, list(zip(args.phrases, boxes, heats)), maps=args.gradcam)
        save(drawn, args.out)
    results = [
        {"image": args.image, "phrase": phrase, "box": box, "hottest": one.place().tolist()}
        for phrase, box, one in zip(args.phrases, boxes, heats)
    ]
    lines = [f"{' '.join(f'{side:.0f}' for side in r['box'])}  {r['phrase']}" for r in results]
    options.show(args, results, lines)


def run_ask(args: argparse.Namespace) -> None:
    from jvlm.errors import UserError
    from jvlm.generation.options import with_defaults
    from jvlm.pretrained import load

    if args.top < 1:
        raise UserError(f"--top {args.top}: show at least 1")
    answers = None if args.answers is None else _read_answers(args.answers)
    chosen = options.generation(args)
    if answers is not None and chosen:
        raise UserError(f"--{next(iter(chosen))} is for written answers, not for --answers")
    model = load(args.model, dtype=args.dtype, **options.forms(args))
    result = {"image": args.image, "question": args.question}
    if answers is None:
        how = with_defaults(chosen, getattr(model.model, "answering", {}))
        texts = model.generate([args.image], [args.question], **how)
        result |= {"answer": texts[0], "answers": texts}
        lines = texts
    else:
        how = getattr(model.model, "ranking", {})
        scores = model.rank([args.image], [args.question], answers, **how)[0].tolist()
        ranked = sorted(zip(answers, scores), key=lambda pair: -pair[1])[: args.top]
        result["answer"] = ranked[0][0]
        # What was not preselected has no score; JSON knows no infinity.
        result["answers"] = [dict(answer=a, score=max(score, -1e9)) for a, score in ranked]
        lines = [f"{score:.4f}  {answer}" for answer, score in ranked]
    options.show(args, result, lines)


def _read_answers(given: list[str]) -> list[str]:
    """Answers of the command line, or those of the file that is named there."""
    from jvlm.errors import UserError
    from jvlm.evaluators.templates import read_names

    if len(given) > 1 or Path(given[0]).suffix not in (".json", ".txt"):
        return given
    answers = read_names(given[0])
    if not isinstance(answers, list | dict):  # LAVIS's are keys, their numbers do not matter.
        raise UserError(f"{given[0]}: a list of answers is needed")
    return list(answers)
