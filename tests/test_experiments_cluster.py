"""What is sent to Slurm, and what a user is told when it cannot be; no Slurm needed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.__main__ import main
from experiments.cluster import Place, array_script, compare_script, read_runs_table, runs_table
from experiments.interruption import Interrupted, forget_scheduler
from experiments.plan import Run, grid
from experiments.resources import ClusterError, Resources, seconds_of
from experiments.results import RunFolder
from experiments.staging import stage
from experiments.study import Study
from experiments.submissions import ask_queue, read_submissions

RUNS = grid(["global", "brainstem"], [0], 3)
PLACE = Place("regionwise-tiny-1", Path("/data/my studies/tiny/cluster/1"), Path("/home/me/it's here"), "/opt/venv/bin/python")


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


class TestScript:
    def test_it_asks_for_what_was_typed(self) -> None:
        asked = Resources("gpu", "neuro", "4:00:00", "32G", "8", "a100:1", "5", "300")
        assert options(array_script(PLACE, RUNS, asked)) == [
            "--job-name=regionwise-tiny-1",
            "--array=0-5%5",
            "--partition=gpu",
            "--account=neuro",
            "--time=4:00:00",
            "--mem=32G",
            "--nodes=1",
            "--ntasks-per-node=1",
            "--cpus-per-task=8",
            "--gpus-per-node=a100:1",
            "--signal=USR1@300",
            "--requeue",
            "--open-mode=append",
            '--output="/data/my studies/tiny/cluster/1/logs/task-%a.log"',
        ]

    def test_what_was_not_typed_is_left_to_the_cluster(self) -> None:
        said = " ".join(options(array_script(PLACE, RUNS, Resources(mem=""))))
        assert not any(name in said for name in ("--partition", "--account", "--time", "--mem", "%5"))
        assert "--array=0-5 " in said

    def test_without_a_gpu_none_is_asked_for_and_none_is_seen(self) -> None:
        script = array_script(PLACE, RUNS, Resources(gpus="0"))
        assert "--gpus" not in script
        assert 'export CUDA_VISIBLE_DEVICES=""' in script
        assert "CUDA_VISIBLE_DEVICES=" not in array_script(PLACE, RUNS, Resources())

    def test_the_training_runs_in_a_step_that_gets_the_signal(self) -> None:
        script = array_script(PLACE, RUNS, Resources(cpus="2"), ["--folds", "3"])
        step = script[script.index("\nsrun ") :].split("status=")[0].replace("\\\n", "")
        assert step.split() == [
            "srun", "--ntasks=1", "--cpus-per-task=2", "/opt/venv/bin/python", "-m", "experiments", "fold",
            "--config", "'/data/my", "studies/tiny/cluster/1/settings.yaml'", "--folds", "3",
            "--roi", '"$input"', "--fold", '"$fold"', "--seed", '"$seed"',
        ]  # fmt: skip

    def test_a_requeue_names_the_array_index_and_never_the_job_id(self) -> None:
        script = array_script(PLACE, RUNS, Resources())
        assert 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' in script
        assert "SLURM_JOB_ID" not in script

    def test_a_percent_sign_in_a_folder_is_no_pattern_for_logs(self) -> None:
        script = array_script(replace(PLACE, folder=Path("/data/50%a")), RUNS, Resources())
        assert "--output=/data/50%%a/logs/task-%a.log" in options(script)

    def test_a_path_that_slurm_would_misread_is_refused(self) -> None:
        with pytest.raises(ClusterError, match="holds a quote"):
            array_script(replace(PLACE, folder=Path('/data/"x"')), RUNS, Resources())

    def test_further_options_are_carried_to_both_jobs(self) -> None:
        asked = Resources(sbatch="--qos=long --constraint 'a100&nvlink' -x n7 --comment='two words'")
        lines = ["--qos=long", "--constraint a100&nvlink", "-x n7", '--comment="two words"']
        assert asked.extra() == lines
        assert set(lines) <= set(options(array_script(PLACE, RUNS, asked))) & set(options(compare_script(PLACE, asked, [])))

    def test_the_comparison_runs_once_a_seed_and_keeps_the_worst_status(self) -> None:
        script = compare_script(PLACE, Resources(gpus="2"), [["compare", "--seed", "0"], ["compare", "--seed", "1"]])
        assert script.count("-m experiments compare --seed") == 2
        assert script.endswith('exit "$worst"\n')
        assert "--gpus" not in script

    def test_runs_read_back_equal(self) -> None:
        assert read_runs_table(runs_table(RUNS)) == tuple(RUNS)
        assert runs_table(RUNS).splitlines()[:2] == ["task\tinput\tfold\tseed", "0\tglobal\t0\t0"]


@pytest.fixture
def script_runner(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs an array script with a pretended srun that exits with a given status; tells which Slurm commands it called."""
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "runs.tsv").write_text(runs_table(RUNS))
    for name, body in (("srun", 'exit "$GIVEN"'), ("scontrol", "exit 0")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"$CALLS"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    script = array_script(Place("job", folder, tmp_path, "python"), RUNS, Resources(stage="/scratch/$USER/x"))

    def run(status: int, task: int = 0, restarts: int | None = None) -> tuple[int, list[str]]:
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "GIVEN": str(status), "CALLS": str(tmp_path / "calls"),
            "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "77", "SLURM_JOB_ID": "80",
            "SLURMD_NODENAME": "n1", "USER": "me",
        }  # fmt: skip
        environment |= {} if restarts is None else {"SLURM_RESTART_COUNT": str(restarts)}
        (tmp_path / "calls").unlink(missing_ok=True)
        done = subprocess.run(["bash", "-u"], input=script, env=environment, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


class TestArrayTask:
    def test_it_trains_the_run_of_its_line(self, script_runner) -> None:
        for task, run in enumerate(RUNS):
            _, calls = script_runner(0, task)
            assert calls[0].endswith(f"--roi {run.input} --fold {run.fold} --seed {run.seed} --stage /scratch/me/x")

    @pytest.mark.parametrize(
        ("status", "restarts", "left", "requeued"),
        [
            (0, None, 0, False),  # complete
            (1, None, 1, False),  # failed: the same would happen again
            (137, 3, 137, False),  # killed
            (75, None, 75, True),  # interrupted
            (75, 19, 75, True),
            (75, 20, 75, False),  # often enough
            (69, None, 0, False),  # another launch has it: nothing to do, no restart is spent
            (69, 0, 0, False),
            (69, 1, 69, True),  # its own former process on a lost node: look again later
            (69, 20, 69, False),
        ],
    )
    def test_what_it_makes_of_the_training_s_status(self, script_runner, status, restarts, left, requeued) -> None:
        done, calls = script_runner(status, 5, restarts)
        assert done == left
        assert calls[1:] == (["scontrol requeue 77_5"] if requeued else [])


class TestResources:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90", 5400),
            ("10:30", 630),
            ("4:00:00", 14400),
            ("1-0", 86400),
            ("1-12", 129600),
            ("2-01:30", 178200),
            ("1-00:00:05", 86405),
        ],
    )
    def test_time_limits_are_read_as_slurm_reads_them(self, text, seconds) -> None:
        assert seconds_of(text) == seconds

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"time": "4h"}, "--time '4h' cannot be used; write for example --time 4:00:00"),
            ({"mem": "16 GB"}, "--mem '16 GB' cannot be used; write for example --mem 16G"),
            ({"cpus": "0"}, "--cpus '0' cannot be used"),
            ({"gpus": "0,1"}, "--gpus '0,1' cannot be used; write for example --gpus 1, a100:1 or 0"),
            ({"concurrency": "0"}, "--concurrency '0' cannot be used"),
            ({"partition": "a b"}, "--partition 'a b' cannot be used"),
            ({"stage": "$(rm x)"}, "--stage '.*' cannot be used"),
            ({"time": "2", "signal": "120"}, "--time 2 is over before --signal 120 seconds"),
            ({"sbatch": "--array=0-3"}, "--sbatch: --array is set by the array itself"),
            ({"sbatch": "--sig USR2@9"}, "--sbatch: --sig is set by the array itself"),
            ({"sbatch": "-ofile"}, "--sbatch: -ofile is set by the array itself"),
            ({"sbatch": "long"}, "does not start with an option"),
            ({"sbatch": "--comment='x"}, "No closing quotation"),
            ({"sbatch": "--qos=a\n#SBATCH --array=0"}, "line break"),
        ],
    )
    def test_what_makes_no_job_is_refused(self, given, told) -> None:
        with pytest.raises(ClusterError, match=told):
            Resources(**given)

    def test_options_that_only_look_alike_pass(self) -> None:
        assert Resources(sbatch="--nodelist=n1 --exclusive --export=ALL --nice=5").extra()[0] == "--nodelist=n1"


