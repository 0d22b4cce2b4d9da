# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CapFilt, BLIP's bootstrapping of web pairs (arXiv:2201.12086, section 4.2).

A captioner writes a synthetic caption for every web image, a filter drops the web and synthetic
captions that it says do not match their image. The official repositories have its results only.

OUT/capfilt.json                     what was asked for: models, decoding, threshold, data
OUT/shard-00000-of-00012.tar         kept images in WebDataset's layout, see `shards.write`
OUT/shard-00000-of-00012.jsonl       every caption of its images, kept or not; written last
OUT/report.json, .md, examples.png   once all shards are there
"""

from jvlm.capfilt.pipeline import bootstrap

__all__ = ["bootstrap"]
