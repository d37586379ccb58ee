# Every target is a word of the command line: make fold = python -m experiments fold. `make help` lists them.
PYTHON ?= $(or $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(if $(shell $(python) -c $(SUITS) 2>/dev/null && echo yes),$(python)))),python3)
SUITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
VENV := .venv
RUN := $(VENV)/bin/python -m experiments
STAMP := $(VENV)/.installed

# One variable for each common option; ARGS takes the rest, for example ARGS="--trainer.max_epochs 5".
OPTIONS = $(if $(PRESET),--preset "$(PRESET)") $(if $(COHORT),--cohort "$(COHORT)") $(if $(STUDY),--study "$(STUDY)") \
          $(if $(SEED),--seed "$(SEED)") $(if $(REGIONS),--regions "$(REGIONS)") \
          $(if $(IMAGES),--images "$(IMAGES)") $(if $(CHANNELS),--channels "$(CHANNELS)") $(ARGS)
STUDY_ONLY = $(if $(COHORT),--cohort "$(COHORT)") $(if $(STUDY),--study "$(STUDY)")
GRID = $(if $(INPUTS),--inputs "$(INPUTS)") $(if $(SEEDS),--seeds "$(SEEDS)")

CLUSTER = $(if $(PARTITION),--partition "$(PARTITION)") $(if $(ACCOUNT),--account "$(ACCOUNT)") $(if $(TIME),--time "$(TIME)") \
          $(if $(MEM),--mem "$(MEM)") $(if $(CPUS),--cpus "$(CPUS)") $(if $(GPUS),--gpus "$(GPUS)") \
          $(if $(CONCURRENCY),--concurrency "$(CONCURRENCY)") $(if $(STAGE),--stage "$(STAGE)") \
          $(if $(SBATCH),--sbatch="$(SBATCH)") $(if $(DRY),--dry_run)

.DEFAULT_GOAL := help
.PHONY: help install demo test check core fold sweep plan baselines compare controls explain external bundle site predict report submit status cancel sync dashboard leet phantoms prepare adopt wheelhouse bench bench-learning bench-gpu lint types clean

help: ## list all targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS="$$(printf '\t')" read -r name meaning; do printf '  make %-14s %s\n' "$$name" "$$meaning"; done

install: $(STAMP) ## create .venv and install the project; does nothing when that is done

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c $(SUITS) 2>/dev/null || { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there); give one: make PYTHON=python3.12"; exit 2; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot create a virtual environment; on Debian: apt-get install python3-venv"; exit 2; }
	$(VENV)/bin/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## phantom cohort, all 42 runs, comparison: the whole tool at work
	@$(RUN) demo $(OPTIONS)

test: $(STAMP) ## lint, types and all tests but the long ones
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

check: $(STAMP) ## before training: quality of the scans, exclusions, balance, duplicates, precision, cost
	@$(RUN) check $(OPTIONS)

core: $(STAMP) ## the part of each region that is that region in every scan, as an atlas: make core COHORT=dir OUT=dir
	@$(RUN) core $(if $(OUT),--out "$(OUT)") $(if $(INPUTS),--inputs "$(INPUTS)") $(OPTIONS)

fold: $(STAMP) ## one run: make fold FOLD=3 ROI=gray_matter
	@$(RUN) fold --roi "$(ROI)" --fold "$(FOLD)" $(OPTIONS)

sweep: $(STAMP) ## every missing run of the study: make sweep GPUS=0,1 or JOBS=2
	@$(RUN) sweep $(if $(GPUS),--gpus "$(GPUS)") $(if $(PER_DEVICE),--per_device "$(PER_DEVICE)") $(if $(JOBS),--jobs "$(JOBS)") $(GRID) $(OPTIONS)

plan: $(STAMP) ## the commands of the missing runs, one per line
	@$(RUN) plan $(GRID) $(OPTIONS)

baselines: $(STAMP) ## age, sex, volumes and mean intensities on the same folds, for the comparison
	@$(RUN) baselines $(OPTIONS)

compare: $(STAMP) ## the comparison of the inputs, from the runs' files
	@$(RUN) compare $(GRID) $(if $(SEED),--seed "$(SEED)") $(STUDY_ONLY) $(ARGS)

controls: $(STAMP) ## what else could explain the result: permuted labels, mask only, header only, ...
	@$(RUN) controls $(if $(INPUTS),--inputs "$(INPUTS)") $(OPTIONS)

explain: $(STAMP) ## where the networks looked, held against networks with permuted labels: make explain STUDY=demo
	@$(RUN) explain $(GRID) $(STUDY_ONLY) $(ARGS)