class TestWorker:
    def test_it_forgets_the_scheduler_s_variables_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURMD_NODENAME", "JSM_NAMESPACE_RANK", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.setenv(name, "3")
        forget_scheduler()
        assert not [name for name in os.environ if name.startswith(("SLURM", "JSM"))]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"

    def test_handlers_are_in_and_variables_gone_before_torch(self) -> None:
        code = """
import os, signal, sys
from experiments import fold, interruption

def stop(*_):
    print("torch" in sys.modules, signal.getsignal(signal.SIGUSR1) is interruption._note, "SLURM_PROCID" in os.environ)
    sys.exit()

fold.parse_run = stop
fold.main(["--roi", "global", "--fold", "0"])
"""
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"SLURM_PROCID": "1"}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "False True False\n", done.stderr


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``tools(name, body)`` puts a pretended command on PATH, which holds nothing else of Slurm."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "cat", "git"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def words(phantom_cohort: Path, store_folder: Path, tmp_path: Path) -> list[str]:
    places = ["--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(tmp_path / "studies")]
    return ["submit", "--preset", "demo", *places, "--study", "tiny", "--inputs", "brainstem", "--time", "60"]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*given: str) -> tuple[int, str, str]:
        status = main(list(given))
        out = capfd.readouterr()
        return status, out.out, out.err

    return run


