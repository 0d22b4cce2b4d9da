# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From files to global batches: sources, transforms, data order, pipeline."""
