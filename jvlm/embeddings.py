# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Embedding long lists of images or texts into files, resumable, and reading the files back.

OUT.npz        `embedding` [N, E], `path` or `text` [N], `metadata` (JSON)
OUT.parquet    columns `embedding` and `path` or `text`, metadata in the schema
OUT/           part-00000-of-00012.parquet, ...: each holds the next `shard_size` inputs
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jvlm import progress, sharding
from jvlm.config import to_dict
from jvlm.data.parallel import parallel_map
from jvlm.errors import UserError, did_you_mean
from jvlm.evaluators.common import embed_ids
from jvlm.evaluators.zero_shot import encoders

KINDS = {"images": "path", "texts": "text"}
DTYPES = ("float32", "float16")
_SHARD_SIZE = 65_536
_MIN_BAD = 10


@dataclasses.dataclass
class Embeddings:
    """Rows of one file.

    Attributes:
      vectors: float32 or float16 [N, E], unit norm.
      names: N image paths or texts.
      kind: what they are, 'path' or 'text'.
      metadata: JSON-ready; `model` is `fingerprint` of the model.
    """

    vectors: np.ndarray
    names: list[str]
    kind: str
    metadata: dict[str, Any]


def embed(
    pretrained: Any,
    kind: str,
    inputs: Sequence[str],
    out: str | Path,
    *,
    dtype: str = "float32",
    shard_size: int | None = None,
    batch_size: int = 256,
    max_bad_share: float = 0.01,
) -> dict[str, Any]:
    """Embeds images or texts into files.

    A folder is resumed: parts that are there are kept. With several processes each writes its
    share of the parts, so its `pretrained` lives on its own devices.

    Args:
      pretrained: from `jvlm.load`.
      kind: 'images' (paths) or 'texts'.
      inputs: what to embed.
      out: a file ending in .npz or .parquet, or a folder.
      dtype: of the stored numbers.
      shard_size: inputs a part of a folder, default 65,536.
      batch_size: rows at a time, rounded up to what the devices share evenly.
      max_bad_share: unreadable images, as a share of all, that end the run; up to ten never do,
        unless it is all.

    Returns:
      `out`, `count`, `dim`, and `bad`, one line for each image left out.

    Raises:
      UserError: nothing usable, too many bad images, a folder with other embeddings, or a place
        that cannot be written.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown.{did_you_mean(dtype, DTYPES)}")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: at least 1")
    if not inputs:
        raise UserError(f"no {kind} to embed")
    identity = {
        "model": fingerprint(pretrained),
        "inputs": _digest(*inputs),
        "dtype": dtype,
        "shard_size": _SHARD_SIZE if shard_size is None else shard_size,
    }
    plan = _plan(Path(out), len(inputs), shard_size is not None, identity)
    plan = plan[jax.process_index() :: jax.process_count()]
    embedder = Embedder(pretrained, batch_size)
    count, bad = 0, []
    total = sum(len(rows) for _, rows, _ in plan)
    with progress.bar(total=total, unit=kind[:-1], leave=True) as bar:
        for file, rows, done in plan:
            if done is None:
                part = [inputs[row] for row in rows]
                vectors, kept, failed = getattr(embedder, kind)(part, bar.update)
                done = {**identity, "count": len(kept), "bad": failed}
                refuse_bad([*bad, *failed], total, max_bad_share)
                names = [part[index] for index in kept]
                write_file(file, Embeddings(vectors.astype(dtype), names, KINDS[kind], done))
            else:
                bar.update(len(rows))
            count, bad = count + done["count"], bad + done["bad"]
    return {"out": str(out), "count": count, "dim": embedder.dim, "bad": bad}


class Embedder:
    """Embeds long lists: files are read and resized by threads while the devices compute.

    Args:
      pretrained: from `jvlm.load`.
      batch_size: rounded up to what the devices share evenly.

    Attributes:
      dim: E.
    """

    def __init__(self, pretrained: Any, batch_size: int = 256):
        shards = sharding.batch_shards(pretrained.mesh)
        self._pretrained, self._batch_size, self._shards = pretrained, batch_size, shards
        self._image, self._text = encoders(pretrained.model, pretrained.mesh)
        image = {"image": pretrained.model.dummy_batch(shards)["image"]}
        with jax.set_mesh(pretrained.mesh):
            self.dim = jax.eval_shape(self._image, pretrained.params, image).shape[-1]

    def images(
        self, files: Sequence[str], report: Callable[[int], Any] = lambda count: None
    ) -> tuple[np.ndarray, list[int], list[str]]:
        """Embeds image files.

        Args:
          files: paths.
          report: told of files as they are done.

        Returns:
          float32[N, E], unit norm; the N indices of usable files; a line for each other one.
        """
        size = -(-min(self._batch_size, len(files)) // self._shards) * self._shards
        kept, bad, rows, running = [], [], [], []
        vectors = [np.zeros((0, self.dim), np.float32)]

        def fetch():
            real, embeds = running.pop()
            vectors.append(jax.device_get(embeds)[:real])

        def flush():
            image = np.stack(rows + rows[-1:] * (size - len(rows)))
            batch = sharding.put_whole_batch({"image": image}, self._pretrained.mesh)
            embeds = self._image(self._pretrained.params, batch)
            if running:
                fetch()
            running.append((len(rows), embeds))
            rows.clear()

        with jax.set_mesh(self._pretrained.mesh):
            for index, row in enumerate(parallel_map(self._load, files, ahead=2 * size)):
                report(1)
                if isinstance(row, UserError):
                    bad.append(str(row))
                    continue
                kept.append(index)
                rows.append(row)
                if len(rows) == size:
                    flush()
            if rows:
                flush()
            if running:
                fetch()
        return np.concatenate(vectors), kept, bad

    def texts(
        self, texts: Sequence[str], report: Callable[[int], Any] = lambda count: None
    ) -> tuple[np.ndarray, list[int], list[str]]:
        """Embeds texts; arguments and result as of `images`, with nothing left out."""
        m, step, vectors = self._pretrained, 8192, []
        with jax.set_mesh(m.mesh):
            for start in range(0, len(texts), step):
                part = texts[start : start + step]
                batch = m.processor(text=list(part))
                ids = batch["text"], batch["text_mask"]
                vectors.append(embed_ids(self._text, m.params, ids, m.mesh))
                report(len(part))
        return np.concatenate(vectors), list(range(len(texts))), []

    def _load(self, file: str) -> np.ndarray | UserError:
        try:
            file.encode()
            return self._pretrained.processor(images=[file])["image"][0]
        except UserError as error:
            return error
        except UnicodeEncodeError:
            return UserError(f"{file!r}: the name is not UTF-8")


def fingerprint(pretrained: Any) -> str:
    """Says whether embeddings are comparable: weights, configuration, image and text processing.

    Of every weight 64 values count, spread over it: training changes nearly all of them.
    """

    def sample(params):
        leaves = [jnp.atleast_1d(leaf) for leaf in jax.tree.leaves(params)]
        spread = [np.linspace(0, leaf.size - 1, 64, dtype=int) for leaf in leaves]
        # By position in every axis: flattening would gather a sharded weight.
        return [x[np.unravel_index(places, x.shape)] for x, places in zip(leaves, spread)]

    tokenizer = pretrained.processor.tokenizer
    cleaning = to_dict(pretrained.processor.cleaning)
    values = jax.jit(sample, out_shardings=sharding.replicated(pretrained.mesh))(pretrained.params)
    leaves = jax.tree.leaves_with_path(pretrained.params)
    return _digest(
        *(f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}" for path, leaf in leaves),
        *(np.asarray(value).tobytes().hex() for value in values),
        repr(pretrained.model.cfg),
        json.dumps(to_dict(pretrained.processor.steps)),
        type(tokenizer).__name__,
        *(str(getattr(tokenizer, name, "")) for name in ("vocab_size", "max_len")),
        *([json.dumps(cleaning)] if cleaning else []),
    )


def write_file(file: Path, embeddings: Embeddings) -> None:
    """Writes one .npz or .parquet file, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    metadata = json.dumps(embeddings.metadata)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".npz":
            names = {embeddings.kind: np.array(embeddings.names, np.str_)}
            with part.open("wb") as out:
                np.savez(out, embedding=embeddings.vectors, metadata=np.array(metadata), **names)
        else:
            import pyarrow as pa
            import pyarrow.parquet

            values = pa.array(np.ascontiguousarray(embeddings.vectors).reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(values, embeddings.vectors.shape[1])
            names = pa.array(embeddings.names, pa.string())
            table = pa.table({embeddings.kind: names, "embedding": vectors})
            table = table.replace_schema_metadata({"jvlm": metadata})
            pa.parquet.write_table(table, part)
        part.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror or error}") from None


