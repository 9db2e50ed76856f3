"""Starting from trained weights: runs, published files, new heads, and what does not fit."""

import shutil
import types

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util
from PIL import Image

from common import config as config_lib
from common import config_checks, models, train, weights
from common.data import imagenet_names
from common.devices import mesh
from common.errors import UserError
from common.pretrained import from_file, heads, initial, named, weight_files
from common.run import trained, workdir
from common.training.state import create_state
from configs import vgg_digits, vit_digits
from tests import networks
from tests.networks import facts as info
from tests.runs import run
from tests.slow import rest_slow
from vgg import weights as vgg_weights
from vit import weights as vit_weights

TINY = {"hidden_size": 8, "mlp_dim": 8, "num_heads": 1, "depth": 1, "pooling": "token", "position": "learned"}
SMALL = {"stage_sizes": (1, 1)}  # a ResNet with batch statistics and a shortcut of each kind
GREY = (28, 28, 1)
FLAGS = ("--config=configs/vit_digits.py", *(f"--config.model.{name}={value}" for name, value in TINY.items()))


def config(family, variant, fields=None, **init):
    made = config_lib.base(models.section(family, variant, **(fields or {})))
    made.init.update(init)
    return made


def fresh(made, facts, seed=0):
    classifier = models.make_classifier(made.model, facts)
    return classifier, networks.state(classifier, optax.sgd(0.1), seed, made.optimizer.ema > 0)


def flat(tree):
    return {name: np.asarray(array) for name, array in traverse_util.flatten_dict(tree, sep="/").items()}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of a tiny Vision Transformer on digits of 8x8 pixels, with drawn weights."""
    folder = tmp_path_factory.mktemp("pretrained")
    made = vit_digits.get_config()
    made.model.update(TINY)
    made.data.resize = 8
    _, state = fresh(made, info(10, (8, 8, 1)))
    weight_files.write(folder / "vit.npz", flat(state.variables()))
    weights.import_file(folder / "vit.npz", made, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory):
    """Pictures of three classes, by folder."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("bright", "dark", "half")):
        (root / name).mkdir()
        for i in range(10):
            picture = rng.integers(0, 60, (16, 16)) + (180, 0, 90)[number]
            Image.fromarray(np.uint8(picture)).save(root / name / f"{i}.png")
    return root


@pytest.mark.slow
def test_a_user_fine_tunes_at_a_higher_resolution_on_other_classes(pretrained, shapes_folder, tmp_path, capsys):
    start = shutil.copytree(pretrained, tmp_path / "start")
    work, data = tmp_path / "work", f"--config.data.source=folder:{shapes_folder}"
    length = ("--config.train.batch_size=8", "--config.schedule.warmup=0 steps", "--config.train.length=1 epoch")
    length = (*length, "--config.evaluate.every=1 epoch", "--config.checkpoint.every=1 epoch")
    plain = [f"--config.augment.{name}=0" for name in ("translate", "scale", "shear")]
    given = (*FLAGS, data, *length, *plain, f"--config.init.checkpoint={start}")
    code, output, errors = run(*given, "--config.init.new_head=True", f"--workdir={work}")
    assert code == 0, errors
    assert "NEW HEAD: 'head' for 3 classes starts untrained; the head for 10 classes is DROPPED" in output
    assert "position embeddings interpolated from 2x2 to 4x4 patches" in output
    tuned, before = (flat(trained.load(folder).variables["params"]) for folder in (work, start))
    assert tuned["Transformer/posembed_input/pos_embedding"].shape == (1, 17, 8)
    moved = np.abs(tuned["embedding/kernel"] - before["embedding/kernel"]).max()
    assert 0 < moved < 0.05

    made, facts = workdir.load_config(work), workdir.load_info(work)
    made.init.new_head = False
    classifier = models.make_classifier(made.model, facts)
    with pytest.raises(UserError, match="tells 10 classes apart and the dataset has 3: set config.init") as error:
        initial.initial_arrays(initial.given_weights(made, classifier), classifier, made, facts.class_names)
    assert "init.match_classes=True to keep the" in str(error.value)
    assert "or config.init.new_head=True to start with a new head" in str(error.value)

    shutil.rmtree(start)  # a run that goes on needs what it started from no more
    (work / "summary.json").unlink()  # as one that was stopped after its last update
    made.init.new_head = True
    capsys.readouterr()
    summary = train.fit(made, work)
    assert "NEW HEAD" not in capsys.readouterr().out
    assert summary["resumed_from"] > 0


