"""The command line of the measurements: ``python -m benchmarks WORD [options]``; ``all`` is what ``make bench`` runs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

WORDS = {
    "epochs": "wall time of a training epoch against TorchIO and MONAI",
    "waiting": "share of an epoch that passes before the step",
    "overhead": "Lightning, logging and callbacks over a bare loop",
    "startup": "from the command to the first training step",
    "store": "building and opening the store",
    "checksums": "what the checksums of prepared files cost",
    "memory": "memory of a run, and of eight that share the data",
    "transforms": "what TorchIO transforms of training scans cost",
    "compiling": "what model.compile gains, costs, and when that is paid",
    "parts": "where the time of a training step goes",
    "heads": "how often prepare puts a FLAIR on its T1w wherever the head lay",
    "ventricles": "how well a patient's ventricles come to lie on the template's",
    "core": "whether the core of a region keeps its neighbours' size out",
    "predict": "what the prediction of one scan costs, six inputs and seven folds on one core",
    "scale": "how each command grows with the cohort, up to 5,000 scans",
    "learning": "what our presets, the networks of others and linear readers learn of planted truths",
    "explain": "whether planted regions are the ones that networks are said to look at",
    "gpu": "a whole study's speed on a GPU against bound and roofline",
    "figure": "docs/benchmarks.png and the README's table, from the kept results",
}
ALL = ("epochs", "waiting", "overhead", "startup", "store", "checksums", "memory", "transforms", "compiling")
INNER = ("child", "tenant")


def main() -> int:
    """Run one measurement, or all that need no GPU."""
    words = sys.argv[1:]
    if words and words[0] == "all":
        return run_all(words[1:])
    if not words or words[0] not in (*WORDS, *INNER):
        print("python -m benchmarks WORD [--help]\n\n  all       what make bench runs: " + ", ".join(ALL))
        print("\n".join(f"  {word:10s}{description}" for word, description in WORDS.items()))
        return 2 if words and words[0] not in ("-h", "--help") else 0
    module = importlib.import_module(f"benchmarks.{words[0]}")
    try:
        status: int = module.main(words[1:])
    except ValueError as error:
        if type(error).__name__ != "BenchError":
            raise
        print(error, file=sys.stderr)
        return 2
    return status


def run_all(options: list[str]) -> int:
    """Every measurement in a process of its own, one after another, then the figure."""
    began = time.perf_counter()
    failed = []
    for word in ALL:
        print(f"== {word}: {WORDS[word]}", flush=True)
        if subprocess.run([sys.executable, "-m", "benchmarks", word, *options], check=False).returncode:
            failed.append(word)
    if "--quick" not in options:
        failed += ["figure"] if subprocess.run([sys.executable, "-m", "benchmarks", "figure"], check=False).returncode else []
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
