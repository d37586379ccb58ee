"""Trainings on a real Slurm (a private one on this machine) that is as unkind as clusters are, against an undisturbed sweep."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from held_network import HOLD
from slurm_lab import MISSING, Lab, experiments, running_lab, wait_until

from experiments.cluster.submissions import Submission, read_submissions
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run, grid

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"no {', '.join(MISSING)}: apt-get install --no-install-recommends slurm-wlm munge"
    ),
]

INPUTS, FOLDS, LIMIT = "brainstem,ventricles", 3, 3
RUNS = grid(INPUTS.split(","), [0], FOLDS)
TRAINING = [
    "--preset", "demo", "--trainer.max_epochs", "30", "--early_stopping.patience", "30", "--network", "held_network.HeldCNN",
    "--network.init_args.width", "2", "--network.init_args.stages", "3", "--trainer.accelerator", "cpu",
    "--tracking.mode", "disabled", "--folds", str(FOLDS), "--study", "tiny", "--inputs", INPUTS,
]  # fmt: skip
RESOURCES = ["--time", "10", "--signal", "30", "--concurrency", str(LIMIT), "--cpus", "1", "--mem", "500M"]


@dataclass
class Cluster:
    """A study on the lab's cluster, and what was seen of it."""

    lab: Lab
    options: list[str]
    study: Path
    told: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    devices: list[tuple[str, str]] = field(default_factory=list)
    most_running: int = 0
    preempted: int = -1
    lost: int = -1

    def call(self, name: str, *words: str) -> None:
        """Run one of the project's commands and keep what it says."""
        self.told[name] = self.lab.call(*experiments(*words))

    def submission(self, number: int) -> Submission:
        """A submission, the oldest is 0."""
        return read_submissions(self.study)[number]

    def log(self, submission: Submission, task: int) -> str:
        """What a task has printed so far, all its starts."""
        path = submission.folder / "logs" / f"task-{task}.log"
        return path.read_text() if path.is_file() else ""

    def epoch(self, run: Run) -> int:
        """Epochs that a run has finished, once it has a checkpoint to go on from."""
        folder = RunFolder(run.folder(self.study))
        path = folder.path / "progress.json"
        return json.loads(path.read_text())["epoch"] if folder.last.is_file() and path.is_file() else 0

    def resumed_epochs(self, submission: Submission) -> dict[int, list[int]]:
        """Epochs that tasks told of after they were started again; an epoch that went by within a second is not told."""
        parts = {task: self.log(submission, task).partition(": start 2")[2] for task in range(len(submission.runs))}
        epochs = {task: [int(number) for number in re.findall(r"epoch (\d+)/30", part)] for task, part in parts.items()}
        return {task: numbers for task, numbers in epochs.items() if numbers}

    def running(self, array: str, node: str | None = None) -> list[int]:
        """Tasks of an array that run now, on one node or on any."""
        jobs = self.lab.jobs(f"--jobs={array}", "--states=running")
        return [int(job.split("_")[1]) for job, (_, where) in jobs.items() if node in (None, where)]

    def everything(self) -> str:
        """The queue and all logs, for a failure's message."""
        logs = "\n".join(f"--- {path}\n{path.read_text()[-1500:]}" for path in sorted(self.study.glob("cluster/*/logs/*")))
        return self.lab.do("squeue", "--array", "--states=all") + logs


def workers(array: str) -> dict[int, tuple[int, dict[str, str]]]:
    """Process id and environment of the training of each of an array's tasks."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            pairs = (path / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if words[1:4] == [b"-m", b"experiments", b"fold"] and environment.get("SLURM_ARRAY_JOB_ID") == array:
            found[int(environment["SLURM_ARRAY_TASK_ID"])] = (int(path.name), environment)
    return found


@pytest.fixture(scope="module")
def cluster(phantom_cohort: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A study whose tasks met everything that happens on clusters, and that was submitted again until it was complete."""
    place = tmp_path_factory.mktemp("cluster")
    hold = place / "hold"
    hold.touch()
    studies = place / "my studies 50%"
    options = [*TRAINING, "--cohort", str(phantom_cohort), "--store", str(store_folder), "--studies", str(studies)]
    paths = os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 1))
    with running_lab(PYTHONPATH=paths, OMP_NUM_THREADS="1", **{HOLD: str(hold)}) as lab:
        made = Cluster(lab, options, studies / "tiny")
        submit_twice_at_once(made)
        ended = threading.Event()
        watch = threading.Thread(target=count_running, args=(made, ended))
        watch.start()
        try:
            kill_requeue_and_run_out_of_time(made)
            submit_while_tasks_are_queued(made)
            preempt(made)
            lose_a_node(made)
            cancel(made)
            hold.unlink()
            finish(made)
        finally:
            ended.set()
            watch.join()
        yield made