def test_everything_of_a_run_but_the_optimizer_is_taken_over(pretrained):
    given = trained.load(pretrained)
    made = vit_digits.get_config()
    made.model.update(TINY)
    made.optimizer.ema = 0.9
    made.init.checkpoint = str(pretrained)
    classifier, state = fresh(made, info(image=(8, 8, 1)), seed=7)
    started = initial.start(state, classifier, made)
    assert int(started.step) == 0
    for tree in (started.params, started.ema["params"]):
        ours, theirs = flat(tree), flat(given.variables["params"])
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array)
    jax.tree.map(np.testing.assert_array_equal, started.key, state.key)


def test_without_a_checkpoint_nothing_changes():
    made = config("lenet", "mlp")
    classifier, state = fresh(made, info(10, GREY))
    assert initial.start(state, classifier, made) is state


@pytest.mark.slow
def test_an_import_starts_the_state_that_training_from_the_file_does(tmp_path):
    facts, path = info(10, GREY), tmp_path / "mlp.npz"
    weight_files.write(path, flat(fresh(config("lenet", "mlp"), facts)[1].variables()))
    made = config("lenet", "mlp", checkpoint=str(path))
    made.optimizer.ema = 0.9
    classifier, optimizer = models.make_classifier(made.model, facts), optax.sgd(0.1, momentum=0.9)
    expected = initial.start(create_state(classifier, optimizer, made.seed, True), classifier, made)
    arrays = weight_files.read(path)
    found = from_file.state_from_file(classifier, optimizer, made, mesh.available(made.mesh), arrays)
    assert not arrays  # whose memory is free
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_vision_transformers_file_with_another_grid_and_a_new_head(tmp_path, capsys):
    vit = {**TINY, "representation_size": 8}
    old = networks.drawn(abstract_state(config("vit", "nano4", vit), info(7, (8, 24, 3)))[1]["params"])
    vit_weights.write(tmp_path / "vit.npz", old)
    made = config("vit", "nano4", TINY, checkpoint=str(tmp_path / "vit.npz"), new_head=True)
    classifier, state = fresh(made, info(5, (16, 16, 3)), seed=1)
    with pytest.raises(UserError, match="12 patches are not a square grid: set config.init.old_grid"):
        initial.start(state, classifier, made)
    made.init.old_grid = (2, 6)
    started = initial.start(state, classifier, made)
    assert "pre-logits layer of 8 units dropped" in capsys.readouterr().out
    np.testing.assert_array_equal(started.params["head"]["kernel"], state.params["head"]["kernel"])
    np.testing.assert_array_equal(started.params["embedding"]["kernel"], old["embedding"]["kernel"])
    table, before = (p["Transformer"]["posembed_input"]["pos_embedding"][0] for p in (started.params, old))
    np.testing.assert_array_equal(table[0], before[0])
    corners, kept = np.asarray(before)[[1, 6, 7, 12]], np.asarray(table)[[1, 4, 13, 16]]
    np.testing.assert_allclose(kept, corners, rtol=1e-6)


def trained_run(monkeypatch, made, facts):
    """A folder that `trained.load` takes for a finished run with random weights, batch statistics included."""
    classifier, state = fresh(made, facts, seed=3)
    variables = jax.tree.map(lambda array: np.asarray(array) + np.float32(0.5), state.variables())
    found = types.SimpleNamespace(config=made, classifier=classifier, variables=variables, step=40, info=facts)
    monkeypatch.setattr(trained, "load", lambda folder: found)
    return variables


def abstract_state(made, facts):
    """As `fresh`, without drawing a large network's parameters."""
    classifier = models.make_classifier(made.model, facts)
    return classifier, named.shapes(classifier.module, classifier)


@pytest.mark.parametrize(
    ("shallow", "deep", "new_head", "norms"),
    rest_slow(
        [
            ("vgg11", "vgg16", False, ()),
            ("vgg11", "vgg16", True, ()),
            ("vgg11", "vgg13_bn", False, ()),
            ("vgg11_bn", "vgg16", False, ()),
            ("vgg11_bn", "vgg19_bn", False, ("bn1_1", "bn2_1", "bn3_1", "bn3_2")),
        ],
        quick=2,
    ),
)
def test_a_deep_vgg_starts_from_a_trained_net_a(shallow, deep, new_head, norms):
    a, ours = (abstract_state(config("vgg", variant), info(10, (32, 32, 3))) for variant in (shallow, deep))
    given = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(1), leaf.shape), a[1])
    from_run = named.Given(given, "somewhere", a[0])
    made = config("vgg", deep, checkpoint="a", new_head=new_head)
    arrays, (said, *_) = initial.initial_arrays(from_run, ours[0], made)
    copied = {name for name, array in arrays.items() if isinstance(array, np.ndarray)}
    expected = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", *norms, *(() if new_head else ("fc8",))}
    assert {name.split("/")[1] for name in copied if name.startswith("params/")} == expected
    assert {name.split("/")[1] for name in copied if name.startswith("batch_stats/")} == set(norms)
    told, untrained = said.removeprefix("from net A: ").removesuffix(" (section 3.1)").split("; untrained: ")
    assert set(told.split(", ")) == expected
    assert set(untrained.split(", ")) == ours[1]["params"].keys() - expected


