# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""digit_scenes: pinned, well-posed, and the same through TFDS.

Words are read back by parsers written here from the English alone, so that they check the builder.
"""

import collections
import re
import sys

import numpy as np
import pytest

from jvlm import errors
from jvlm.data.builders import digit_scenes

SHA256 = {  # Of the first 200 test scenes. A new value is a new dataset: raise its version too.
    "small": "ec46fb94b3828ada98a64d757440e7aa9396145ab8ccc609af0b3e30f861a6cf",
    "full": "920aa17d3ac25d9efcd2ea9eb46433717aa6aaafdd079189ae05a6968e352d13",
}
COUNT = {"small": 800, "full": 600}  # Scenes read by each test.


@pytest.fixture(scope="module", params=sorted(COUNT))
def config(request):
    return request.param


@pytest.fixture(scope="module")
def scenes(config):
    return [digit_scenes.compose(config, "test", i) for i in range(COUNT[config])]


def apart(one, two, axis):
    """Whether `one` is clearly before `two` along the axis: half the longest side, at centre."""
    a, b = np.array(one["box"]), np.array(two["box"])
    longest = max(*(a[2:] - a[:2]), *(b[2:] - b[:2]))
    return (b[axis] + b[axis + 2] - a[axis] - a[axis + 2]) / 2 >= longest / 2


# ---- Pixels ----


def test_pinned(config):
    assert digit_scenes.content_hash(config, "test", 200) == SHA256[config]


def test_scene_is_a_function_of_its_index(config, scenes):
    np.testing.assert_equal(digit_scenes.compose(config, "test", 7), scenes[7])
    assert (
        digit_scenes.compose(config, "train", 7)["image"].tobytes() != scenes[7]["image"].tobytes()
    )
    for index in (-1, 2000):
        with pytest.raises(IndexError):
            digit_scenes.compose(config, "test", index)


def test_counts_and_sizes(config, scenes):
    cfg = digit_scenes.CONFIGS[config]
    counts = collections.Counter(len(scene["objects"]) for scene in scenes)
    assert set(counts) == set(range(1, cfg.max_digits + 1))
    assert min(counts.values()) > 0.7 * len(scenes) / cfg.max_digits
    boxes = np.array([item["box"] for scene in scenes for item in scene["objects"]])
    height = boxes[:, 3] - boxes[:, 1]
    assert 0.8 * cfg.sizes[0] <= height.min() and height.max() <= 1.25 * cfg.sizes[1]
    for scene in scenes:
        assert scene["image"].shape == (cfg.side, cfg.side, 3)
        assert scene["image"].dtype == np.uint8
        single = len(scene["objects"]) == 1
        assert scene["label"] == (scene["objects"][0]["digit"] if single else -1)


def test_boxes_are_exactly_the_ink(config, scenes):
    side = digit_scenes.CONFIGS[config].side
    for index, scene in enumerate(scenes[:200]):
        rng = np.random.RandomState([side, 2, index])
        inked = (digit_scenes._background(rng, side) != scene["image"]).any(axis=-1)
        owner = np.zeros((side, side), int)
        for item in scene["objects"]:
            x0, y0, x1, y1 = item["box"]
            assert 0 <= x0 < x1 <= side and 0 <= y0 < y1 <= side
            owner[y0:y1, x0:x1] += 1
            ink = inked[y0:y1, x0:x1]
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()
        assert owner.max() == 1  # No two boxes share a pixel,
        assert not inked[owner == 0].any()  # and no ink lies outside.


def test_ink_has_the_named_colour_and_shows(config, scenes):
    names, inks = zip(*digit_scenes.INKS.items(), strict=True)
    for scene in scenes[:200]:
        image = scene["image"].astype(int)
        covered = np.zeros(image.shape[:2], bool)
        for item in scene["objects"]:
            x0, y0, x1, y1 = item["box"]
            covered[y0:y1, x0:x1] = True
            pixels = image[y0:y1, x0:x1].reshape(-1, 3)
            chroma = pixels.max(axis=1) - pixels.min(axis=1)
            core = pixels[chroma >= np.quantile(chroma, 0.9)].mean(axis=0)
            distance = np.linalg.norm(np.array(inks) - core, axis=1)
            assert names[distance.argmin()] == item["colour"]
            assert np.sort(distance)[1] > 1.5 * distance.min()
        ground = image[~covered]
        assert (ground.max(axis=1) - ground.min(axis=1)).max() < 90  # No ink is that grey.


def test_handwriting_is_split_by_sample():
    fields, pools = digit_scenes.handwriting()
    used = {split: np.concatenate(pool) for split, pool in pools.items()}
    assert (
        sorted(np.concatenate(list(used.values()))) == list(range(len(fields)))
        and len(fields) == 1797
    )
    written = {split: {fields[i].tobytes() for i in samples} for split, samples in used.items()}
    assert not written["train"] & written["test"]
    assert not written["train"] & written["validation"]
    assert not written["validation"] & written["test"]
    for pool in pools.values():
        assert len(pool) == 10
        sizes = [len(samples) for samples in pool]
        assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize("split", digit_scenes.SPLITS)
def test_a_split_uses_its_own_handwriting_only(split, monkeypatch):
    want = [digit_scenes.compose("full", split, i)["image"] for i in range(50)]
    fields, pools = digit_scenes.handwriting()
    own = np.zeros_like(fields)
    own[np.concatenate(pools[split])] = fields[np.concatenate(pools[split])]
    monkeypatch.setattr(digit_scenes, "handwriting", lambda: (own, pools))
    np.testing.assert_array_equal(
        [digit_scenes.compose("full", split, i)["image"] for i in range(50)], want
    )


# ---- Words ----

ITEM = r"a (\w+) (\w+)|the digit (\w+) in (\w+) ink"
ORDER = {"to the left of": (0, 1), "to the right of": (0, -1), "above": (1, 1), "below": (1, -1)}


def named(text):
    """'red seven' -> ('red', 7)."""
    colour, digit = text.split()
    assert colour in digit_scenes.COLOURS
    return colour, digit_scenes.DIGITS.index(digit)


def read_caption(caption):
    """-> (multiset of (colour, digit), (axis, first, second) if it states a relation)."""
    text = caption.removeprefix("a picture of ")
    found = [named(f"{m[1] or m[4]} {m[2] or m[3]}") for m in re.finditer(ITEM, text)]
    link = re.fullmatch(r"@(?:(?:, @)* and @)?|@ (?P<relation>[a-z ]+) @", re.sub(ITEM, "@", text))
    assert link, caption
    relation = None
    if link["relation"] and link["relation"] != "and":
        axis, step = ORDER[link["relation"]]
        relation = (axis, *found[::step])
    return tuple(sorted(found)), relation


def key(item):
    return item["colour"], item["digit"]


def test_captions_describe_the_scene(scenes):
    stated = []
    for scene in scenes:
        assert len(set(scene["captions"])) == 3
        content = {read_caption(caption) for caption in scene["captions"]}
        assert len(content) == 1, scene["captions"]
        found, relation = content.pop()
        assert found == tuple(sorted(map(key, scene["objects"])))
        if len(found) == 2:
            stated.append(relation is not None)
        else:
            assert relation is None
        if relation:
            axis, *pair = relation
            first, second = ({key(o): o for o in scene["objects"]}[name] for name in pair)
            assert apart(first, second, axis)
    assert 0.35 < np.mean(stated) < 0.6


def test_mention_order_says_nothing(scenes):
    leftmost_first = []
    for scene in scenes:
        if len(scene["objects"]) == 2 and read_caption(scene["captions"][0])[1] is None:
            first = named(" ".join(re.search(ITEM, scene["captions"][0]).group(1, 2)))
            left = min(scene["objects"], key=lambda item: item["box"][0] + item["box"][2])
            leftmost_first.append(first == key(left))
    assert 0.3 < np.mean(leftmost_first) < 0.7


def test_equal_meaning_iff_equal_captions(scenes):
    pairs = {(scene["meaning"], read_caption(scene["captions"][0])) for scene in scenes}
    assert len(pairs) == len({meaning for meaning, _ in pairs}) == len({read for _, read in pairs})
    assert len(pairs) < len(scenes)  # Some scenes do mean the same.


def test_phrase_fits_exactly_one_object(scenes):
    kinds = set()
    sides = {"left": (0, 1), "right": (0, -1), "upper": (1, 1), "lower": (1, -1)}
    for scene in scenes:
        the, *words, digit = scene["phrase"].split()
        assert the == "the"
        fits = scene["objects"]
        if digit != "digit":
            fits = [o for o in fits if o["digit"] == digit_scenes.DIGITS.index(digit)]
        side = words.pop(0) if words and words[0] in sides else None
        if words:
            fits = [o for o in fits if o["colour"] == words[0]]
        assert len(words) <= 1 and len(fits) == (2 if side else 1)
        if side:
            axis, step = sides[side]
            fits = sorted(fits, key=lambda o: o["box"][axis] + o["box"][axis + 2])
            assert apart(*fits, axis)
            fits = fits[::step]
        assert scene["box"] == fits[0]["box"]
        kinds.add((side, bool(words), digit == "digit"))
    assert {(None, True, False), (None, False, False), ("left", False, True)} <= kinds


def answer(question, objects):
    """Answers a question, and checks that it has exactly one answer."""
    digits, colours = digit_scenes.DIGITS, digit_scenes.COLOURS

    def only(fits):
        (item,) = [o for o in objects if fits(o)]
        return item

    def item(name):
        return only(lambda o: key(o) == named(name))

    def at(side):
        left, right = sorted(objects, key=lambda o: o["box"][0] + o["box"][2])
        assert apart(left, right, 0)
        return {"left": left, "right": right}[side]

    if m := re.fullmatch(r"(what digit is this|what colour is the digit)\?", question):
        (o,) = objects
        return digits[o["digit"]] if "this" in m[1] else o["colour"]
    if m := re.fullmatch(r"which digit is on the (left|right)\?", question):
        return digits[at(m[1])["digit"]]
    if m := re.fullmatch(r"what colour is the digit on the (left|right)\?", question):
        return at(m[1])["colour"]
    if m := re.fullmatch(r"which digit is (\w+)\?", question):
        return digits[only(lambda o: o["colour"] == m[1])["digit"]]
    if m := re.fullmatch(r"what colour is the (\w+)\?", question):
        return only(lambda o: digits[o["digit"]] == m[1])["colour"]
    if m := re.fullmatch(r"how many (?:(\w+) )?digits are there\?", question):
        assert m[1] in (None, *colours)
        return digits[sum(m[1] in (None, o["colour"]) for o in objects)]
    if m := re.fullmatch(r"is there (?:an(?= eight)|a(?! eight)) (?:(\w+) )?(\w+)\?", question):
        assert m[1] in (None, *colours) and m[2] in ("digit", *digits)
        fits = [
            m[1] in (None, o["colour"]) and m[2] in ("digit", digits[o["digit"]]) for o in objects
        ]
        return "yes" if any(fits) else "no"
    if m := re.fullmatch(
        r"is the (\w+ \w+) to the left of or to the right of the (\w+ \w+)\?", question
    ):
        one, two = item(m[1]), item(m[2])
        assert apart(one, two, 0) != apart(two, one, 0)
        return "left" if apart(one, two, 0) else "right"
    m = re.fullmatch(rf"is the (\w+ \w+) ({'|'.join(ORDER)}) the (\w+ \w+)\?", question)
    axis, step = ORDER[m[2]]
    one, two = (item(m[1]), item(m[3]))[::step]
    assert apart(one, two, axis) != apart(two, one, axis)
    return "yes" if apart(one, two, axis) else "no"


def test_questions_are_well_posed_and_answered(scenes):
    answers = collections.defaultdict(collections.Counter)
    for scene in scenes:
        asked = [q["question"] for q in scene["questions"]]
        assert len(set(asked)) == len(asked) >= 5
        for q in scene["questions"]:
            assert q["answer"] == answer(q["question"], scene["objects"]), q
            answers[q["kind"]][q["answer"]] += 1
    assert set(answers) == {"digit", "colour", "count", "position", "yes_no"}
    for kind, two in (("yes_no", ("yes", "no")), ("position", ("left", "right"))):
        assert set(answers[kind]) == set(two)
        assert 0.4 < answers[kind][two[0]] / answers[kind].total() < 0.6
    assert set(answers["digit"]) == set(digit_scenes.DIGITS)
    assert set(answers["colour"]) == set(digit_scenes.COLOURS)


# ---- TFDS ----


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return digit_scenes.prepare("tiny", tmp_path_factory.mktemp("tfds"))


def test_tfds_gives_back_every_scene(prepared):
    for split in digit_scenes.SPLITS:
        source = prepared.as_data_source(split)
        assert len(source) == 128
        for index, got in enumerate(source):
            want = digit_scenes.compose("tiny", split, index)
            np.testing.assert_array_equal(got["image"], want["image"])
            assert [text.decode() for text in got["captions"]] == want["captions"]
            for field in ("objects", "questions"):
                for name, column in got[field].items():
                    column = [v.decode() if isinstance(v, bytes) else v for v in column]
                    np.testing.assert_array_equal(column, [row[name] for row in want[field]])
            assert got["box"].dtype == np.float32 and got["box"].tolist() == want["box"]
            for name in ("phrase", "meaning"):
                assert got[name].decode() == want[name]
            assert (got["id"], got["label"]) == (index, want["label"])
    assert "tensorflow" not in sys.modules


def test_tiny_is_the_beginning_of_small():
    scene, same = (digit_scenes.compose(config, "train", 7) for config in ("tiny", "small"))
    np.testing.assert_array_equal(scene.pop("image"), same.pop("image"))
    assert scene == same


def test_prepare_makes_data_once(prepared, monkeypatch, capsys):
    monkeypatch.setattr(digit_scenes, "compose", None)  # Whoever composes now fails.
    again = digit_scenes.prepare("tiny", prepared.data_dir.split("/digit_scenes/")[0])
    assert again.info.splits["train"].num_examples == 128
    assert capsys.readouterr().out == ""
    with pytest.raises(errors.UserError, match="small"):
        digit_scenes.prepare("smal")


def test_killed_preparation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(digit_scenes, "_background", interrupted)
        with pytest.raises(KeyboardInterrupt):
            digit_scenes.prepare("tiny", tmp_path)
    assert digit_scenes.prepare("tiny", tmp_path).info.splits["test"].num_examples == 128
