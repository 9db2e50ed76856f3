"""`python -m common.main --mode=evaluate`: a trained run's numbers, whatever the devices, and ensembles of runs."""

import json
import shutil

import numpy as np
import pytest
from absl import flags
from PIL import Image

from common import main, train
from common.errors import UserError
from common.protocols import catalogue, measure
from common.run import metrics, trained, workdir
from tests.runs import refused, run
from tests.small_run import small_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The small run, in a folder that may be written to."""
    copy = tmp_path_factory.mktemp("runs") / "one"
    shutil.copytree(small_run(), copy)
    return copy


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The small run from another seed."""
    config = workdir.load_config(small_run())
    config.seed, config.train.length = 1, "1 epoch"
    other = tmp_path_factory.mktemp("runs") / "other"
    train.fit(config, other)
    return other


def read(folder, name):
    return json.loads((folder / f"evaluate_{name}.json").read_text())


def test_a_workdir_is_all_it_takes_and_devices_do_not_matter(folder):
    code, output, errors = run("--mode=evaluate", f"--workdir={folder}", "--protocol=ten_crop", devices=8)
    assert code == 0, errors
    eight = read(folder, "ten_crop")
    assert output.startswith("ten_crop at 9 pixels, 10 views of an image, step ")
    assert output.strip().endswith(
        f"top-1 error {eight['top1_error']:.2%}, top-5 error {eight['top5_error']:.2%} of 359 images"
    )
    assert "8 x cpu" in eight["environment"]["devices"]
    one = measure.measure([folder], "ten_crop")
    assert one["examples"] == eight["examples"] == 359
    assert one["views"] == eight["views"] == 10
    assert one["scales"] == [9]
    for name in ("top1_error", "top5_error", "cross_entropy"):
        assert one[name] == pytest.approx(eight[name], rel=1e-4)


def test_the_single_view_is_the_test_of_training(folder):
    result = measure.measure([folder], "single")
    step = trained.load(folder).step
    (values,) = [record for record in metrics.read(folder, "test") if record["step"] == step]
    assert result["top1_error"] == values["error"]
    assert result["top5_error"] == values["top5_error"]
    assert result["cross_entropy"] == pytest.approx(values["loss"], rel=1e-5)
    assert result == read(folder, "single")
    assert result["members"] == [{"workdir": str(folder), "network": "mlp", "step": step}]
    assert measure.as_line(result).startswith("single, 1 view of an image, step ")


def test_an_ensemble_of_two_runs(folder, other):
    result = measure.measure([folder, other], "single")
    members = [measure.score(one, catalogue.passes(one, "single")) for one in map(trained.load, (folder, other))]
    mean = sum(np.exp(member.log_probabilities) for member in members) / 2
    assert result["top1_error"] == pytest.approx(np.mean(mean.argmax(-1) != members[0].labels))
    assert [member["workdir"] for member in result["members"]] == [str(folder), str(other)]
    assert result == read(folder, "single_ensemble")
    assert "ensemble of 2: top-1 error" in measure.as_line(result)


def test_an_ensemble_of_networks_with_different_test_sets_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "smaller")
    facts = json.loads((folder / "dataset.json").read_text())
    (tmp_path / "smaller" / "dataset.json").write_text(json.dumps({**facts, "test_size": 100}))
    with pytest.raises(UserError, match="has 100 test images of 10 classes of 'digits', .* has 359 .* one test set"):
        measure.measure([folder, tmp_path / "smaller"], "single")


def run_on(photos, run, **data):
    """A copy of the small run, in a folder `run`, that names a folder of photographs as its dataset."""
    shutil.copytree(small_run(), run)
    config, facts = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "dataset"))
    config["data"].update({"source": f"folder:{photos}", "channels": 1, "resize": 8, "crop": 8, **data})
    (run / "config.json").write_text(json.dumps(config))
    (run / "dataset.json").write_text(json.dumps({**facts, "name": photos.name, "test_size": 20}))
    return run


