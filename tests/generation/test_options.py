# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Options: what contradicts itself is said in a line; what a checkpoint brings along."""

import pytest

from jvlm.errors import UserError
from jvlm.generation import make_options


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_beam=4), "generate: unknown key 'num_beam'. Did you mean 'num_beams'"),
        (dict(max_length=9), "unknown key 'max_length'"),
        (dict(max_new_tokens=0), "max_new_tokens 0: at least 1"),
        (dict(max_new_tokens=2.5), "max_new_tokens 2.5: give a whole number"),
        (dict(temperature="hot"), "temperature 'hot': give a number"),
        (dict(temperature=float("nan")), "temperature nan: give a number"),
        (dict(top_p=1.2, do_sample=True), "top_p 1.2: a probability, at most 1"),
        (dict(repetition_penalty=0), "repetition_penalty 0: above 0"),
        (dict(early_stopping="ever"), "choose True, False or 'never'"),
        (dict(beam_search="old"), "choose 'new' or 'early'"),
        (dict(min_new_tokens=9, max_new_tokens=4), "min_new_tokens 9 is more than max_new_tokens"),
        (dict(do_sample=True, temperature=0), "do_sample=True with temperature 0"),
        (dict(do_sample=False, temperature=0.7), "do_sample=False with temperature 0.7"),
        (dict(top_k=5), "top_k and top_p are for samples"),
        (dict(num_beams=2, num_return_sequences=3), "is more than num_beams 2"),
        (dict(num_return_sequences=3), "of greedy search would be alike"),
        (dict(bad_words_ids=[5, 6]), r"bad_words_ids \[5, 6\]: give a list of lists of ids"),
        (dict(allowed_sequences=["ab"]), "allowed_sequences .*: give a list of lists of ids"),
        (dict(allowed_ids=5), "allowed_ids 5: give a list of ids"),
        (dict(eos_token_id=2.5), "eos_token_id 2.5: give"),
        (dict(seed=2**32), "seed 4294967296: below 4294967296"),
    ],
)
def test_contradictions(options, message):
    with pytest.raises(UserError, match=message):
        make_options(options)


def test_sampling_is_asked_for_by_a_temperature_or_by_name():
    assert not make_options({}).samples
    assert not make_options({"temperature": 0.0}).samples
    assert make_options({"temperature": 0.3}).samples
    assert make_options({"do_sample": True}).samples


def test_a_checkpoint_never_makes_generation_sample():
    file = dict(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=[1, 2], num_beams=3)
    file |= dict(transformers_version="5.23", max_length=20, bos_token_id=1)
    assert make_options({}, file).samples is False
    assert make_options({}, file).top_p == 1
    assert make_options({}, file).eos_token_id == [1, 2]
    asked = make_options({"do_sample": True, "num_beams": 1}, file)
    assert (asked.temperature, asked.top_p, asked.num_beams) == (0.6, 0.9, 1)
    assert make_options({"temperature": 1.5}, file).temperature == 1.5
