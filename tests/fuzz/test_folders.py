"""Random folders of images: odd names, links, FIFOs, and lists in CSV files that are broken in every way."""

import copy
import os
import pathlib
import tempfile

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.config import base
from common.data import datasets
from common.models import section
from tests.fuzz.endings import ends_well, tried

NAMES = st.one_of(
    st.sampled_from(["train", "test", "val", "a", "b", "10", "9", "x.png", "\u00e9", "e\u0301", " ", "a\nb", "-", "~"]),
    st.sampled_from([os.fsdecode(b"\xff\xfe"), "Thumbs.db", ".hidden", "__MACOSX", "y" * 255, "\u202e", "🙂", "CON"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8),
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) < 256)
LEAVES = st.sampled_from(["image", "image", "image", "large", "text", "empty", "fifo", "dangling", "loop", "up"])
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=10)
CLASS = {"1.png": "image", "2.png": "image", "3.png": "image"}
SOUND = {"train": {"a": CLASS, "b": CLASS}, "test": {"a": CLASS, "b": CLASS}}


@st.composite
def spoilt(draw):
    """A sound folder of images with some entries added, replaced or removed."""
    tree = copy.deepcopy(SOUND)
    for _ in range(draw(st.integers(0, 3))):
        place = tree
        while draw(st.booleans()):
            inner = [name for name in sorted(place) if isinstance(place[name], dict)]
            if not inner:
                break
            place = place[draw(st.sampled_from(inner))]
        if place and draw(st.booleans()):
            name = draw(st.sampled_from(sorted(place)))
            place.pop(name)
            if draw(st.booleans()):
                place[name] = draw(TREES)
        else:
            place[draw(NAMES)] = draw(TREES)
    return tree


FOLDERS = st.one_of(spoilt(), spoilt(), st.dictionaries(NAMES, TREES, max_size=4))
CELLS = st.one_of(
    st.sampled_from(
        ["image", "label", "a", "a.png", "b.png", "1", "", "../a.png", "/etc/passwd", '"', "é", "\0", "a,b"]
    ),
    st.text(max_size=5),
    st.just("z" * 200_000),
)
ROWS = ("image,label", *(f"{name}.png,{label}" for label, names in enumerate(("ab", "de", "fg")) for name in names))
TABLES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=5).map(lambda rows: "\n".join(rows).encode("utf-8")),
    st.tuples(st.lists(st.tuples(CELLS, CELLS).map(",".join), max_size=2), st.sampled_from(["\n", "\r\n", "\r"])).map(
        lambda drawn: drawn[1].join([*ROWS, *drawn[0]]).encode("utf-8")
    ),
    st.lists(st.sampled_from(ROWS[1:]), unique=True).map(lambda rows: "\n".join([*ROWS[:1], *rows]).encode("utf-16")),
    st.permutations(ROWS[1:]).map(lambda rows: "\n".join([*ROWS[:1], *rows]).encode("utf-8-sig")),
)


def make(place, what):
    """Makes a file, a link or a folder with all that is in it."""
    if isinstance(what, dict):
        place.mkdir()
        for name, inner in what.items():
            if not os.path.lexists(place / name):  # a file system may take two names for one
                make(place / name, inner)
    elif what in ("image", "large"):
        side = 4 if what == "image" else 9
        Image.fromarray(np.full((side, side), 99, np.uint8)).save(place, "PNG")
    elif what == "fifo":
        os.mkfifo(place)
    elif what in ("dangling", "loop", "up"):
        place.symlink_to({"dangling": "nowhere", "loop": place.name, "up": ".."}[what])
    else:
        place.write_bytes(b"" if what == "empty" else b"no image")


def opened(root, options):
    config = base(section("lenet", "lenet5")).data
    config.update({"source": f"folder:{root}", **options})
    datasets.check(config)
    return datasets.load(config)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "skip_bad": st.booleans(),
        "resize": st.sampled_from([0, 6]),
        "holdout": st.just(0.5),
        "validation": st.sampled_from(["", "", "30%", "val", "a"]),
        "train_split": st.sampled_from(["train", "train", "a", ".", ".."]),
        "test_split": st.sampled_from(["test", "test", "val", "a", ""]),
    },
)


@tried(30)
@given(FOLDERS, OPTIONS)
def test_a_folder_is_taken_or_refused(tree, options):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "images")
        make(root, tree)
        ends_well("folder of images", opened, root, options)


@tried(30)
@given(TABLES, st.one_of(st.none(), st.none(), TABLES), OPTIONS)
def test_a_list_of_images_is_taken_or_refused(train, test, options):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        make(root / "train", {**{f"{name}.png": "image" for name in "abdefg"}, "c": {"a.png": "image"}})
        (root / "train.csv").write_bytes(train)
        if test is not None:
            (root / "test.csv").write_bytes(test)
        ends_well("list of images", opened, root, options)


@tried(20)
@given(st.one_of(NAMES, st.text(max_size=30), st.sampled_from(["~nobody9/x", "~", "\0", "x" * 5000, "/dev/null", ""])))
def test_any_name_of_a_folder_is_taken_or_refused(name):
    with tempfile.TemporaryDirectory() as folder:
        ends_well("name of a folder", opened, os.path.join(folder, name) if len(name) % 2 else name, {})