def one_line(err: str) -> bool:
    return err.startswith("regionwise: ") and err.count("\n") == 1


class TestSubmit:
    def test_a_dry_run_prints_the_script_and_needs_no_slurm(self, tools, words, call, tmp_path) -> None:
        status, out, err = call(*words, "--dry_run")
        assert (status, err) == (0, "")
        assert out.startswith("#!/bin/bash\n#SBATCH --job-name=regionwise-tiny-")
        assert out.count("\tbrainstem\t") == 7
        assert not (tmp_path / "studies" / "tiny" / "cluster").exists()

    def test_an_option_of_sbatch_may_be_given_as_a_word_of_its_own(self, tools, words, call) -> None:
        assert "#SBATCH --qos=long\n" in call(*words, "--dry_run", "--sbatch", "--qos=long")[1]

    def test_own_regions_and_folds_reach_the_task_s_command(self, tools, words, call, tmp_path) -> None:
        regions = tmp_path / "own.yaml"
        regions.write_text("deep:\n  labels: [10, 49]\n  description: thalamus\n")
        out = call(*words, "--dry_run", "--regions", str(regions), "--inputs", "deep", "--folds", "4")[1]
        assert f"--regions {regions} --folds 4 --roi" in out
        assert out.count("\tdeep\t") == 4

    @pytest.mark.parametrize("given", [["--time"], ["--sbatch", "--array=1"], ["--gpus", "0,1"]])
    def test_a_mistake_is_one_line(self, tools, words, call, given) -> None:
        status, out, err = call(*words, *given)
        assert (status, out, one_line(err)) == (2, "", True)

    def test_without_sbatch_it_says_what_to_do(self, tools, words, call, tmp_path) -> None:
        status, _, err = call(*words)
        assert status == 2
        assert one_line(err)
        assert "sbatch is not on PATH" in err
        assert "make sweep" in err
        assert not (tmp_path / "studies").exists()

    def test_what_is_handed_over_is_written_down_first(self, tools, words, call, tmp_path) -> None:
        tools("sbatch", 'case "$*" in *afterany*) echo 12; echo "$*" >>"$0.calls";; *) echo "11;lab";; esac')
        status, out, err = call(*words)
        assert (status, err) == (0, "")
        assert out.splitlines()[0].startswith("array 11: 7 of 7 runs, one task each; logs in ")
        (made,) = read_submissions(tmp_path / "studies" / "tiny")
        assert (made.array, made.compare, made.runs) == ("11", "12", tuple(grid(["brainstem"], [0])))
        assert {path.name for path in made.folder.iterdir()} == {
            "runs.tsv", "settings.yaml", "array.sh", "compare.sh", "submission.json", "logs",
        }  # fmt: skip
        assert "--dependency=afterany:11 " in (tmp_path / "tools" / "sbatch.calls").read_text()
        assert f"{sys.executable} -m experiments compare --study tiny" in (made.folder / "compare.sh").read_text()

    def test_the_written_settings_make_the_same_fingerprint(self, tools, words, call, tmp_path) -> None:
        from experiments.settings import parse_settings

        tools("sbatch", "echo 11")
        call(*words, "--trainer.max_epochs", "3")
        (made,) = read_submissions(tmp_path / "studies" / "tiny")
        assert parse_settings(["--config", str(made.folder / "settings.yaml")]).hash() == made.fingerprint["config"]

    def test_queued_runs_are_not_submitted_again(self, tools, words, call, tmp_path) -> None:
        tools("sbatch", "echo 11")
        call(*words)
        job = read_submissions(tmp_path / "studies" / "tiny")[0].job
        tools("squeue", f"for t in 0 1 2 3 5; do echo \"11_$t|PENDING|{job}|(Resources)\"; done; echo '11_4|PENDING|other|(x)'")
        tools("sbatch", 'echo "$*" >>"$0.calls"; echo 21')
        assert "array 21: 2 of 7 runs" in call(*words)[1]
        assert [run.fold for run in read_submissions(tmp_path / "studies" / "tiny")[1].runs] == [4, 6]
        assert "--dependency=afterany:21:11 " in (tmp_path / "tools" / "sbatch.calls").read_text()

    def test_when_slurm_refuses_nothing_is_left(self, tools, words, call, tmp_path) -> None:
        tools("sbatch", "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1")
        status, _, err = call(*words)
        assert status == 2
        assert one_line(err)
        assert "sbatch refused: sbatch: error: invalid partition specified: gpuu" in err
        assert [path.name for path in (tmp_path / "studies" / "tiny" / "cluster").iterdir()] == [".lock"]

    def test_a_run_in_a_process_s_hands_is_not_submitted(self, tools, words, call, tmp_path) -> None:
        tools("sbatch", "echo 11")
        call(*words, "--dry_run")
        folder = RunFolder(tmp_path / "studies" / "tiny" / "brainstem" / "fold-2" / "seed-0")
        with folder.lock():
            call(*words)
            first = read_submissions(tmp_path / "studies" / "tiny")[-1]
            folder.write_facts({"state": "running", "fingerprint": first.fingerprint})
            tools("squeue", "exit 0")
            call(*words)
        assert [run.fold for run in read_submissions(tmp_path / "studies" / "tiny")[-1].runs] == [0, 1, 3, 4, 5, 6]

    def test_stale_runs_are_named_or_set_aside(self, tools, words, call, tmp_path) -> None:
        tools("sbatch", "echo 11")
        folder = RunFolder(tmp_path / "studies" / "tiny" / "brainstem" / "fold-2" / "seed-0")
        folder.write_facts({"state": "complete", "fingerprint": {}})
        status, _, err = call(*words)
        assert (status, one_line(err)) == (2, True)
        assert "1 runs of tiny were made with another config, split, cohort, data" in err
        assert call(*words, "--restart")[1].startswith("array 11: 7 of 7 runs")

    def test_a_study_that_cannot_be_written_is_one_line(self, words, call, phantom_cohort, store_folder, monkeypatch) -> None:
        monkeypatch.setattr("experiments.submit.require", lambda name: None)
        with readable_by_all(phantom_cohort, store_folder) as (cohort, store, studies):
            given = [*words, "--cohort", str(cohort), "--store", str(store), "--studies", str(studies)]
            call(*given, "--dry_run")
            for path in (store, *store.rglob("*")):
                path.chmod(0o777)
            (studies / "tiny").chmod(0o555)
            with as_nobody():
                status, _, err = call(*given)
            assert (status, one_line(err)) == (2, True), err
            assert str(studies / "tiny") in err
            assert "Permission denied" in err


