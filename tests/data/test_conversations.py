# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversations: the official ids and labels, what is cut, what cannot be learned."""

import base64
import json
import pathlib

import numpy as np
import pytest

from jvlm.data import conversations
from jvlm.data.conversations import load_template
from jvlm.data.images import BadRecord
from jvlm.data.transforms import compose
from jvlm.errors import UserError
from jvlm.tokenizers.sentencepiece import SentencePiece

GOLDEN = pathlib.Path(__file__).parent.parent / "golden/conversations.json"
GOLDEN = json.loads(GOLDEN.read_text(encoding="utf-8"))
ROLES = {"human": "user", "gpt": "assistant"}
SHIPPED = [name for name in json.loads(conversations.SHIPPED.read_text()) if name != "_"]


def make_tokenizer(legacy=True, max_len=400):
    return SentencePiece(
        {"spiece.model": base64.b64decode(GOLDEN["model"])},
        max_len=max_len,
        start=True,
        end=False,
        special={"<unk>": 0, "<s>": 1, "</s>": 2},
        legacy=legacy,
        pad="<unk>",
    )


TOKENIZER = make_tokenizer()


def row(example, tokenizer=TOKENIZER, **options):
    options = dict(template="vicuna_v1") | options
    got = compose([("conversation", options)], tokenizer=tokenizer)(example, None)
    keys = ("text", "text_mask", "labels", "image_slot")
    return {key: got[key] for key in keys if key in got}


def example(*said, images=0):
    roles = ["user", "assistant"] * len(said)
    turns = {"role": roles[: len(said)], "text": list(said)}
    return {"id": "sample 7", "turns": turns, "images": [b""] * images}


def spelled(row):
    """What is learned, end tokens as bars."""
    parts = [[]]
    for id in row["labels"][row["labels"] >= 0].tolist():
        parts[-1].append(id) if id != TOKENIZER.eos_id else parts.append([])
    return "|".join(TOKENIZER.decode(ids) for ids in parts)


def case_id(case):
    return f"{case['template']}-{case['legacy']}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=case_id)
def test_official(case):
    turns = case["turns"]
    said = {"role": [ROLES[role] for role, _ in turns], "text": [text for _, text in turns]}
    images = sum(text.count("<image>") for _, text in turns)
    options = dict(template=case["template"], image_tokens=case["image_tokens"])
    got = row({"turns": said, "images": [b""] * images}, make_tokenizer(case["legacy"]), **options)
    ids = [0 if id == -200 else id for id in case["ids"]]
    count = got["text_mask"].sum()
    assert got["text"][:count].tolist() == ids
    assert (got["image_slot"] >= 0).sum() == images * case["image_tokens"]
    labels = [-1 if label == -100 else label for label in case["labels"]]
    if set(labels) != {-1}:
        assert got["labels"][:count].tolist() == labels
    else:  # LLaVA lost count of its pieces, as it says, and learns nothing.
        assert any("</s>" in text for _, text in turns) or not case["legacy"]
        answers = [text for role, text in turns if role == "gpt"]
        assert all(answer.strip() in spelled(got) for answer in answers)


def test_one_case_in_full():
    got = row(example("<image>\nWhat?", "A dog.", "Sure?", "Yes", images=1), image_tokens=3)
    assert {key: value.dtype for key, value in got.items()} == {
        "text": np.int32,
        "text_mask": bool,
        "labels": np.int32,
        "image_slot": np.int32,
    }
    assert spelled(got) == "A dog.|Yes|"
    learned = got["labels"] >= 0
    np.testing.assert_array_equal(got["labels"][learned], got["text"][learned])
    slots = got["image_slot"]
    assert slots[slots >= 0].tolist() == [0, 1, 2] and not got["labels"][slots >= 0].max() >= 0
    assert got["text"][0] == 1 and not got["text_mask"][got["text_mask"].sum() :].any()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_template_learns_every_answer(name):
    """And a prompt is what stands before the answer."""
    said = example("first", "One", "second", "Two")
    got = row(said, template=name)
    assert [word in spelled(got) for word in ("One", "Two", "first", "second")] == [1, 1, 0, 0]
    last = row(said, template=name, learn="last")
    assert "One" not in spelled(last) and "Two" in spelled(last)
    prompt = row(said, template=name, learn="none")
    assert "labels" not in prompt
    count = prompt["text_mask"].sum()
    same = got["text"][:count] == prompt["text"][:count]
    assert same.all() or (same[:-1].all() and not load_template(name).answer_apart)
    assert (got["labels"][:count] >= 0).sum() < (got["labels"] >= 0).sum()


