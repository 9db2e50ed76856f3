"""Folders labelled by CSV files."""

import numpy as np
import pytest
from PIL import Image

from common.data import datasets
from common.data.formats import listing
from common.errors import UserError


def write(root, split, rows, header="image,label", folder=None, suffix=""):
    """A CSV file of (image, label), and its images, whose pixels are their numbers."""
    (root / f"{split}.csv").write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    folder = root / (split if folder is None else folder)
    for number, (image, _) in enumerate(rows):
        path = folder / (image + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(path, "png")


ROWS = [(f"{i:02}.png", "dog" if i % 3 else "cat") for i in range(12)]


def load(data_config, root, **changes):
    return datasets.load(data_config(source=f"folder:{root}", **changes))


def labels_by_pixel(*sources):
    pairs = ((int(example["image"][0, 0, 0]), int(example["label"])) for source in sources for example in source)
    return dict(sorted(pairs))


@pytest.mark.parametrize(("folder", "suffix"), [(None, ""), ("train_images", ""), ("", ""), (None, ".png")])
def test_a_csv_file_labels_images_wherever_they_are(data_config, tmp_path, folder, suffix):
    rows = [(image.removesuffix(suffix), label) for image, label in ROWS]
    write(tmp_path, "train", rows, folder=folder, suffix=suffix)
    dataset = load(data_config, tmp_path)
    assert dataset.info.class_names == ("cat", "dog")
    assert labels_by_pixel(dataset.train, dataset.test) == {i: int(i % 3 > 0) for i in range(12)}
    assert dataset.notes == ("tested on 20% of each class, held out of the training images",)


def test_the_splits_have_a_csv_file_each(data_config, tmp_path):
    write(tmp_path, "train", ROWS)
    write(tmp_path, "valid", ROWS[:5])
    write(tmp_path, "test", ROWS[:3])
    assert "valid.csv' is not used" in load(data_config, tmp_path).notes[0]
    dataset = load(data_config, tmp_path, validation="val")
    assert [len(source) for source in (dataset.train, dataset.validation, dataset.test)] == [12, 5, 3]


def test_columns_may_be_in_any_order_and_quoted(data_config, tmp_path):
    write(tmp_path, "train", ROWS)
    lines = ["\ufeffid, label,image", *(f'{i},"{label}", {image} ' for i, (image, label) in enumerate(ROWS)), ""]
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    dataset = load(data_config, tmp_path)
    assert labels_by_pixel(dataset.train, dataset.test) == {i: int(i % 3 > 0) for i in range(12)}


def test_a_test_set_without_labels_is_not_used_and_a_note_says_so(data_config, tmp_path):
    write(tmp_path, "train", ROWS)
    (tmp_path / "test.csv").write_text("image\n1.png\n")
    notes = load(data_config, tmp_path).notes
    assert "'test.csv' is not used ('test.csv' has the columns 'image'; expected 'image' and 'label')" in notes


@pytest.mark.parametrize("table", [True, False])
def test_test_images_without_labels_are_not_used_and_a_note_says_so(data_config, tmp_path, table):
    write(tmp_path, "train", ROWS)
    for folder in ("test", "val"):
        write(tmp_path, folder, ROWS[:3])
        (tmp_path / f"{folder}.csv").unlink()
    if table:
        (tmp_path / "test.csv").write_text("image\n00.png\n")
    dataset = load(data_config, tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (9, 3)
    assert "tested on 20% of each class, held out of the training images" in dataset.notes
    for folder in ("test", "val"):
        unused = f"'{tmp_path / folder}' is not used: it has no sub-folders of classes"
        assert [note for note in dataset.notes if note.startswith(unused)]
    with pytest.raises(UserError, match="val' should have one sub-folder for each class"):
        load(data_config, tmp_path, validation="val")


def test_images_that_two_lists_have_in_common_are_not_validated_on(data_config, tmp_path):
    write(tmp_path, "train", ROWS, folder="")
    write(tmp_path, "val", ROWS[:5], folder="")
    with pytest.raises(UserError, match="config.data.validation 'val' shares 5 images with 'train'"):
        load(data_config, tmp_path, validation="val")
    assert "5 of the 5 test images are also training images" in load(data_config, tmp_path).notes


def test_labels_that_are_numbers_are_in_their_order(data_config, tmp_path):
    write(tmp_path, "train", [(f"{i:02}.png", str(i % 12)) for i in range(24)])
    assert load(data_config, tmp_path).info.class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("absent.png,cat", "line 14: there is no image 'absent.png' in '.*train'"),
        ("../train.csv,cat", "line 14: there is no image '../train.csv'"),
        ("00.png,dog", "line 14: '00.png' is listed twice"),
        ("00,dog", "line 14: '00' is listed twice"),
        (",dog", "line 14: expected an image and its label"),
        ("00.png", "line 14: expected an image and its label"),
    ],
)
def test_a_bad_line_is_named(data_config, tmp_path, line, says):
    write(tmp_path, "train", ROWS)
    with (tmp_path / "train.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=says):
        load(data_config, tmp_path)


def test_a_name_without_suffix_that_two_files_share_is_refused(data_config, tmp_path):
    rows = [(image.removesuffix(".png"), label) for image, label in ROWS]
    write(tmp_path, "train", rows, suffix=".png")
    mask = tmp_path / "train" / f"{rows[2][0]}.tif"
    mask.touch()
    with pytest.raises(UserError, match=rf"line 4: '{rows[2][0]}' may be '.*png', '.*tif'; add the suffix"):
        load(data_config, tmp_path)
    write(tmp_path, "train", [(f"{image}.png", label) for image, label in rows])
    load(data_config, tmp_path)


def test_images_that_do_not_exist_may_be_skipped(data_config, tmp_path):
    write(tmp_path, "train", ROWS)
    write(tmp_path, "test", ROWS)
    for split in ("train", "test"):
        (tmp_path / split / "03.png").unlink()
    dataset = load(data_config, tmp_path, skip_bad=True, resize=4)
    assert (dataset.info.train_size, dataset.info.test_size) == (12, 11)
    assert len(dataset.bad) == 2


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_the_first_image_that_exists_says_where_the_images_are(data_config, tmp_path, suffix):
    rows = [(image.removesuffix(suffix), label) for image, label in ROWS]
    write(tmp_path, "train", rows, suffix=suffix)
    (tmp_path / "train").rename(tmp_path / "train_images")
    (tmp_path / "train").mkdir()  # of something else
    (tmp_path / "train_images" / "00.png").unlink()
    dataset = load(data_config, tmp_path, skip_bad=True, resize=4)
    assert labels_by_pixel(dataset.train, dataset.test).keys() == set(range(1, 12))
    with pytest.raises(UserError, match="line 2: there is no image '00(.png)?' in '.*train_images'"):
        load(data_config, tmp_path)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_csv_file_without_any_of_its_images_names_where_they_were_looked_for(data_config, tmp_path, skip_bad):
    write(tmp_path, "train", ROWS, folder="elsewhere/deep")
    (tmp_path / "train").mkdir()
    folders = f"'{tmp_path / 'train'}', '{tmp_path}'"
    with pytest.raises(UserError, match=f"line 2: there is no image '00.png' in {folders}$"):
        load(data_config, tmp_path, skip_bad=skip_bad)


def test_a_csv_file_with_other_columns_is_named(data_config, tmp_path):
    write(tmp_path, "train", ROWS, header="id,breed")
    with pytest.raises(UserError, match=r"it has none \('train.csv' has the columns 'id', 'breed'; expected 'image'"):
        load(data_config, tmp_path)
    for name in ("cat", "dog"):  # it may lie beside folders of classes
        for i in range(3):
            (tmp_path / "train" / name).mkdir(exist_ok=True)
            Image.new("L", (4, 4), i).save(tmp_path / "train" / name / f"{i}.png")
    assert load(data_config, tmp_path).info.class_names == ("cat", "dog")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"image,label\n", b'image,label\n"' + bytes(200_000)])
def test_a_damaged_csv_file_is_refused_in_one_line(data_config, tmp_path, content):
    write(tmp_path, "train", ROWS)
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match="train"):
        load(data_config, tmp_path)


def test_unknown_labels_of_a_test_set_are_named(data_config, tmp_path):
    write(tmp_path, "train", ROWS)
    write(tmp_path, "test", [("00.png", "emu")])
    with pytest.raises(UserError, match=r"class 'emu' in '.*test\.csv' has no training images"):
        load(data_config, tmp_path)


def test_many_classes_keep_their_images(tmp_path):
    for i in range(300):
        (tmp_path / f"class {i}").mkdir()
        (tmp_path / f"class {i}" / "only.png").touch()
    found = listing.read(tmp_path)
    assert found.classes == {f"class {i}/only.png": f"class {i}" for i in range(300)}
    np.testing.assert_array_equal(listing.class_order(found.classes.values()), sorted(found.classes.values()))
