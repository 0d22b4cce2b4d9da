# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records checkpoints in published formats with what the official code makes of a batch.

python -m tests.parity.make_goldens    # writes tests/golden/<name>.npz
"""

import pathlib
import tempfile

import numpy as np

from jvlm.convert.files import find_tensors
from tests.convert.test_golden import GOLDEN, LANGUAGE_NAMES, NAMES

CONFIGS = ("config.json", "preprocessor_config.json", "generation_config.json")


def main():
    from tests.parity.references import REFERENCES, blip
    from tests.parity.references.language import LANGUAGE

    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            reference = REFERENCES[name](pathlib.Path(folder))
            outputs = ("image_embeds", "text_embeds", "logits_per_image")
            save(name, reference, reference.batch, {k: getattr(reference, k) for k in outputs})
    for name in LANGUAGE_NAMES:
        with tempfile.TemporaryDirectory() as folder:
            reference = LANGUAGE[name](pathlib.Path(folder))
            side = "left" if "left" in reference.batches else "right"
            outputs = {"logits": reference.logits[side], "mask": reference.mask[side]}
            save(name, reference, reference.batches[side], outputs)
    for name in blip.REFERENCES:
        with tempfile.TemporaryDirectory() as folder:
            reference = blip.REFERENCES[name](pathlib.Path(folder))
            save(name, reference, reference.batch, reference.outputs)


def save(name, reference, batch, outputs):
    import torch
    import transformers

    tensors = find_tensors(reference.path)
    files = [path for path in reference.path.iterdir() if path.name in CONFIGS]
    np.savez_compressed(
        GOLDEN / f"{name}.npz",
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
        **{f"file/{path.name}": path.read_text() for path in files},
        **{f"tensor/{key}": tensors.read(key) for key in tensors.shapes},
        **{f"batch/{key}": value for key, value in batch.items()},
        **outputs,
    )


if __name__ == "__main__":
    main()
