"""The function of a trained run that is exported, its check on real images, and the facts that go with it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8
from ml_collections import ConfigDict

from common import models
from common.data import normalize
from common.data.preparation import Preparation, prepare_image
from common.data.sources import ArraySource, Source
from common.errors import UserError
from common.run import trained, workdir
from common.run.trained import Run

INPUT = "images"  # the names of a program's input and output
LIMIT = 1e-4  # the largest difference from the run's own outputs
LARGEST = 2**31 - 2**24  # bytes of parameters: the files of all formats end at 2 GiB

LoadedProgram = Callable[[np.ndarray], Float[np.ndarray, "batch classes"]]  # a program that was read back from its file


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as a function of one batch of images.

    apply: variables, images -> the outputs of the program. run: the run that it comes from, computing in the program's
    type. preprocess: if True, the program takes uint8 images and gives probabilities; if False, it takes the network's
    own input as float32 and gives logits. batch: images in a batch, None for any number.
    """

    apply: Callable[[PyTree, Array], Float[Array, "batch classes"]]
    run: Run
    preprocess: bool
    batch: int | None

    @property
    def symbolic_shape(self) -> str:
        """The shape of a batch in the notation of `jax.export`: 'batch, 28, 28, 1' for any number of images."""
        return ", ".join(map(str, ("batch" if self.batch is None else self.batch, *self.image_shape)))

    def function(self, images: Array) -> Float[Array, "batch classes"]:
        """The outputs for a batch of images, with the run's variables as constants."""
        return self.apply(self.run.variables, images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image that the program takes."""
        height, width, channels = self.run.info.image_shape
        pad = self.run.config.data.pad if self.preprocess else 0
        return height - 2 * pad, width - 2 * pad, channels

    @property
    def input_type(self) -> type[np.number]:
        """The type of the images that the program takes."""
        return np.uint8 if self.preprocess else np.float32

    @property
    def output(self) -> str:
        """The name of the program's output."""
        return "probabilities" if self.preprocess else "logits"


def make(run: Run, preprocess: bool = True, batch: int | None = None, dtype: str = "float32") -> Program:
    """The program of a run.

    dtype: the type that the network computes in, whatever it was trained in. Raises UserError for a type that the
    network does not know, for parameters that are too large for a file, and for preprocessing of a run whose images no
    uint8 image can stand for.
    """
    if preprocess:
        try:
            normalize.check_bytes(run.config.data, run.info)
        except UserError as error:
            raise UserError(f"{error}; --nopreprocess takes normalised images") from error
    # On one device, wherever they were trained.
    variables = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), run.variables)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if size > LARGEST:
        raise UserError(f"the run's parameters take {size / 2**30:.1f} GiB; a program holds at most 2 GiB")
    config = ConfigDict(run.config.to_dict())
    config.model.dtype = dtype
    classifier = models.make_classifier(config.model, run.info)
    run = dataclasses.replace(run, config=config, classifier=classifier, variables=variables)

    def apply(variables: PyTree, images: Array) -> Float[Array, "batch classes"]:
        inputs = trained.network_input(run, stored(images, config.data)) if preprocess else images
        logits = classifier.logits(classifier.module.apply(variables, inputs, train=False)).astype(jnp.float32)
        return jax.nn.softmax(logits) if preprocess else logits

    return Program(apply, run, preprocess, batch)


def stored(images: UInt8[Array, "batch height width channels"], data: ConfigDict) -> UInt8[Array, "batch _ _ channels"]:
    """Decoded, resized and cropped images as a run's dataset holds them: inverted and padded as its `data` says."""
    preparation = Preparation.from_config(data)
    if preparation.invert:  # as floats, since few runtimes subtract bytes
        images = (255.0 - images.astype(jnp.float32)).astype(jnp.uint8)
    edge = (preparation.pad, preparation.pad)
    return jnp.pad(images, ((0, 0), edge, edge, (0, 0))) if preparation.pad else images


def bytes_of(images: np.ndarray, data: ConfigDict) -> UInt8[np.ndarray, "batch height width channels"]:
    """The inverse of `stored`: the images that it would turn into these; float images are rounded to bytes first."""
    preparation = Preparation.from_config(data)
    if np.issubdtype(images.dtype, np.floating):
        low, high = data.pixel_range if data.normalize == "range" else (0.0, 255.0)
        images = np.clip((images - low) / (high - low) * 255.0, 0, 255).round().astype(np.uint8)
    if preparation.pad:
        inside = slice(preparation.pad, -preparation.pad)
        images = images[:, inside, inside]
    return 255 - images if preparation.invert else images


def inputs(program: Program, images: np.ndarray) -> np.ndarray:
    """Images of the run's dataset as the program takes them."""
    data = program.run.config.data
    if program.preprocess:
        return bytes_of(images, data)
    return np.asarray(trained.network_input(program.run, jnp.asarray(images)))


