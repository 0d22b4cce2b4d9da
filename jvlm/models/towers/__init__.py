# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoders and language models that the systems are made of; one file per family."""