@pytest.mark.slow  # the arrays are tested above, and a run that starts from another one in the first test
def test_a_deeper_net_goes_on_learning_from_a_trained_a(tmp_path, capsys):
    for variant, start in (("vgg11", ""), ("vgg13", str(tmp_path / "vgg11"))):
        made = vgg_digits.get_config(variant)
        made.model.update(width=1, fc_width=4)
        made.data.limit, made.train.length, made.schedule.warmup = 32, "1 step", "0 steps"
        made.init.checkpoint = start
        train.fit(made, tmp_path / variant)
    said = capsys.readouterr().out
    assert f"weights from {tmp_path / 'vgg11'} (vgg11) at step 1" in said
    assert "from net A: conv1_1, conv2_1, conv3_1, conv3_2, fc6, fc7, fc8; untrained: conv1_2" in said
    before, after = (trained.load(tmp_path / variant).variables["params"] for variant in ("vgg11", "vgg13"))
    for name in vgg_weights.FROM_A:  # a step of Adam is as long as the learning rate
        np.testing.assert_allclose(after[name]["kernel"], before[name]["kernel"], atol=1.1e-3)
    assert np.any(after["fc8"]["bias"] != before["fc8"]["bias"])


def test_batch_statistics_and_published_names_come_along(monkeypatch, tmp_path):
    from resnet import weights as resnet_weights

    made = config("resnet", "resnet20", SMALL, checkpoint=str(tmp_path), new_head=True)
    given = trained_run(monkeypatch, config("resnet", "resnet20", SMALL), info(7, (32, 32, 3)))
    classifier, state = fresh(made, info(5, (32, 32, 3)))
    started = initial.start(state, classifier, made)
    ours, theirs = flat(started.model_state), flat({"batch_stats": given["batch_stats"]})
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    np.testing.assert_array_equal(started.params["fc"]["kernel"], state.params["fc"]["kernel"])

    np.savez(tmp_path / "published.npz", **resnet_weights.to_published(given, classifier.module))
    made.init.checkpoint = str(tmp_path / "published.npz")
    again = initial.start(state, classifier, made)
    for name, array in flat(started.params).items():
        np.testing.assert_array_equal(flat(again.params)[name], array)


def test_the_head_is_what_depends_on_the_number_of_classes():
    classifier = networks.classifier("resnet", "resnet20", **SMALL)
    assert sorted(heads.arrays(classifier)) == ["params/fc/bias", "params/fc/kernel"]
    google = networks.classifier("googlenet", "googlenet_small", width=0.05, batch_norm=False)
    assert {name.split("/")[-2] for name in heads.arrays(google)} == {"linear"}
    assert len(heads.arrays(google)) == 6  # the main head's and the two auxiliary ones' kernels and biases


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"checkpoint": "nowhere"}, "'nowhere', which does not exist; expected the workdir of a trained run"),
        ({"checkpoint": "."}, "no run in .*is missing"),
        ({"checkpoint": "README.md"}, "'README.md' is not a checkpoint of arrays"),
    ],
)
def test_a_path_that_is_not_a_checkpoint_is_refused(init, message):
    made = config("lenet", "mlp", **init)
    classifier, state = fresh(made, info(10, GREY))
    with pytest.raises(UserError, match=message):
        initial.start(state, classifier, made)


def test_another_network_is_refused_by_its_arrays(monkeypatch, tmp_path):
    trained_run(monkeypatch, config("resnet", "resnet20", {"stage_sizes": (2, 1)}), info(10, (32, 32, 3)))
    made = config("resnet", "resnet20", SMALL, checkpoint=str(tmp_path))
    classifier, state = fresh(made, info(10, (32, 32, 3)))
    with pytest.raises(UserError, match="is another network: it .*also has 'batch_stats/.*; choose its") as error:
        initial.start(state, classifier, made)
    assert "\n" not in str(error.value)
    assert "old_grid" not in made.init  # which a family with position embeddings declares


