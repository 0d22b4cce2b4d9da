# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records the tensors of BLIP's released files, from the official code without weights.

    python -m tests.parity.make_blip_shapes BLIP    # writes tests/golden/shapes/blip.tsv

BLIP is a clone of salesforce/BLIP (056a169); transformers as for `make_albef`. `model_base_14M`,
`model_base` and `model_base_capfilt_large` hold the same.
"""

import contextlib
import io
import sys
import types

from tests import published_shapes
from tests.parity.recording import load_official
from tests.published_shapes import Published

VOCAB = 30524  # bert-base-uncased, [DEC] and [ENC].


def main(source: str):
    load_official(source)
    sys.modules["timm.models.helpers"].load_custom_pretrained = lambda *_: None
    large = {"vit_large_patch16_224_in21k": None}
    sys.modules["timm.models.vision_transformer"].default_cfgs = large
    text = full_size(source)
    (published_shapes.FOLDER / "blip.tsv").write_text(text)


class Tokenizer:
    """As much of one as making a model takes."""

    def __len__(self):
        return VOCAB

    def __call__(self, text):
        return types.SimpleNamespace(input_ids=[0] * (2 + len(text.split())))


def full_size(source: str) -> str:
    """The tensors of the published files, of models without numbers."""
    import torch
    from models import blip, blip_nlvr, blip_pretrain, blip_retrieval, blip_vqa
    from models.med import BertLMHeadModel, BertModel

    for module in (blip, blip_nlvr, blip_pretrain, blip_retrieval, blip_vqa):
        module.init_tokenizer = Tokenizer
    for kind in (BertLMHeadModel, BertModel):
        kind.from_pretrained = classmethod(lambda cls, _, config, **how: cls(config, **how))
    torch.hub.load_state_dict_from_url = lambda **_: {"model": {}}
    files = {  # As the README calls them; those of other data have the same.
        "model_base": lambda: blip_pretrain.BLIP_Pretrain(),
        "model_large": lambda: blip_pretrain.BLIP_Pretrain(vit="large"),
        "model_base_retrieval_coco": lambda: blip_retrieval.BLIP_Retrieval(),
        "model_large_retrieval_coco": lambda: blip_retrieval.BLIP_Retrieval(vit="large"),
        "model_base_caption_capfilt_large": lambda: blip.BLIP_Decoder(),
        "model_large_caption": lambda: blip.BLIP_Decoder(vit="large"),
        "model_base_vqa_capfilt_large": lambda: blip_vqa.BLIP_VQA(),
        "model_base_nlvr": lambda: blip_nlvr.BLIP_NLVR(image_size=384),
    }
    published = {}
    said = contextlib.redirect_stdout(io.StringIO())
    with numbers_on_cpu(), contextlib.chdir(source), said, torch.device("meta"):
        for name, make in files.items():
            published[name] = describe(make())
    return published_shapes.table(published)


@contextlib.contextmanager
def numbers_on_cpu():
    """The sources read their `linspace`, which tensors without numbers have not."""
    import torch

    linspace = torch.linspace
    torch.linspace = lambda *args: linspace(*args, device="cpu")
    yield
    torch.linspace = linspace


def describe(model) -> Published:
    """A model's tensors, and how many values it has without its average."""
    tensors = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    count = sum(
        value.numel()
        for key, value in model.named_parameters()
        if not key.split(".")[0].endswith("_m")
    )
    return Published("the code's", {}, count, tensors)


if __name__ == "__main__":
    main(*sys.argv[1:])
