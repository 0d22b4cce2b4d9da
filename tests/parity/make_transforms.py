# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records what the official code makes of texts, images and conversations.

python -m tests.parity.make_transforms ALBEF BLIP LLAVA COGVLM TIMM    # checkouts

writes tests/golden/transforms.npz (images), transforms.json (texts) and conversations.json. Runs
with opencv-python-headless 4, torch, torchvision, sentencepiece and what LLaVA pins: transformers
4.37.2. Some functions are taken out of files whose other imports do not install any more.
"""

import ast
import base64
import copy
import importlib.metadata
import importlib.util
import io
import json
import pathlib
import re
import sys
import types

import numpy as np
import sentencepiece

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
COMMITS = {
    "salesforce/ALBEF": "b9727e43c3040491774d1b22cc27718aa7772fac",
    "salesforce/BLIP": "056a169437371659074aa2732649d5de3bffb4a8",
    "haotian-liu/LLaVA": "c121f0432da27facab705978f83c4ada465e46fd",
    "THUDM/CogVLM": "f7283b2c8d26cd7f932d9a5f7f5f9307f568195d",
}
TEXTS = (
    "A dog's best-friend, and/or <person>!", "  Two   spaces.  And\ttabs \n", "\n", "", "?",
    "What is (the) \"#1\" * thing: here; there ~ ?", "a\n\nb. \n\n", "ÀÉ... Straße ① İ", "a , b",
    "x" + " yz" * 60, "he said: 'no'!", "- / -", "Is it left/right?  ", ". . . a . .",
)  # fmt: skip
LEVELS = (5, 7, -7, 3.4, -10)
TALKS = (
    (("human", "<image>\nWhat is this?"), ("gpt", "A dog.")),
    (
        ("human", "What colour is it?\n<image>"), ("gpt", "Brown and white"), ("human", "Sure?"),
        ("gpt", "Yes, it is: 100 %."), ("human", "Thanks"), ("gpt", "Welcome!"),
    ),
    (("human", "<image>"), ("gpt", " leading space")),
    (("human", "Name it in 你好 👍."), ("gpt", "狗\nund 'Hund'\n\n- x")),
    (
        ("gpt", "Hello, I begin."), ("human", "<image>\nHow many?  two  spaces "), ("gpt", "  3 "),
    ),
    (("human", "Say </s> please"), ("gpt", "no")),
)  # fmt: skip
QUESTIONS = (
    ("What is it?", "A dog."), ("CAPTCHA:", "x7Qy"), ("数字 是 几？", " 3 ok"), ("q\n", "\n- a"),
    ("Where is the object?", "[[012,345,678,999]]"),
)  # fmt: skip


def main(*checkouts: str):
    albef, blip, llava, cogvlm, timm = map(pathlib.Path, checkouts)
    names = (
        "numpy",
        "pillow",
        "opencv-python-headless",
        "sentencepiece",
        "tokenizers",
        "torchvision",
        "transformers",
    )
    record = {
        "commits": COMMITS,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }
    version = (timm / "timm/version.py").read_text()
    record["versions"]["timm"] = re.search("[0-9.]+", version)[0]
    texts = {**record, "texts": TEXTS}
    for variant, path in (("albef", albef / "dataset/utils.py"), ("blip", blip / "data/utils.py")):
        scope = functions(path, {"re": re}, "pre_caption", "pre_question")
        texts[variant] = {
            name: {str(n): [scope[name](text, n) for text in TEXTS] for n in (5, 50)}
            for name in ("pre_caption", "pre_question")
        }
    write("transforms.json", texts)
    images = sources()
    images |= resized(images)
    images |= augmented(load(albef / "dataset/randaugment.py"), images)
    images |= policy(load(timm / "timm/data/auto_augment.py"), images["smooth"])
    np.savez_compressed(GOLDEN / "transforms.npz", **images)
    model = small_model()
    cases = [*talks(llava / "llava", model), *questions(cogvlm / "utils/utils/language.py", model)]
    model = base64.b64encode(model).decode()
    write("conversations.json", {**record, "model": model, "cases": cases})


def write(name: str, content: dict) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (GOLDEN / name).write_text(text + "\n", encoding="utf-8")


def functions(path: pathlib.Path, scope: dict, *names: str) -> dict:
    """`scope` with these functions of a file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            exec(compile(ast.Module([node], []), path.name, "exec"), scope)
    return scope