def read(path: str | Path) -> Iterator[Embeddings]:
    """What `embed` wrote, file by file.

    Raises:
      UserError: missing, incomplete, of several runs, or not embeddings.
    """
    path = Path(path)
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no embeddings (part-*.parquet) in this folder")
    if path.is_dir():
        wanted = int(files[0].stem.rpartition("-")[2])
        if [file.name for file in files] != [_part_name(i, wanted) for i in range(wanted)]:
            raise UserError(f"{path}: {len(files)} of {wanted} parts: let jvlm embed finish")
    return map(read_file, files)


def read_file(file: Path) -> Embeddings:
    """One .npz or .parquet file of `embed`."""
    with _foreign(file):
        if file.suffix == ".npz":
            with np.load(file) as data:
                columns = dict(data)
            kind = next(kind for kind in KINDS.values() if kind in columns)
            metadata = json.loads(str(columns["metadata"]))
            return Embeddings(columns["embedding"], columns[kind].tolist(), kind, metadata)
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(file)
        kind = next(kind for kind in KINDS.values() if kind in table.column_names)
        column = table["embedding"].combine_chunks()
        vectors = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
        return Embeddings(vectors, table[kind].to_pylist(), kind, _read_metadata(file))


def _read_metadata(file: Path) -> dict[str, Any]:
    """Metadata of a .parquet file, without its rows."""
    import pyarrow.parquet

    with _foreign(file):
        return json.loads(pyarrow.parquet.read_schema(file).metadata[b"jvlm"])


