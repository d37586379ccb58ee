"""What is sent to Slurm, and what a user is told when it cannot be; no Slurm needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cluster.resources import ClusterError, Resources, seconds_of
from experiments.cluster.scripts import Launch, array_script, compare_script, read_runs_table, runs_table
from experiments.runtime.environment import own_environment
from experiments.study.runs import grid

RUNS = grid(["global", "brainstem"], [0], 3)
LAUNCH = Launch(
    "regionwise-tiny-1", Path("/data/my studies/tiny/cluster/1"), Path("/home/me/it's here"), "/opt/venv/bin/python"
)


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


class TestScript:
    def test_it_asks_for_what_was_typed(self) -> None:
        asked = Resources("gpu", "neuro", "4:00:00", "32G", "8", "a100:1", "5", "300")
        assert options(array_script(LAUNCH, RUNS, asked)) == [
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
        said = " ".join(options(array_script(LAUNCH, RUNS, Resources(mem=""))))
        assert not any(name in said for name in ("--partition", "--account", "--time", "--mem", "%5"))
        assert "--array=0-5 " in said

    def test_without_a_gpu_none_is_asked_for_and_none_is_seen(self) -> None:
        script = array_script(LAUNCH, RUNS, Resources(gpus="0"))
        assert "--gpus" not in script
        assert 'export CUDA_VISIBLE_DEVICES=""' in script
        assert "CUDA_VISIBLE_DEVICES=" not in array_script(LAUNCH, RUNS, Resources())

    def test_the_training_runs_in_a_step_that_gets_the_signal(self) -> None:
        script = array_script(LAUNCH, RUNS, Resources(cpus="2"), ["--folds", "3"])
        step = script[script.index("\nsrun ") :].split("status=")[0].replace("\\\n", "")
        assert step.split() == [
            "srun", "--ntasks=1", "--cpus-per-task=2", "/opt/venv/bin/python", "-m", "experiments", "fold",
            "--config", "'/data/my", "studies/tiny/cluster/1/settings.yaml'", "--folds", "3",
            "--roi", '"$input"', "--fold", '"$fold"', "--seed", '"$seed"',
        ]  # fmt: skip

    def test_a_requeue_names_the_array_index_and_never_the_job_id(self) -> None:
        script = array_script(LAUNCH, RUNS, Resources())
        assert 'scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' in script
        assert "SLURM_JOB_ID" not in script

    def test_a_percent_sign_in_a_folder_is_no_pattern_for_logs(self) -> None:
        script = array_script(replace(LAUNCH, folder=Path("/data/50%a")), RUNS, Resources())
        assert "--output=/data/50%%a/logs/task-%a.log" in options(script)

    def test_a_path_that_slurm_would_misread_is_refused(self) -> None:
        with pytest.raises(ClusterError, match="holds a quote"):
            array_script(replace(LAUNCH, folder=Path('/data/"x"')), RUNS, Resources())

    def test_further_options_are_carried_to_both_jobs(self) -> None:
        asked = Resources(sbatch="--qos=long --constraint 'a100&nvlink' -x n7 --comment='two words'")
        lines = ["--qos=long", "--constraint a100&nvlink", "-x n7", '--comment="two words"']
        assert asked.extra() == lines
        assert set(lines) <= set(options(array_script(LAUNCH, RUNS, asked))) & set(options(compare_script(LAUNCH, asked, [])))

    def test_the_comparison_s_commands_follow_each_other_and_the_first_failure_ends_it(self) -> None:
        script = compare_script(LAUNCH, Resources(gpus="2"), [["compare", "--seeds", "0,1"], ["report"]])
        compared, reported = script.splitlines()[-2:]
        assert compared.endswith("-m experiments compare --seeds 0,1 || exit")
        assert reported.endswith("-m experiments report || exit")
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
    script = array_script(Launch("job", folder, tmp_path, "python"), RUNS, Resources(stage="/scratch/$USER/x"))

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
        with own_environment():
            assert not [name for name in os.environ if name.startswith(("SLURM", "JSM"))]
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"

    def test_handlers_are_in_and_variables_gone_before_torch(self) -> None:
        code = """
import os, signal, sys
from experiments.__main__ import main
from experiments.commands import fold
from experiments.runtime import interruption

def stop(*_):
    print("torch" in sys.modules, signal.getsignal(signal.SIGUSR1) is interruption._note, "SLURM_PROCID" in os.environ)
    sys.exit()

fold.parse_run = stop
main(["fold", "--roi", "global", "--fold", "0"])
"""
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"SLURM_PROCID": "1"}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "False True False\n", done.stderr
