"""Tests that steps are compiled as XLA's CPU backend runs them fastest, without options that it does not know."""

import jax
import jax.numpy as jnp
import pytest

from common.devices import compilation


@pytest.fixture
def options():
    compilation.cpu_options.cache_clear()
    yield compilation.compiler_options
    compilation.cpu_options.cache_clear()


def program(function, *arguments):
    return compilation.jit(function).lower(*arguments).compile().as_text()


def test_a_barrier_keeps_loops_apart():
    def twice(x):
        y = jax.lax.optimization_barrier(jnp.maximum(x, 0.0) + 1.0)
        return y.T * 2.0, y * 3.0

    text = program(twice, jnp.ones((64, 64)))
    assert text.count(" maximum(") == 1  # once, not once for each of its two readers


def test_options_that_this_xla_does_not_know_are_left_out(options, monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {"xla_cpu_no_such_option": True})
    assert options() == {}
    assert compilation.jit(lambda x: x + 1)(1) == 2


def test_other_backends_get_no_options(options, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert options() == {}
    assert not compilation.on_cpu()


def test_programs_for_another_platform_take_its_formulations(options):
    assert compilation.tuned_for_cpu()
    with compilation.compiled_for("tpu"):
        assert not compilation.on_cpu()
        assert not compilation.tuned_for_cpu()
        assert options() == {}
    assert options() == compilation.cpu_options()


def test_a_compiled_step_is_cached_for_the_next_start(tmp_path):
    # Programs that XLA cannot serialize would be compiled again at every start.
    def products(x):
        return jnp.tanh(x @ x)

    settings = {"jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
        program(products, jnp.ones((512, 512)))
        assert list(tmp_path.glob("jit_products*"))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
