# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""`jvlm data import`: annotation and pictures into a TFDS data set in array_record files.

DST.part holds all there is until the end: `work/` (the spooled records, and of each finished shard
what was dropped) and `1.0.0/`, what DST will hold. Then one rename makes it DST.
"""

import concurrent.futures
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jvlm import __version__
from jvlm.data.importers import KINDS, report, worker
from jvlm.data.importers.build import Builder
from jvlm.data.importers.files import Files
from jvlm.data.importers.metadata import VERSION, make_features, shard_name, write_metadata
from jvlm.data.importers.pictures import Loader
from jvlm.data.importers.spool import Plan, write_json, write_spool
from jvlm.errors import UserError, did_you_mean
from jvlm.progress import bar

SHARD_BYTES = 64 << 20
_LOCK = "lock"
_OWN = {_LOCK, "work", VERSION, "dropped.jsonl"}  # What is in DST.part.
# What file systems without locks answer: some of NFS, of Lustre and of mounted buckets.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@dataclasses.dataclass(frozen=True)
class Options:
    """What changes an import's result.

    Attributes:
      resize: shrinks the shorter side of larger pictures to so many pixels; None copies bytes.
      link: keeps the pictures' paths, relative to the image folder, in place of the pictures.
      frames: pictures of a video.
    """

    resize: int | None = None
    link: bool = False
    frames: int = 8

    def check(self) -> None:
        if self.resize is not None and self.resize < 1:
            raise UserError(f"--resize {self.resize}: give at least 1 pixel")
        if self.frames < 1:
            raise UserError(f"--frames {self.frames}: give at least 1")
        if self.link and self.resize:
            raise UserError("--link leaves pictures as they are: not together with --resize")


def import_data(
    kind: str,
    source: str,
    destination: str,
    *,
    images: str | None = None,
    options: Options | None = None,
    workers: int | None = None,
    max_bad: float = 0.05,
    shard_bytes: int = SHARD_BYTES,
) -> report.Summary:
    """Imports a data set, or goes on with an import that was cut off.

    Args:
      kind: annotation format, key of KINDS.
      source: file or folder of the annotation.
      destination: new folder; its name is the data set's.
      images: folder of the pictures; default the annotation's.
      options: what is stored.
      workers: processes; default one per core.
      max_bad: share of the records that may be dropped.
      shard_bytes: about the size of a file.

    Raises:
      UserError: bad arguments, unreadable files, too many bad records, a full disk.
    """
    if kind not in KINDS:
        raise UserError(f"KIND {kind!r} is unknown.{did_you_mean(kind, KINDS)}")
    options = options or Options()
    options.check()
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers {workers}: give at least 1")
    if not 0 <= max_bad <= 1:
        raise UserError(f"--max-bad {max_bad}: give a share, from 0 to 1")
    began = time.monotonic()
    target = Path(os.path.abspath(destination))
    if not re.fullmatch(r"[a-zA-Z]\w*", target.name, re.ASCII):
        raise UserError(
            f"DST {destination}: its last part names the data set: letters, digits and _ only"
        )
    if os.path.lexists(target):
        raise UserError(f"{destination} is there already: give a new folder, or remove it")
    files = _open_source(source, images)
    with _working_folder(target) as part:
        plan = _make_plan(part, kind, files, options, shard_bytes)
        labels = KINDS[kind].labels
        labels = tuple(labels(files) if callable(labels) else labels)
        load = Loader(options.resize, options.frames, options.link)
        build = Builder(KINDS[kind].schema, labels, load, str(files.images))
        job = worker.Job(target.name, part / "work", part / VERSION, build)
        try:
            done = _write_shards(job, plan, workers, max_bad)
            if not any(shard["records"] for shard in done):
                raise report.TooManyBad
        except report.TooManyBad:
            listed = part / "dropped.jsonl"
            summary = report.collect(job.spool, plan, listed)
            raise UserError(report.too_many(summary, max_bad, listed)) from None
        (part / "dropped.jsonl").unlink(missing_ok=True)  # Of a call with a smaller max_bad.
        summary = report.collect(job.spool, plan, job.shards / "dropped.jsonl")
        description = f"Imported by jvlm {__version__} as {kind}."
        if options.link:
            description += f" Paths are relative to {build.root}."
        splits = _write_metadata(job, plan, done, description)
        if os.path.lexists(target):  # Another one's, meanwhile.
            raise UserError(f"{destination} is there now: remove it, then the same command goes on")
        shutil.rmtree(job.spool)
        (part / _LOCK).unlink()
        part.rename(target)
    return dataclasses.replace(
        summary,
        path=str(target),
        splits=splits,
        linked=build.root if options.link else "",
        bytes=sum(shard["bytes"] for shard in done),
        seconds=round(time.monotonic() - began, 1),
    )


def _open_source(source: str, images: str | None) -> Files:
    root = Path(os.path.abspath(source))
    if not root.exists():
        raise UserError(f"SRC {source}: no such file or folder")
    folder = Path(os.path.abspath(images)) if images else root if root.is_dir() else root.parent
    if not folder.is_dir():
        raise UserError(f"--images {images}: no such folder")
    return Files(root, folder)


@contextlib.contextmanager
def _working_folder(target: Path) -> Iterator[Path]:
    """DST.part, for this process alone; removed if the annotation could not be read."""
    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        others = {name for name in os.listdir(part) if name[0] != "."} - _OWN
        if others:  # They would be removed with it.
            raise UserError(
                f"{part}: has {min(others)} in it, which no import made: give another DST"
            )
        # A file that is open for writing: NFS locks nothing else.
        lock = os.open(part / _LOCK, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{part}: another import is writing it") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            try:
                yield part
            except UserError:
                if not (part / "work" / "plan.json").exists():
                    shutil.rmtree(part, ignore_errors=True)
                raise
        finally:
            os.close(lock)
    except OSError as error:
        raise UserError(f"{error.filename or part}: {error.strerror}") from None


def _make_plan(part: Path, kind: str, files: Files, options: Options, shard_bytes: int) -> Plan:
    """Reads the annotation, or finds what an earlier call read."""
    saved = part / "work" / "plan.json"
    # Before a shard is finished nothing is lost: files may have been put right meanwhile.
    if saved.exists() and any(saved.parent.glob("*-[0-9]*.json")):
        before = json.loads(saved.read_text())
        files.asked.update(map(tuple, before["asked"]))
        now = _fingerprint(kind, files, options)
        changed = [key for key, value in now.items() if before["of"].get(key) != value]
        if changed:
            raise UserError(
                f"{part} holds an unfinished import with another {', '.join(changed)}: finish that "
                "one with the same arguments and files, or remove the folder"
            )
        plan = Plan.load(before["plan"])
        _check_reader(plan)
        return plan
    for folder in (part / "work", part / VERSION):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    with bar(KINDS[kind].read(files), unit="record") as records:
        plan = write_spool(records, part / "work", shard_bytes, stored=not options.link)
    if not plan.shards and not plan.dropped:
        raise UserError(f"{files.root}: no records in it as {kind}: {KINDS[kind].help}")
    if plan.videos and options.link:
        raise UserError("--link: frames of video files are no files: import without it")
    if plan.archives and options.link:
        raise UserError("--link: pictures inside archives are no files: import without it")
    _check_reader(plan)
    of = _fingerprint(kind, files, options)
    write_json(saved, {"of": of, "asked": sorted(files.asked), "plan": dataclasses.asdict(plan)})
    return plan


def _check_reader(plan: Plan) -> None:
    if plan.videos and importlib.util.find_spec("cv2") is None:
        raise UserError("videos are read by OpenCV: pip install opencv-python-headless")


def _fingerprint(kind: str, files: Files, options: Options) -> dict[str, Any]:
    """What must be the same for an unfinished import to go on."""
    digest = hashlib.blake2b(digest_size=16)
    for patterns in sorted(files.asked):
        for path in files.find(*patterns):
            try:
                stat = path.stat()
            except OSError:  # A link to nowhere: a missing picture, not a reason to end.
                stat = path.lstat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="replace"))
    return {
        "kind": kind,
        "source": str(files.root),
        "images": str(files.images),
        "files": digest.hexdigest(),
        "version": __version__,
        **dataclasses.asdict(options),
    }


def _write_shards(
    job: worker.Job, plan: Plan, workers: int, max_bad: float
) -> list[dict[str, int]]:
    """Writes what is not done yet; gives what `Job.write` gives, of all shards in order.

    Raises:
      TooManyBad: more than `max_bad` of all records.
    """
    done = {shard: job.done(shard) for shard in plan.shards}
    pending = [shard for shard, result in done.items() if result is None]
    finished = [result for result in done.values() if result]
    began = sum(result["records"] + result["dropped"] for result in finished)
    bad = plan.dropped + sum(result["dropped"] for result in finished)
    allowed = max_bad * (plan.records + plan.dropped)
    with bar(unit="record", total=plan.records) as progress:
        progress.update(began)

        def advance(records: int, dropped: int) -> None:
            """So many records, and so many dropped, since the beginning of this call."""
            progress.update(began + records - progress.n)
            if bad + dropped:
                progress.set_postfix(dropped=bad + dropped, refresh=False)
            if bad + dropped > allowed:
                raise report.TooManyBad

        advance(0, 0)
        workers = min(workers, len(pending))
        write = _write_here if workers <= 1 else _write_in_processes
        done.update(zip(pending, write(job, pending, workers, advance)))
    return list(done.values())


def _write_here(job: worker.Job, shards: Iterable, workers: int, advance) -> list[dict[str, int]]:
    counts = [0, 0]

    def tick(dropped: int) -> None:
        counts[0] += 1
        counts[1] += dropped
        advance(*counts)

    with warnings.catch_warnings(action="ignore"):  # Pillow's, of odd pictures.
        return [job.write(shard, tick) for shard in shards]


def _write_in_processes(
    job: worker.Job, shards: Iterable, workers: int, advance
) -> list[dict[str, int]]:
    context = multiprocessing.get_context("spawn")
    counts, stop = context.Array("q", 2), context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, worker.start, (job, counts, stop)
    )
    try:
        futures = [pool.submit(worker.run, shard) for shard in shards]
        waiting = set(futures)
        while waiting:
            finished, waiting = concurrent.futures.wait(
                waiting, 0.2, concurrent.futures.FIRST_COMPLETED
            )
            advance(*counts.get_obj())  # No lock: a worker that was killed may hold it.
            for future in finished:
                future.result()
        return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            "a worker process was killed (out of memory?): the same command goes on; give fewer "
            "--workers"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        # A traceback would keep them, and the command line ends without cleaning up: Python's
        # resource tracker then complains about semaphores.
        del pool, counts, stop


def _write_metadata(
    job: worker.Job, plan: Plan, done: list[dict[str, int]], description: str
) -> dict[str, int]:
    """Makes the folder of shards a data set; gives the records of each split."""
    shards: dict[str, list[tuple[int, int]]] = {}
    for shard, result in zip(plan.shards, done):
        shards.setdefault(shard.split, []).append((result["records"], result["bytes"]))
    for split, sizes in list(shards.items()):
        if not any(records for records, _ in sizes):  # All of it was dropped.
            del shards[split]
            for index in range(len(sizes)):
                (job.shards / shard_name(job.name, split, index, len(sizes))).unlink()
    features = make_features(job.build.schema, job.build.labels, job.build.load.link)
    write_metadata(job.shards, job.name, features, shards, description)
    return {split: sum(records for records, _ in sizes) for split, sizes in shards.items()}
