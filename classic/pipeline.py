"""A classic pipeline: descriptors, an encoder, pooling over regions, and a decoder, fitted stage by stage.

    images -> describe -> Descriptors -> encode, pool -> [n r f] -> finish -> features [n d] -> decode -> scores

Images are read, described and encoded batch by batch, so memory holds one batch, whatever the size of the dataset. It
also holds the sample of descriptors that the encoder is fitted to, and those features that the decoder needs; the
features are mapped from the disk.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict
from scipy.special import log_softmax
from tqdm import tqdm

from classic import pooling, stages
from classic.decoders import DECODERS
from classic.descriptors import DESCRIBERS, Descriptors
from classic.encoders import ENCODERS, learns
from classic.stages import Arrays, Cost, Stages
from common.data import pipeline as reading
from common.data.dataset_info import Info
from common.data.sources import ImageSource, Source, stored_labels
from common.data.splits import Dataset
from common.errors import UserError
from common.run.trained import Predictions

_LEAST_FROM_AN_IMAGE = 20  # descriptors that the sample takes from each image, if it has that many
_ORDER = 2**63  # seeds the order of images; no image has this index, which seeds the draws from an image
_PROGRESS = "{desc} {percentage:3.0f}% |{bar}| {n:,} of {total:,} images, {remaining} left"
_ELAPSED = "{desc}, {elapsed}"
_NO_EFFECT = ("directory", "memory", "workers")  # options of the `data` section that change no pixel

Images = UInt8[np.ndarray, "n height width channels"]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A fitted pipeline: its config, the facts of the dataset it was fitted to, and all it has learnt.

    arrays: those of the encoder ('encode') and of the decoder ('decode').
    """

    config: ConfigDict
    info: Info
    arrays: Mapping[str, Arrays]

    @property
    def parameters(self) -> int:
        """The count of all numbers that were learnt."""
        return sum(array.size for arrays in self.arrays.values() for array in arrays.values())


def scores(pipeline: Pipeline, images: Images) -> Float[np.ndarray, "n classes"]:
    """The decoder's score of each class for each image; the largest is the prediction."""
    return scores_of_features(pipeline, features(pipeline.config, pipeline.arrays["encode"], images))