external: $(STAMP) ## score an external cohort with frozen models: make external COHORT=dir STUDY=name
	@$(RUN) external $(if $(INPUTS),--inputs "$(INPUTS)") $(if $(COHORT),--cohort "$(COHORT)") $(if $(STUDY),--study "$(STUDY)") $(ARGS)

bundle: $(STAMP) ## one input's models as a folder of its own: make bundle STUDY=name INPUT=global
	@$(RUN) bundle $(if $(STUDY),--study "$(STUDY)") $(if $(INPUT),--input "$(INPUT)") $(if $(OUT),--out "$(OUT)") $(ARGS)

predict: $(STAMP) ## new scans without labels: make predict STUDY=name SCANS=dir OUT=dir
	@$(RUN) predict $(if $(STUDY),--study "$(STUDY)") $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(SCANS),--scans "$(SCANS)") $(if $(OUT),--out "$(OUT)") $(if $(INPUTS),--inputs "$(INPUTS)") $(ARGS)

site: $(STAMP) ## a hospital's cohort scored with a bundle, counts alone: make site BUNDLE=dir COHORT=dir OUT=dir
	@$(RUN) site $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(COHORT),--cohort "$(COHORT)") $(if $(OUT),--out "$(OUT)") $(ARGS)

report: $(STAMP) ## report.html, figures/ and tables/ of the study: make report STUDY=demo, with slices of failures: ARGS=--images
	@$(RUN) report $(STUDY_ONLY) $(ARGS)

submit: $(STAMP) ## every missing run on Slurm: make submit PARTITION=gpu TIME=8:00:00 MEM=32G CONCURRENCY=6 DRY=1
	@$(RUN) submit $(CLUSTER) $(GRID) $(OPTIONS)

status: $(STAMP) ## state of the study's runs, and of the queue where there is one
	@$(RUN) status $(STUDY_ONLY) $(ARGS)

cancel: $(STAMP) ## take the study's Slurm jobs out of the queue
	@$(RUN) cancel $(STUDY_ONLY) $(ARGS)

sync: $(STAMP) ## upload the study's offline W&B runs
	@$(RUN) sync $(STUDY_ONLY) $(ARGS)

dashboard: $(STAMP) ## the study's W&B workspace
	@$(RUN) dashboard $(STUDY_ONLY) $(ARGS)

leet: $(STAMP) ## the study in W&B's terminal dashboard
	@$(RUN) leet $(STUDY_ONLY) $(ARGS)

phantoms: $(STAMP) ## a synthetic cohort: make phantoms OUT=cohorts/mine PHANTOM=literature
	@$(RUN) phantoms --out "$(OUT)" $(if $(PHANTOM),--phantom "$(PHANTOM)") $(if $(SEED),--seed "$(SEED)") $(ARGS)

prepare: $(STAMP) ## raw BIDS scans to a cohort in MNI152 space: make prepare BIDS=/data/ms OUT=cohorts/ms
	@$(RUN) prepare $(if $(BIDS),--bids "$(BIDS)") $(if $(OUT),--out "$(OUT)") $(if $(JOBS),--jobs "$(JOBS)") $(ARGS)

adopt: $(STAMP) ## a public MS dataset as a cohort: make adopt DATASET=msleseg FROM=/data/MSLesSeg OUT=cohorts/msleseg
	@$(RUN) adopt $(if $(DATASET),--dataset "$(DATASET)") $(if $(FROM),--from "$(FROM)") $(if $(OUT),--out "$(OUT)") $(ARGS)

wheelhouse: $(STAMP) ## every wheel that is needed, with hashes, for a machine or a container without a network
	@$(VENV)/bin/python containers/wheelhouse.py $(ARGS)

bench: $(STAMP) ## speed and memory against TorchIO and MONAI, on the processor: make bench ARGS=--quick
	@$(VENV)/bin/python -m benchmarks all $(ARGS)

bench-learning: $(STAMP) ## what presets, foreign networks and linear readers learn of planted truths: make bench-learning ARGS="--minutes 60"
	@$(VENV)/bin/python -m benchmarks learning $(ARGS)

bench-gpu: $(STAMP) ## a whole study's speed on a GPU, against the network alone and the card's roofline
	@$(VENV)/bin/python -m benchmarks gpu $(ARGS)

lint: $(STAMP) ## format and lint the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

types: $(STAMP) ## check the types
	$(VENV)/bin/mypy

clean: ## remove the environment and caches; cohorts, studies and the store stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