@contextmanager
def readable_by_all(cohort: Path, store: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Copies that a user without rights can read, outside pytest's own private folder."""
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        (place / "studies").mkdir()
        shutil.copytree(cohort, place / "cohort")
        shutil.copytree(store, place / "store")
        yield place / "cohort", place / "store", place / "studies"
    finally:
        shutil.rmtree(place)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestQueue:
    @pytest.fixture
    def submitted(self, tools, words, call, tmp_path) -> Path:
        """A study of which array 11 and comparison 12 were submitted."""
        tools("sbatch", 'case "$*" in *afterany*) echo 12;; *) echo 11;; esac')
        call(*words)
        return tmp_path / "studies" / "tiny"

    def study_words(self, study: Path) -> list[str]:
        return ["--study", study.name, "--studies", str(study.parent)]

    def squeue(self, tools, study: Path) -> None:
        job = read_submissions(study)[0].job
        lines = [
            f"11_0|RUNNING|{job}|n1",
            f"11_1|PENDING|{job}|(JobArrayTaskLimit)",
            f"12|PENDING|{job}-compare|(Dependency)",
            "11_2|RUNNING|x|n1",
        ]
        tools("squeue", "cat <<'END'\n" + "\n".join(lines) + "\nEND")

    def test_jobs_of_another_cluster_with_the_same_numbers_are_not_ours(self, tools, submitted) -> None:
        self.squeue(tools, submitted)
        queue = ask_queue(read_submissions(submitted))
        assert set(queue.runs) == {Run("brainstem", 0), Run("brainstem", 1)}
        assert queue.arrays == ["11"]
        assert [job.id for job in queue.compares] == ["12"]

    def test_a_queue_that_has_forgotten_the_jobs_is_an_empty_one(self, tools, submitted) -> None:
        tools("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
        assert ask_queue(read_submissions(submitted)).runs == {}

    def test_status_shows_files_and_queue(self, tools, submitted, call) -> None:
        self.squeue(tools, submitted)
        prints = read_submissions(submitted)[0].fingerprint
        facts = {"fingerprint": prints, "attempts": 2}
        for fold, more in (
            (2, {"state": "complete"}),
            (3, {"state": "failed", "error": "ValueError: x"}),
            (4, {"state": "running"}),
        ):
            RunFolder(submitted / "brainstem" / f"fold-{fold}" / "seed-0").write_facts(facts | more)
        path = submitted / "brainstem" / "fold-4" / "seed-0" / "progress.json"
        path.write_text(json.dumps({"epoch": 3, "max_epochs": 8}))
        status, out, err = call("status", *self.study_words(submitted))
        assert (status, err) == (0, "")
        row = next(line for line in out.splitlines() if line.startswith("  brainstem"))
        assert row.split() == ["brainstem", "n1", "queued", "done", "x2", "failed", "x2", "3/8", "x2", "stopped", "-", "-"]
        assert "1 complete, 1 failed, 1 interrupted, 4 missing" in out
        assert "failed brainstem/fold-3/seed-0: ValueError: x" in out
        assert "array 11: 1 running, 1 pending (JobArrayTaskLimit)" in out
        assert "job 12: comparison, pending (Dependency)" in out

    def test_status_needs_no_slurm(self, submitted, call) -> None:
        status, out, _ = call("status", *self.study_words(submitted))
        assert status == 0
        assert "the queue cannot be seen, this is what the files say: squeue is not on PATH" in out

    def test_status_of_a_study_that_was_never_submitted(self, tmp_path, call) -> None:
        (tmp_path / "new").mkdir()
        status, out, _ = call("status", "--study", "new", "--studies", str(tmp_path))
        assert status == 0
        assert "42 missing" in out

    def test_cancel_names_the_jobs_that_are_left(self, tools, submitted, call, tmp_path) -> None:
        self.squeue(tools, submitted)
        tools("scancel", 'echo "$*" >"$0.calls"')
        status, out, _ = call("cancel", *self.study_words(submitted))
        assert status == 0
        assert out.startswith(f"cancelled 1 running and 1 queued runs of {submitted} (jobs 11, 12)")
        assert (tmp_path / "tools" / "scancel.calls").read_text() == "11 12\n"

    def test_cancel_with_nothing_queued_says_so(self, tools, submitted, call) -> None:
        tools("squeue", "exit 0")
        assert call("cancel", *self.study_words(submitted))[:2] == (0, f"no job of {submitted} is queued or running\n")

    def test_a_queue_that_does_not_answer_stops_submit_and_cancel(self, tools, submitted, words, call) -> None:
        tools("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
        for given in (words, ["cancel", *self.study_words(submitted)]):
            status, _, err = call(*given)
            assert (status, one_line(err)) == (2, True)
            assert "squeue does not answer: slurm_load_jobs error: Unable to contact" in err


class TestStaging:
    @pytest.fixture
    def told(self) -> Console:
        return Console(record=True, width=400)

    def test_volumes_are_copied_once_and_read_equal(self, study: Study, tmp_path, told) -> None:
        staged = stage(study.prepared, tmp_path / "disk", told)
        assert staged.folder == tmp_path / "disk"
        assert staged.hash == study.prepared.hash
        assert (staged.image(3) == study.prepared.image(3)).all()
        again = stage(study.prepared, tmp_path / "disk", told)
        lines = told.export_text().splitlines()
        assert again.folder == staged.folder
        assert lines[0].endswith(", 25 of 25 were copied now")
        assert lines[1].endswith(", 0 of 25 were copied now")

    def test_what_does_not_fit_is_read_from_the_store(self, study: Study, tmp_path, told, monkeypatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
        assert stage(study.prepared, tmp_path / "disk", told) is study.prepared
        line = told.export_text()
        assert f"volumes are read from {study.prepared.folder}, not from {tmp_path / 'disk'}: " in line
        assert "MB are needed and 0 MB are free there" in line
        assert list((tmp_path / "disk" / "volumes").iterdir()) == []

    def test_a_folder_that_cannot_be_made_is_told(self, study: Study, tmp_path, told) -> None:
        (tmp_path / "file").touch()
        assert stage(study.prepared, tmp_path / "file" / "disk", told) is study.prepared
        assert "Not a directory" in told.export_text()

    def test_waiting_for_another_process_ends_with_a_signal(self, study: Study, tmp_path, told, monkeypatch) -> None:
        (tmp_path / "disk").mkdir()
        monkeypatch.setattr("experiments.interruption._received", [])
        with (tmp_path / "disk" / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            monkeypatch.setattr("experiments.staging.time.sleep", lambda seconds: _signalled())
            with pytest.raises(Interrupted):
                stage(study.prepared, tmp_path / "disk", told)


def _signalled() -> None:
    from experiments import interruption

    interruption._received.append(signal.SIGUSR1)