def test_texts_of_templates():
    written = lambda name, *args: "".join(
        part.text for part in conversations.segments(load_template(name), *args)
    )
    said = [("user", "<image>\nA?"), ("assistant", "b"), ("user", "C?")]
    assert (
        written("vicuna_v1", said, "S.")
        == "S. USER: <image>\nA? ASSISTANT: b</s>USER: C? ASSISTANT:"
    )
    want = "[INST] <<SYS>>\nS.\n<</SYS>>\n\n<image>\nA? [/INST] b </s><s>[INST] C? [/INST]"
    assert written("llava_llama_2", said, "S.") == want
    assert written("mistral_instruct", said[1:]) == " b </s>[INST] C? [/INST]"
    want = "<image>Question: A? Answer: b\nQuestion: C? Answer:"
    assert written("cogvlm_chat_old", said) == want
    assert written("cogvlm_chat", said) == "<image> [INST] A? [/INST] b [INST] C? [/INST] "
    want = (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nA?<|im_end|>"
    )
    assert written("chatml_direct", said[:1]) == want + "<|im_start|>assistant\n"
    assert written("plain", said[:2]) == "<image>b\n"


def test_what_is_too_long():
    said = example("<image>\nWhat?", "A dog and another dog", images=1)
    whole = row(said, template="cogvlm_base", image_tokens=5)
    count = whole["text_mask"].sum()
    cut = row(said, template="cogvlm_base", image_tokens=5, max_len=int(count) - 2)
    assert cut["text"].tolist() == whole["text"][: count - 2].tolist()
    assert cut["labels"][-1] not in (-1, 2)
    with pytest.raises(BadRecord, match="sample 7: 5 tokens do not hold its images"):
        row(said, template="cogvlm_base", image_tokens=5, max_len=5)
    with pytest.raises(BadRecord, match="sample 7: no answer that could be learned within 8 tok"):
        row(said, template="cogvlm_vqa", image_tokens=5, max_len=8)
    with pytest.raises(BadRecord, match="no answer that could be learned"):
        row(example("What?"))
    for options in (dict(template="cogvlm_vqa"), {}, dict(learn="last")):
        with pytest.raises(BadRecord, match="no answer that could be learned"):
            row(example("What?", " "), **options)


def test_a_prompt_without_a_word():
    got = row(example(""), template="cogvlm_base", learn="none")
    assert got["text"][got["text_mask"]].tolist() == [TOKENIZER.bos_id]


def test_an_end_that_the_tokenizer_does_not_know(tmp_path):
    """It would be learned letter by letter, and nothing would ever end an answer."""
    own = SentencePiece.train(["What? A dog"] * 20, 40, 200, "bpe", True)
    with pytest.raises(UserError, match="'vicuna_v1' ends answers with '</s>', which is not this"):
        row(example("What?", "A dog"), own)
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"qa": {"user": "{text}", "end": True}}))
    assert row(example("What?", "A dog"), own, template=f"{path}:qa")["labels"].max() >= 0