@pytest.mark.parametrize("init", [{"new_head": True}, {"match_classes": True}, {"old_grid": (2, 2)}])
def test_a_new_head_on_nothing_is_a_contradiction(init):
    with pytest.raises(UserError, match="config.init.checkpoint is empty"):
        config_checks.validate(config("vit", "nano4", **init))


def test_other_classes_need_a_new_head_even_if_they_are_as_many(monkeypatch, tmp_path):
    facts = info(2, GREY, ("cat", "dog"))
    trained_run(monkeypatch, config("lenet", "mlp"), facts)
    made = config("lenet", "mlp", checkpoint=str(tmp_path))
    classifier, state = fresh(made, facts)
    initial.start(state, classifier, made, ("cat", "dog"))
    with pytest.raises(UserError, match="trained on other classes: 'dog' is 'wolf' in the dataset"):
        initial.start(state, classifier, made, ("cat", "wolf"))
    made.init.new_head = True
    initial.start(state, classifier, made, ("cat", "wolf"))


def test_imagenets_classes_are_the_same_by_words_and_by_ids(monkeypatch, tmp_path):
    words = imagenet_names.words()
    ids = (tuple(f"n{number:08}" for number in range(1440764, 1441763))) + ("n15075141",)
    trained_run(monkeypatch, config("lenet", "mlp"), info(1000, GREY, words))
    made = config("lenet", "mlp", checkpoint=str(tmp_path))
    classifier, state = fresh(made, info(1000, GREY, ids))
    initial.start(state, classifier, made, ids)
    with pytest.raises(UserError, match="trained on other classes: 'tench' is 'n15075141' in the dataset"):
        initial.start(state, classifier, made, ids[::-1])


GIVEN, OURS = ("cat", "dog", "owl", "fox"), ("wolf", "owl", "cat")
HEADS = [
    ("resnet", "resnet20", SMALL, (32, 32, 3)),
    ("googlenet", "googlenet_small", {"width": 0.05, "batch_norm": False}, (32, 32, 3)),  # three heads
    ("lenet", "lenet5_modern", {}, (32, 32, 1)),
    ("alexnet", "small", {"widths": (4, 4, 4, 4, 4), "fc_width": 8}, (32, 32, 3)),
    ("alexnet", "cifar10_18", {}, (32, 32, 3)),
    ("vgg", "vgg11", {"width": 1, "fc_width": 8}, (32, 32, 3)),
    ("vit", "nano4", {**TINY, "representation_size": 8}, (8, 8, 3)),
]


@pytest.mark.parametrize(("family", "variant", "fields", "image"), rest_slow(HEADS))
def test_classes_of_the_same_name_keep_their_weights(monkeypatch, tmp_path, capsys, family, variant, fields, image):
    given = trained_run(monkeypatch, config(family, variant, fields), info(4, image, GIVEN))
    made = config(family, variant, fields, checkpoint=str(tmp_path), match_classes=True)
    made.optimizer.ema = 0.9
    classifier, state = fresh(made, info(3, image))
    started = initial.start(state, classifier, made, OURS)
    said = "HEAD BY NAME: 2 of 3 classes have come with their weights; untrained: 'wolf'; 2 of the given classes are"
    assert said in capsys.readouterr().out
    theirs, before, after = (flat(tree["params"]) for tree in (given, state.variables(), started.variables()))
    head = {name.removeprefix("params/") for name in heads.arrays(classifier)}
    assert len(head) == (6 if family == "googlenet" else 2)
    for name in after:
        if name in head:
            np.testing.assert_array_equal(after[name][..., 1:], theirs[name][..., [2, 0]])
            np.testing.assert_array_equal(after[name][..., 0], before[name][..., 0])
        else:
            np.testing.assert_array_equal(after[name], theirs[name])


def test_a_head_without_a_shared_class_or_without_names_is_refused(monkeypatch, tmp_path):
    given = trained_run(monkeypatch, config("lenet", "mlp"), info(4, GREY, GIVEN))
    made = config("lenet", "mlp", checkpoint=str(tmp_path), match_classes=True)
    classifier, state = fresh(made, info(2, GREY))
    with pytest.raises(UserError, match="knows none of the dataset's classes: its own are 'cat', .* 'yak', 'zebu';"):
        initial.start(state, classifier, made, ("yak", "zebu"))
    np.savez(tmp_path / "file.npz", **flat(given))
    made.init.checkpoint = str(tmp_path / "file.npz")
    with pytest.raises(UserError, match="file.npz is a file, which names no classes"):
        initial.start(state, classifier, made, ("cat", "zebu"))
    made.init.new_head = True
    with pytest.raises(UserError, match="match_classes keeps it; choose one"):
        config_checks.validate(made)
