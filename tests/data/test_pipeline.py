# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches: the same samples in the same rows from any number of hosts, workers and restarts."""

import dataclasses
import types

import numpy as np
import pytest

from jvlm import config as config_lib
from jvlm.data.examples import example_parser
from jvlm.data.images import BadRecord
from jvlm.data.pipeline import TrainBatches, collate, eval_batches
from jvlm.data.sources import build_source
from jvlm.data.sources.folder import FolderSource
from jvlm.data.sources.tfds import TFDSSource, find_builder
from jvlm.data.transforms import compose
from jvlm.errors import UserError


@dataclasses.dataclass
class Numbers:
    """A source of its own indices; some cannot be used."""

    size: int = 100
    bad: tuple = ()

    @property
    def fingerprint(self):
        return {"kind": "numbers", "size": self.size}

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"index": index}


@dataclasses.dataclass
class Step:
    bad: tuple = ()

    def __call__(self, example, rng):
        if example["index"] in self.bad:
            raise BadRecord("broken")
        return {"id": np.int64(example["index"]), "noise": rng.random()}


def batches(bad=(), **options):
    return TrainBatches(Numbers(), Step(bad), **{"batch_size": 8, "seed": 3, **options})


def ids(iterator, count):
    return [(b["id"].tolist(), b["noise"].tolist()) for b, _ in zip(iterator, range(count))]


def test_hosts_share_the_global_batch():
    whole = batches()
    for step in (0, 5, 12, 13):
        parts = [batches(rows=range(2 * i, 2 * i + 2))[step] for i in range(4)]
        for key in ("id", "noise"):
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined, whole[step][key])


@pytest.mark.parametrize("workers", [0, 2])
def test_iteration_resumes_anywhere(workers):
    want = [(b["id"].tolist(), b["noise"].tolist()) for b in map(batches().__getitem__, range(9))]
    for start in (0, 4):
        iterator = batches().iterate(start, workers=workers)
        assert ids(iterator, 9 - start) == want[start:]
        iterator.close()


def test_an_epoch_is_every_record_once():
    seen = [i for step in range(25) for i in batches()[step]["id"].tolist()]
    assert sorted(seen[:100]) == sorted(seen[100:]) == list(range(100))


def test_bad_records_are_replaced_in_place_and_counted():
    bad = (7, 8)
    clean, iterator = batches(), batches(bad=bad).iterate(0, max_bad_share=0.5)
    for step in range(13):
        got, want = next(iterator)["id"], clean[step]["id"]
        assert ((got == want) | np.isin(want, bad)).all() and not np.isin(got, bad).any()
    assert iterator.bad >= 2 and "record 7: broken" in iterator.examples
    iterator.close()


def test_too_many_bad_records_stop_the_run():
    iterator = batches(bad=tuple(range(40))).iterate(0, max_bad_share=0.1)
    with pytest.raises(UserError, match="unusable, more than data.max_bad_share=0.1"):
        ids(iterator, 50)
    with pytest.raises(UserError, match="100 unusable records in a row"):
        batches(bad=tuple(range(100)))[0]


def test_eval_pads_the_last_batch():
    source, step = Numbers(10), Step()
    got = list(eval_batches(source, step, 4))
    assert [b["_mask"].tolist() for b in got] == [
        [True] * 4,
        [True] * 4,
        [True, True, False, False],
    ]
    assert np.concatenate([b["id"][b["_mask"]] for b in got]).tolist() == list(range(10))
    halves = [list(eval_batches(source, step, 4, rows)) for rows in ((0, 1), (2, 3))]
    assert [b["id"].tolist() for b in halves[1]] == [[2, 3], [6, 7], [9, 9]]
    assert len(halves[0]) == len(halves[1])
    with pytest.raises(UserError, match="record 3"):
        list(eval_batches(source, Step(bad=(3,)), 4))


def test_rows_that_differ_are_named():
    with pytest.raises(UserError, match="differ in 'image'"):
        collate([{"image": np.zeros((2, 2))}, {"image": np.zeros((3, 2))}])
    with pytest.raises(UserError, match="'text' is text"):
        collate([{"text": "a"}])


def test_tfds_without_tensorflow(data_dir):
    """Our parser and TFDS's own agree."""
    source = TFDSSource("digit_scenes/tiny", "test", str(data_dir))
    assert len(source) == 128 and source.fingerprint["size"] == 128
    builder = find_builder("digit_scenes/tiny", str(data_dir))
    assert example_parser(builder.info.features) is not None
    for index, want in enumerate(builder.as_data_source("test[:20]")):
        got = source[index]
        assert got["captions"] == [text.decode() for text in want["captions"]]
        assert got["meaning"] == want["meaning"].decode() and got["label"] == want["label"]
        np.testing.assert_array_equal(got["box"], want["box"])
        np.testing.assert_array_equal(got["objects"]["box"], want["objects"]["box"])
        assert got["questions"]["answer"] == [a.decode() for a in want["questions"]["answer"]]
        assert isinstance(got["image"], bytes)