def expected(program: Program, images: np.ndarray) -> Float[np.ndarray, "batch classes"]:
    """The outputs that the program should have for `inputs`, computed by the run itself as in `common.predict`.

    images: as `inputs` returns them.
    """
    if not program.preprocess:
        return np.asarray(jax.jit(program.apply)(program.run.variables, images))
    prepared = np.asarray(stored(jnp.asarray(images), program.run.config.data))
    no_labels = np.zeros(len(images), np.int32)
    return np.exp(trained.predictions(program.run, ArraySource(prepared, no_labels)).log_probabilities)


def outputs(program: Program, function: LoadedProgram, images: np.ndarray) -> Float[np.ndarray, "batch classes"]:
    """The outputs of a program that was read back from its file; a last batch that is too small is padded."""
    size = program.batch or 64
    parts = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size if program.batch else min(start + size, len(images)))
        parts.append(function(images[np.minimum(rows, len(images) - 1)])[: len(images) - start])
    return np.concatenate(parts)


def check(program: Program, function: LoadedProgram, images: np.ndarray) -> float:
    """The largest difference between the outputs of a file's program and the run's own. Raises UserError above `LIMIT`.

    It is relative to the largest output if that is above 1, and absolute otherwise.
    """
    ours, theirs = expected(program, images), outputs(program, function, images)
    difference = float(np.max(np.abs(ours - theirs)) / max(1.0, np.max(np.abs(ours))))
    if not difference <= LIMIT:  # also where it is not a number
        raise UserError(
            f"the exported program differs from the run by {difference:.1e} on {len(images)} test images, more than "
            f"{LIMIT:.0e}; nothing was written"
        )
    return difference


def error(program: Program, function: LoadedProgram, images: np.ndarray, labels: np.ndarray) -> float:
    """The error of a program that was read back from its file: the share of images that it puts into a wrong class."""
    return float((outputs(program, function, images).argmax(-1) != labels).mean())


def examples(test: Source, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of `count` test examples, evenly spread over the set, since a folder's come class by class."""
    chosen = np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).astype(int))
    found = [test[int(index)] for index in chosen]
    return np.stack([example["image"] for example in found]), np.array([example["label"] for example in found])


def photographs(run: Run, count: int) -> UInt8[np.ndarray, "batch height width channels"]:
    """Parts of scikit-learn's two photographs, as a dataset of the run would hold them."""
    from sklearn.datasets import load_sample_images

    height, width, channels = run.info.image_shape
    preparation = dataclasses.replace(Preparation.from_config(run.config.data), channels=channels)
    if not preparation.side:
        preparation = dataclasses.replace(preparation, resize=min(height, width) - 2 * preparation.pad, stretch=True)
    photos = load_sample_images().images
    chosen = [photos[number % 2][20 * number :, 30 * number :] for number in range(count)]
    return np.stack([prepare_image(np.ascontiguousarray(photo), preparation) for photo in chosen])


def facts(program: Program, name: str) -> dict[str, Any]:
    """The metadata of a program. name: of the run."""
    model, info = program.run.config.model, program.run.info
    return {
        "run": name,
        "network": f"{model.family} {model.variant}",
        "step": program.run.step,
        "dataset": info.name,
        "classes": list(info.class_names),
        "input": f"{INPUT}: " + "; ".join(input_lines(program)),
        "output": f"{program.output}: float32 (batch, {info.num_classes})",
        "preprocessing": "; ".join(steps(program)) or "none: images are normalised before the program",
        "computed_in": model.dtype,
        "lineage": workdir.version("lineage"),
        "jax": jax.__version__,
    }


def input_lines(program: Program) -> Iterator[str]:
    """The type and shape of the program's input, and what it expects of an image."""
    height, width, channels = program.image_shape
    yield f"{np.dtype(program.input_type).name} ({program.batch or 'batch'}, {height}, {width}, {channels})"
    data = program.run.config.data
    if not program.preprocess:
        yield "normalised as the network is fed"
        return
    yield "0..255, " + ("grey" if channels == 1 else "RGB")
    if data.resize:
        side = "sides were" if data.stretch else "shorter side was"
        how = f"{data.interpolation}, with antialiasing"
        yield f"decoded images whose {side} resized to {data.resize} pixels ({how})"
    if data.resize or data.crop:
        yield f"the centre square of {data.crop or data.resize} pixels"


def steps(program: Program) -> Iterator[str]:
    """The steps from the program's input to the network's, in words; none if the program does not take them."""
    if not program.preprocess:
        return
    data = program.run.config.data
    if data.invert:
        yield "pixels p become 255 - p"
    if data.pad:
        yield f"{data.pad} pixels of 0 are added at each side"
    if data.normalize == "range":
        low, high = data.pixel_range
        yield f"0..255 becomes {low:g}..{high:g}"
    else:
        mean = "the mean image" if data.normalize == "pixels" else f"the mean {_numbers(data.mean, 'mean', program)}"
        yield f"{mean} is subtracted"
        yield f"the result is divided by the standard deviation {_numbers(data.std, 'std', program)}"


def _numbers(given: tuple[float, ...], name: str, program: Program) -> str:
    statistics = program.run.statistics
    values = given or (getattr(statistics, name).tolist() if statistics else ())
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
