"""Options that the command line or a config file gives to a run that does not use them."""

import importlib
import itertools

import pytest
from PIL import Image

from classic import config as classic_config
from common import config as config_lib
from common import config_checks, models
from common.errors import UserError
from tests.runs import ROOT, refused

SWITCHES = {  # option -> an option that switches it on, its value then, and what is said without it
    "optimizer.decay_mask": ("optimizer.weight_decay", 1e-4, "config.optimizer.weight_decay is 0.0"),
    "optimizer.decay": ("optimizer.weight_decay", 1e-4, "config.optimizer.weight_decay is 0.0"),
    "schedule.warmup_from": ("schedule.warmup", "1 epoch", "config.schedule.warmup is '0 steps'"),
    "data.area": ("data.train_crop", "area", "config.data.train_crop is 'centre'"),
    "data.ratio": ("data.train_crop", "area", "config.data.train_crop is 'centre'"),
    "data.pixel_range": ("data.normalize", "range", "config.data.normalize is 'channels'"),
    "data.interpolation": ("data.resize", 32, "config.data.resize is 0 and config.data.train_crop is 'centre'"),
    "data.directory": ("data.source", "tfds:mnist", "config.data.source is 'digits'"),
    "augment.probability": ("augment.shear", 0.1, "config.augment.shear is 0.0"),
    "augment.randaugment_magnitude": ("augment.randaugment_layers", 2, "config.augment.randaugment_layers is 0"),
    "profile.start": ("profile.steps", 5, "config.profile.steps is 0"),
}


def config_with(changes):
    config = config_lib.base(models.section("resnet", "resnet20"))
    config.update_from_flattened_dict({"data.normalize": "channels", **changes})
    config_checks.validate(config)
    return config


@pytest.mark.parametrize("option", SWITCHES)
def test_an_option_without_effect_is_refused(option):
    switch, on, said = SWITCHES[option]
    with pytest.raises(UserError) as refusal:
        config_checks.check_given(config_with({}), ["seed", option])
    assert str(refusal.value).startswith(f"config.{option} has no effect, because ")
    assert said in str(refusal.value)
    crop = {"data.resize": 32} if on == "area" else {}
    config_checks.check_given(config_with({switch: on, **crop}), [option])  # the config's file switches it on
    config_checks.check_given(config_with({}), ["seed"])  # a file may set what a command has switched off
    config_checks.check_given(config_with({}), [option, switch])  # as a trial of a search that includes 0


def test_an_option_without_effect_in_a_config_file_is_refused():
    masked = config_with({"optimizer.decay_mask": "kernels"})
    with pytest.raises(UserError, match="config.optimizer.decay_mask has no effect, because config.optimizer.weight_d"):
        config_checks.check_given(masked, ["seed"])
    config_checks.check_given(masked, ["optimizer.weight_decay"])  # the command has switched it off


CONFIGS = [path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "finetune")]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_no_config_of_ours_sets_such_an_option(name):
    arguments = {"folder": ["resnet:resnet18:FOLDER"], "classic_folder": ["fisher:FOLDER"]}.get(name, [])
    config = importlib.import_module(f"configs.{name}").get_config(*arguments)
    (config_checks if "model" in config else classic_config).check_given(config, [])


def test_a_dataset_with_a_test_split_holds_nothing_out():
    with pytest.raises(UserError, match="holdout has no effect, because config.data.source is 'tfds:mnist'"):
        config_checks.check_given(config_with({"data.source": "tfds:mnist", "data.holdout": 0.3}), [])
    config_checks.check_given(config_with({"data.holdout": 0.3}), ["data.holdout"])


@pytest.mark.parametrize(
    ("module", "config"),
    [
        ("common.main", "configs/folder.py:lenet:lenet5_modern:{}"),
        ("common.tune", "configs/folder.py:lenet:lenet5_modern:{}"),
        ("classic.main", "configs/classic_folder.py:raw_linear:{}"),
    ],
)
def test_a_folder_with_a_test_set_holds_nothing_out(module, config, tmp_path):
    for split, name in itertools.product(("train", "test"), "ab"):
        folder = tmp_path / "images" / split / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("L", (32, 32), 60 * number).save(folder / f"{number}.png")
    given = [f"--config={config.format(tmp_path / 'images')}", "--config.data.holdout=0.3"]
    if module == "common.tune":
        given += ["--search=schedule.learning_rate=0.1|0.01", f"--study={tmp_path / 'run'}"]
    line = refused(*given, *([] if module == "common.tune" else [f"--workdir={tmp_path / 'run'}"]), module=module)
    assert "config.data.holdout has no effect, because config.data.source 'folder:" in line
    assert "has a test set of its own; leave it out" in line
    assert not (tmp_path / "run").exists()


def test_parameters_are_not_split_over_one_device():
    one = config_with({"mesh.fsdp": -1, "mesh.devices": 1})
    with pytest.raises(UserError, match=r"config.mesh.fsdp has no effect, because config.mesh.devices is 1$"):
        config_checks.check_given(one, ["mesh.fsdp"])
    config_checks.check_given(config_with({"mesh.fsdp": -1}), ["mesh.fsdp"])  # on as many as there are


def test_adamw_insists_on_its_kind_of_decay():
    config_checks.check_given(
        config_with({"optimizer.name": "adamw", "optimizer.decay": "decoupled"}), ["optimizer.decay"]
    )


def test_decay_is_decoupled_from_a_gradient_that_is_divided_only():
    decay = {"optimizer.weight_decay": 0.1, "optimizer.decay": "decoupled"}
    with pytest.raises(UserError, match=r"optimizer.decay 'decoupled' has no effect with .*'momentum'"):
        config_checks.check_given(config_with(decay), [*decay, "optimizer.name"])
    config_checks.check_given(config_with({**decay, "optimizer.name": "adam"}), ["optimizer.decay"])


RESNET = "--config=configs/resnet_digits.py"


@pytest.mark.parametrize(
    ("module", "given"),
    [
        ("common.inspect", ["--config.model.variant=resnet56"]),
        ("common.main", ["--config.model.family=vgg"]),
        ("common.tune", ["--search=model.variant=resnet20|resnet56"]),
    ],
)
def test_the_name_of_a_network_is_not_changed_without_its_layers(module, given):
    said = refused(RESNET, *given, module=module)
    option = given[0].partition("model.")[2].partition("=")[0]
    assert f"config.model.{option} only names the network that the config file has made" in said


def test_commands_refuse_options_without_effect(tmp_path):
    classic = ("--config=configs/classic_digits.py:rbf_svm", "--config.decode.holdout=0.2", "--workdir=/nowhere/run")
    assert "config.decode.holdout has no effect" in refused(*classic, module="classic.main")
    said = "config.data.area has no effect, because config.data.train_crop is 'centre'"
    assert said in refused(RESNET, "--config.data.area=(0.5,1.0)", f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
    search = ("--search=data.area=(0.5,1.0)|(0.08,1.0)", "--config.data.validation=10%", f"--study={tmp_path / 's'}")
    assert said in refused(RESNET, *search, module="common.tune")
