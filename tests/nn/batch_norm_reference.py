"""Batch normalisation in float64, and ours on all devices; as a program it writes the results of ours."""

import sys

import numpy as np

GROUPS = ((0, 1), (2, 1), (8, 1), (16, 1), (0, 4), (2, 4))  # runs of consecutive examples, ghost batches
SHAPE = (32, 3, 3, 5)


def inputs():
    """Images, output gradients, scale, bias and running statistics."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(2.0, 3.0, SHAPE), rng.normal(size=SHAPE)
    gamma, beta, mean, var = rng.uniform(0.5, 2.0, (4, SHAPE[-1]))
    return x, dy, gamma, beta, mean, var


def reference(groups, momentum=0.9, epsilon=1e-5):
    """Outputs, gradients with respect to images, scale and bias, and the running statistics after one update."""
    x, dy, gamma, beta, mean, var = inputs()
    order = members(groups)
    x, dy = (array[order].reshape(len(order), -1, SHAPE[-1]) for array in (x, dy))
    mu, sigma2 = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    inverse = 1 / np.sqrt(sigma2 + epsilon)
    normal = (x - mu) * inverse
    dx = gamma * inverse * (dy - dy.mean(1, keepdims=True) - normal * (dy * normal).mean(1, keepdims=True))
    return {
        "y": ungrouped(gamma * normal + beta, order),
        "dx": ungrouped(dx, order),
        "dscale": (dy * normal).sum((0, 1)),
        "dbias": dy.sum((0, 1)),
        "mean": momentum * mean + (1 - momentum) * mu.mean((0, 1)),
        "var": momentum * var + (1 - momentum) * sigma2.mean((0, 1)),
    }


def members(groups):
    """The examples of each group: ghost batch i % ghosts, of which each run of consecutive examples is a group."""
    runs, ghosts = groups
    return np.concatenate([np.arange(ghost, SHAPE[0], ghosts).reshape(max(runs, 1), -1) for ghost in range(ghosts)])


def ungrouped(values, order):
    """Values by group, in the order of the batch."""
    result = np.empty(SHAPE)
    result[order.ravel()] = values.reshape(SHAPE)
    return result


def ours(groups):
    """The same results from `BatchNorm`, with the batch spread over all devices."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from common.nn.batch_norm import BatchNorm

    x, dy, gamma, beta, mean, var = (jnp.asarray(array, jnp.float32) for array in inputs())
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    x, dy = jax.device_put((x, dy), sharding)
    stats = {"mean": mean, "var": var}
    runs, ghosts = groups
    module = BatchNorm(groups=runs, ghost_batches=ghosts)

    def apply(x, params):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, train=True, mutable="batch_stats")

    @jax.jit
    def results(x, dy, params):
        y, pullback, state = jax.vjp(apply, x, params, has_aux=True)
        dx, grads = pullback(dy)
        return {"y": y, "dx": dx, "dscale": grads["scale"], "dbias": grads["bias"], **state["batch_stats"]}

    return {name: np.asarray(array) for name, array in results(x, dy, {"scale": gamma, "bias": beta}).items()}


if __name__ == "__main__":
    results = {f"{groups}/{name}": array for groups in GROUPS for name, array in ours(groups).items()}
    import jax

    np.savez(sys.argv[1], devices=jax.device_count(), **results)