def load(path: pathlib.Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    noise = rng.integers(0, 256, (20, 17, 3)).astype(np.uint8)
    noise[..., 1] = noise[..., 1] // 2 + 40  # A channel without 0 and one of one value.
    noise[..., 2] = 77
    return {"smooth": corners.repeat(6, 0).repeat(5, 1)[:23], "noise": noise}


def resized(images: dict) -> dict[str, np.ndarray]:
    """What LAVIS's clip_image_eval and blip_image_eval do, by 'name/image/size'."""
    from PIL import Image
    from torchvision import transforms

    bicubic, out = transforms.InterpolationMode.BICUBIC, {}
    for key, image in images.items():
        for size in (12, 31):
            shorter = transforms.Resize(size, interpolation=bicubic)
            clip = transforms.Compose([shorter, transforms.CenterCrop(size)])
            blip = transforms.Resize((size, size), interpolation=bicubic)
            for name, change in (("clip_image_eval", clip), ("blip_image_eval", blip)):
                out[f"{name}/{key}/{size}"] = np.asarray(change(Image.fromarray(image)))
    return out


def augmented(official: types.ModuleType, images: dict) -> dict[str, np.ndarray]:
    """ALBEF's operations, by 'image/name/level'."""
    turned, out = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"), {}
    for key, image in images.items():
        for name in ("AutoContrast", "Equalize"):
            out[f"{key}/{name}/0"] = official.func_dict[name](image)
        for name in ("Brightness", "Sharpness", *turned):
            for level in LEVELS:
                arguments = official.arg_dict[name](abs(level))
                if name in turned:  # The sign is drawn at random there.
                    arguments = (np.copysign(arguments[0], level), *arguments[1:])
                out[f"{key}/{name}/{level}"] = official.func_dict[name](image, *arguments)
    return out


def policy(official: types.ModuleType, image: np.ndarray) -> dict[str, np.ndarray]:
    """timm's operations that AutoAugment uses, by 'timm/place in the policy/place in the pair'."""
    from PIL import Image

    official._randomly_negate = lambda value: value
    settings = dict(img_mean=(123, 117, 104), interpolation=Image.Resampling.BICUBIC)
    out = {}
    for place, pair in enumerate(official.auto_augment_policy("original", settings)):
        for number, operation in enumerate(pair):
            operation.prob = 1.0
            out[f"timm/{place}/{number}"] = np.asarray(operation(Image.fromarray(image)))
    return out


def small_model() -> bytes:
    """A SentencePiece model of LLaMA's kind."""
    model = io.BytesIO()
    said = [text for talk in (*TALKS, QUESTIONS) for turn in talk for text in turn]
    said += [
        "USER: Question: ASSISTANT: Answer: [INST] [/INST]",
        "You are able to understand visual",
    ]
    said += ["a helpful language and vision assistant, an artificial intelligence to assist a user"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(said * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def llama_tokenizer(model: bytes, legacy: bool):
    import transformers

    path = pathlib.Path("/tmp/jvlm_small.model")
    path.write_bytes(model)
    tokenizer = transformers.LlamaTokenizer(str(path), legacy=legacy, model_max_length=2048)
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def talks(llava: pathlib.Path, model: bytes):
    """LLaVA's ids and labels."""
    import torch
    import transformers

    library = types.ModuleType("conversation")
    sys.modules["conversation"] = library
    exec(compile((llava / "conversation.py").read_text(), "conversation.py", "exec"), vars(library))
    scope = dict(
        torch=torch,
        transformers=transformers,
        conversation_lib=library,
        copy=copy,
        Dict=dict,
        Sequence=list,
        DataArguments=object,
        IGNORE_INDEX=-100,
        IMAGE_TOKEN_INDEX=-200,
        DEFAULT_IMAGE_TOKEN="<image>",
        IS_TOKENIZER_GREATER_THAN_0_14=True,
    )
    functions(llava / "mm_utils.py", scope, "tokenizer_image_token")
    kinds = ("v1", "llama_2", "plain")
    kinds = [f"preprocess_{kind}" for kind in ("multimodal", *kinds)]
    functions(llava / "train/train.py", scope, *kinds)
    arguments = types.SimpleNamespace(is_multimodal=True, mm_use_im_start_end=False)
    for legacy in (True, False):
        tokenizer = llama_tokenizer(model, legacy)
        for name, function in {
            "vicuna_v1": "v1",
            "llava_llama_2": "llama_2",
            "mistral_instruct": "llama_2",
            "plain": "plain",
        }.items():
            library.default_conversation = library.conv_templates[name]
            for talk in TALKS:
                has_image = any("<image>" in text for _, text in talk)
                if name == "plain" and (len(talk) != 2 or not has_image):
                    continue
                turns = [[{"from": role, "value": text} for role, text in talk]]
                scope["preprocess_multimodal"](turns, arguments)
                options = {} if name == "plain" else dict(has_image=has_image)
                out = scope[f"preprocess_{function}"](turns, tokenizer, **options)
                ids, labels = (out[key][0].tolist() for key in ("input_ids", "labels"))
                case = dict(template=name, legacy=legacy, turns=talk, ids=ids, labels=labels)
                yield {**case, "image_tokens": 1}


def questions(path: pathlib.Path, model: bytes):
    """CogVLM's ids and labels; images of three patches, that is five tokens."""
    scope: dict = {}
    exec(compile(path.read_text(), path.name, "exec"), scope)
    for legacy in (True, False):
        tokenizer = llama_tokenizer(model, legacy)
        for name in ("base", "chat", "vqa", "chat_old"):
            tokenizer.signal_type = name
            process = scope["llama2_text_processor"](tokenizer, 96, image_length=3)
            for question, answer in QUESTIONS:
                out = process(answer, question)
                count = 1 + (out["labels"][0] == tokenizer.eos_token_id).nonzero()[-1].item()
                ids, labels = (out[key][0][:count].tolist() for key in ("input_ids", "labels"))
                turns = [["human", f"<image>\n{question}"], ["gpt", answer]]
                case = dict(template=f"cogvlm_{name}", legacy=legacy, turns=turns, ids=ids)
                yield {**case, "labels": labels, "image_tokens": 5}


if __name__ == "__main__":
    main(*sys.argv[1:])