def test_images_and_their_marks():
    options = dict(template="plain", image_tokens=2)
    unmarked = row(example("What?", "A dog", images=2), **options)
    marked = row(example("<image>\n<image>\nWhat?", "A dog", images=2), **options)
    np.testing.assert_array_equal(unmarked["image_slot"], marked["image_slot"])
    assert unmarked["image_slot"].max() == 3
    # Images that are stacked already.
    stacked = example("<image>\nWhat?", "A dog") | {"image_valid": np.array([True, False])}
    del stacked["images"]
    assert row(stacked, **options)["image_slot"].max() == 1
    text_only = row(example("What?", "A dog"), **options)
    assert (text_only["image_slot"] == -1).all()
    with pytest.raises(BadRecord, match="mentions 1 images and has 2"):
        row(example("<image>", "A dog", images=2), **options)
    with pytest.raises(BadRecord, match="image_tokens is 0"):
        row(example("<image>", "A dog", images=1), template="plain")
    assert "image_slot" not in row(example("What?", "A dog", images=1))


def test_turns():
    said = example("What?", "A dog")
    said["turns"]["role"].insert(0, "system")
    said["turns"]["text"].insert(0, "Be brief.")
    got = row(said)
    want = conversations.segments(load_template("vicuna_v1"), [("user", "What?")], "Be brief.")
    prompt = TOKENIZER.encode("".join(part.text for part in want))
    assert got["text"][: len(prompt)].tolist() == prompt
    asked = row({"q": "What?", "a": "A dog"}, prompt="{q}", answer="{a}")
    np.testing.assert_array_equal(asked["text"], row(example("What?", "A dog"))["text"])
    for roles in (["user", "user"], ["user", "robot"]):
        turns = {"role": roles, "text": ["a", "b"]}
        with pytest.raises(BadRecord, match=f"a turn of '{roles[1]}' where one of 'assistant'"):
            row({"turns": turns})
    with pytest.raises(BadRecord, match="nobody asks"):
        row({"turns": {"role": ["assistant"], "text": ["a"]}})


def test_turns_as_files_have_them():
    want = row(example("What?", "A dog"))["labels"]
    for names in (("from", "value"), ("role", "content"), ("role", "text")):
        roles = ("human", "gpt") if names[0] == "from" else ("user", "assistant")
        turns = [dict(zip(names, turn)) for turn in zip(roles, ("What?", "A dog"))]
        np.testing.assert_array_equal(row({"talk": turns}, turns="talk")["labels"], want)
    for turns in (["What?"], [{"from": "human"}], [{"role": "user", "content": [1]}], "What?"):
        with pytest.raises(BadRecord, match="4: a turn that has no role or no text"):
            row({"id": 4, "turns": turns})


def test_templates_of_ones_own(tmp_path):
    path = tmp_path / "my.json"
    path.write_text(json.dumps({"qa": {"user": "Q: {text}\n", "reply": "A:", "answer": " {text}"}}))
    got = row(example("What?", "A dog"), template=f"{path}:qa")
    assert spelled(got) == "A dog"
    for content, name, message in (
        ({"qa": {"user": "{text}", "repl": ""}}, "qa", "Did you mean 'reply'"),
        ({"qa": {"user": "{txt}"}}, "qa", "'{text}' is all that is filled in"),
        ({"qa": {"user": "{text}", "past_answer": "{"}}, "qa", "past_answer is '{': '{text}' is"),
        ({"qa": {"user": "{text}", "system_format": "{}"}}, "qa", "'{system}' is all that is"),
        ({"qa": {"user": "Q:"}}, "qa", "user is 'Q:': '{text}' is all"),
        ({"qa": {"user": "{text}", "answer": ""}}, "qa", "answer is '': '{text}' is all"),
        ({"qa": {"user": "{text}", "reply": None}}, "qa", "reply is None: give a str"),
        ({"qa": {"user": "{text}", "images": "inlin"}}, "qa", "Did you mean 'inline'"),
        ({"qa": {}}, "q", "no template 'q'. Did you mean 'qa'"),
        ([], "qa", "no file of conversation templates"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            load_template(f"{path}:{name}")
    with pytest.raises(UserError, match="no template 'vicuna'. Did you mean 'vicuna_v1'"):
        load_template("vicuna")
    with pytest.raises(UserError, match="learn 'al' is unknown. Did you mean 'all'"):
        row(example("What?", "A dog"), learn="al")