def scores_of_features(pipeline: Pipeline, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n classes"]:
    """The decoder's scores for features, which may be mapped into memory: they are read batch by batch."""
    options, size = pipeline.config.decode, pipeline.config.evaluate.batch_size
    decoder, arrays = DECODERS[options.name], pipeline.arrays["decode"]
    parts = [decoder.scores(arrays, np.asarray(rows[i : i + size]), options) for i in range(0, len(rows), size)]
    return np.concatenate(parts)


def chain(config: ConfigDict) -> str:
    """The names of a pipeline's parts, in the order that an image goes through them."""
    return " -> ".join((config.describe.name, config.encode.name, config.pool.layout, config.decode.name))


def describe(config: ConfigDict, images: Images) -> Descriptors:
    """The descriptors of some images."""
    return DESCRIBERS[config.describe.name].describe(images, config.describe)


def features(config: ConfigDict, arrays: Arrays, images: Images, cost: Cost | None = None) -> Float[np.ndarray, "n d"]:
    """The features that images are classified by: their codes, pooled over each region and normalised.

    arrays: what the encoder has learnt. cost: counts the time of describing and of encoding.
    """
    cost = cost or Cost()
    with cost.counting("describe"):
        descriptors = describe(config, images)
    with cost.counting("encode"):
        return encode(config, arrays, descriptors)


def encode(config: ConfigDict, arrays: Arrays, descriptors: Descriptors) -> Float[np.ndarray, "n d"]:
    """The features of images from their descriptors."""
    encoder, pool = ENCODERS[config.encode.name], config.pool
    regions = pooling.regions(descriptors.centres, descriptors.present, pool.layout)
    pooled = encoder.encode(arrays, descriptors, regions, config.encode)
    weights = pooling.weights(pool.layout) if pool.weighted else None
    return np.asarray(encoder.finish(pooled, config.encode, weights), pool.dtype)


def predictions(pipeline: Pipeline, source: Source) -> Predictions:
    """The pipeline's predictions for every example of a source, which is read batch by batch."""
    config, arrays = pipeline.config, pipeline.arrays["encode"]
    found = [scores_of_features(pipeline, rows) for rows in _streamed(config, arrays, source, 0, Cost(), "testing")]
    return as_predictions(np.concatenate(found), labels_as_read(source))


def as_predictions(values: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> Predictions:
    """Scores as predictions, whose probabilities are the softmax of the scores.

    If a decoder, such as a support vector machine, does not model probabilities, these only rank the classes. Losses
    are the cross-entropy with these probabilities.
    """
    log_probabilities = log_softmax(values.astype(np.float64), axis=-1).astype(np.float32)
    losses = -np.take_along_axis(log_probabilities, labels[:, None].astype(np.int64), axis=1)[:, 0]
    return Predictions(labels, values.argmax(-1), losses, log_probabilities)


def fit(
    config: ConfigDict, dataset: Dataset[Source], done: Stages, say: Say = print
) -> tuple[Pipeline, dict[str, Float[np.ndarray, "_ d"]]]:
    """Fits a pipeline to a dataset; returns it with the features of each split, mapped from the disk.

    Stages that `done` has are not computed again. The encoder and the decoder learn only from the training set; a
    decoder's constant may be chosen on the validation set. say: called with a line on each stage.
    """
    _check_pixels(dataset.train)
    sources = splits(dataset)
    data = {**{k: v for k, v in config.data.items() if k not in _NO_EFFECT}, "info": dataclasses.asdict(dataset.info)}
    own = config.encode.copy_and_resolve_references().unlock()
    del own.sample
    sampled = stages.key("sample", data, config.describe.to_dict(), config.encode.sample, config.seed)
    learnt = stages.key("vocabulary", sampled, own.to_dict())
    pooled = stages.key("features", learnt, config.pool.to_dict())

    arrays = _encoder(config, dataset.train, done, sampled, learnt, say)
    rows = {}
    for split, source in sources.items():
        missing = functools.partial(_streamed, config, arrays, source, doing=f"features of {split}")
        rows[split] = done.rows(f"features_{split}", pooled, len(source), missing)
        cost = done.costs[f"features_{split}"]
        say(_line(f"features of {split}", f"{len(source):,} images of {rows[split].shape[1]:,} numbers", cost))
    labels = {split: labels_as_read(source) for split, source in sources.items()}
    trained = stages.key("decoder", pooled, config.decode.to_dict())
    fitted = done.arrays("decoder", trained, lambda cost: _decoder(config, rows, labels, dataset.info.num_classes))
    say(_line("decoder", config.decode.name, done.costs["decoder"]))
    return Pipeline(config, dataset.info, {"encode": arrays, "decode": fitted}), rows


def sample(config: ConfigDict, source: Source, cost: Cost) -> Arrays:
    """At most `config.encode.sample` descriptors of training images, drawn at random: 'vectors' [m d], 'centres' [m 2].

    Images are visited in a random order until there are enough descriptors. Each gives its equal share of the sample,
    but at least 20 descriptors, drawn at random. So only part of a large dataset is described twice. For an encoder
    that learns nothing the sample is one descriptor, which shows that the images have any.
    """
    wanted, size = config.encode.sample if learns(config.encode) else 1, config.evaluate.batch_size
    most = max(-(-wanted // len(source)), _LEAST_FROM_AN_IMAGE)
    order = np.random.default_rng((config.seed, _ORDER)).permutation(len(source))
    vectors: list[np.ndarray] = []
    centres: list[np.ndarray] = []
    missing = wanted
    with _progress("sampling descriptors", len(source)) as bar:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            found = describe(config, reading.gather(source, chosen)[0])
            for row, index in enumerate(chosen):
                rng = np.random.default_rng((config.seed, int(index)))
                places = _drawn(np.flatnonzero(found.present[row]), min(most, missing), rng)
                vectors.append(found.vectors[row, places])
                centres.append(found.centres[row, places])
                missing -= len(places)
                cost.images += 1
                if not missing:
                    return {"vectors": np.concatenate(vectors), "centres": np.concatenate(centres)}
            bar.update(len(chosen))
    if missing == wanted:
        raise UserError(
            f"config.describe '{config.describe.name}' finds nothing to describe in any of the {len(source):,} "
            "training images; a dense describer, such as dense_sift, describes every image"
        )
    return {"vectors": np.concatenate(vectors), "centres": np.concatenate(centres)}


def splits(dataset: Dataset[Source]) -> dict[str, Source]:
    """The parts of a dataset by name, without those that it does not have."""
    found = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {split: source for split, source in found.items() if source is not None}


def labels_as_read(source: Source) -> Int[np.ndarray, " n"]:
    """The label of every example. Images are decoded only if those that cannot be read are replaced by others."""
    if isinstance(source, ImageSource) and source.bad is not None:
        return np.array([source[i]["label"] for i in range(len(source))], np.int32)
    return stored_labels(source)


def _encoder(config: ConfigDict, source: Source, done: Stages, sampled: str, learnt: str, say: Say) -> Arrays:
    """Arrays that the encoder learns from a sample of descriptors of training images."""
    drawn = done.arrays("sample", sampled, functools.partial(sample, config, source))
    vectors, centres = drawn["vectors"], drawn["centres"]
    shown = say if learns(config.encode) else lambda line: None

    def fit_encoder(cost: Cost) -> Arrays:
        with _clock(f"fitting {config.encode.name} to {len(vectors):,} descriptors"):
            return ENCODERS[config.encode.name].fit(vectors, config.encode, config.seed, centres)

    shown(_line("sample", f"{len(vectors):,} descriptors of {vectors.shape[1]:,} numbers", done.costs["sample"]))
    found = done.arrays("encoder", learnt, fit_encoder)
    shown(_line("encoder", config.encode.name, done.costs["encoder"]))
    return found


def _decoder(
    config: ConfigDict,
    rows: Mapping[str, Float[np.ndarray, "_ d"]],
    labels: Mapping[str, Int[np.ndarray, " _"]],
    num_classes: int,
) -> Arrays:
    """Arrays that the decoder learns from the features of the training set, and perhaps of the validation set."""
    validation = (rows["validation"], labels["validation"]) if "validation" in rows else None
    decoder, train = DECODERS[config.decode.name], rows["train"]
    with _clock(f"fitting {config.decode.name} to {len(train):,} images of {train.shape[1]:,} numbers"):
        return decoder.fit(train, labels["train"], config.decode, config.seed, num_classes, validation)


def _streamed(
    config: ConfigDict, arrays: Arrays, source: Source, first: int, cost: Cost, doing: str
) -> Iterator[Float[np.ndarray, "_ d"]]:
    """The features of a source's images from the `first` on, batch by batch.

    All batches have the same size, so that programs are compiled once. Copies of the last image fill up the last batch.
    """
    total, size = len(source), min(config.evaluate.batch_size, len(source))
    with _progress(doing, total, first) as bar:
        for start in range(first, total, size):
            chosen = np.arange(start, start + size)
            with cost.counting("read"):
                images, _ = reading.gather(source, np.minimum(chosen, total - 1))
            kept = min(size, total - start)
            found = features(config, arrays, images, cost)[:kept]
            cost.images += kept
            bar.update(kept)
            bar.set_postfix_str(f"{cost.images_per_second:,.0f} images/s")
            yield found


def _drawn(places: Int[np.ndarray, " t"], most: int, rng: np.random.Generator) -> Int[np.ndarray, " drawn"]:
    """At most `most` of an image's places, drawn at random."""
    return places if len(places) <= most else np.sort(rng.choice(places, most, replace=False))


def _check_pixels(source: Source) -> None:
    kind = source[0]["image"].dtype
    if kind != np.uint8:
        raise UserError(f"images hold {kind} pixels; a classic pipeline expects whole numbers from 0 to 255 (uint8)")


def _progress(doing: str, total: int, done: int = 0) -> tqdm:
    """A progress line, shown on a terminal only."""
    return tqdm(
        desc=doing, total=total, initial=done, bar_format=_PROGRESS, disable=None, leave=False, dynamic_ncols=True
    )


@contextlib.contextmanager
def _clock(doing: str) -> Iterator[None]:
    """A line with the time so far, shown only on a terminal, for work that does not report its progress."""
    with tqdm(desc=doing, bar_format=_ELAPSED, disable=None, leave=False, dynamic_ncols=True) as line:
        done = threading.Event()

        def tick() -> None:
            while not done.wait(1):
                line.refresh()

        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield
        finally:
            done.set()
            ticking.join()


def _line(stage: str, what: str, cost: Cost) -> str:
    """A line on a finished stage."""
    speed = f"  {cost.images_per_second:>9,.0f} images/s" if cost.images else ""
    cores = "" if cost.core_total is None else f"  {cost.core_total:>8,.1f} core-s"
    return f"{stage:<22}  {what:<42}  {cost.total:>8,.1f} s{cores}{speed}"