@contextlib.contextmanager
def _foreign(file: Path):
    """Says in one line that a file is not ours: numpy, zipfile and pyarrow raise a dozen kinds."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:
        raise UserError(f"{file}: not embeddings of jvlm embed ({error})") from None


def _plan(
    out: Path, count: int, wants_parts: bool, identity: dict[str, Any]
) -> list[tuple[Path, range, dict[str, Any] | None]]:
    """(file to be, its inputs, its metadata if it is there); refuses a folder of other ones."""
    if out.suffix in (".npz", ".parquet"):
        if wants_parts or jax.process_count() > 1:
            raise UserError(f"{out}: parts, and several processes, need a folder, not a file")
        return [(out, range(count), None)]
    if out.suffix or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: give a file ending in .npz or .parquet, or a folder")
    size = identity["shard_size"]
    if size < 1:
        raise UserError(f"shard_size {size}: give at least 1")
    parts = -(-count // size)
    files = [out / _part_name(i, parts) for i in range(parts)]
    done = {}
    for file in sorted(out.glob("part-*.parquet")):
        done[file] = _read_metadata(file)
        if file not in files or {key: done[file].get(key) for key in identity} != identity:
            raise UserError(
                f"{out}: holds embeddings of another model, input list or setting "
                f"({file.name}): choose another folder, or empty it"
            )
    rows = [range(i * size, min(count, (i + 1) * size)) for i in range(parts)]
    return [(file, part, done.get(file)) for file, part in zip(files, rows)]


def _part_name(index: int, parts: int) -> str:
    return f"part-{index:05d}-of-{parts:05d}.parquet"


def refuse_bad(bad: list[str], total: int, share: float) -> None:
    """Raises UserError where too many of `total` images are bad; up to ten are not, but all are."""
    if len(bad) == total or len(bad) > max(_MIN_BAD, share * total):
        raise UserError(
            f"{len(bad)} of {total} images are unusable (--max_bad_share {share:g}); the first: "
            f"{bad[0]}"
        )


def _digest(*texts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
