# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Records checkpoints in published formats with what the official code makes of a batch.

python -m tests.parity.make_goldens    # writes tests/golden/<name>.npz
"""

import pathlib
import tempfile

import numpy as np

from jvlm.convert import open_published
from tests.convert.test_golden import GOLDEN, NAMES

CONFIGS = ("config.json", "preprocessor_config.json")


def main():
    import torch
    import transformers

    from tests.parity.references import REFERENCES

    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            reference = REFERENCES[name](pathlib.Path(folder))
            tensors = open_published(reference.path).tensors
            files = [path for path in reference.path.iterdir() if path.name in CONFIGS]
            np.savez_compressed(
                GOLDEN / f"{name}.npz",
                versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
                **{f"file/{path.name}": path.read_text() for path in files},
                **{f"tensor/{key}": tensors.read(key) for key in tensors.shapes},
                **{f"batch/{key}": value for key, value in reference.batch.items()},
                image_embeds=reference.image_embeds,
                text_embeds=reference.text_embeds,
                logits_per_image=reference.logits_per_image,
            )


if __name__ == "__main__":
    main()
