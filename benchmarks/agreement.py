"""Losses and gradients on this device against those on CPU: `python -m benchmarks.agreement [--families=resnet,vit]`.

Each network makes one training step, at a small size, from the same parameters, batch and random key on both. Another
process computes the reference, on CPU in float32. Several layers have other formulations there, so these are compared
too. Two more checks need only this device: fused attention against a plain one, and a run that is stopped and continued
against one that is not. Every distance has a limit, which was set before any distance was measured. The result is
written after each check, and the same command continues where it was stopped. If a check fails, the others are still
made, and the same command tries it again.
"""

import contextlib
import dataclasses
import functools
import io
import math
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import flags

from benchmarks import measure
from benchmarks.measure import define_place, file_name, record, spread
from benchmarks.references import (
    NETWORKS,
    PRECISIONS,
    Network,
    Reference,
    distances,
    references,
    relative,
    training_step,
)
from common import launch
from common.errors import UserError, first_line, unknown

# The limit is `TIMES` the distance that rounding causes on CPU, since networks amplify rounding differently. It is at
# least `LEAST`: in float32 a hundred times the distance of sums in another order, which still reveals TF32 (1e-3); in
# bfloat16 five roundings. It is at most `MOST`, which still reveals a float32 gradient that is one per cent too long.
# Float32 at the device's default precision has the limit of bfloat16, since no device rounds more than that.
TIMES = 3.0
LEAST = {"float32": 1e-4, "bfloat16": 1e-2}
MOST = {"float32": 9e-3, "bfloat16": 0.5}
ATTENTION = 2e-2  # ten roundings of bfloat16: of scores, weights, their products and sums
RESUMED = 1e-5  # as a share of the largest parameter; a device that adds in a fixed order has 0


@dataclasses.dataclass(frozen=True)
class Line:
    """A distance from the reference, relative to it, and its limit."""

    distance: float
    limit: float

    @property
    def verdict(self) -> str:
        """The word 'agrees' if the distance is within the limit, else 'does not agree', as for NaN."""
        return "agrees" if self.distance <= self.limit else "does not agree"


Lines = dict[str, Line]  # name of a quantity -> its line

TOKENS = (197, 196, 64, 50)  # of the attention check


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_list("families", [], "families of networks, 'attention' or 'resume' to check; default: all")
    define_place("out", "results", "folder of the result")
    flags.DEFINE_bool("again", False, "measure again what the result already has")


def main() -> None:
    """Makes the checks that the flags name and the result lacks. Raises UserError at the end if one has failed."""
    chosen = _chosen(flags.FLAGS.families)
    path, device = _result()
    done = {} if flags.FLAGS.again else _read(path)
    missing = [name for name in chosen if not any(line.startswith(f"{name}: ") for line in done)]
    failures = []
    with references([NETWORKS[name] for name in missing if name in NETWORKS]) as wanted:
        for name, found, failure in checked(missing, wanted):
            if failure:
                failures.append(f"{name} ({failure})")
                print(f"{name}: {failure}", flush=True)
                continue
            found = {f"{name}: {quantity}": line for quantity, line in found.items()}
            done |= found
            _write(path, device, done)
            for quantity, line in found.items():
                print(f"  {quantity:60} {line.distance:8.1e} of {line.limit:7.1e}  {line.verdict}", flush=True)
    wrong = [name for name, line in done.items() if line.verdict != "agrees"]
    print(f"{len(done) - len(wrong)} of {len(done)} agree on {device}: {path}")
    for name in wrong:
        print(f"does not agree: {name}")
    if failures:
        raise UserError(f"not checked, and the same command tries again: {'; '.join(failures)}")


def checked(names: Sequence[str], wanted: Iterator[Reference]) -> Iterator[tuple[str, Lines, str]]:
    """Each check's name, its lines, and the reason for its failure, '' if it has not failed.

    wanted: the references of the networks among the names, in the order of the names.
    """
    for name in names:
        reference = None if name in OTHERS else next(wanted)
        try:
            lines, failure = OTHERS[name]() if reference is None else compare(NETWORKS[name], reference), ""
        except Exception as error:  # noqa: BLE001  a device may lack one operation
            lines, failure = {}, f"{type(error).__name__}: {first_line(error)}"
        yield name, lines, failure


def compare(network: Network, reference: Reference) -> Lines:
    """The loss and the gradient on this device against the reference, in each of `PRECISIONS`."""
    with ThreadPoolExecutor() as pool:  # the programs are compiled side by side
        computed = pool.map(lambda precision: training_step(network, precision)(reference), PRECISIONS)
    return {
        f"{precision}, {quantity}": Line(distance, limit(reference, precision, quantity))
        for precision, (loss, gradient) in zip(PRECISIONS, computed, strict=True)
        for quantity, distance in distances(reference, loss, gradient).items()
    }


