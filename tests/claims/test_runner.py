"""Many runs of one command: those that fail do not stop the others."""

import json
import sys
import threading
import time

import pytest

from common.claims import runner
from common.claims.runner import Job
from common.errors import UserError
from common.run import lock

_WELL = "import pathlib, sys; pathlib.Path(sys.argv[1], 'summary.json').write_text('{}')"
_BADLY = "import sys; sys.exit('error: the loss is not finite at step 7')"


def _job(folder, code, after=None):
    return Job(folder, (sys.executable, "-c", code, str(folder)), one_core=True, keeps=False, after=after)


def test_the_other_runs_go_on_when_one_fails(tmp_path, capsys):
    jobs = [_job(tmp_path / name, code) for name, code in (("a", _WELL), ("b", _BADLY), ("c", _WELL), ("d", _WELL))]
    ends = []
    failures = runner.run_all(jobs, slots=1, done=lambda: ends.append([runner.finished(job) for job in jobs]))
    assert failures == [f"a run ended with code 1: the loss is not finite at step 7 (see {tmp_path}/b/log.txt)"]
    assert len(ends) == 3
    assert ends[-1] == [True, False, True, True]
    assert "finished" in capsys.readouterr().out
    assert runner.run_all(jobs, slots=1) == failures  # what failed is tried again, and nothing else
    assert capsys.readouterr().out.startswith(f"running {tmp_path}/b; 0 wait")
    assert (tmp_path / "b" / "log.txt").read_text() == 2 * "error: the loss is not finite at step 7\n"


def test_a_run_waits_for_the_one_it_starts_from(tmp_path):
    needs = f"import pathlib; assert pathlib.Path({str(tmp_path / 'first')!r}, 'summary.json').exists(); {_WELL}"
    jobs = [
        _job(tmp_path / "second", needs, after=tmp_path / "first"),
        _job(tmp_path / "first", _WELL),
        _job(tmp_path / "orphan", needs, after=tmp_path / "fails"),
        _job(tmp_path / "fails", _BADLY),
    ]
    failures = runner.run_all(jobs, slots=2)
    assert [runner.finished(job) for job in jobs] == [True, True, False, False]
    assert failures[-1] == f"{tmp_path}/orphan starts from a run that is not finished"
    assert not (tmp_path / "orphan").exists()


def test_a_campaign_ends_if_all_its_runs_fail(tmp_path):
    jobs = [_job(tmp_path / str(number), _BADLY) for number in range(9)]
    with pytest.raises(UserError, match="the loss is not finite at step 7"):
        runner.run_all(jobs, slots=1)
    assert len(list(tmp_path.iterdir())) <= 4


@pytest.mark.parametrize(("given", "slots", "share"), [({}, 1, None), ({}, 3, "0.300"), ({"0.2"}, 3, "0.2")])
def test_runs_side_by_side_share_the_memory_of_a_gpu(given, slots, share, tmp_path, monkeypatch):
    variable = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    monkeypatch.delenv(variable, raising=False)
    for value in given:
        monkeypatch.setenv(variable, value)
    said = f"import json, os, pathlib, sys; told = json.dumps(os.environ.get({variable!r})); "
    job = _job(tmp_path / "run", said + "pathlib.Path(sys.argv[1], 'summary.json').write_text(told)")
    assert runner.run_all([job], slots=slots) == []
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == share


@pytest.mark.slow
def test_the_platform_of_runs_is_asked_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert runner.platform_of_runs() == "cpu"
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    with pytest.raises(UserError, match="JAX does not start.*abacus"):
        runner.platform_of_runs()


def test_a_run_that_another_command_makes_is_waited_for(tmp_path, capsys):
    attempts = "import pathlib, sys; pathlib.Path(sys.argv[1], 'tried').open('a').write('once'); sys.exit(2)"
    [job] = jobs = [_job(tmp_path / "shared", attempts)]
    failures = []
    campaign = threading.Thread(target=lambda: failures.extend(runner.run_all(jobs, slots=1)))
    with lock.held(job.folder):
        campaign.start()
        while campaign.is_alive() and "waiting for it" not in capsys.readouterr().out:
            time.sleep(0.05)
        (job.folder / "checkpoints" / "7").mkdir(parents=True)
        (job.folder / "summary.json").write_text("{}")
    campaign.join()
    assert failures == []
    assert (job.folder / "tried").read_text() == "once"
    assert (job.folder / "checkpoints" / "7").is_dir()  # the other command may need it


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/file/run"):
        runner.run_all([_job(tmp_path / "file" / "run", _WELL)], slots=1)
