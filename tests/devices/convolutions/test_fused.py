"""Tests of sums and functions in a form that a CPU computes with vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.devices.convolutions import fused


@pytest.mark.parametrize("count", [1, 32, 33, 100])
@pytest.mark.parametrize("start", [None, 5.0])
def test_a_sum_has_all_terms_and_is_stored_in_between(count, start):
    def total(terms):
        return fused.total(terms, None if start is None else jnp.full(3, start))

    terms = jnp.arange(3 * count, dtype=jnp.float32).reshape(count, 3)
    np.testing.assert_allclose(total(terms), terms.sum(0) + (start or 0), rtol=1e-6)
    stored = str(jax.make_jaxpr(total)(terms)).count("optimization_barrier")
    assert stored == -(-count // 32)


def test_an_empty_sum_is_an_error():
    with pytest.raises(ValueError, match="needs a term"):
        fused.total([])


def test_vectors_are_those_along_the_last_axis():
    values = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(jnp.stack(fused.vectors(values)), values.reshape(6, 4))


def test_a_function_of_each_number_keeps_the_shape():
    values = jnp.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(fused.elementwise(jnp.tanh, values), jnp.tanh(values))
