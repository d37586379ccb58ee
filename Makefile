# Every target is a word of the command line: make fold = python -m experiments fold. `make help` lists them.
PYTHON ?= $(or $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(if $(shell $(python) -c $(SUITS) 2>/dev/null && echo yes),$(python)))),python3)
SUITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
VENV := .venv
RUN := $(VENV)/bin/python -m experiments
STAMP := $(VENV)/.installed

# One variable for each common option. $(call option,NAME,VARIABLE) is --NAME='value', as it was typed: spaces, quotes, $ and a
# dash in front are no harm. ARGS takes the rest, written as in a shell, for example ARGS="--trainer.max_epochs 5".
option = $(if $(value $(2)),--$(1)='$(subst ','\'',$(value $(2)))')
REST = $(value ARGS)
STUDY_ONLY = $(call option,cohort,COHORT) $(call option,study,STUDY)
GRID = $(call option,inputs,INPUTS) $(call option,seeds,SEEDS)
WORKERS = $(call option,gpus,GPUS) $(call option,per_device,PER_DEVICE) $(call option,jobs,JOBS)
OPTIONS = $(call option,preset,PRESET) $(STUDY_ONLY) $(call option,seed,SEED) $(call option,regions,REGIONS) \
          $(call option,images,IMAGES) $(call option,channels,CHANNELS) $(REST)
CLUSTER = $(call option,partition,PARTITION) $(call option,account,ACCOUNT) $(call option,time,TIME) $(call option,mem,MEM) \
          $(call option,cpus,CPUS) $(call option,gpus,GPUS) $(call option,concurrency,CONCURRENCY) $(call option,stage,STAGE) \
          $(call option,sbatch,SBATCH) $(if $(filter-out 0 no false,$(DRY)),--dry_run)

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
	@$(RUN) demo $(WORKERS) $(GRID) $(OPTIONS)

test: $(STAMP) ## lint, types and all tests but the long ones
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" $(REST)

check: $(STAMP) ## before training: quality of the scans, exclusions, balance, duplicates, precision, cost
	@$(RUN) check $(OPTIONS)

core: $(STAMP) ## the part of each region that is that region in every scan, as an atlas: make core COHORT=dir OUT=dir
	@$(RUN) core $(call option,out,OUT) $(call option,inputs,INPUTS) $(OPTIONS)

fold: $(STAMP) ## one run: make fold FOLD=3 ROI=gray_matter
	@$(RUN) fold $(call option,roi,ROI) $(call option,fold,FOLD) $(call option,stage,STAGE) $(OPTIONS)

sweep: $(STAMP) ## every missing run of the study: make sweep GPUS=0,1 or JOBS=2
	@$(RUN) sweep $(WORKERS) $(GRID) $(OPTIONS)

plan: $(STAMP) ## the commands of the missing runs, one per line
	@$(RUN) plan $(GRID) $(OPTIONS)

baselines: $(STAMP) ## age, sex, volumes and mean intensities on the same folds, for the comparison
	@$(RUN) baselines $(OPTIONS)

compare: $(STAMP) ## the comparison of the inputs, from the runs' files
	@$(RUN) compare $(GRID) $(call option,seed,SEED) $(STUDY_ONLY) $(REST)

controls: $(STAMP) ## what else could explain the result: permuted labels, mask only, header only, ...
	@$(RUN) controls $(call option,inputs,INPUTS) $(OPTIONS)

explain: $(STAMP) ## where the networks looked, held against networks with permuted labels: make explain STUDY=demo
	@$(RUN) explain $(GRID) $(STUDY_ONLY) $(REST)

external: $(STAMP) ## score an external cohort with frozen models: make external COHORT=dir STUDY=name
	@$(RUN) external $(call option,inputs,INPUTS) $(call option,seed,SEED) $(STUDY_ONLY) $(REST)

