# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""One shard of an import, in this process or another one."""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

from jvlm.data.examples import example_writer
from jvlm.data.importers.build import Builder
from jvlm.data.importers.metadata import make_features, shard_name
from jvlm.data.importers.records import Unusable
from jvlm.data.importers.spool import Shard, read_spool, report_line, write_json
from jvlm.errors import UserError

# Every record by itself, for random access. Pictures are compressed already.
_OPTIONS = "group_size:1,uncompressed"


class Stopped(Exception):
    """The import ends, and the shard is not needed any more."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What all shards of an import share.

    Attributes:
      name: of the data set.
      spool, shards: folder of the records, folder of the files that are made.
      build: record -> example.
    """

    name: str
    spool: Path
    shards: Path
    build: Builder

    def write(self, shard: Shard, tick: Callable[[int], Any]) -> dict[str, int]:
        """Writes a shard, what was dropped, and last KEY.json: the shard is done.

        Args:
          shard: which one.
          tick: called after each record, with 1 for one that was dropped, else 0.

        Returns:
          `records` and `bytes` that were written, and how many were `dropped`.

        Raises:
          UserError: cannot be written.
        """
        features = make_features(self.build.schema, self.build.labels, self.build.load.link)
        serialize = example_writer(features)
        records = size = dropped = 0
        path = self.shards / shard_name(self.name, shard.split, shard.index, shard.count)
        partial = path.with_name(path.name + ".tmp")
        try:
            writer = ArrayRecordWriter(str(partial), _OPTIONS)
            try:
                with open(self.spool / f"{shard.key}.dropped", "w") as bad:
                    for name, values, blobs in read_spool(self.spool, shard):
                        try:
                            example, left_out = self.build(name, values, blobs)
                            data = _serialize(serialize, example)
                        except Unusable as error:
                            bad.write(report_line(name, *error.args))
                            dropped += 1
                            tick(1)
                            continue
                        for index, error in left_out:
                            bad.write(report_line(name, *error.args, entry=index))
                        writer.write(data)
                        records, size = records + 1, size + len(data)
                        tick(0)
            finally:
                writer.close()
            partial.rename(path)
            done = {"records": records, "bytes": size, "dropped": dropped}
            write_json(self.spool / f"{shard.key}.json", done)
        except (OSError, RuntimeError) as error:  # The writer's own are RuntimeErrors.
            raise UserError(f"{path.parent}: cannot be written: {error}") from None
        return done

    def done(self, shard: Shard) -> dict[str, int] | None:
        """What `write` returned of a shard that an earlier call finished; else None."""
        try:
            return json.loads((self.spool / f"{shard.key}.json").read_text())
        except FileNotFoundError:
            return None


def _serialize(serialize: Callable[[dict], bytes], example: dict[str, Any]) -> bytes:
    try:
        return serialize(example)
    except ValueError as error:
        raise Unusable("wrong value", str(error)) from None


def start(job: Job, progress: Any, stop: Any) -> None:
    """Begins a worker process.

    Args:
      job: what its shards share.
      progress: shared numbers of records that are done and of those that were dropped.
      stop: shared event that ends it soon.
    """
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    warnings.simplefilter("ignore")  # Pillow's, of odd pictures.

    def tick(dropped: int) -> None:
        with progress.get_lock():
            progress[0] += 1
            progress[1] += dropped
        if stop.is_set():
            raise Stopped

    _task = lambda shard: job.write(shard, tick)


def run(shard: Shard) -> dict[str, int]:
    """Writes a shard in a process that has begun."""
    return _task(shard)


_task: Callable[[Shard], dict[str, int]]