def submit_twice_at_once(cluster: Cluster) -> None:
    words = experiments("submit", *RESOURCES, *cluster.options)
    both = [
        subprocess.Popen(words, env=cluster.lab.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for number, process in enumerate(both):
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        cluster.told[f"submit {number}"] = subprocess.CompletedProcess(words, 0, out, err)
    array = cluster.submission(0).array
    wait_until(lambda: len(cluster.running(array)) == LIMIT, cluster.everything)
    wait_until(lambda: all(cluster.epoch(RUNS[task]) >= 1 for task in range(LIMIT)), cluster.everything)
    for _, environment in workers(array).values():
        cluster.devices.append((environment["SLURMD_NODENAME"], environment["CUDA_VISIBLE_DEVICES"]))
    cluster.call("status", "status", "--study", "tiny", "--studies", str(cluster.study.parent))


def count_running(cluster: Cluster, ended: threading.Event) -> None:
    while not ended.wait(0.5):
        cluster.most_running = max(cluster.most_running, len(cluster.running(cluster.submission(0).array)))


def kill_requeue_and_run_out_of_time(cluster: Cluster) -> None:
    first = cluster.submission(0)
    cluster.lab.do("scontrol", "update", f"jobid={first.array}_1", "timelimit=1")
    cluster.lab.do("scontrol", "requeue", f"{first.array}_2")
    os.kill(workers(first.array)[0][0], signal.SIGKILL)
    wait_until(lambda: cluster.lab.state(f"{first.array}_0") == "FAILED", cluster.everything)
    for task in (1, 2):
        wait_until(lambda task=task: cluster.lab.state(f"{first.array}_{task}") == "PENDING", cluster.everything)
    cluster.lab.do("scontrol", "update", f"jobid={first.array}_1", "timelimit=10")


def submit_while_tasks_are_queued(cluster: Cluster) -> None:
    cluster.call("submit queued", "submit", *RESOURCES, *cluster.options)


def pick_running(cluster: Cluster) -> tuple[int, str]:
    """A task of the first array that has finished an epoch since it was last started, and its node."""
    first = cluster.submission(0)
    chosen: list[tuple[int, str]] = []

    def look() -> bool:
        for job, (_, node) in cluster.lab.jobs(f"--jobs={first.array}", "--states=running").items():
            task = int(job.split("_")[1])
            if "epoch " in cluster.log(first, task).split(": start ")[-1]:
                chosen.append((task, node))
        return bool(chosen)

    wait_until(look, cluster.everything)
    return chosen[0]


def preempt(cluster: Cluster) -> None:
    first = cluster.submission(0)
    task, node = pick_running(cluster)
    words = ("--partition=high", f"--nodelist={node}", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 1")
    cluster.lab.do("sbatch", *words)
    wait_until(lambda: "DUE TO PREEMPTION" in cluster.log(first, task), cluster.everything)
    wait_until(lambda: task not in cluster.running(first.array, node), cluster.everything)
    cluster.preempted = task


def lose_a_node(cluster: Cluster) -> None:
    first = cluster.submission(0)
    task, node = pick_running(cluster)
    cluster.lab.do("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_until(lambda: task not in cluster.running(first.array, node), cluster.everything)
    wait_until(lambda: task not in workers(first.array) or task in cluster.running(first.array), cluster.everything)
    cluster.lab.call("scontrol", "update", f"nodename={node}", "state=resume")  # or it is back by itself
    cluster.lost = task
    wait_until(lambda: cluster.resumed_epochs(first), cluster.everything)


def cancel(cluster: Cluster) -> None:
    cluster.call("cancel", "cancel", "--study", "tiny", "--studies", str(cluster.study.parent))
    wait_until(lambda: not cluster.lab.jobs(), cluster.everything)
    cluster.states |= {job: state for job, (state, _) in cluster.lab.jobs("--states=all").items()}
    cluster.call("status cancelled", "status", "--study", "tiny", "--studies", str(cluster.study.parent))


def finish(cluster: Cluster) -> None:
    cluster.call("submit last", "submit", *RESOURCES, "--stage", str(cluster.lab.folder / "disk"), *cluster.options)
    wait_until(lambda: not cluster.lab.jobs(), cluster.everything)
    cluster.call("submit complete", "submit", *RESOURCES, *cluster.options)
    cluster.call("status complete", "status", "--study", "tiny", "--studies", str(cluster.study.parent))


def test_of_two_submissions_at_once_one_finds_all_runs_queued(cluster: Cluster) -> None:
    told = sorted((cluster.told[f"submit {number}"].stdout for number in range(2)), key=len)
    assert [cluster.told[f"submit {number}"].stderr for number in range(2)] == ["", ""]
    assert told[0] == f"nothing to submit: of 6 runs of {cluster.study} 6 are in the queue, look: make status\n"
    assert told[1].startswith(f"array {cluster.submission(0).array}: 6 of 6 runs, one task each; logs in ")


def test_no_more_tasks_run_at_once_than_was_asked_for(cluster: Cluster) -> None:
    assert cluster.most_running == LIMIT


def test_each_task_sees_a_gpu_of_its_own(cluster: Cluster) -> None:
    assert len(cluster.devices) == len(set(cluster.devices)) == LIMIT
    assert {device for _, device in cluster.devices} <= {"0", "1"}


def test_status_shows_epochs_and_what_the_queue_holds(cluster: Cluster) -> None:
    told = cluster.told["status"].stdout
    assert cluster.told["status"].returncode == 0, cluster.told["status"].stderr
    assert len(re.findall(r"\d+/30 n[12]", told)) == LIMIT
    assert told.count("queued") == len(RUNS) - LIMIT
    assert f"array {cluster.submission(0).array}: 3 running, 3 pending (JobArrayTaskLimit)" in told
    assert f"job {cluster.submission(0).compare}: comparison, pending (Dependency)" in told


def test_a_killed_task_fails_and_the_next_submission_takes_its_run_alone(cluster: Cluster) -> None:
    second = cluster.submission(1)
    assert cluster.states[f"{cluster.submission(0).array}_0"] == "FAILED"
    assert second.runs == (RUNS[0],)
    assert cluster.told["submit queued"].stdout.startswith(f"array {second.array}: 1 of 6 runs")


def test_before_its_time_is_up_a_task_is_told_stops_and_is_requeued(cluster: Cluster) -> None:
    log = cluster.log(cluster.submission(0), 1)
    assert f"{RUNS[1].name}: interrupted; the same command goes on after the last finished epoch" in log
    assert "DUE TO TIME LIMIT" not in log


def test_tasks_that_were_requeued_preempted_or_lost_start_again_by_themselves(cluster: Cluster) -> None:
    first = cluster.submission(0)
    assert "DUE TO JOB REQUEUE" in cluster.log(first, 2)
    assert "DUE TO PREEMPTION" in cluster.log(first, cluster.preempted)
    assert "node failure" in cluster.log(first, cluster.lost).lower()
    assert cluster.resumed_epochs(first)


def test_whatever_is_started_again_goes_on_after_its_last_epoch(cluster: Cluster) -> None:
    for submission in read_submissions(cluster.study)[::2]:
        assert all(epochs[0] > 1 for epochs in cluster.resumed_epochs(submission).values())
    third = cluster.submission(2)
    begun = [run for run in RUNS if RunFolder(run.folder(cluster.study)).facts()["attempts"] > 1]
    assert set(RUNS[:LIMIT]) <= set(begun)
    for run in RUNS[:LIMIT]:
        epochs = re.findall(r"epoch (\d+)/30", cluster.log(third, third.runs.index(run)))
        assert epochs, run.name
        assert int(epochs[0]) > 1, run.name


def test_cancel_leaves_nothing_running_and_nothing_restarts(cluster: Cluster) -> None:
    told = cluster.told["cancel"].stdout
    assert re.match(r"cancelled \d running and \d queued runs of ", told), told
    left = {state for job, state in cluster.states.items() if job.startswith(f"{cluster.submission(0).array}_")}
    assert left == {"FAILED", "CANCELLED"}
    assert cluster.states[str(cluster.submission(0).compare)] == "CANCELLED"
    assert "stopped" in cluster.told["status cancelled"].stdout
    assert "array" not in cluster.told["status cancelled"].stdout


def test_the_last_submission_completes_the_grid_and_compares(cluster: Cluster) -> None:
    third = cluster.submission(2)
    assert set(RUNS[:LIMIT]) <= set(third.runs)
    assert {RunFolder(run.folder(cluster.study)).facts()["state"] for run in RUNS} == {"complete"}, cluster.everything()
    assert cluster.lab.state(str(third.compare)) == "COMPLETED", (third.folder / "logs" / "compare.log").read_text()
    content = json.loads((cluster.study / "comparison.json").read_text())
    assert {name: len(runs) for name, runs in content["runs"].items()} == {"brainstem": FOLDS, "ventricles": FOLDS}
    assert cluster.told["submit complete"].stdout == f"nothing to submit: of 6 runs of {cluster.study} none is missing\n"
    assert cluster.told["status complete"].stdout.count("done") == len(RUNS)


def test_volumes_are_copied_to_the_node_s_disk_once(cluster: Cluster) -> None:
    third = cluster.submission(2)
    copied = [re.findall(r"(\d+) of 75 were copied now", cluster.log(third, task)) for task in range(len(third.runs))]
    assert sorted(copied) == [["0"]] * (len(third.runs) - 1) + [["75"]]


def test_logs_are_plain_text(cluster: Cluster) -> None:
    logs = [path.read_text() for path in cluster.study.glob("cluster/*/logs/*.log")]
    assert len(logs) > len(RUNS)
    assert not any("\x1b" in log for log in logs)


def test_predictions_are_byte_for_byte_those_of_an_undisturbed_sweep(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.lab.call(*experiments("sweep", "--jobs", "2", *cluster.options, "--studies", str(tmp_path)), timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    for run in RUNS:
        name = Path(run.name) / "predictions.tsv"
        assert (cluster.study / name).read_bytes() == (tmp_path / "tiny" / name).read_bytes(), run.name
        assert len((tmp_path / "tiny" / name).read_bytes()) > 200
