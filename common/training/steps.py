"""One update and one evaluation step, as pure functions of their arguments.

Both return sums rather than means, so that steps add up to an epoch on the device and nothing waits for a number.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree
from ml_collections import ConfigDict

from common.data.mixing import mixup
from common.devices import compilation
from common.errors import UserError
from common.models import Classifier
from common.nn.losses import smooth_labels
from common.optim.levenberg_marquardt import with_curvature
from common.training.state import TrainState

NEVER = jnp.iinfo(jnp.int32).max  # no step had a loss that was not finite


@struct.dataclass
class Totals:
    """Sums over examples.

    loss: nats (or the classifier's own unit); errors, top5_errors: examples whose label is not the likeliest class,
    or not among the five likeliest; count: examples; bad_step: the first update whose loss was not finite.
    """

    loss: Float[Array, ""]
    errors: Float[Array, ""]
    top5_errors: Float[Array, ""]
    count: Float[Array, ""]
    bad_step: Int[Array, ""]

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            loss=self.loss + other.loss,
            errors=self.errors + other.errors,
            top5_errors=self.top5_errors + other.top5_errors,
            count=self.count + other.count,
            bad_step=jnp.minimum(self.bad_step, other.bad_step),
        )


def diverged(step: int) -> UserError:
    """What to say when the loss at `step` was not finite."""
    return UserError(
        f"the loss is not finite at step {step}: training has diverged; the checkpoints before it are kept. "
        "Lower config.schedule.learning_rate, lengthen config.schedule.warmup or set config.optimizer.clip_norm"
    )


def no_totals() -> Totals:
    """The totals of no examples."""
    return Totals(*(jnp.zeros((), jnp.float32) for _ in range(4)), bad_step=jnp.asarray(NEVER, jnp.int32))


def totals(
    losses: Float[Array, " batch"],
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    mask: Bool[Array, " batch"],
) -> Totals:
    """The sums over the examples that `mask` selects."""
    label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    # A tie counts as an error unless the label comes first, and a NaN always does, as with an arg-max.
    first = jnp.arange(logits.shape[-1]) < labels[:, None]
    ahead = jnp.sum((logits > label_logits) | ((logits == label_logits) & first), axis=-1)
    ahead = jnp.where(jnp.isfinite(label_logits[:, 0]), ahead, logits.shape[-1])
    return Totals(
        loss=jnp.sum(jnp.where(mask, losses, 0.0), dtype=jnp.float32),
        errors=jnp.sum(mask & (ahead >= 1), dtype=jnp.float32),
        top5_errors=jnp.sum(mask & (ahead >= 5), dtype=jnp.float32),
        count=jnp.sum(mask, dtype=jnp.float32),
        bad_step=jnp.asarray(NEVER, jnp.int32),
    )


Transform = Callable[[Array, Array], Float[Array, "batch height width channels"]]


def train_step(
    state: TrainState,
    images: Array,
    labels: Int[Array, " batch"],
    *,
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    transform: Transform,
    config: ConfigDict,
) -> tuple[TrainState, Totals]:
    """One update on a batch of stored images (`batch height width channels`, uint8 or float).

    `transform(key, images)` scales and distorts them. `config` is the whole config, of which the accumulation,
    label smoothing, mixup and averaging are read. Errors are counted against each image's own label.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    transform_key, dropout_key, mix_key = jax.random.split(key, 3)
    images = transform(transform_key, images)
    images, targets = _mixed(mix_key, images, labels, classifier, config)
    gradients = functools.partial(_gradients, classifier=classifier)
    if config.train.accumulate > 1:
        gradients = functools.partial(_accumulated, gradients, config.train.accumulate)
    grads, model_state, sums = gradients(state.params, state.model_state, images, labels, targets, dropout_key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        # Batch statistics belong to the parameters they were measured with, so they are averaged alike.
        ema = optax.incremental_update({"params": params, **model_state}, ema, 1.0 - config.optimizer.ema)
    sums = sums.replace(bad_step=jnp.where(jnp.isfinite(sums.loss), NEVER, state.step + 1).astype(jnp.int32))
    state = state.replace(step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=ema)
    return state, sums


Targets = Int[Array, " batch"] | Float[Array, "batch classes"]


def _mixed(
    key: Array,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    classifier: Classifier,
    config: ConfigDict,
) -> tuple[Float[Array, "batch height width channels"], Targets]:
    """The images and what the loss is to compare with, after label smoothing and mixup."""
    smoothing, alpha = config.train.label_smoothing, config.augment.mixup
    if not alpha:
        return images, smooth_labels(labels, classifier.num_classes, smoothing)
    distributions = optax.smooth_labels(jax.nn.one_hot(labels, classifier.num_classes), smoothing)
    return mixup(key, images, distributions, alpha)


def _gradients(
    params: PyTree,
    model_state: PyTree,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    targets: Targets,
    key: Array,
    *,
    classifier: Classifier,
) -> tuple[PyTree, PyTree, Totals]:
    """The gradient of the batch's mean loss, the network's new state, and the batch's totals."""

    def mean_loss(params: PyTree) -> tuple[Array, tuple[PyTree, Totals]]:
        outputs, new_state = classifier.module.apply(
            {"params": params, **model_state}, images, train=True, rngs={"dropout": key}, mutable=list(model_state)
        )
        losses = classifier.loss(outputs, targets)
        sums = totals(losses, classifier.logits(outputs), labels, jnp.ones(labels.shape, bool))
        return jnp.mean(losses), (new_state, sums)

    grads, (new_state, sums) = jax.grad(mean_loss, has_aux=True)(params)
    return grads, new_state, sums


def _accumulated(
    gradients: Callable,
    parts: int,
    params: PyTree,
    model_state: PyTree,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    targets: Targets,
    key: Array,
) -> tuple[PyTree, PyTree, Totals]:
    """`gradients` of `parts` equal slices of the batch, one after the other to save memory, averaged."""

    def split(array: Array) -> Array:
        """Strided slices, so that each part is spread over all devices as the whole batch is."""
        return jnp.swapaxes(array.reshape(-1, parts, *array.shape[1:]), 0, 1)

    def part(carry: tuple, slice_: tuple) -> tuple[tuple, None]:
        grads, model_state, sums = carry
        new_grads, model_state, new_sums = gradients(params, model_state, *slice_)
        return (optax.tree.add(grads, new_grads), model_state, sums + new_sums), None

    start = (optax.tree.zeros_like(params), model_state, no_totals())
    slices = (split(images), split(labels), split(targets), jax.random.split(key, parts))
    # XLA's CPU backend is slow at convolutions inside loops.
    unroll = jax.default_backend() == "cpu"
    (grads, model_state, sums), _ = jax.lax.scan(part, start, slices, unroll=unroll)
    return optax.tree.scale(1.0 / parts, grads), model_state, sums


def eval_step(
    variables: PyTree,
    images: Array,
    labels: Int[Array, " batch"],
    mask: Bool[Array, " batch"],
    *,
    classifier: Classifier,
    transform: Callable[[Array], Array],
) -> Totals:
    """The totals over the examples that `mask` selects (the others pad the batch)."""
    outputs = classifier.module.apply(variables, transform(images), train=False)
    return totals(classifier.loss(outputs, labels), classifier.logits(outputs), labels, mask)


def curvature_step(
    state: TrainState,
    images: Array,
    labels: Int[Array, " batch"],
    *,
    classifier: Classifier,
    transform: Transform,
) -> TrainState:
    """The state with the optimizer's diagonal curvature estimated anew on these examples (LeCun 1998, appendix C)."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    curvature = classifier.curvature(state.params, transform(key, images), labels)
    return state.replace(opt_state=with_curvature(state.opt_state, curvature))


def make_train_call(
    step: Callable[[TrainState, Array, Array], tuple[TrainState, Totals]], select: Callable
) -> Callable:
    """Compile (state, sums, batches, count) -> (state, sums): the first `count` updates of `batches`.

    `select(batches, i)` is the i-th batch's (images, labels). State and sums are donated: their memory is reused.
    """

    def body(i, carry, batches):  # noqa: ANN001, ANN202
        state, sums = carry
        state, new = step(state, *select(batches, i))
        return state, sums + new

    def call(state, sums, batches, count):  # noqa: ANN001, ANN202
        if jax.tree.leaves(batches)[-1].shape[0] == 1:
            return body(0, (state, sums), batches)
        return jax.lax.fori_loop(0, count, functools.partial(body, batches=batches), (state, sums))

    return compilation.jit(call, donate_argnums=(0, 1))