def limit(reference: Reference, precision: str, quantity: str) -> float:
    """The largest distance of the 'loss' or the 'gradient' at which a precision agrees with the reference."""
    kind = "float32" if precision == "float32 highest" else "bfloat16"
    return min(max(TIMES * reference.on_cpu[kind][quantity], LEAST[kind]), MOST[kind])


def attention() -> Lines:
    """The attention of `common.devices.attention` in bfloat16, and its gradients, against a plain one in float32."""
    import jax
    import jax.numpy as jnp

    from common.devices.attention import attend

    def plain(query: Any, key: Any, value: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)

    def with_gradients(function: Callable, heads: Any, cotangent: Any) -> Any:
        output, pullback = jax.vjp(function, *heads)
        return output, *pullback(cotangent)

    lines = {}
    for tokens in TOKENS:
        keys = jax.random.split(jax.random.key(tokens), 4)
        *heads, cotangent = (jax.random.normal(key, (4, tokens, 4, 64), jnp.bfloat16) for key in keys)
        found = jax.jit(functools.partial(with_gradients, attend))(heads, cotangent)
        heads, cotangent = jax.tree.map(lambda array: array.astype(jnp.float32), (heads, cotangent))
        with jax.default_matmul_precision("highest"):
            wanted = jax.jit(functools.partial(with_gradients, plain))(heads, cotangent)
        names = ("output", "gradient of queries", "gradient of keys", "gradient of values")
        for name, *pair in zip(names, found, wanted, strict=True):
            lines[f"{tokens} tokens, {name}"] = Line(relative(*pair), ATTENTION)
    return lines


def resume() -> Lines:
    """The parameters of a run that goes on from its middle checkpoint against those of the undisturbed run.

    It trains LeNet-5 on distorted digits and measures curvatures. The distance is the largest difference between two
    parameters, divided by the largest parameter.
    """
    from configs import lenet5_digits

    config = lenet5_digits.get_config()
    config.train.update({"length": "40 steps", "batch_size": 8, "steps_per_call": 10})
    config.data.limit, config.optimizer.curvature_examples = 160, 50  # an epoch, and so a new curvature, is 20 steps
    config.checkpoint.update({"every": "10 steps", "keep": 4})
    config.evaluate.every = config.train.length
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        undisturbed, continued = pathlib.Path(name, "undisturbed"), pathlib.Path(name, "continued")
        measure.fit(config, undisturbed)
        shutil.copytree(undisturbed, continued)
        (continued / "summary.json").unlink()
        for step in ("30", "40"):
            shutil.rmtree(continued / "checkpoints" / step)
        measure.fit(config, continued)
        wanted, found = _last_parameters(undisturbed), _last_parameters(continued)
    return {"parameters": Line(float(np.abs(found - wanted).max() / np.abs(wanted).max()), RESUMED)}


def _last_parameters(folder: pathlib.Path) -> np.ndarray:
    import jax

    from common.run import trained

    leaves = jax.device_get(jax.tree.leaves(trained.load(folder, "last").variables["params"]))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


OTHERS: dict[str, Callable[[], Lines]] = {"attention": attention, "resume": resume}


def _chosen(families: list[str]) -> list[str]:
    """The names of the checks of these families, or of all. Raises UserError for a family that does not exist."""
    # The other checks come first; the references are computed in the meantime.
    family_of = {name: name for name in OTHERS} | {name: network.family for name, network in NETWORKS.items()}
    for family in families:
        if family not in family_of.values():
            raise unknown("family", family, set(family_of.values()))
    return [name for name, family in family_of.items() if not families or family in families]


def _result() -> tuple[pathlib.Path, str]:
    """The path of the result, and the device's name."""
    from common.run import workdir

    device = workdir.environment()["devices"].rpartition(" x ")[2]
    return pathlib.Path(flags.FLAGS.out) / f"benchmark_agreement_{file_name(device)}.json", device


def _read(path: pathlib.Path) -> Lines:
    """The lines of the result that an earlier command has written; none without one.

    Raises UserError for a file that holds anything else.
    """
    from common.run import workdir

    if not path.exists():
        return {}
    result = workdir.read_json(path)
    try:
        return {name: Line(found["median"], result["limits"][name]) for name, found in result["measured"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no result of this command; --again replaces it, or choose another --out") from error


def _write(path: pathlib.Path, device: str, lines: Lines) -> None:
    measured = {name: spread([line.distance]) for name, line in lines.items()}
    limits = {name: line.limit for name, line in lines.items()}
    verdicts = {name: line.verdict for name, line in lines.items()}
    facts: dict[str, Any] = {"limits": limits, "verdicts": verdicts}
    with contextlib.redirect_stdout(io.StringIO()):  # it would print all lines each time; `main` prints the new ones
        record(path, f"agreement of {device} with CPU", measured, "python -m benchmarks.agreement", **facts)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
