# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what LAVIS's ALBEF makes of tiny models with random weights.

    python -m tests.parity.make_lavis LAVIS ALBEF

LAVIS and ALBEF are clones of salesforce/LAVIS (506965b) and salesforce/ALBEF. Writes
tests/golden/lavis_*.npz and shapes/lavis.tsv. Of LAVIS only the models are imported; transformers
as for `make_albef`, whose stand-ins for timm serve here too.
"""

import functools
import json
import pathlib
import sys
import types

import numpy as np

from tests import published_shapes
from tests.parity import make_albef
from tests.parity.make_albef import GOLDEN, SIDE, arrays, inputs, shake
from tests.published_shapes import Published

TINY = dict(
    hidden_size=8,
    num_hidden_layers=4,
    fusion_layer=2,
    num_attention_heads=2,
    intermediate_size=16,
    vocab_size=make_albef.VOCAB,
    max_position_embeddings=8,
    encoder_width=8,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
ANSWERS = np.array(
    [[1, 5, 6, 2], [1, 7, 2, 0], [1, 8, 9, 2], [1, 5, 2, 0], [1, 6, 6, 2], [1, 9, 2, 0]]
)


def main(lavis: str, albef: str):
    make_albef.load_official(albef)
    sys.path.remove(albef)
    load_models(pathlib.Path(lavis) / "lavis")
    text = json.loads(
        (pathlib.Path(lavis) / "lavis/configs/models/med_config_albef.json").read_text()
    )
    full_size(text)
    tiny(text | TINY)


def load_models(source: pathlib.Path) -> None:
    """Makes `lavis.models` importable without what they need for training."""

    def stand_in(name: str, **content) -> None:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(content)

    stand_in("lavis", __path__=[str(source)])
    stand_in("lavis.common", __path__=[])
    stand_in("lavis.models", __path__=[str(source / "models")])
    register = types.SimpleNamespace(register_model=lambda name: lambda cls: cls)
    stand_in("lavis.common.registry", registry=register)
    names = ("download_cached_file", "is_dist_avail_and_initialized")
    stand_in("lavis.common.dist_utils", **dict.fromkeys(names))
    stand_in("lavis.common.logger", MetricLogger=None)
    stand_in("lavis.common.utils", get_abs_path=None, is_url=None)
    stand_in("omegaconf", OmegaConf=None)
    checkpointing = "fairscale.nn.checkpoint.checkpoint_activations"
    stand_in(checkpointing, checkpoint_wrapper=None)
    for end in ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint"):
        stand_in(end)
    stand_in("timm.models.helpers", named_apply=None, adapt_input_conv=None)
    from lavis.models.albef_models import AlbefBase

    AlbefBase.init_tokenizer = classmethod(lambda cls: None)


def models(config: dict, side: int, embed_dim: int, queue_size: int, /, **vit):
    """The four finetuned models by their files' names."""
    import torch
    from lavis.models.albef_models.albef_classification import AlbefClassification
    from lavis.models.albef_models.albef_nlvr import AlbefNLVR
    from lavis.models.albef_models.albef_retrieval import AlbefRetrieval
    from lavis.models.albef_models.albef_vqa import AlbefVQA
    from lavis.models.med import BertLMHeadModel, BertModel, XBertEncoder
    from lavis.models.vit import VisionTransformerEncoder
    from transformers import BertConfig

    own, alone = config["num_hidden_layers"], config["fusion_layer"]

    def image():
        norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
        tower = VisionTransformerEncoder(img_size=side, norm_layer=norm, qkv_bias=True, **vit)
        tower.vision_width = config["encoder_width"]
        return tower

    def text(cls=XBertEncoder, **changes):
        options = {} if cls is BertLMHeadModel else dict(add_pooling_layer=False)
        return cls(BertConfig(**config | changes), **options)

    paired = text(BertModel, num_hidden_layers=alone + 2 * (own - alone))
    decoder = text(BertLMHeadModel, fusion_layer=0, num_hidden_layers=own - alone)
    return {
        "albef_coco_retrieval_lavis": AlbefRetrieval(image(), text(), queue_size, embed_dim),
        "albef_snli_ve_lavis": AlbefClassification(image(), text(), 3),
        "albef_nlvr_lavis": AlbefNLVR(image(), paired, 2),
        "albef_vqav2_lavis": AlbefVQA(image(), text(), decoder),
    }


