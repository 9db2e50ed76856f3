"""A trace of some steps, on demand, in WORKDIR/profile, for TensorBoard or Perfetto."""

import pathlib

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict


class Profiler:
    """Traces the steps that the config's `profile` section asks for."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path):
        self._folder = str(workdir / "profile")
        self._steps = range(config.start, config.start + config.steps)
        self._running = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def at(self, step: int, state: PyTree) -> None:
        """Starts or stops the trace; call it before the update or updates that begin at `step` with `state`.

        It waits for `state` then, so that the trace has whole updates: those of its steps.
        """
        if not self._running and step in self._steps:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and step >= self._steps.stop:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
