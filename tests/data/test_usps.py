"""The text files of the USPS digits."""

import gzip

import numpy as np
import pytest

from common.data.formats.builders import usps
from common.errors import UserError

RNG = np.random.default_rng(0)


def digit_line(label: object = 3, count: int = 256) -> str:
    return " ".join([f"{label}", *(f"{value:.4f}" for value in RNG.uniform(-1, 1, count))])


def written(path, lines):
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


def test_a_line_is_a_digit_row_by_row(tmp_path):
    values = np.linspace(-1, 1, 256).round(3)
    path = written(tmp_path / "zip.train.gz", ["6.0000 " + " ".join(map(str, values)) + " ", digit_line(0)])
    images, labels = usps.read_digits(path)
    assert labels.tolist() == [6, 0]
    np.testing.assert_array_equal(images[0, :, :, 0], values.astype(np.float32).reshape(16, 16))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (digit_line(count=255), "line 2: got 256 columns, expected 257"),
        (digit_line(count=257), "line 2: got 258 columns, expected 257"),
        (digit_line(10), "line 2: label 10, expected a digit"),
        (digit_line(2.5), r"line 2: label 2\.5, expected a digit"),
        (digit_line()[:-6] + "1.5", "expected values in"),
        (digit_line()[:-6] + " nan", "expected values in"),
        (digit_line()[:-6] + " ink", "expected numbers"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    path = written(tmp_path / "zip.train.gz", [digit_line(), line])
    with pytest.raises(UserError, match=f"zip.train.gz.*{says}"):
        usps.read_digits(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"zip\.test\.gz"):
        usps.read_digits(tmp_path / "zip.test.gz")


def test_a_file_that_is_cut_short_is_named(tmp_path):
    path = written(tmp_path / "zip.train.gz", [digit_line() for _ in range(20)])
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"zip\.train\.gz' is cut short"):
        usps.read_digits(path)


def test_a_file_that_is_not_gzip_is_named(tmp_path):
    path = tmp_path / "zip.train.gz"
    path.write_text(digit_line())
    with pytest.raises(UserError, match=r"zip\.train\.gz' is not a gzipped text file"):
        usps.read_digits(path)


def test_an_empty_file_is_named(tmp_path):
    with pytest.raises(UserError, match="has no digits"):
        usps.read_digits(written(tmp_path / "zip.train.gz", []))


def test_the_published_digits_are_all_there(shared_data):
    # Counts per class, mean and variance: LeCun et al. 1989 used these numbers of digits, the rest is zip.info.txt's.
    images, labels = usps.read_digits(shared_data / "usps" / "zip.train.gz")
    assert np.bincount(labels).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert len(images) == 7291
    images, labels = usps.read_digits(shared_data / "usps" / "zip.test.gz")
    assert np.bincount(labels).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert images.mean() == pytest.approx(-0.4648, abs=5e-5)
    assert images.var() == pytest.approx(0.6165, abs=5e-5)
