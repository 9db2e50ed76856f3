"""What the benchmarks share: spreads of measurements, and how a result is recorded and shown."""

import datetime
import pathlib
import statistics
from typing import Any

Measured = dict[str, dict[str, float]]  # what was measured -> its median, lowest and highest


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest of repeated measurements."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def record(path: pathlib.Path, benchmark: str, measured: Measured, command: str, **facts: Any) -> None:
    """Write a result to `path`, from where `python -m common.tables` takes it, and print it."""
    from common.run import workdir  # slow imports

    result = {
        "benchmark": benchmark,
        **facts,
        "measured": measured,
        "command": command,
        "environment": workdir.environment(),
        "date": datetime.date.today().isoformat(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, result)
    print(benchmark)
    for name, found in measured.items():
        print(f"  {name:70} median {found['median']:10.4g}   {found['low']:10.4g} to {found['high']:.4g}")
