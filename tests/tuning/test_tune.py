"""The command, with real runs: the test set is never read, and a study goes on after a kill."""

import json
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from common import train
from common.errors import UserError
from tests import small_run
from tests.runs import refused, run, start

DIGITS = ("--config=configs/alexnet_digits.py",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of images to train on; the test images are no images."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(low, low + 128, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{number}.png")
        (root / "test" / name / "0.png").write_text("no image")
    return root


# A run that takes no time.
SHORT = {"data.limit": 0, "train.length": "4 steps", "train.batch_size": 4, "evaluate.every": "2 steps"}


@pytest.mark.slow
def test_the_test_set_is_never_read(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    # The same folder stops a run that reads its test images.
    # Without a size to resize to, the sizes of all images are looked at.
    changes = {**SHORT, "data.source": f"folder:{folder}", "data.resize": 8}
    reads = small_run.get_config(**changes, **{"data.validation": "20%"})
    with pytest.raises(UserError) as error:
        train.fit(reads, tmp_path / "run")
    assert str(folder / "test") in str(error.value)
    code, output, errors = run(
        small_run.CONFIG,
        *(f"--config.{name}={value}" for name, value in changes.items()),
        "--search=schedule.learning_rate=1e-4|1e-3",
        "--sampler=grid",
        "--trials=1",
        f"--study={tmp_path / 'study'}",
        "--record=images",
        "--results=~",
        module="common.tune",
    )
    assert code == 0, errors
    assert "trial 1 of 1: " in output
    trial = tmp_path / "study" / "trials" / "1" / "seed0"
    content = json.loads((trial / "summary.json").read_text())
    assert not {"test", "best_test", "class_errors"} & content.keys()
    records = (trial / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["split"] for line in records} == {"train", "validation"}
    best = json.loads((tmp_path / "study" / "best.json").read_text())
    assert best["validation_error"] == content["best_validation"]["error"]
    assert best["validation"] == "15%"
    assert best["train"] == output.strip().splitlines()[-2]
    assert "validation" not in best["train"]
    assert json.loads((tmp_path / "tune_images.json").read_text()) == best


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--search=optimizer.momentun=0..0.9",), "did you mean 'optimizer.momentum'"),
        (("--search=optimizer.b1=0.9..0.1",), "is empty"),
        (("--search=optimizer.b1=0..1",), "config.optimizer.b1 is 1.0"),
        ((), "--search is missing"),
        (("--search=optimizer.b1=0..0.9", "--sampler=grid"), "needs choices"),
        (("--search=optimizer.b1=0..0.9", "--record=a/b"), "--record is 'a/b'"),
        (("--search=optimizer.b1=0..0.9", "--record=a", "--results=setup.py"), "cannot write setup.py/tune_a.json"),
        (("--search=optimizer.b1=0..0.9", "--config.data.source=folder:/nowhere"), "/nowhere"),
        (("--search=optimizer.b1=0..0.9", "--config.seed=4294967295", "--seeds=2"), "config.seed is 4294967296"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, said, tmp_path):
    message = refused(*DIGITS, *arguments, f"--study={tmp_path / 'study'}", module="common.tune")
    assert said in message
    assert not (tmp_path / "study").exists()


def when(condition, process):
    """Waits until the condition is true, which has to be before the process ends; a failure ends the process."""
    try:
        while not condition():
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
    except BaseException:
        process.kill()
        raise


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill_and_after_a_signal(tmp_path):
    study = tmp_path / "study"
    flags = (
        "--config=configs/lenet5_digits.py",
        *("--config.optimizer.curvature_examples=50", "--config.data.limit=200", "--config.train.length=3 epochs"),
        *("--search=optimizer.mu=1e-3..1e-1 log", "--trials=4", "--jobs=2", f"--study={study}"),
    )

    def records():
        return [path for path in study.rglob("metrics.jsonl") if "validation" in path.read_text()]

    process = start(*flags, module="common.tune")
    when(records, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    options = {path: json.loads(path.read_text()) for path in study.rglob("config.json")}
    process = start(*flags, module="common.tune")
    when(lambda: len(list(study.glob("trials/*/*/summary.json"))) >= 2, process)
    process.terminate()
    output, _ = process.communicate()
    assert process.returncode == 75
    assert output.strip().splitlines()[-1].endswith("trials finished; the same command goes on")
    code, output, errors = run(*flags, module="common.tune")
    assert code == 0, errors
    assert "importance of the options: optimizer.mu 100%" in output
    assert sorted(path.name for path in (study / "trials").iterdir()) == ["1", "2", "3", "4"]
    assert len(list(study.glob("trials/*/*/summary.json"))) == 4
    for path, content in options.items():
        assert json.loads(path.read_text()) == content
    said = refused(*flags, "--seeds=2", module="common.tune")
    assert "holds another search: --seeds is 1 there and 2 here" in said
