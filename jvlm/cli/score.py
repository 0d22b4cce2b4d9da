# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm score`."""

import argparse

from jvlm.cli import options

TASK_NAMES = (  # Of metrics.tasks, which --help need not load.
    *("anls", "aokvqa", "auc", "caption", "classification", "exact", "gqa", "grounding", "ivqa"),
    *("mme", "multiple_choice", "nlvr2", "pointing", "pope", "retrieval", "science_qa", "snli_ve"),
    *("textvqa", "unscored", "visdial", "vqa"),
)


def add(verb) -> None:
    """Adds this verb to the command line; `verb` makes one."""
    score = verb("score", run_score, "Score a file of predictions, ours or others'.")
    score.add_argument("predictions", metavar="PREDICTIONS", help="JSON lines, or a JSON list")
    score.add_argument("--task", required=True, help=f"one of {', '.join(TASK_NAMES)}")
    score.add_argument(
        "--references",
        metavar="FILE",
        help="by id: JSON lines, or COCO's, VQA's, GQA's, A-OKVQA's file",
    )
    score.add_argument("--per-sample", metavar="OUT.jsonl", help="also write each one's metrics")
    score.add_argument(
        "--java",
        nargs="+",
        choices=("meteor", "spice"),
        default=(),
        help="of captions, too; takes Java and pip install jvlm[coco]",
    )
    options.add_json(score)


def run_score(args: argparse.Namespace) -> None:
    from jvlm.score import score_file

    result = score_file(args.predictions, args.task, args.references, args.per_sample, args.java)
    lines = [f"{name:32} {value:.4f}" for name, value in result.metrics.items()]
    options.show(args, result.metrics, lines)
