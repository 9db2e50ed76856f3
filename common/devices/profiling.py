"""A trace of some steps, on demand, in WORKDIR/profile, for TensorBoard or Perfetto."""

import pathlib

import jax
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

    def at(self, step: int) -> None:
        """Starts or stops the trace; call it before the update or updates that begin at `step`."""
        if not self._running and step in self._steps:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and step >= self._steps.stop:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
