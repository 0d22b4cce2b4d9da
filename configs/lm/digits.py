# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Small language models of the captions, questions and answers of digit scenes.

    jvlm data prepare digit_scenes/small
    jvlm train --config=configs/lm/digits.py --workdir=runs/lm_digits
    jvlm train --config=configs/lm/digits.py:t5 --workdir=runs/lm_digits_t5

They never see an image. What the digits recipes of BLIP-2 and InstructBLIP keep frozen: a decoder
like GPT-2, which reads 'question answer' as one text, or with `:t5` an encoder-decoder like T5,
which reads the question, or the first words of a caption, in its encoder.

Perplexity per token on validation texts, and the least that there is without the image (of the
grammar of captions with digits and colours drawn evenly; of answers counted by kind of question):

                     GPT-2-like   least     T5-like   least
    captions              2.616   2.607      2.601   2.501 (of what follows the first words)
    answers               1.813   1.823      1.814   1.823

The caption or question of a scene is drawn, so 1 % below the least is chance. `written` is how
often the written answer is right, by kind of question: 38 % of 2,000, where the most frequent of
each kind is right in 40 %. `jvlm train` leaves the answers in predictions/written.jsonl. On 2 CPU
cores 3 min 42 s and 2 min 42 s.
"""

from configs import common, digits

KEYS = ("text", "text_mask", "labels")
QUESTION, ANSWER = "{qa[question]}", "{qa[answer]}"


def get_config(arg=""):
    arg = common.parse_arg(arg, t5=False)
    c = common.base()
    c.steps = 1500

    size = dict(vocab_size=256, width=128, num_heads=4)
    if arg.t5:
        c.model = dict(
            name="t5", **size, depth=2, decoder_depth=2, head_dim=32, mlp_dim=256, dropout=0.0
        )
    else:
        # Positions for the soft prompts of BLIP-2 too.
        c.model = dict(
            name="gpt2", **size, depth=4, mlp_dim=512, max_len=96, bos_id=3, eos_id=1, pad_id=0
        )
    c.tokenizer = dict(digits.tokenizer(24), start=not arg.t5, end=arg.t5)

    train, val = digits.source("train", arg.test), digits.source("validation", arg.test)
    draw = (
        ("choose", dict(key="captions", out="caption")),
        ("choose", dict(key="questions", out="qa")),
    )
    keep = ("keep", dict(keys=KEYS))
    answers = ("language", dict(prompt=QUESTION, text=ANSWER, encoder_decoder=arg.t5))
    if arg.t5:
        draw = (*draw, ("split_text", dict(key="caption", before="start", behind="rest")))
        captions = ("language", dict(prompt="{start}", text="{rest}", encoder_decoder=True))
        both = dict(prompt=("{start}", QUESTION), text=("{rest}", ANSWER), encoder_decoder=True)
    else:
        captions = ("language", dict(text="{caption}"))
        both = dict(text=("{caption}", f"{QUESTION} {ANSWER}"))
    c.data.source = train
    c.data.batch_size = 64
    c.data.transforms = (*draw, ("language", both), keep)

    c.objective = dict(name="language", chunk=0)
    c.optim.update(dict(lr=2e-3, b2=0.98, clip_norm=1.0, warmup_steps=100))
    c.optim.weight_decay = ((".*kernel", 0.1), (".*", 0.0))
    c.checkpoint.update(dict(every_steps=500, keep=2))

    data = dict(source=val, batch_size=250)
    c.eval.evaluators = dict(
        captions=dict(
            kind="perplexity", name="captions", data=dict(data, transforms=(*draw, captions, keep))
        ),
        answers=dict(
            kind="perplexity", name="answers", data=dict(data, transforms=(*draw, answers, keep))
        ),
        # What it writes, by kind of question.
        written=dict(
            kind="generate",
            task="exact",
            name="written",
            prompt=QUESTION,
            fields=dict(answers="qa/answer", category="qa/kind"),
            options=dict(max_new_tokens=8),
            data=dict(data, transforms=draw),
        ),
    )
    c.eval.every_steps = 500
    c.eval.texts = dict(
        source=val, transforms=draw, prompt=QUESTION, options=dict(max_new_tokens=8)
    )
    if arg.test:
        c.model.update(dict(width=32, num_heads=2, mlp_dim=64))
        if arg.t5:
            c.model.head_dim = 16
        common.shrink_for_test(c)
    return c
