# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Work done by threads, a little ahead of who reads the results."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator


def parallel_map(
    function: Callable, items: Iterable, ahead: int, threads: int | None = None
) -> Iterator:
    """Results in the items' order, computed by threads up to `ahead` items early.

    Reading, decoding and resizing spend their time outside the interpreter's lock.
    """
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Of a reader that stops early, nothing more is computed.
            pool.shutdown(wait=False, cancel_futures=True)