bundle: $(STAMP) ## one input's models as a folder of its own: make bundle STUDY=name INPUT=global
	@$(RUN) bundle $(call option,study,STUDY) $(call option,input,INPUT) $(call option,seed,SEED) $(call option,out,OUT) $(REST)

predict: $(STAMP) ## new scans without labels: make predict STUDY=name SCANS=dir OUT=dir
	@$(RUN) predict $(call option,study,STUDY) $(call option,bundle,BUNDLE) $(call option,scans,SCANS) $(call option,out,OUT) $(call option,inputs,INPUTS) $(call option,seed,SEED) $(REST)

site: $(STAMP) ## a hospital's cohort scored with a bundle, counts alone: make site BUNDLE=dir COHORT=dir OUT=dir
	@$(RUN) site $(call option,bundle,BUNDLE) $(call option,cohort,COHORT) $(call option,out,OUT) $(REST)

report: $(STAMP) ## report.html, figures/ and tables/ of the study: make report STUDY=demo, with slices of failures: ARGS=--images
	@$(RUN) report $(STUDY_ONLY) $(call option,out,OUT) $(REST)

submit: $(STAMP) ## every missing run on Slurm: make submit PARTITION=gpu TIME=8:00:00 MEM=32G CONCURRENCY=6 DRY=1
	@$(RUN) submit $(CLUSTER) $(GRID) $(OPTIONS)

status: $(STAMP) ## state of the study's runs, and of the queue where there is one
	@$(RUN) status $(STUDY_ONLY) $(REST)

cancel: $(STAMP) ## take the study's Slurm jobs out of the queue
	@$(RUN) cancel $(STUDY_ONLY) $(REST)

sync: $(STAMP) ## upload the study's offline W&B runs
	@$(RUN) sync $(STUDY_ONLY) $(REST)

dashboard: $(STAMP) ## the study's W&B workspace
	@$(RUN) dashboard $(STUDY_ONLY) $(REST)

leet: $(STAMP) ## the study in W&B's terminal dashboard
	@$(RUN) leet $(STUDY_ONLY) $(REST)

phantoms: $(STAMP) ## a synthetic cohort: make phantoms OUT=cohorts/mine PHANTOM=literature
	@$(RUN) phantoms $(call option,out,OUT) $(call option,phantom,PHANTOM) $(call option,seed,SEED) $(REST)

prepare: $(STAMP) ## raw BIDS scans to a cohort in MNI152 space: make prepare BIDS=/data/ms OUT=cohorts/ms
	@$(RUN) prepare $(call option,bids,BIDS) $(call option,out,OUT) $(call option,jobs,JOBS) $(call option,images,IMAGES) $(REST)

adopt: $(STAMP) ## a public MS dataset as a cohort: make adopt DATASET=msleseg FROM=/data/MSLesSeg OUT=cohorts/msleseg
	@$(RUN) adopt $(call option,dataset,DATASET) $(call option,from,FROM) $(call option,out,OUT) $(REST)

wheelhouse: $(STAMP) ## every wheel that is needed, with hashes, for a machine or a container without a network
	@$(VENV)/bin/python containers/wheelhouse.py $(REST)

bench: $(STAMP) ## speed and memory against TorchIO and MONAI, on the processor: make bench ARGS=--quick
	@$(VENV)/bin/python -m benchmarks all $(REST)

bench-learning: $(STAMP) ## what presets, foreign networks and linear readers learn of planted truths: make bench-learning ARGS="--minutes 60"
	@$(VENV)/bin/python -m benchmarks learning $(REST)

bench-gpu: $(STAMP) ## a whole study's speed on a GPU, against the network alone and the card's roofline
	@$(VENV)/bin/python -m benchmarks gpu $(REST)

lint: $(STAMP) ## format and lint the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

types: $(STAMP) ## check the types
	$(VENV)/bin/mypy

clean: ## remove the environment and caches; cohorts, studies and the store stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
