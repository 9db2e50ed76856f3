"""A run as a study sees it, but without a network: the error is the distance of momentum from 0.5, plus seed/100.

It has five evaluations, with pauses of as many seconds as its error times the number in train.length. It saves and ends
at SIGTERM. Above a momentum of 0.9 it diverges. With --later=CODE a run with momentum 0 does not hear SIGTERM, and ends
with that code for every seed but 0.
"""

import json
import pathlib
import signal
import sys
import time

options = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
folder = pathlib.Path(options["workdir"])
momentum = float(options["config.optimizer.momentum"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with (folder / "starts").open("a") as starts:
    starts.write(json.dumps(options) + "\n")
if "later" in options and momentum == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options["config.seed"] != "0":
        sys.exit(int(options["later"]))
if momentum > 0.9:
    sys.exit("error: the loss is not finite")
error = abs(momentum - 0.5) + int(options["config.seed"]) / 100
with (folder / "metrics.jsonl").open("w") as records:
    for step in range(5):
        record = {"step": 10 * step, "split": "validation", "error": error + 0.1 * (5 - step), "seconds": 1.0}
        print(json.dumps(record), file=records, flush=True)
        time.sleep(error * float(options["config.train.length"].partition(" ")[0]))
summary = {"best_validation": {"step": 40, "error": error}, "environment": {"cpu": "none"}}
(folder / "checkpoints").mkdir()
(folder / "summary.json").write_text(json.dumps(summary))
