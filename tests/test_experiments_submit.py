"""``submit``, ``status`` and ``cancel`` with pretended Slurm commands: what is handed over, and what a user is told."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.cluster.submissions import ask_queue, read_submissions
from experiments.study.run_folder import RunFolder
from experiments.study.runs import Run, grid


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
        from experiments.study.settings import parse_settings

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
        first, second = read_submissions(tmp_path / "studies" / "tiny")
        assert first.folder != second.folder
        assert [run.fold for run in second.runs] == [4, 6]
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
        assert "1 run of tiny is stale, made with another config, split, cohort, data" in err
        status, out, err = call(*words, "--restart", "--dry_run")
        assert (status, err, out.count("\tbrainstem\t")) == (0, "", 7)
        assert folder.facts()["state"] == "complete"
        assert call(*words, "--restart")[1].startswith("array 11: 7 of 7 runs")
        assert not folder.facts()

    def test_a_study_that_cannot_be_written_is_one_line(self, words, call, phantom_cohort, store_folder, monkeypatch) -> None:
        monkeypatch.setattr("experiments.commands.submit.require", lambda name: None)
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