def test_prepared_data_sets_are_found_by_their_files(data_dir, tmp_path):
    """No code of theirs is imported, which may need TensorFlow."""
    made = data_dir / "digit_scenes/tiny/1.0.0"
    for version in ("1.9.0", "1.10.0"):
        place = tmp_path / "coco_captions/2014" / version
        place.mkdir(parents=True)
        for file in made.iterdir():
            (place / file.name).symlink_to(file)
    find = lambda name: find_builder(name, str(tmp_path)).data_path
    newest, older = (str(tmp_path / "coco_captions/2014" / v) for v in ("1.10.0", "1.9.0"))
    for name, want in (
        ("coco_captions", newest),
        ("coco_captions/2014", newest),
        ("coco_captions/2014:1.9.0", older),
        (older, older),
        (str(tmp_path / "coco_captions/2014"), newest),
    ):
        assert str(find(name)) == want
    assert len(TFDSSource(older, "test")) == 128
    (tmp_path / "coco_captions/2017").symlink_to(tmp_path / "coco_captions/2014")
    with pytest.raises(UserError, match="say which one: 2014, 2017"):
        find("coco_captions")
    for name in ("coco_captions/2015", "coco_captions/2014:3.0.0", "imagenet2012"):
        with pytest.raises(UserError, match="is not prepared"):
            find(name)


def test_parallel_map_keeps_order_and_stays_close():
    import time

    from jvlm.data.parallel import parallel_map

    started = []

    def slow_if_even(item):
        started.append(item)
        time.sleep(0.002 * (item % 2 == 0))
        return -item

    results = parallel_map(slow_if_even, iter(range(40)), ahead=4)
    assert [next(results) for _ in range(3)] == [0, -1, -2]
    assert max(started) <= 2 + 4 + 1
    assert list(results) == [-item for item in range(3, 40)]


