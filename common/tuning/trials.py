"""The runs of a study's trials: each is a process of `common.main`, and several trials run side by side.

A trial's runs are in `trials/NUMBER/seedSEED`, with their output in `log.txt`. They end when this process does, and
continue from their checkpoints when the study continues.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import TrialState

from common.claims.runner import FAILURES_TO_STOP
from common.errors import UserError
from common.files import writing
from common.processes import signals, supervise
from common.processes.preemption import EXIT_PREEMPTED
from common.run import checkpoints, metrics, summary
from common.tuning.study import ERRORS, FAILURE, NUMBER, SECONDS, TRIALS, StudySpec, finished, next_trial, ranked

COMMAND = (sys.executable, "-m", "common.main")
_POLL_SECONDS = 0.1
_ENVIRONMENT = "environment"  # attribute of a study


class Stopped(Exception):  # noqa: N818
    """The end of a study that was asked to stop; its runs have saved their states."""


def optimise(
    study: optuna.Study,
    spec: StudySpec,
    folder: pathlib.Path,
    done: Callable[[str], None],
    command: Sequence[str] = COMMAND,
) -> None:
    """Runs the trials of a study that are not finished yet.

    done: called with a line about each trial, once its end is recorded. command: the command of a run, without flags.
    Raises Stopped if a signal asks it to stop, and UserError if every trial fails.
    """
    active: list[_Attempt] = []
    left = spec.trials - len(finished(study))
    with signals.noticed() as stopping:
        try:
            while left > 0:
                if stopping():
                    raise Stopped
                while len(active) < min(spec.jobs, left):
                    active.append(_Attempt(next_trial(study, spec), folder, spec, command))
                for attempt in [attempt for attempt in active if attempt.ended()]:
                    active.remove(attempt)
                    attempt.tell(study)
                    left -= 1
                    _drop_checkpoints(study, folder)
                    done(_line(study, spec, attempt.number))
                    _check_failures(study)
                time.sleep(_POLL_SECONDS if active else 0)
        finally:
            for attempt in active:
                attempt.stop()
            for attempt in active:
                attempt.wait()


class _Attempt:
    """A trial under way: one run for each seed, one after the other."""

    def __init__(self, trial: optuna.Trial, folder: pathlib.Path, spec: StudySpec, command: Sequence[str]):
        self.number: int = trial.user_attrs[NUMBER]
        self._trial, self._spec, self._command = trial, spec, command
        self._folders = [trial_folder(folder, self.number) / f"seed{seed}" for seed in spec.seeds]
        self._process: subprocess.Popen | None = None
        self._pipe = -1
        self._errors: list[float] = []
        self._reported = 0
        self._pruned = False
        self._failure = ""

    def ended(self) -> bool:
        """True if the trial has ended; if not, starts its next run unless one is under way."""
        if self._process is not None:
            code = self._process.poll()
            self._report()
            if code is None:
                return False
            self._close()
            if not code:
                self._pruned = False  # the run had ended before it was stopped
            if self._pruned:
                return True
            if code == EXIT_PREEMPTED:  # a scheduler asks all processes to stop
                raise Stopped
            if code:
                self._failure = self._last_words(code)
                return True
        while len(self._errors) < len(self._folders):
            run = self._folders[len(self._errors)]
            if not summary.exists(run):
                self._start(run)
                return False
            self._errors.append(summary.read(run)["best_validation"]["error"])
        return True

    def _start(self, run: pathlib.Path) -> None:
        flags = self._spec.flags(self._trial.params, self._spec.seeds[len(self._errors)])
        with writing(run):
            run.mkdir(parents=True, exist_ok=True)
            with (run / supervise.LOG).open("a") as log:
                self._process, self._pipe = supervise.start(
                    [*self._command, f"--workdir={run}", *flags],
                    self._spec.jobs,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def _report(self) -> None:
        """Tells Optuna the validation errors of the first run, and stops the run if they are too high.

        A report's step counts evaluations, not updates, since trials may have batches of different sizes.
        """
        if not self._spec.prune or self._errors or self._pruned:
            return
        for record in metrics.read(self._folders[0], "validation")[self._reported :]:
            self._trial.report(record["error"], self._reported)
            self._reported += 1
            if self._trial.should_prune():
                self._pruned = True
                self.stop()
                return

    def _last_words(self, code: int) -> str:
        log = self._folders[len(self._errors)] / supervise.LOG
        said = supervise.last_line(log.read_text(encoding="utf-8", errors="replace"))
        return f"exit code {code}: {said} (see {log})"

    def tell(self, study: optuna.Study) -> None:
        """Records the end of the trial.

        A failed trial counts as pruned, so that the sampler avoids such options; usually the learning rate was too
        high.
        """
        records = [record for folder in self._folders for record in metrics.read(folder)]
        self._trial.set_user_attr(SECONDS, sum(record.get("seconds", 0.0) for record in records))
        self._trial.set_user_attr(ERRORS, self._errors)
        if len(self._errors) == len(self._folders):
            study.set_user_attr(_ENVIRONMENT, summary.read(self._folders[0])["environment"])
            study.tell(self._trial, sum(self._errors) / len(self._errors))
            return
        if not self._pruned:
            self._trial.set_user_attr(FAILURE, self._failure)
        study.tell(self._trial, state=TrialState.PRUNED)

    def stop(self) -> None:
        """Asks the run under way to save and to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Returns when the run under way has ended."""
        if self._process is not None:
            self._process.wait()
            self._close()

    def _close(self) -> None:
        os.close(self._pipe)
        self._process = None


def trial_folder(folder: pathlib.Path, number: int) -> pathlib.Path:
    """The folder of a trial's runs inside its study's folder."""
    return folder / TRIALS / str(number)


def environment(study: optuna.Study) -> dict[str, str]:
    """The versions, devices and processor that the trials ran with."""
    return study.user_attrs.get(_ENVIRONMENT, {})


def _drop_checkpoints(study: optuna.Study, folder: pathlib.Path) -> None:
    """Deletes the checkpoints of the trials that have ended, except those of the best one."""
    best = ranked(study)[:1]
    for trial in finished(study):
        if trial not in best:
            for kept in trial_folder(folder, trial.user_attrs[NUMBER]).glob(f"*/{checkpoints.FOLDER}"):
                shutil.rmtree(kept, ignore_errors=True)


def _line(study: optuna.Study, spec: StudySpec, number: int) -> str:
    """The line about a trial that has ended."""
    trial = next(trial for trial in finished(study) if trial.user_attrs[NUMBER] == number)
    best = next((f"best {t.values[0]:.2%}, trial {t.user_attrs[NUMBER]}" for t in ranked(study)), "none has finished")
    if trial.state == TrialState.COMPLETE:
        said = f"{trial.values[0]:.2%}"
    else:
        said = f"failed, {trial.user_attrs[FAILURE]}" if FAILURE in trial.user_attrs else "pruned"
    return f"trial {number} of {spec.trials}: {said} ({best})"


def _check_failures(study: optuna.Study) -> None:
    """Raises UserError if several trials have ended and all failed: the reason is then not the searched options."""
    failures = [trial.user_attrs.get(FAILURE) for trial in finished(study)]
    if len(failures) >= FAILURES_TO_STOP and all(failures):
        raise UserError(f"all {len(failures)} trials have failed; the last with {failures[-1]}")
