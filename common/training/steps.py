"""One update and one evaluation step, as pure functions, and the compiled program that a run repeats.

Steps return sums rather than means, so that they add up to an epoch on the device without waiting for a number.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree
from ml_collections import ConfigDict

from common.data.mixing import mix
from common.devices import compilation, loops, products, sharding
from common.errors import UserError
from common.models import Classifier
from common.optim import optimizers
from common.optim.levenberg_marquardt import with_curvature
from common.training.state import TrainState
from common.training.totals import NEVER, Totals, class_counts, no_totals, totals

Images = Float[Array, "batch height width channels"]
Labels = Int[Array, " batch"]
Targets = Int[Array, " batch"] | Float[Array, "batch classes"]
Weights = Float[Array, " batch"] | None
Transform = Callable[[Array, Array], Images]  # (key, stored images) -> what the network is fed


def train_step(
    state: TrainState,
    images: Array,
    labels: Labels,
    *,
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    transform: Transform,
    accumulate: int = 1,
    label_smoothing: float = 0.0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    class_weights: Float[np.ndarray, " classes"] | None = None,
    ema: float = 0.0,
) -> tuple[TrainState, Totals]:
    """One update on a batch of stored images (`batch height width channels`, uint8 or float).

    transform: normalises and distorts the images. accumulate: the number of parts that the batch is split into.
    label_smoothing: the share of each label that is spread evenly over all classes (Szegedy et al. 2016, section 7).
    mixup_alpha, cutmix_alpha: see `data.mixing`. class_weights: a factor for the losses of each class, as from
    `nn.losses.balanced_weights`. Blended images blend their weights as they blend their labels; label smoothing changes
    no weight. ema: the share of the old average that `state.ema` keeps, if the state has one. After t updates it is at
    most (1 + t) / (10 + t), so that the average of a short run does not stay near the initial values. Errors are
    counted against each image's own label.

    Batch normalisation uses the statistics of each part. With `accumulate=k`, a network that has it is
    updated as by the whole batch with `ghost_batches=k`.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    transform_key, dropout_key, mix_key = jax.random.split(key, 3)
    images = transform(transform_key, images)
    weights = None if class_weights is None else jnp.asarray(class_weights)[labels]
    images, targets, weights = _mixed(
        mix_key, images, labels, weights, classifier.num_classes, label_smoothing, mixup_alpha, cutmix_alpha
    )
    gradients = functools.partial(_gradients, classifier=classifier)
    if accumulate > 1:
        gradients = functools.partial(_accumulated, gradients, accumulate)
    grads, model_state, sums = gradients(state.params, state.model_state, images, labels, targets, weights, dropout_key)
    grads = products.all_before_updates(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if average is not None:
        # Batch statistics belong to the parameters they were measured with, so they are averaged alike.
        keep = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update({"params": params, **model_state}, average, 1.0 - keep)
    sums = sums.replace(bad_step=jnp.where(jnp.isfinite(sums.loss), NEVER, state.step + 1).astype(jnp.int32))
    state = state.replace(step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=average)
    return state, sums


def check_support(config: ConfigDict, classifier: Classifier) -> None:
    """Raises UserError for an optimizer or a loss option that this network does not support."""
    if optimizers.uses_curvature(config.optimizer) and classifier.curvature is None:
        raise UserError(
            f"config.optimizer.name '{config.optimizer.name}' needs a curvature, which this variant of "
            f"'{config.model.family}' does not provide; use 'momentum' or 'adamw'"
        )
    blended = {
        "train.label_smoothing": config.train.label_smoothing,
        "augment.mixup": config.augment.mixup,
        "augment.cutmix": config.augment.cutmix,
    }
    for name, value in blended.items():
        if value and not classifier.soft_labels:
            raise UserError(
                f"config.{name} is {value}, but the loss of this variant of '{config.model.family}' takes class "
                "indices only; set it to 0"
            )


def step_options(config: ConfigDict) -> dict[str, Any]:
    """The options of `train_step` that a config sets."""
    return {
        "accumulate": config.train.accumulate,
        "label_smoothing": config.train.label_smoothing,
        "mixup_alpha": config.augment.mixup,
        "cutmix_alpha": config.augment.cutmix,
        "ema": config.optimizer.ema,
    }


def compile_update(
    select: Callable[[Any, Any], tuple[Array, Labels]], mesh: Mesh, **fixed: Any
) -> Callable[[TrainState, Totals, Any, int], tuple[TrainState, Totals]]:
    """Compiles the function (state, sums, batches, count) -> (state, sums) that makes `count` updates with `batches`.

    select: (batches, i) -> the i-th batch's images and labels. fixed: the keyword arguments of `train_step`. The
    state keeps its layout on the mesh. The memory of `state` and `sums` is donated.
    """

    def update(i: int | Int[Array, ""], carry: tuple[TrainState, Totals], batches: Any) -> tuple[TrainState, Totals]:
        state, sums = carry
        state, new = train_step(state, *select(batches, i), **fixed)
        return sharding.constrain(state, mesh), sums + new

    def updates(
        state: TrainState, sums: Totals, batches: Any, count: int | Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        if jax.tree.leaves(batches)[-1].shape[0] == 1:  # XLA would optimise a single update less inside a loop
            return update(0, (state, sums), batches)
        return jax.lax.fori_loop(0, count, functools.partial(update, batches=batches), (state, sums))

    return compilation.jit(updates, donate_argnums=(0, 1))


def _mixed(
    key: Array,
    images: Images,
    labels: Labels,
    weights: Weights,
    num_classes: int,
    smoothing: float,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[Images, Targets, Weights]:
    """The images, and the targets and weights of their losses, after label smoothing, mixup and CutMix."""
    if not (smoothing or mixup_alpha or cutmix_alpha):
        return images, labels, weights
    targets = optax.smooth_labels(jax.nn.one_hot(labels, num_classes), smoothing)
    # As one more column, the weights are blended in the same shares as the labels.
    columns = targets if weights is None else jnp.concatenate([targets, weights[:, None]], axis=1)
    images, columns = mix(key, images, columns, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    return images, columns[:, :num_classes], None if weights is None else columns[:, -1]


def _gradients(
    params: PyTree,
    model_state: PyTree,
    images: Images,
    labels: Labels,
    targets: Targets,
    weights: Weights,
    key: Array,
    *,
    classifier: Classifier,
) -> tuple[PyTree, PyTree, Totals]:
    """The gradient of the batch's mean (weighted) loss, the network's new state, and the batch's totals."""

    def mean_loss(params: PyTree) -> tuple[Array, tuple[PyTree, Totals]]:
        outputs, new_state = classifier.module.apply(
            {"params": params, **model_state}, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
        )
        losses = classifier.loss(outputs, targets)
        # Divided by the number of images, not by the sum of weights, so that the parts of a batch add up to the whole.
        losses = losses if weights is None else losses * weights
        sums = totals(losses, classifier.logits(outputs), labels, jnp.ones(labels.shape, bool))
        return jnp.mean(losses), (new_state, sums)

    grads, (new_state, sums) = jax.grad(mean_loss, has_aux=True)(params)
    return grads, new_state, sums


def _accumulated(
    gradients: Callable[..., tuple[PyTree, PyTree, Totals]],
    parts: int,
    params: PyTree,
    model_state: PyTree,
    images: Images,
    labels: Labels,
    targets: Targets,
    weights: Weights,
    key: Array,
) -> tuple[PyTree, PyTree, Totals]:
    """The means of the gradients and new states over `parts` equal slices of the batch, one by one to save memory.

    Each part starts from the same state, so the running averages are those of ghost batches (`nn.batch_norm`).
    """

    def split(array: Array) -> Array:
        """Strided slices, so that each part is spread over all devices as the whole batch is."""
        return jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1)

    def part(carry: tuple, slice_: tuple) -> tuple[tuple, None]:
        added, sums = carry
        grads, state, new_sums = gradients(params, model_state, *slice_)
        return (optax.tree.add(added, (grads, state)), sums + new_sums), None

    start = (optax.tree.zeros_like((params, model_state)), no_totals())
    slices = (*jax.tree.map(split, (images, labels, targets, weights)), jax.random.split(key, parts))
    (added, sums), _ = loops.scan(part, start, slices)
    grads, new_state = optax.tree.scale(1.0 / parts, added)
    return grads, new_state, sums


def eval_step(
    variables: PyTree,
    images: Array,
    labels: Labels,
    mask: Bool[Array, " batch"],
    *,
    classifier: Classifier,
    transform: Callable[[Array], Array],
) -> tuple[Totals, Int[Array, "2 classes"]]:
    """The totals and the `class_counts` of the examples that `mask` selects; the others only fill up the batch."""
    outputs = classifier.module.apply(variables, transform(images), train=False)
    logits = classifier.logits(outputs)
    return totals(classifier.loss(outputs, labels), logits, labels, mask), class_counts(logits, labels, mask)


def curvature_step(
    state: TrainState, images: Array, labels: Labels, *, classifier: Classifier, transform: Transform
) -> TrainState:
    """The state with the optimizer's diagonal curvature estimated on these examples (LeCun 1998, appendix C).

    Raises ValueError for a classifier that provides no curvature.
    """
    if classifier.curvature is None:
        raise ValueError("this classifier provides no curvature")
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    curvature = classifier.curvature(state.params, transform(key, images), labels)
    return state.replace(opt_state=with_curvature(state.opt_state, curvature))
