"""Leave-site-out: each site tested once, nobody leaks, and the study, its runs and its report follow the sites."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_report import write_reportable
from made_study import Made, cohort_of, write_study
from statsmodels.stats.meta_analysis import combine_effects

from datamodules.cohort.records import Scan
from datamodules.cohort.site_splits import NO_SITE, OTHER_SITE, at_one_site, make_site_splits
from datamodules.cohort.splits import SplitError, SplitRule, TooFewPatientsError, load_splits, make_splits, write_splits
from datamodules.cohort.target import Target
from datamodules.files.sealed import read_sealed
from datamodules.files.tables import CohortError
from experiments.__main__ import main
from experiments.analysis.compare import compared
from experiments.analysis.pooling import Pooled
from experiments.analysis.sites import held_over_sites
from experiments.analysis.stacking import TOGETHER
from experiments.controls.cases import NotRunError, _leaky, permuted
from experiments.statistics.heterogeneity import heterogeneity, of_areas
from experiments.statistics.paired import Comparison
from experiments.statistics.predictions import Predictions
from experiments.statistics.significance import Estimate
from experiments.study.record import read_record
from experiments.study.study import StudyOptions, open_study

FILE = Path("x")


def scan(patient: str, site: str, label: int = 0, session: str = "ses-1") -> Scan:
    return Scan(
        patient,
        session,
        {"t1w": FILE, "flair": FILE},
        4.0 if label else 1.0,
        0,
        label,
        covariates={"site": site} if site else {},
    )


def site(name: str, positive: int, negative: int) -> list[Scan]:
    """Scans of one site; every third patient has two."""
    scans = []
    for number in range(positive + negative):
        patient = f"{name}-{number:02d}"
        scans += [scan(patient, name, int(number < positive), f"ses-{s + 1}") for s in range(1 + (number % 3 == 0))]
    return scans


COHORT = [*site("Wien", 6, 9), *site("Graz", 12, 20), *site("Linz", 5, 7)]


@pytest.mark.parametrize("seed", range(4))
def test_each_site_is_tested_once_and_none_of_its_patients_trains_or_tunes(seed: int) -> None:
    splits = make_site_splits(COHORT, seed)
    assert splits.sites == ("Graz", "Linz", "Wien")
    patients = [scan.patient for scan in COHORT]
    tested: Counter[str] = Counter()
    for fold, name in enumerate(splits.sites):
        rows = splits.partitions(fold, patients)
        assert sorted(np.concatenate(list(rows.values()))) == list(range(len(COHORT)))
        assert {COHORT[row].site for row in rows["internal_test"]} == {name}
        assert name not in {COHORT[row].site for part in ("train", "tuning") for row in rows[part]}
        who = {part: {patients[row] for row in chosen} for part, chosen in rows.items()}
        assert not who["train"] & who["tuning"]
        assert {COHORT[row].label for row in rows["tuning"]} == {COHORT[row].label for row in rows["train"]} == {0, 1}
        rest = len(who["train"]) + len(who["tuning"])
        assert abs(len(who["tuning"]) - rest / 6) <= 2
        assert {COHORT[row].site for row in rows["tuning"]} == set(splits.sites) - {name}
        tested.update(who["internal_test"])
    assert tested == dict.fromkeys(patients, 1)


def test_a_site_is_one_however_its_name_was_typed() -> None:
    typed = ("K\u00f6ln", "Ko\u0308ln", "k\u00f6ln", "K\u00f6ln\u00a0")
    renamed = [replace(each, covariates={"site": typed[number % 4]}) for number, each in enumerate(site("Wien", 6, 9))]
    cohort = at_one_site(cohort_of([*renamed, *COHORT[20:]]))
    assert len(cohort.scans) == len(renamed) + len(COHORT[20:])
    assert make_site_splits(cohort.scans, 0).sites == ("Graz", "K\u00f6ln", "Linz")


def test_seed_and_scans_decide_the_split_and_their_order_does_not() -> None:
    assert make_site_splits(COHORT, 0) == make_site_splits(COHORT[::-1], 0)
    hashes = {make_site_splits(COHORT, seed).hash for seed in range(5)}
    assert len(hashes) == 5
    assert make_splits(COHORT, 0, 3).hash not in hashes


def test_the_file_reads_back_and_a_changed_block_is_refused(tmp_path: Path) -> None:
    path, splits = tmp_path / "splits.tsv", make_site_splits(COHORT, 0)
    write_splits(path, splits, COHORT, "cohort")
    assert load_splits(path, COHORT) == splits
    assert json.loads(path.with_suffix(".json").read_text())["sites"] == ["Graz", "Linz", "Wien"]
    rows = path.read_text().splitlines()
    moved = [*rows[:-1], rows[-1][:-1] + str((int(rows[-1][-1]) + 1) % 6)]
    path.write_text("\n".join(moved) + "\n")
    with pytest.raises(SplitError, match="is not the split that was made"):
        load_splits(path, COHORT)
    path.write_text("\n".join([*rows[:-1], rows[-1][:-1] + "9"]) + "\n")
    with pytest.raises(SplitError, match="block '9'"):
        load_splits(path, COHORT)


def test_a_patient_of_two_sites_keeps_one_and_scans_without_a_site_are_excluded() -> None:
    moved = [scan("m", "Graz"), scan("m", "Wien", session="ses-2"), scan("m", "wien ", session="ses-3")]
    tied = [scan("t", "Linz"), scan("t", "Graz", session="ses-10")]
    cohort = at_one_site(cohort_of([*COHORT, *moved, *tied, scan("n", "")]))
    kept = {(s.patient, s.session) for s in cohort.scans if s.patient in "mtn"}
    assert kept == {("m", "ses-2"), ("m", "ses-3"), ("t", "ses-1")}
    reasons = {(e.patient, e.session): e.reason for e in cohort.exclusions}
    assert reasons == {("m", "ses-1"): OTHER_SITE, ("t", "ses-10"): OTHER_SITE, ("n", "ses-1"): NO_SITE}
    splits = make_site_splits(cohort.scans, 0)
    assert splits.sites == ("Graz", "Linz", "Wien")
    assert splits.sites[splits.part["m"]] == "Wien"


def test_small_sites_are_refused_by_name_or_tested_together_where_that_is_asked_for() -> None:
    scans = [*COHORT, *site("Bern", 1, 5), *site("Basel", 1, 1)]
    with pytest.raises(TooFewPatientsError, match=r"site Basel has 1 positive and 1 negative patients \(and 1 more such"):
        make_site_splits(scans, 0)
    assert make_site_splits(scans, 0, "join").sites == ("Basel + Bern", "Graz", "Linz", "Wien")
    with pytest.raises(TooFewPatientsError, match=r"site Bern has 0 positive and 5 negative patients.*leave its scans out"):
        make_site_splits([*COHORT, *site("Bern", 0, 5)], 0, "join")


@pytest.mark.parametrize(
    ("scans", "said"),
    [
        (site("Graz", 8, 8), "needs 2 sites; all scans are of 'Graz'"),
        (
            [*site("Graz", 2, 9), *site("Wien", 2, 2)],
            "without site Graz too few patients are left: the tuning",
        ),
    ],
)
def test_what_cannot_be_split_by_site_is_named(scans: list[Scan], said: str) -> None:
    with pytest.raises(SplitError, match=said):
        make_site_splits(scans, 0)


def test_a_cohort_without_any_site_is_refused() -> None:
    with pytest.raises(SplitError, match="no scan has a site"):
        at_one_site(cohort_of([scan("a", ""), scan("b", "")]))


def test_labels_are_permuted_within_sites_and_a_split_by_scan_is_not_run() -> None:
    splits = make_site_splits(COHORT, 0)
    dealt = permuted(COHORT, splits, np.random.default_rng(0))
    assert [source.site for source in dealt] == [s.site for s in COHORT]
    with pytest.raises(NotRunError, match="split by site"):
        _leaky(type("Case", (), {"scans": COHORT, "splits": splits})(), Target())


def test_random_effects_agree_with_statsmodels_and_metafor() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 3, 8):
        y, error = rng.normal(0.5, 0.6, k), rng.uniform(0.1, 0.5, k)
        ours, theirs = heterogeneity(y.tolist(), error.tolist()), combine_effects(y, error**2, method_re="chi2", use_t=True)
        assert ours.tau2 == pytest.approx(max(theirs.tau2, 0), abs=1e-9)
        assert ours.q == pytest.approx(theirs.q, abs=1e-9)
        assert ours.i2 == pytest.approx(max(theirs.i2, 0), abs=1e-9)
        if theirs.tau2 > 0:
            assert ours.mean == pytest.approx(theirs.mean_effect_re, abs=1e-9)
            low, high = theirs.conf_int(use_t=True)[3 if theirs.scale_hksj_re > 1 else 1]
            assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
    # metafor's dat.bcg (tuberculosis in 13 trials of a vaccine: cases and others, vaccinated and not), log relative risks,
    # rma(yi, vi, method = "DL"): Q 152.2330, tau2 0.3088, I2 92.12 %, estimate -0.7141, standard error 0.1787
    counts = np.array([
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
        (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
        (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
    ]).T  # fmt: skip
    treated, control = counts[0] + counts[1], counts[2] + counts[3]
    y = np.log(counts[0] / treated) - np.log(counts[2] / control)
    bcg = heterogeneity(y.tolist(), np.sqrt(1 / counts[0] - 1 / treated + 1 / counts[2] - 1 / control).tolist())
    assert bcg.q == pytest.approx(152.2330, abs=5e-5)
    assert bcg.tau2 == pytest.approx(0.3088, abs=5e-5)
    assert 100 * bcg.i2 == pytest.approx(92.12, abs=5e-3)
    assert bcg.mean == pytest.approx(-0.7141, abs=5e-5)
    assert bcg.predicted_high is not None
    assert bcg.predicted_high - bcg.mean == pytest.approx(2.200985 * (0.3088 + 0.1787**2) ** 0.5, abs=5e-4)


def test_areas_of_equal_sites_are_summarised_on_their_own_scale() -> None:
    over = of_areas([0.7, 0.7, 0.7], [0.05, 0.05, 0.05])
    assert (over.mean, over.i2, over.tau2) == (pytest.approx(0.7), 0.0, 0.0)
    assert over.predicted_low is not None
    assert 0 < over.predicted_low < over.low < 0.7 < over.high < 1
    assert of_areas([0.7, 0.8], [0.05, 0.05]).predicted_low is None


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Made(patients=60, scans=72, inputs=("global", "ventricles"), by_site=True)
    folder = write_reportable(tmp_path_factory.mktemp("made") / "sites", made)
    assert main(["report", "--study", "sites", "--studies", str(folder.parent)]) == 0
    return folder


def test_compare_scores_each_site_with_the_models_that_did_not_see_it(reported: Path) -> None:
    content = read_sealed(reported / "sites.json", "again")
    assert [group["site"] for group in content["sites"]] == ["site-0", "site-1", "site-2"]
    assert sum(group["scans"] for group in content["sites"]) == 72
    of_folds = read_sealed(reported / "comparison.json", "again")["details"]["fold_values"]["global"]["auc"]
    assert [group["inputs"]["global"]["auc"]["value"] for group in content["sites"]] == pytest.approx(of_folds)
    over = content["over_sites"]["global"]
    assert over["sites"] == 3
    assert min(of_folds) < over["mean"] < max(of_folds)
    assert over["predicted_low"] <= over["low"]
    assert over["predicted_high"] >= over["high"]


def test_the_report_has_the_forest_and_says_how_it_was_split(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    assert (reported / "figures" / "sites.svg").is_file()
    assert (reported / "tables" / "heterogeneity.tsv").read_text().startswith("input\tsites\tmean\tlow\thigh\ttau2\ti2")
    for words in ("split by site", "Split by site into 3 parts", "Leave-site-out: each of 3 parts", "3 sites tell little"):
        assert words in page
    assert "part k + 1" not in page


def pair_of(gaps: tuple[float, ...], verdict: str) -> tuple[dict[str, list[Pooled]], Comparison]:
    """Tables of five sites of 20 patients whose decisions differ by given shares, and what was said of the pair."""
    fold, y = np.repeat(np.arange(5), 20), np.tile(np.arange(20) % 2, 5)
    worse = np.concatenate([np.arange(20) < round(20 * abs(gap)) for gap in gaps])
    names = np.array([f"p{number:03d}" for number in range(100)])
    tables = {
        name: [Pooled(Predictions(names, fold, y, np.linspace(0, 1, 100), np.where(wrong, 1 - y, y)), {}, {})]
        for name, wrong in (("ventricles", np.zeros(100, dtype=bool)), ("global", worse))
    }
    return tables, Comparison("ventricles", "global", "balanced_accuracy", Estimate(0.1, 0.05, 0.15), 0.01, 0.01, 0.01, verdict)


@pytest.mark.parametrize("verdict", ["different", "different (baseline)"])
def test_a_difference_of_decisions_must_hold_between_sites_too(verdict: str) -> None:
    tables, pair = pair_of((0.5, 0.4, 0.5, 0.6, 0.5), verdict)
    kept, notes = held_over_sites({"paired": [pair]}, tables, 0.3)
    assert kept == {"paired": [pair]}
    assert notes == []
    tables, pair = pair_of((1.0, 0.0, 0.0, 0.0, 0.1), verdict)
    taken, notes = held_over_sites({"paired": [pair], "paired_auc": [replace(pair, metric="auc")]}, tables, 0.3)
    assert taken["paired"][0].verdict == verdict.replace("different", "not distinguishable")
    assert taken["paired_auc"][0].verdict == verdict
    assert notes == ["ventricles minus global: different over patients, but not over sites; not called different"]


def test_an_equivalence_of_decisions_must_hold_between_sites_too() -> None:
    tables, pair = pair_of((0.0, 0.05, 0.0, 0.0, 0.0), "equivalent within 5 points")
    assert held_over_sites({"paired": [pair]}, tables, 0.1)[0] == {"paired": [pair]}
    tables, pair = pair_of((0.0, 0.1, 0.0, 0.0, 0.0), "equivalent within 5 points")
    assert held_over_sites({"paired": [pair]}, tables, 0.3)[0]["paired"][0].verdict == "not distinguishable"


def test_what_is_said_of_ensembles_and_stacks_must_hold_between_sites_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(patients=60, scans=72, inputs=("global", "ventricles", "brainstem"), seeds=(0, 1), by_site=True)
    write_study(tmp_path / "sites", made)
    pairs = (("ventricles", "ensembles"), (TOGETHER, "stacked"))
    gap, said = Estimate(0.1, 0.05, 0.15), {}
    for name, role in pairs:
        verdict = f"different ({role})"
        said[role] = [Comparison(name, "global", "balanced_accuracy", gap, 0.01, 0.01, 0.01, verdict)]
    monkeypatch.setattr("experiments.analysis.compare.compare_ensembles", lambda *_: {"paired_ensembles": said["ensembles"]})
    monkeypatch.setattr("experiments.analysis.compare.compare_stacks", lambda *_: {"paired_stacked": said["stacked"]})
    found = compared(tmp_path / "sites", made.inputs, made.seeds, folds=3, draws=100)[1]
    assert found.paired_ensembles[0].verdict == "not distinguishable (ensembles)"
    assert found.paired_stacked[0].verdict == "not distinguishable (stacked)"
    over = "different over patients, but not over sites; not called different"
    assert {f"ensembles: ventricles minus global: {over}", f"{TOGETHER} minus global: {over}"} <= set(found.notes)


def test_compare_prints_how_the_sites_differ(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--study", "sites", "--studies", str(reported.parent), "--inputs", "global,ventricles"]
    assert main([*words, "--draws", "200", "--tracking.mode", "disabled"]) == 0
    assert "global: AUC over 3 sites 0." in capsys.readouterr().out


def words_of(options: StudyOptions) -> list[str]:
    """The options of a command on a study."""
    paths = ["--cohort", str(options.cohort), "--store", str(options.store), "--studies", str(options.folder.parent)]
    return ["--preset", "demo", *paths, "--study", "study", "--split.by", "site", "--trainer.max_epochs", "1"]


@pytest.fixture
def two_sites(phantom_copy: Path, store_folder: Path, tmp_path: Path) -> StudyOptions:
    """A study, split by site, of the phantom cohort; the sites are dealt out to its patients by hand."""
    path = phantom_copy / "participants.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    column = rows[0].index("site")
    for number, row in enumerate(rows[1:]):
        row[column] = f"site-{number % 2}"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return StudyOptions(phantom_copy, tmp_path / "study", store_folder, split=SplitRule("site"))


def test_a_study_keeps_its_rule(two_sites: StudyOptions) -> None:
    study = open_study(two_sites)
    assert study.splits.folds == 2
    record = read_record(study.folder)
    assert record is not None
    assert record.split == SplitRule("site")
    assert record.folds == 2
    assert open_study(two_sites) == study
    with pytest.raises(SplitError, match=r"was split with --split.by site, not patient; use another STUDY"):
        open_study(replace(two_sites, split=SplitRule()))
    with pytest.raises(CohortError, match=r"was begun with --split.small refuse, not join; use another STUDY"):
        open_study(replace(two_sites, split=SplitRule("site", "join")))


def test_a_study_by_patient_is_not_taken_for_one_by_site(two_sites: StudyOptions) -> None:
    made = open_study(replace(two_sites, split=SplitRule()))
    assert "rule" not in (made.folder / "study.yaml").read_text()
    with pytest.raises((SplitError, CohortError), match=r"--split.by patient, not site"):
        open_study(two_sites)


def test_plan_check_and_fold_follow_the_sites(two_sites: StudyOptions, capfd: pytest.CaptureFixture[str]) -> None:
    words = words_of(two_sites)
    assert main(["plan", *words, "--inputs", "global,brainstem", "--format", "tsv"]) == 0
    rows = [line.split("\t")[:2] for line in capfd.readouterr().out.splitlines()[1:]]
    assert rows == [["global", "0"], ["brainstem", "0"], ["global", "1"], ["brainstem", "1"]]
    assert main(["fold", "--roi", "brainstem", "--fold", "2", *words]) == 2
    assert "FOLD=2 does not exist; folds are 0 to 1" in capfd.readouterr().err
    assert not (two_sites.folder / "brainstem").exists()
    assert main(["submit", "--dry_run", *words, "--inputs", "brainstem"]) == 0
    assert "--folds 2" in capfd.readouterr().out
    assert main(["check", *words]) == 0
    assert "1 site-1" in capfd.readouterr().out


@pytest.mark.slow
def test_a_run_is_trained_and_compared(two_sites: StudyOptions) -> None:
    words = words_of(two_sites)
    for number in ("0", "1"):
        command = [sys.executable, "-m", "experiments", "fold", "--roi", "brainstem", "--fold", number, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    study = ["--study", "study", "--studies", str(two_sites.folder.parent)]
    assert main(["compare", *study, "--inputs", "brainstem", "--draws", "200", "--tracking.mode", "disabled"]) == 0
    assert [group["site"] for group in read_sealed(two_sites.folder / "sites.json", "")["sites"]] == ["site-0", "site-1"]
