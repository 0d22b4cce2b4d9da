# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generation, token for token, and the processors' distributions against transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import jvlm
from jvlm.generation import Options, make_processors
from jvlm.generation.processors import History
from tests.parity.references import common, language

pytestmark = pytest.mark.parity

ROWS, LENGTH, NEW = 50, 8, 12
LONG = dict(max_position_embeddings=48)
# transformers' class and config.json: sizes of the other parity tests, with room to write.
ONE = dict(num_hidden_layers=1)
FAMILIES = {
    "gpt2": (
        "GPT2LMHeadModel",
        {**language.GPT2, "n_positions": 48, "pad_token_id": 0, "n_layer": 1},
    ),
    "opt": ("OPTForCausalLM", {**language.OPT, **LONG, **ONE}),
    "llama": ("LlamaForCausalLM", {**language.LLAMA, **LONG, **ONE, "pad_token_id": 0}),
    "t5": ("T5ForConditionalGeneration", {**language.T5, "pad_token_id": 0, "num_layers": 1}),
    "bert": (
        "BertLMHeadModel",
        {**language.BERT, **LONG, **ONE, "pad_token_id": 0, "is_decoder": True},
    ),
}
WORDS = [[7], [8, 9], [10, 11, 12], [39]]
BEAMS = dict(num_beams=4)
ALLOWED = [[4, 5, 6], [4, 5], [7], [8, 9, 10, 11], [12, 5]]
PROCESSED = dict(repetition_penalty=1.4, no_repeat_ngram_size=2, min_new_tokens=4)
# Setting -> options. `words` are banned, and padding with them: where n-grams are looked for,
# transformers takes it for text. `ends` makes more end tokens.
SETTINGS = {
    "greedy": {},
    "beams": BEAMS | dict(length_penalty=0.6),
    "n best beams": BEAMS | dict(length_penalty=1.0, num_return_sequences=4),
    "beams, stopped early": BEAMS | dict(length_penalty=2.0, early_stopping=True),
    "beams, never stopped early": BEAMS | dict(length_penalty=-1.0, early_stopping="never"),
    "beams with processors": BEAMS | PROCESSED | dict(words=WORDS, ends=(20, 30)),
    "only these": dict(num_beams=3, allowed_sequences=ALLOWED),
}
GREEDY = {
    "processors": PROCESSED | dict(words=WORDS),
    "other values": dict(
        repetition_penalty=0.8, no_repeat_ngram_size=3, min_new_tokens=2, words=WORDS
    ),
    "several ends": dict(ends=(20, 30)),
}


@functools.cache
def load(name, folder):
    """(transformers' model, ours), whose texts end now and then."""
    model_class, config = FAMILIES[name]
    model_class = getattr(transformers, model_class)
    config = dict(config, initializer_range=0.4)
    model = common.randomize(model_class(model_class.config_class.from_dict(config)))
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(2)
    # The end token is one that comes in half of the answers, more or less.
    start = language.inputs(model, prompts(config, 0))
    ids = model.generate(**start, max_new_tokens=NEW, eos_token_id=-1)[:, -NEW:].numpy()
    shares = [(ids == id).any(1).mean() for id in range(13, language.V)]
    config["eos_token_id"] = 13 + int(np.abs(np.array(shares) - 0.5).argmin())
    model.config.eos_token_id = model.generation_config.eos_token_id = config["eos_token_id"]
    language.save(model, folder)
    common.write_json(folder / "config.json", config)
    return model, jvlm.load(folder)


def prompts(config, seed):
    """Of different lengths, padded as transformers needs it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LENGTH + 1, ROWS)[:, None]
    columns = np.arange(LENGTH)
    mask = columns < lengths if config["model_type"] == "t5" else columns >= LENGTH - lengths
    pad = config["pad_token_id"]
    text = np.where(mask, rng.integers(4, language.V, mask.shape), pad).astype(np.int32)
    return {"text": text, "text_mask": mask}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    name = request.param
    return name, *load(name, tmp_path_factory.mktemp(name))


@pytest.mark.parametrize("setting", SETTINGS)
def test_token_for_token(family, setting):
    compare(*family, SETTINGS[setting], 1 + list(SETTINGS).index(setting))


@pytest.mark.parametrize("family", ["gpt2"], indirect=True)
@pytest.mark.parametrize("setting", GREEDY)
def test_greedy_token_for_token(family, setting):
    compare(*family, GREEDY[setting], 20)


def compare(name, model, ours, options, seed):
    """Both generate from the same prompts."""
    options = {"max_new_tokens": NEW, **options}
    config = model.config.to_dict()
    end, pad = config["eos_token_id"], config["pad_token_id"]
    if "ends" in options:
        options["eos_token_id"] = [end, *options.pop("ends")]
    if "words" in options:
        options["bad_words_ids"] = [*options.pop("words"), [pad]]
    batch = prompts(config, seed)
    begun = 1 if name == "t5" else LENGTH
    theirs = dict(options)
    if theirs.pop("allowed_sequences", None):
        theirs["prefix_allowed_tokens_fn"] = lambda row, ids: follows(ids[begun:].tolist(), end)
    inputs = language.inputs(model, batch)
    inputs.pop("position_ids", None)  # generate makes them itself.
    with torch.no_grad():
        want = model.generate(**inputs, do_sample=False, **theirs)[:, begun:].numpy()
    np.testing.assert_array_equal(ours.generate_ids(batch, **options), want)
    ends = np.isin(want, options.get("eos_token_id", end)).any(1).mean()
    assert ends > 0.05, "hardly a text ends: the comparison would say little"


def follows(answer, end):
    """What may come next, as a function of what has come."""
    sequences = [[*ids, end] for ids in ALLOWED]
    found = {ids[len(answer)] for ids in sequences if ids[: len(answer)] == answer != ids}
    return sorted(found) or [end]


PROCESSORS = transformers.generation.logits_process
FILTERS = {
    "temperature": (dict(temperature=0.7), [PROCESSORS.TemperatureLogitsWarper(0.7)]),
    "top_k": (dict(top_k=20), [PROCESSORS.TopKLogitsWarper(20)]),
    "top_p": (dict(top_p=0.8), [PROCESSORS.TopPLogitsWarper(0.8)]),
    "small top_p": (dict(top_p=0.01), [PROCESSORS.TopPLogitsWarper(0.01)]),
    "all": (
        dict(temperature=1.3, top_k=200, top_p=0.9, repetition_penalty=1.3, min_new_tokens=4),
        [
            PROCESSORS.RepetitionPenaltyLogitsProcessor(1.3),
            PROCESSORS.MinNewTokensLengthLogitsProcessor(6, 4, 3),
            PROCESSORS.TemperatureLogitsWarper(1.3),
            PROCESSORS.TopKLogitsWarper(200),
            PROCESSORS.TopPLogitsWarper(0.9),
        ],
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filtered_distributions(rng, name):
    options, theirs = FILTERS[name]
    size = 1000
    scores = 3 * rng.normal(size=(16, size)).astype(np.float32)
    ids = rng.integers(0, size, (16, 8))
    want = torch.tensor(scores)
    for process in theirs:
        want = process(torch.tensor(ids), want)
    history = History(jnp.array(ids)[:, None], jnp.zeros(16, int), jnp.int32(8), jnp.int32(6))
    processors = make_processors(Options(do_sample=True, **options), (3,), size)
    got = jnp.asarray(scores)[:, None]
    for process in processors:
        got = process(got, history)
    want = torch.softmax(want, -1).numpy()
    np.testing.assert_allclose(jax.nn.softmax(got)[:, 0], want, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got[:, 0]) == -np.inf, want == 0)
