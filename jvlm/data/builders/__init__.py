# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Datasets that jvlm makes itself, as TFDS builders (array_record, no TensorFlow)."""
