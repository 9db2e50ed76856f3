"""Random damage to the files of a run's folder: it is read as it was, or refused."""

import functools
import json
import pathlib
import shutil
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import datasets
from common.data.dataset_info import Info
from common.run import checkpoints, history, metrics, summary, trained, workdir
from configs import lenet5_mnist_modern
from tests.digits_run import digits_run
from tests.fuzz.bytes_of_files import damaged
from tests.fuzz.endings import ends_well, tried

TEXTS = (workdir.CONFIG, workdir.DATASET, workdir.SUMMARY, metrics.FILE, history.FILE)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


@functools.cache
def contents():
    """The text files of a run by name, as a run writes them."""
    config = lenet5_mnist_modern.get_config()
    info = Info("digits", 2, ("a", "b"), (32, 32, 1), 8, 4, fingerprint="0")
    records = [
        {"step": step, "split": split, "loss": 1.0, "error": 0.5, "images_per_second": 9.0, "seconds": 1.0}
        for step in (1, 2, 3)
        for split in ("train", "test")
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        workdir.open_workdir(folder, config, info)
        (folder / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
        history.record(folder, 0, None, config)
        tested = {"0": {"examples": 10, "error": 0.5}}
        summary.write(folder, config, {"parameters": 6}, tested, {"loss": 1.0, "error": 0.5}, 0, [])
        return {name: (folder / name).read_bytes() for name in TEXTS}


@st.composite
def altered(draw, name):
    """A JSON file of a run with one of its values replaced, or a key removed."""
    content = json.loads(contents()[name].splitlines()[-1] if name.endswith("jsonl") else contents()[name])
    place = content
    while isinstance(place, dict) and place:
        key = draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or draw(st.booleans()):
            if draw(st.booleans()):
                place[key] = draw(JSON)
            else:
                del place[key]
            break
        place = place[key]
    return json.dumps(content).encode() + b"\n"


def opened(folder):
    """All that a tool reads of a run before it touches a checkpoint."""
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    workdir.check_same(folder, config)
    before = workdir.open_workdir(folder, config, info, write=False)
    checkpoints.best_first(folder)
    return history.notes(before, config, info, 3)


def numbers(folder):
    """All that a tool reads of a run's numbers."""
    for split in ("train", "test", None):
        metrics.read(folder, split)
    metrics.EarlyStopping(folder, "test", 100, 2)
    return summary.result_line(summary.read(folder))


@tried(20)
@given(st.data(), st.sampled_from(TEXTS))
def test_a_damaged_record_is_read_or_refused(data, name):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for other, content in contents().items():
            (folder / other).write_bytes(content)
        (folder / "checkpoints" / "3").mkdir(parents=True)
        (folder / name).write_bytes(
            data.draw(st.one_of(damaged((contents()[name],)), altered(name), JSON.map(repr).map(str.encode)))
        )
        ends_well("workdir", opened, folder)
        ends_well("workdir", numbers, folder)


@functools.cache
def images_of_test():
    return datasets.load(workdir.load_config(digits_run()).data).test


@functools.cache
def right():
    """The error of the undamaged run at each of its checkpoints."""
    folder = digits_run()
    return {step: error_of(trained.load(folder, str(step))) for step in checkpoints.steps(folder)}


def error_of(run):
    return trained.predictions(run, images_of_test()).error


@pytest.mark.slow  # tests/run/test_checkpoints.py damages checkpoints, too
@tried(2)
@given(st.data())
def test_a_damaged_checkpoint_is_never_used(data):
    original, known = digits_run(), right()
    files = sorted(path.relative_to(original) for path in original.rglob("checkpoints/*/**/*") if path.is_file())
    name = data.draw(st.sampled_from(files))
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, "run")
        shutil.copytree(original, copy)
        (copy / name).write_bytes(data.draw(damaged(((original / name).read_bytes(),))))
        run = ends_well("workdir", trained.load, copy)
        assert run is None or error_of(run) == known[run.step]
