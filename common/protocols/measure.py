"""The error of trained networks under a test protocol: `python -m common.main --mode=evaluate --workdir=DIR`."""

import collections
import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from common.data import datasets, decode
from common.data.dataset_info import Info
from common.data.sources import ImageSource, Records, Source, chunks, read_ahead, read_all
from common.devices import compilation, host
from common.devices import mesh as mesh_lib
from common.errors import UserError, count_of
from common.files import writing
from common.processes import distributed
from common.protocols import batches, catalogue
from common.protocols.batches import Indices, ViewsOfAnyShape
from common.protocols.catalogue import Pass
from common.protocols.views import Cut, Views
from common.run import trained, workdir
from common.run.trained import Run
from common.training.evaluate import run_over
from common.training.totals import means, totals

_AT_ONCE = 16  # images that a thread reads to compare them


@dataclasses.dataclass(frozen=True)
class Scores:
    """The mean probabilities for every test image, in the order of the test set.

    log_probabilities: logarithms of the means over views, passes and networks. The means themselves can be too small
    for a float, since LeNet-5's logits differ by hundreds. views: the number of views of each image that one network
    saw.
    """

    labels: Int[np.ndarray, " examples"]
    log_probabilities: Float[np.ndarray, "examples classes"]
    views: int


def measure(
    folders: Sequence[pathlib.Path],
    protocol: str,
    scales: Sequence[int] = (),
    config: ConfigDict | None = None,
    checkpoint: str = "",
) -> dict[str, Any]:
    """Tests the runs in these folders, as one ensemble if there are several, and writes the result to the first.

    Returns the content of `result_file`: protocol, scales (shorter sides in pixels, empty for the run's own), views
    (of each image by each network), the `errors` of the mean probabilities, members (folder, network and step of each
    run), test_data (the options by which the first run chose the images) and environment. config, checkpoint: see
    `trained.load`. Raises UserError for a protocol that a network cannot do, for a folder that is given twice, and for
    runs whose test sets differ.
    """
    workdir.check_distinct(folders)
    _check_same_facts(folders)
    if config is None:  # one config is one test set
        _check_same_images(folders)
    scores, members, used = [], [], set()
    tested: dict[str, str] = {}
    for folder in folders:  # one network at a time on the device
        run = trained.load(folder, checkpoint, config)
        todo = catalogue.passes(run, protocol, scales)
        tested = tested or workdir.test_data(run.config.data)
        scores.append(score(run, todo))
        members.append({"workdir": str(folder), "network": run.config.model.variant, "step": run.step})
        used |= {one.scale for one in todo if one.scale}
    result = {
        "protocol": protocol,
        "scales": sorted(used),
        "views": max(one.views for one in scores),
        **errors(ensemble(scores)),
        "members": members,
        "test_data": tested,
        "environment": workdir.environment(),
    }
    if not distributed.is_primary():
        return result
    with writing(result_file(folders, protocol)):
        workdir.write_json(result_file(folders, protocol), result)
    return result


def result_file(folders: Sequence[pathlib.Path], protocol: str) -> pathlib.Path:
    """The file in the first folder that holds the result of these runs."""
    return folders[0] / f"evaluate_{protocol}{'_ensemble' if len(folders) > 1 else ''}.json"


def as_line(result: dict[str, Any]) -> str:
    """A result as a line of text."""
    members, views = result["members"], result["views"]
    steps = f"step {members[0]['step']:,}" if len(members) == 1 else f"ensemble of {len(members)}"
    scales = f" at {', '.join(map(str, result['scales']))} pixels" if result["scales"] else ""
    top5 = f", top-5 error {result['top5_error']:.2%}" if "top5_error" in result else ""
    return (
        f"{result['protocol']}{scales}, {count_of(views, 'view')} of an image, {steps}: "
        f"top-1 error {result['top1_error']:.2%}{top5} of {count_of(result['examples'], 'image')}"
    )


def score(run: Run, passes: Sequence[Pass], examples: int = 0) -> Scores:
    """The mean probabilities of one network, for the first `examples` test images or, at 0, for all.

    Raises RuntimeError if any view of any image was left out or seen twice.
    """
    seen = [_one_pass(run, one, examples) for one in passes]
    return dataclasses.replace(ensemble(seen), views=sum(one.views for one in seen))


def ensemble(scores: Sequence[Scores]) -> Scores:
    """The mean probabilities of several networks, or of several passes of one; `views` are the first one's."""
    for one in scores:
        if not np.array_equal(one.labels, scores[0].labels):
            raise UserError("the runs were tested on different examples; an ensemble needs one test set")
    sums = np.logaddexp.reduce([one.log_probabilities for one in scores])
    return dataclasses.replace(scores[0], log_probabilities=sums - math.log(len(scores)))


def errors(scores: Scores) -> dict[str, float]:
    """top1_error, top5_error if there are more than five classes (fractions), cross_entropy (nats) and examples."""
    logits = jnp.asarray(scores.log_probabilities)
    labels = jnp.asarray(scores.labels)
    losses = -jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    found = means(totals(losses, logits, labels, jnp.ones(len(labels), bool)))
    top5 = {"top5_error": found["top5_error"]} if logits.shape[1] > 5 else {}
    return {
        "top1_error": found["error"],
        **top5,
        "cross_entropy": found["loss"],
        "examples": found["examples"],
    }