def full_size(config: dict) -> None:
    import torch

    linspace = torch.linspace  # The source reads its numbers, which tensors without any have not.
    torch.linspace = lambda *args: linspace(*args, device="cpu")
    published = {}
    with torch.device("meta"):
        made = models(config, 384, 256, 65536)
    for name, model in made.items():
        tensors = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        count = sum(
            value.numel()
            for key, value in model.named_parameters()
            if not key.split(".")[0].endswith("_m")
        )
        published[name] = Published("the code's", {}, count, tensors)
    torch.linspace = linspace
    (published_shapes.FOLDER / "lavis.tsv").write_text(published_shapes.table(published))


def tiny(config: dict) -> None:
    import torch
    from lavis.models.albef_models.albef_nlvr import AlbefNLVR

    # The source has the numbers of its layers in its code.
    AlbefNLVR.share_cross_attention = make_albef.share
    vit = dict(patch_size=8, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2)
    batch = inputs(np.random.default_rng(0))
    image = torch.tensor(batch["image"].transpose(0, 3, 1, 2))
    words = types.SimpleNamespace(input_ids=torch.tensor(batch["text"]))
    words.attention_mask = torch.tensor(batch["text_mask"]).long()
    words.to = lambda device: words
    torch.manual_seed(5)
    for name, model in models(config, SIDE, 4, 12, **vit).items():
        shake(model)
        model.eval()
        model.tokenizer = lambda *_, **__: words
        with torch.no_grad():
            results = outputs(model, name, image, words)
        results = {key: value.numpy() for key, value in results.items()}
        # Without the average, which newer files of LAVIS do not have.
        state = {k: v for k, v in model.state_dict().items() if "_m." not in k}
        before = {f"before/{k}": v for k, v in arrays(state).items()}
        given = {f"batch/{k}": v for k, v in batch.items()}
        path = GOLDEN / f"{name.removesuffix('_lavis').replace('albef', 'lavis_albef')}.npz"
        np.savez_compressed(path, versions=versions(), **results, **given, **before)


def outputs(model, name: str, image, words) -> dict:
    """What is compared; of retrieval as `compute_sim_matrix` does it."""
    import torch
    from torch.nn.functional import normalize

    sample = {"text_input": None, "image": image, "label": torch.zeros(len(image), dtype=int)}
    if "vqa" in name:
        model.use_distill = False
        question = model.forward_encoder(sample)[0].last_hidden_state
        answers = torch.tensor(ANSWERS)
        out = model.text_decoder(
            answers,
            attention_mask=(answers != 0).long(),
            encoder_hidden_states=question,
            encoder_attention_mask=words.attention_mask,
            return_dict=True,
        )
        return {"logits": out.logits, "batch/decoder_text": answers}
    if "retrieval" not in name:
        pair = {"image0": image, "image1": image.flip(0)}
        return {"logits": model(sample | pair, is_train=False)["predictions"]}
    states = model.visual_encoder.forward_features(image)
    fused = model.text_encoder(
        words.input_ids,
        attention_mask=words.attention_mask,
        encoder_hidden_states=states,
        encoder_attention_mask=torch.ones(states.shape[:2], dtype=int),
        return_dict=True,
    )
    text = model.text_encoder.forward_text(words).last_hidden_state
    return {
        "itm_logits": model.itm_head(fused.last_hidden_state[:, 0]),
        "image_embeds": normalize(model.vision_proj(states[:, 0]), dim=-1),
        "text_embeds": normalize(model.text_proj(text[:, 0]), dim=-1),
    }


def versions() -> str:
    import torch
    import transformers

    return f"salesforce/LAVIS 506965b, torch {torch.__version__}, {transformers.__version__}"


if __name__ == "__main__":
    main(*sys.argv[1:])