def test_parallel_map_passes_errors_on():
    from jvlm.data.parallel import parallel_map

    results = parallel_map(lambda item: 1 // item, [1, 1, 0, 1], ahead=2)
    assert next(results) == next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(
    "section, message",
    [
        ({"kind": "tfds", "name": "digit_scenes/full", "split": "test"}, "jvlm data prepare"),
        ({"kind": "tfds", "name": "digit_scenes/tiny", "split": "tset"}, "splits: test"),
        ({"kind": "tfds", "name": "digit_scenes/tiny"}, "missing split"),
        ({"kind": "tdfs"}, "Did you mean 'tfds'"),
        ({"kind": "folder", "path": "/nowhere"}, "no such folder"),
    ],
)
def test_bad_sources_are_named(section, message):
    with pytest.raises(UserError, match=message):
        build_source(section)


def test_folder(tmp_path):
    with pytest.raises(UserError, match="no image files"):
        FolderSource(str(tmp_path))
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/a.JPG", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    source = FolderSource(str(tmp_path))
    assert [path.split("/")[-1] for path in source.files] == ["b.png", "a.JPG"]
    assert source[0]["image"] == b"x"


def test_folder_of_classes(tmp_path):
    for name in ("tabby cat/2.png", "dog/x/1.png", "dog-b/1.png", "loose.png", "dog/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = build_source({"kind": "folder", "path": str(tmp_path), "labels": True})
    assert source.class_names == ["dog", "dog-b", "tabby cat"]
    examples = [source[index] for index in range(len(source))]
    got = [(e["label"], e["image"].decode()) for e in examples]
    assert got == [(0, "dog/x/1.png"), (1, "dog-b/1.png"), (2, "tabby cat/2.png")]
    assert FolderSource(str(tmp_path)).class_names is None
    with pytest.raises(UserError, match="one for each class"):
        FolderSource(str(tmp_path / "tabby cat"), labels=True)


def test_class_names_of_tfds(monkeypatch):
    from tensorflow_datasets import features as kinds

    source = TFDSSource("digit_scenes/tiny", "test")
    for label, names in (
        ({"label": kinds.ClassLabel(names=["cat", "dog"])}, ["cat", "dog"]),
        ({"label": kinds.ClassLabel(num_classes=2)}, ["0", "1"]),
        ({"label": kinds.Scalar(np.int64)}, None),
        ({"image": kinds.Image()}, None),
    ):
        info = types.SimpleNamespace(features=kinds.FeaturesDict(label))
        builder = types.SimpleNamespace(info=info)
        monkeypatch.setattr("jvlm.data.sources.tfds.find_builder", lambda *_, b=builder: b)
        assert source.class_names == names


def test_files_without_random_access_are_named(monkeypatch):
    def as_data_source(split, **options):
        raise NotImplementedError("tfrecord")

    info = find_builder("digit_scenes/tiny").info
    builder = types.SimpleNamespace(info=info, as_data_source=as_data_source)
    monkeypatch.setattr("jvlm.data.sources.tfds.find_builder", lambda *_: builder)
    with pytest.raises(UserError, match="file_format='array_record'"):
        TFDSSource("digit_scenes/tiny", "test")


def test_the_models_own_preprocessing():
    steps = [("preprocess", {}), ("keep", {"keys": ("image",)})]
    own = [("resize_square", {"size": 3})]
    example = {"image": np.zeros((5, 4, 3), np.uint8), "x": 1}
    row = compose(steps, preprocess=own)(example, None)
    assert list(row) == ["image"] and row["image"].shape == (3, 3, 3)
    with pytest.raises(UserError, match="preprocess: unknown step"):
        compose([("preprocess", {"size": 3})], preprocess=own)


def test_count():
    example = {"objects": {"digit": [3, 7]}}
    assert compose([("count", {"key": "objects/digit", "out": "n"})])(example, None)["n"] == 2


def test_take():
    example = {"captions": {"text": ["a", "b", "c"], "id": [1, 2, 3]}}
    steps = [("take", {"key": "captions/text", "count": 2, "out": "caption"})]
    assert compose(steps)(example, None)["caption"] == ["a", "b"]
    with pytest.raises(UserError, match="captions/text has 3 entries, fewer than 4"):
        compose([("take", {"key": "captions/text", "count": 4})])(example, None)
    with pytest.raises(UserError, match="no 'txt'"):
        compose([("take", {"key": "captions/txt", "count": 4})])(example, None)


@pytest.mark.parametrize(
    "steps, message",
    [
        ([("random_resize_crop", {})], "Did you mean 'random_resized_crop'"),
        ([("random_resized_crop", {"sise": 4})], "Did you mean 'size'"),
        ([("random_resized_crop", {})], "missing size"),
        ([("tokenize", {"key": "text"})], "no tokenizer"),
    ],
)
def test_bad_transforms_are_named(steps, message):
    with pytest.raises(UserError, match=message):
        compose(steps)


def test_transforms_chain_and_drop():
    chain = compose(
        [
            ("choose", {"key": "captions", "out": "caption"}),
            ("identity", {"key": "meaning"}),
            ("keep", {"keys": ("caption", "image_id")}),
        ]
    )
    example = {"captions": ["a", "b"], "meaning": "x", "other": 1}
    rows = [chain(example, np.random.default_rng(seed)) for seed in range(20)]
    assert {row["caption"] for row in rows} == {"a", "b"}
    assert all(sorted(row) == ["caption", "image_id"] for row in rows)
    with pytest.raises(UserError, match="captoin"):
        compose([("keep", {"keys": ("captoin",)})])(example, None)


def test_random_crop_is_a_square_of_the_image():
    image = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    crop = compose([("random_crop", {"size": 6})])
    columns = set()
    for seed in range(40):
        out = crop({"image": image}, np.random.default_rng(seed))["image"]
        left = int(out[0, 0, 0]) // 3
        np.testing.assert_array_equal(out, image[:, left : left + 6])
        columns.add(left)
    assert columns == {0, 1, 2, 3}
    with pytest.raises(UserError, match="9 x 6 px hold no 7 px"):
        compose([("random_crop", {"size": 7})])({"image": image}, np.random.default_rng(0))


def test_meanings_get_numbers_of_their_own():
    """No two meanings of the whole test split share a number."""
    from jvlm.data.builders import digit_scenes
    from jvlm.data.transforms import identity

    meanings = {digit_scenes.compose("tiny", "train", i)["meaning"] for i in range(128)}
    numbers = {int(identity({"m": m}, None, key="m")["image_id"]) for m in meanings}
    assert len(numbers) == len(meanings) and min(numbers) >= 0


def test_configs_build_their_pipelines(config, tmp_path):
    from jvlm.tokenizers import build_tokenizer

    assert config_lib.to_dict(config)["data"]["batch_size"] == 16
    source = build_source(config.data.source)
    texts = (text for i in range(len(source)) for text in source[i]["captions"])
    tokenizer = build_tokenizer(config.tokenizer.to_dict(), tmp_path / "tokenizer", texts)
    row = compose(config.data.transforms, tokenizer=tokenizer)(source[0], np.random.default_rng(0))
    assert row["image"].shape == (48, 48, 3) and row["text"].shape == (18,)