def _one_pass(run: Run, one: Pass, limit: int) -> Scores:
    """The mean probabilities over the views of each image in one pass. limit: test images to read; 0 for all."""
    examples, (height, width) = test_set(run, one), run.classifier.input_shape[:2]
    count = min(limit or len(examples), len(examples))
    labels, views = np.zeros((2, count), np.int64)
    sums = np.full((count, run.classifier.num_classes), -np.inf, np.float32)
    read = functools.partial(_read, examples, one.cut, width, run.config.data.interpolation)
    threads = max(run.config.data.workers, 1)
    ahead = read_ahead(read, range(count), threads, ahead=2 * threads)
    pixels = run.config.evaluate.batch_size * height * width
    compute = functools.partial(log_probabilities, run, one.dense)
    apply = compilation.jit(compute, out_shardings=mesh_lib.replicated(run.mesh))
    todo = batches.group_by_shape(ahead, pixels, run.mesh.size)
    for rows, indices, row_labels in run_over(functools.partial(_apply, apply, run), todo):
        real = indices >= 0
        np.logaddexp.at(sums, indices[real], np.asarray(rows)[real])
        np.add.at(views, indices[real], 1)
        labels[indices[real]] = row_labels[real]
    if views.min() != views.max() or views.min() == 0:
        raise RuntimeError(f"{views.min()} views were seen of some images and {views.max()} of others")
    return Scores(labels, sums - math.log(views[0]), int(views[0]))


def test_set(run: Run, one: Pass) -> Source:
    """The test set as during training, or whole images at the scale of the pass, including padding."""
    data = run.config.data
    if one.scale is None:
        return datasets.load_test(data, known=run.info, everything=run.other_source)
    return datasets.load_test(
        data, resize=one.scale - 2 * data.pad, whole=True, known=run.info, everything=run.other_source
    )


def _read(examples: Source, cut: Cut, side: int, interpolation: str, index: int) -> tuple[Views, int]:
    example = examples[index]
    return cut(example["image"], side, interpolation), int(example["label"])


def _apply(
    apply: Callable, run: Run, views: ViewsOfAnyShape, indices: Indices, labels: Indices
) -> tuple[Float[Array, "batch classes"], Indices, Indices]:
    """The log-probabilities of a batch of views, with the index and the label of the example of each."""
    return apply(run.variables, mesh_lib.place(views, mesh_lib.batched(run.mesh))), indices, labels


def log_probabilities(run: Run, dense: bool, variables: PyTree, images: Array) -> Float[Array, "batch classes"]:
    """Log-softmax of the network's logits for stored images; `dense` is for images of any size.

    With `dense` the logits are averaged over positions first (Simonyan 2014, section 3.2).
    """
    inputs = trained.network_input(run, images)
    if dense:
        dense_logits = catalogue.dense_logits(run)
        assert dense_logits is not None  # `passes` has no dense pass for other families
        logits = dense_logits(run.classifier.module, variables, inputs).mean((1, 2))
    else:
        logits = run.classifier.logits(run.classifier.module.apply(variables, inputs, train=False))
    return jax.nn.log_softmax(logits)


def _check_same_facts(folders: Sequence[pathlib.Path]) -> None:
    """Raises UserError for runs whose stored facts show other test sets, before anything is measured."""
    known = [(folder, info) for folder in folders if (info := workdir.load_info(folder)).test_size]  # not an import's
    for folder, info in known[1:]:
        other, first = known[0]
        if (info.class_names, info.test_size) != (first.class_names, first.test_size):
            raise UserError(
                f"{folder} has {count_of(info.test_size, 'test image')} of {info.num_classes} classes of "
                f"'{info.name}', {other} has {first.test_size:,} of {first.num_classes} of '{first.name}'; an "
                "ensemble needs one test set"
            )


def _check_same_images(folders: Sequence[pathlib.Path]) -> None:
    """Raises UserError for runs that are tested on other images, whatever their names, sizes and preprocessing.

    Runs that name the same place are not compared: they read the same images.
    """
    sections = [workdir.load_config(folder).data for folder in folders]
    places = [workdir.test_data(section) for section in sections]
    if all(place == places[0] for place in places):
        return
    first = None
    for folder, section in zip(folders, sections, strict=True):
        images = _test_images(section, workdir.load_info(folder))
        if first is None:
            first = images
        elif len(images) != len(first):
            raise UserError(
                f"{folder} has {len(images):,} test images, {folders[0]} has {len(first):,}; an ensemble needs one "
                "test set"
            )
        for number, (theirs, ours) in enumerate(zip(images, first, strict=True)):
            if theirs.digest != ours.digest:
                same = collections.Counter(i.digest for i in images) == collections.Counter(i.digest for i in first)
                raise UserError(
                    f"the test images of {folder} are {'' if same else 'not '}those of {folders[0]}"
                    f"{' in another order' if same else ''}: image {number} is '{theirs.name}' in the one and "
                    f"'{ours.name}' in the other; an ensemble needs one test set"
                )


class _Image(NamedTuple):
    """The name of a test image, and a hash of its pixels as they are stored."""

    name: str
    digest: bytes


def _test_images(section: ConfigDict, known: Info) -> list[_Image]:
    """The test images of a `data` section, before they are resized or cropped for a network."""
    source = datasets.load_test(section, resize=0, whole=True, known=known)
    assert isinstance(source, ImageSource)  # `load_test` decodes nothing ahead
    read = functools.partial(_identities, source.records)
    threads = host.cores()
    parts = read_ahead(read, chunks(source, _AT_ONCE), threads, ahead=2 * threads)
    return [image for part in parts for image in part]


def _identities(records: Records, indices: Sequence[int]) -> list[_Image]:
    found = []
    for record in read_all(records, indices):
        stored = record.image
        pixels = stored if isinstance(stored, np.ndarray) else decode.read(stored, name=record.name)
        described = f"{pixels.dtype} {pixels.shape} ".encode()
        digest = hashlib.blake2b(described + np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()
        found.append(_Image(record.name, digest))
    return found
