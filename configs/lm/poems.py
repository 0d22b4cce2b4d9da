# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""A language model of Chinese quatrains, from keywords to poem (the corpus of Image2Poem).

    jvlm data import ccpc DIR DATA/ccpc
    jvlm train --config=configs/lm/poems.py:data=DATA --workdir=runs/poems
    jvlm generate "关键词：明月 故乡" --model runs/poems --do_sample --top_p=0.9

DIR holds THUNLP's ccpc_{train,valid,test}_v1.0.json; `train=validation` learns from another split.
One token a character; a prompt of keywords is not learned, the four lines behind it are. A third
of GPT-2's width, half its depth: minutes on a GPU; two CPU cores take about 2 s a step.
"""

from configs import common


def get_config(arg=""):
    arg = common.parse_arg(arg, data="", train="train", eval="test")
    c = common.base()
    c.steps = 5000

    c.model = dict(
        name="gpt2",
        vocab_size=8192,
        width=256,
        depth=6,
        num_heads=4,
        mlp_dim=1024,
        max_len=56,
        bos_id=3,
        eos_id=1,
        pad_id=0,
    )
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="char",
        vocab_size=8192,
        max_len=56,
        start=True,
        end=False,
        train_on=("lines", "keywords"),
        required_chars="|:关键词",  # Of the prompt; full-width signs are normalised.
    )

    source = dict(kind="tfds", name="ccpc", data_dir=arg.data or None)
    texts = (
        ("join", dict(key="keywords", separator=" ", out="words")),
        ("join", dict(key="lines", separator="|", out="poem")),
    )
    rows = (
        *texts,
        ("language", dict(prompt="关键词：{words}", text="{poem}")),
        ("keep", dict(keys=("text", "text_mask", "labels"))),
    )
    c.data.update(dict(source=dict(source, split=arg.train), batch_size=64, transforms=rows))

    c.objective = dict(name="language", chunk=1024)
    c.optim.update(dict(lr=1e-3, b2=0.98, clip_norm=1.0, warmup_steps=200))
    c.optim.weight_decay = ((".*kernel", 0.1), (".*", 0.0))
    c.checkpoint.update(dict(every_steps=500, keep=2))

    held_out = dict(source, split=arg.eval)
    c.eval.evaluators = dict(
        poems=dict(
            kind="perplexity",
            name="poems",
            data=dict(source=held_out, transforms=rows, batch_size=250),
        )
    )
    c.eval.texts = dict(
        source=held_out, transforms=texts, prompt="关键词：{words}", options=dict(max_new_tokens=40)
    )
    if arg.test:
        c.model.update(dict(width=32, depth=2, num_heads=2, mlp_dim=64))
        common.shrink_for_test(c)
    return c