def photographs(folder, seed=0, form="PNG"):
    """A folder with a test set of two photographs for each digit."""
    rng = np.random.default_rng(seed)
    for name in "00112233445566778899":
        place = folder / "test" / name
        place.mkdir(parents=True, exist_ok=True)
        number = len(list(place.iterdir()))
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(place / f"{number}.png", form)
    return folder


@pytest.mark.slow
def test_members_of_an_ensemble_are_tested_on_the_same_images_however_these_are_stored_and_prepared(tmp_path):
    one = run_on(photographs(tmp_path / "photos"), tmp_path / "one")
    other = run_on(photographs(tmp_path / "copies", form="BMP"), tmp_path / "other", resize=12)
    assert measure.measure([one, other], "single")["examples"] == 20
    unrelated = run_on(photographs(tmp_path / "unrelated", seed=1), tmp_path / "third")
    with pytest.raises(UserError, match="images of .*third are not those of .*one: image 0 is .*one test set"):
        measure.measure([one, unrelated], "single")
    copy = shutil.copytree(tmp_path / "photos", tmp_path / "renamed")
    for place in (copy / "test").iterdir():
        (place / "0.png").rename(place / "2.png")
    with pytest.raises(UserError, match="are those of .*one in another order.*one test set"):
        measure.measure([one, run_on(copy, tmp_path / "fourth")], "single")


def test_a_result_names_the_images_that_it_was_measured_on(folder, tmp_path):
    assert measure.measure([folder], "single")["test_data"]["source"] == "digits"
    run_folder = run_on(photographs(tmp_path / "photos"), tmp_path / "run")
    config = workdir.load_config(run_folder)
    config.data.source = f"folder:{photographs(tmp_path / 'others', seed=1)}"
    measure.measure([run_folder], "single", config=config)
    assert read(run_folder, "single")["test_data"]["source"] == f"folder:{tmp_path / 'others'}"
    measure.measure([run_folder], "single")
    assert read(run_folder, "single")["test_data"]["source"] == f"folder:{tmp_path / 'photos'}"


def test_an_imported_network_which_knows_no_dataset_may_be_a_member(folder, other, tmp_path):
    imported = tmp_path / "imported"
    shutil.copytree(other, imported)
    facts = json.loads((other / "dataset.json").read_text())
    (imported / "dataset.json").write_text(json.dumps({**facts, "name": "timm", "train_size": 1, "test_size": 0}))
    assert measure.measure([imported, folder], "single")["examples"] == 359


def test_an_ensemble_of_a_run_with_itself_is_refused(folder):
    with pytest.raises(UserError, match="the run in .* is given twice"):
        measure.measure([folder, folder.parent / "." / "one"], "single")


def test_settings_that_do_not_change_the_network_may_be_overridden(folder):
    config = workdir.load_config(folder)
    config.evaluate.batch_size = 10
    small = measure.measure([folder], "single", config=config)
    assert small["top1_error"] == measure.measure([folder], "single")["top1_error"]
    config.data.pixel_range = (0.0, 2.0)
    with pytest.raises(UserError, match="holds another experiment: config.data.pixel_range"):
        measure.measure([folder], "single", config=config)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--mode=evaluate"], "or --workdir=DIR, to evaluate the run in it"),
        (["--mode=evaluate", "--workdir=/tmp/no-such-run", "--scales=a,3"], "--scales is 'a,3'; expected pixels"),
        (["--config=configs/lenet5_digits.py", "--protocol=dense"], "go with --mode=evaluate"),
        (["--config=configs/lenet5_digits.py", "--checkpoint=best"], "go with --mode=evaluate"),
        (["--mode=evaluate", "--workdir=/tmp/no-such-run", "--process_id=0"], "one process evaluates"),
        (["--mode=evaluate", "--workdir=/tmp/no-such-run"], "no run in /tmp/no-such-run"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, expected):
    assert expected in refused(*arguments)


def test_the_help_names_every_protocol():
    assert main.PROTOCOL.name == "protocol"
    assert all(name in flags.FLAGS["protocol"].help for name in catalogue.PROTOCOLS)
