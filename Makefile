# Everything runs in .venv, which the first target that needs it makes.
#
#   make demo TF=tf-gpu          TensorFlow with CUDA (default: the CPU build, or `tf` off Linux x86-64)
#   make demo PYTHON=python3.12  the Python to build the environment from (3.11, 3.12 or 3.13)
#   make test VENV=/tmp/venv     another environment folder
#   make test-backends BACKENDS=jax
#   make test-kaggle KAGGLE_PYTHON=python3.12   what makes the environment with Kaggle's versions
#   make lab OPTIONS="--no-browser --port 8889"
#   make kaggle NOTEBOOK=09_inference OWNER=you OPTIONS="--kernel you/my-training"

.DEFAULT_GOAL := help
.PHONY: help demo test test-backends test-engines engines test-faults test-kaggle kaggle-environments check lab notebooks bench bench-scaling bench-steps bench-decisions bench-attention bench-ten-crop bench-checkpoints bench-export bench-size bench-gpu bench-processes kaggle clean FORCE

VENV ?= .venv
PYTHON ?= python3.13 python3.12 python3.11 python3
TF ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),tf-cpu,tf)
KAGGLE_PYTHON ?= python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python3.12) python3.11 python3
BACKENDS ?= tensorflow jax torch
NOTEBOOK ?= 08_submission
OWNER ?=
OPTIONS ?=
FREE_GB ?= $(if $(filter tf-gpu,$(TF)),10,4)

PY := "$(VENV)/bin/python"
NBVAL := $(PY) -m pytest --nbval --nbval-current-env --nbval-cell-timeout 300 \
	--nbval-sanitize-with notebooks/nbval.cfg -p no:cacheprovider

# Half of the work of `test`: what starts other programs, and what trains longest.
SECOND := tests/kaggle tests/browser \
	$(patsubst %,tests/test_%.py,timed data_parallel checkpoints export fit)
# The files that need jax or Ray; on tensorflow most of the first is skipped.
ENGINES_TESTS = { failed=0; \
	KERAS_BACKEND=jax $(ENGINES_PY) -m pytest -q -rs tests/test_processes.py || failed=1; \
	$(ENGINES_PY) -m pytest -q -rs tests/test_tagging.py || failed=1; \
	[ $$failed = 0 ]; }
# A process group of its own, so that all of it can be ended.
GROUP := $(PY) -c "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"

# Two more, for tests: the versions of Kaggle's image, and its client.
KAGGLE := $(VENV)-kaggle
CLIENT := $(VENV)-kaggle-client
# And one on top of $(VENV): jax and Ray. It stays apart because both change what is tested there:
# Keras starts more slowly where jax is, pandas keeps strings otherwise where pyarrow is.
ENGINES := $(VENV)-engines
ENGINES_PY := "$(ENGINES)/bin/python"

# What the environment was made for: a moved checkout or another TF needs a new one.
MADE_FOR := $(TF) $(CURDIR)
INSTALLED := $(VENV)/installed
OURS := $(VENV)/made-by-make

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED)  ## from nothing to a submission on the drawn museum: notebooks 01, 02, 07, 08
	@$(PY) -m imetlib demo --out demo

test: $(INSTALLED)  ## ruff, pytest (unit, contract, doctest), every notebook under strict nbval
	@failed=; \
	step() { title=$$1; shift; printf '\n== %s\n' "$$title"; "$$@" || failed="$$failed, $$title"; }; \
	step "ruff check" $(PY) -m ruff check .; \
	step "ruff format" $(PY) -m ruff format --check .; \
	log=$$(mktemp); \
	$(GROUP) sh -c "$$SECOND_LANE" > "$$log" 2>&1 & lane=$$!; \
	trap 'kill -- -$$lane; exit 130' INT TERM; \
	step "pytest: unit, contract, doctest (the others run beside it)" \
		$(PY) -m pytest -q $(addprefix --ignore ,$(SECOND)); \
	step "nbval: notebooks; pytest: bundles as on Kaggle, a browser, training, jax and Ray" \
		wait $$lane; \
	cat "$$log"; rm -f "$$log"; \
	if [ -n "$$failed" ]; then printf '\nFailed: %s\n' "$${failed#, }"; exit 1; fi; \
	printf '\nAll passed.\n'

# Beside the rest, on the other core.
define SECOND_LANE
status=0
$(NBVAL) -q notebooks/0*.ipynb || status=1
$(PY) -m pytest -q -rs -s $(SECOND) || status=1
if [ -e "$(ENGINES)/installed" ]; then
	$(ENGINES_TESTS) || status=1
else
	echo "No $(ENGINES), so no training in processes and no Ray: make test-engines adds them."
fi
exit $$status
endef
export SECOND_LANE

test-engines: $(ENGINES)/installed  ## training in several processes on jax, and tagging with Ray
	@$(ENGINES_TESTS)

test-backends: $(ENGINES)/installed  ## tests of models/ and training/ on tensorflow, jax and torch
	@if ! $(ENGINES_PY) -c 'import torch' 2>/dev/null; then \
		echo "Adding torch to $(ENGINES)."; \
		$(ENGINES_PY) -m pip install --quiet --disable-pip-version-check \
			-c constraints.txt -e '.[backends]'; \
	fi
	@failed=; \
	for backend in $(BACKENDS); do \
		printf '\n== pytest on %s\n' "$$backend"; \
		KERAS_BACKEND=$$backend $(ENGINES_PY) -m pytest -q -rs \
			-m 'keras and not slow and not gpu' \
			|| failed="$$failed, $$backend"; \
	done; \
	if [ -n "$$failed" ]; then printf '\nFailed: %s\n' "$${failed#, }"; exit 1; fi; \
	printf '\nAll passed.\n'

test-faults: $(INSTALLED)  ## SIGKILL in training and at every system call of a save, damaged pictures and tables
	@log=$$(mktemp); twice=tests/faults/test_repeatability.py; failed=0; \
	$(PY) -m pytest -q -rs -s -m faults $$twice > "$$log" 2>&1 & notebooks=$$!; \
	trap 'kill $$notebooks; exit 130' INT TERM; \
	$(PY) -m pytest -q -rs -s -m faults tests --ignore $$twice || failed=1; \
	wait $$notebooks || failed=1; \
	printf '\n== every notebook twice (ran beside the others)\n'; cat "$$log"; rm -f "$$log"; \
	exit $$failed

test-kaggle: $(INSTALLED) kaggle-environments  ## bundles in Kaggle's versions without network, and its client
	@IMETLIB_KAGGLE_PYTHON="$(abspath $(KAGGLE))/bin/python" \
	IMETLIB_KAGGLE_CLIENT="$(abspath $(CLIENT))/bin/python" $(PY) -m pytest -q -rs tests/kaggle

check: test  ## what a merge needs: test, then mypy
	@$(PY) -c 'import mypy' 2>/dev/null || $(PY) -m pip install --quiet -c constraints.txt mypy
	$(PY) -m mypy

# .jupyter makes JupyterLab show Markdown as a page, not as the text it is written in.
lab: $(INSTALLED)  ## open JupyterLab on the list of notebooks
	@JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
		$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks/README.md $(OPTIONS)

notebooks: $(INSTALLED)  ## run every notebook again in the fast profile and store its outputs
	@$(PY) -m imetlib.delivery.refresh notebooks/0*.ipynb

bench: $(INSTALLED)  ## pictures per second of the pipeline, and one training step, as ratios
	@$(PY) -m benchmarks.input
	@$(PY) -m benchmarks

bench-scaling: $(INSTALLED)  ## which way of reading grows with cores (threads, workers, grain, tf.data), and why
	@$(PY) -m benchmarks.scaling

bench-decisions: $(INSTALLED)  ## searches, expected sets, neighbours at the size of iMet 2019, as ratios; needs 4 GB of memory
	@$(PY) -m benchmarks.decisions

bench-attention: $(INSTALLED)  ## building Attention-56, and its training step against ResNet-50, as a ratio
	@$(PY) -m benchmarks.attention

bench-ten-crop: $(INSTALLED)  ## ten windows of a map by one gather against ten calls through NumPy, as ratios
	@$(PY) -m benchmarks.ten_crop

bench-checkpoints: $(INSTALLED)  ## checkpoints and a time budget, as a share of an epoch
	@$(PY) -m benchmarks.checkpoints

bench-size: $(INSTALLED)  ## everything but training at the size of iMet 2019, as shares of 10 minutes and 4 GB
	@$(PY) -m benchmarks.imet_size

bench-steps: $(INSTALLED)  ## training steps by precision and XLA, and what their time goes into
	@$(PY) -m benchmarks.steps

bench-gpu: $(INSTALLED)  ## pictures per second on a GPU, as shares of its matrix products
	@$(PY) -m benchmarks.gpu

bench-export: $(INSTALLED)  ## pictures per second of Keras on processors, and of the exported network, as ratios
	@$(PY) -m benchmarks.export

bench-processes: $(ENGINES)/installed  ## two processes on a core each against one, on jax, as ratios
	@for kind in train larger tag; do $(ENGINES_PY) -m benchmarks.processes --quiet --kind $$kind; done

kaggle: $(INSTALLED)  ## a notebook as a folder to upload to Kaggle, checked; needs no account
	@$(PY) -m imetlib kaggle bundle $(NOTEBOOK) $(if $(OWNER),--owner $(OWNER)) $(OPTIONS)

clean:  ## remove the environment made here, demo/ and caches; data/ and runs/ stay
	@if [ -e "$(OURS)" ]; then echo 'rm -rf "$(VENV)"'; rm -rf "$(VENV)"; fi
	rm -rf "$(KAGGLE)" "$(CLIENT)" "$(ENGINES)"
	rm -rf artefacts demo build dist imetlib.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find imetlib tests notebooks benchmarks \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-prune -exec rm -rf {} +

# The environment ------------------------------------------------------------------------------

ifneq ($(shell cat "$(INSTALLED)" 2>/dev/null),$(MADE_FOR))
$(INSTALLED): FORCE
endif

# `made-by-make` without `installed` is an environment left half made. One that the user made
# is added to, and removed only when its Python no longer runs.
$(INSTALLED): pyproject.toml constraints.txt
	@set -e; \
	if [ -e "$(OURS)" ] && [ "$$(cat "$(INSTALLED)" 2>/dev/null)" != "$(MADE_FOR)" ]; then \
		echo "Removing $(VENV): left half made, or made for something else."; rm -rf "$(VENV)"; \
	elif [ -e "$(VENV)/pyvenv.cfg" ] && ! $(PY) -c '' 2>/dev/null; then \
		echo "Removing $(VENV): its Python does not run."; rm -rf "$(VENV)"; \
	elif [ -d "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
		echo "$(VENV) exists and is no Python environment: remove it or name another VENV." >&2; \
		exit 1; \
	fi; \
	if [ ! -d "$(VENV)" ]; then \
		$(find_python); \
		"$$python" -c "$$DISK_CHECK" "$(FREE_GB)" "$(VENV)"; \
		echo "Making $(VENV) with $$("$$python" --version), TensorFlow extra '$(TF)'."; \
		mkdir -p "$(VENV)"; : > "$(OURS)"; \
		"$$python" -m venv "$(VENV)"; \
	fi; \
	rm -f "$(INSTALLED)"; \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; \
	echo "Installing from the package index: one to three minutes (log: $(VENV)/install.log)."; \
	{ $(PY) -m pip install --compile --disable-pip-version-check \
		-c constraints.txt -e '.[$(TF),notebooks,test]' 2>&1; echo "pip exit $$?"; } \
		| tee "$(VENV)/install.log" | awk "$$PIP_PROGRESS"; \
	if ! tail -n 1 "$(VENV)/install.log" | grep -q '^pip exit 0$$'; then \
		tail -n 15 "$(VENV)/install.log" >&2; \
		echo "The installation failed. Is a package index reachable?" >&2; exit 1; \
	fi; \
	: "without compiled bytecode every kernel starts some 10 s later"; \
	ls "$(VENV)"/lib/python3*/site-packages/tensorflow/__pycache__/__init__.*.pyc >/dev/null 2>&1 \
		|| $(PY) -m compileall -q "$(VENV)/lib" >/dev/null || true; \
	printf '%s\n' "$(MADE_FOR)" > "$(INSTALLED)"

kaggle-environments: $(KAGGLE)/installed $(CLIENT)/installed

$(KAGGLE)/installed: PYTHON := $(KAGGLE_PYTHON)
$(KAGGLE)/installed: tests/kaggle/pins.txt
	@echo "Making $(KAGGLE) with the versions of Kaggle's image (1.9 GB): one to two minutes."
	@set -e; $(find_python); rm -rf "$(KAGGLE)"; "$$python" -m venv "$(KAGGLE)"; \
	"$(KAGGLE)/bin/python" -m pip install --compile --quiet --disable-pip-version-check -r $<; \
	touch $@

# six: the client needs it and does not say so.
$(CLIENT)/installed: | $(INSTALLED)
	@set -e; rm -rf "$(CLIENT)"; $(PY) -m venv "$(CLIENT)"; \
	"$(CLIENT)/bin/python" -m pip install --quiet --disable-pip-version-check 'kaggle>=2.2' six; \
	touch $@

engines: $(ENGINES)/installed

# What is in $(VENV) is seen from there and not installed again.
$(ENGINES)/installed: $(INSTALLED)
	@echo "Making $(ENGINES): jax and Ray on top of $(VENV) (0.8 GB), half a minute."
	@set -e; rm -rf "$(ENGINES)"; $(PY) -m venv "$(ENGINES)"; \
	$(PY) -c "$$SEE_VENV" "$(ENGINES)"; \
	$(ENGINES_PY) -m pip install --compile --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[jax,ray]'; \
	touch $@

# A candidate can exist and still not run (pyenv's shims), or lack ensurepip (Debian's python3).
define find_python
python=; without_venv=; \
for candidate in $(PYTHON); do \
	"$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		2>/dev/null || continue; \
	if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
	without_venv=$$candidate; \
done; \
if [ -z "$$python" ] && [ -n "$$without_venv" ]; then \
	echo "$$without_venv cannot make environments: its venv or ensurepip is missing." >&2; \
	echo "On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; \
elif [ -z "$$python" ]; then \
	echo "No Python 3.11, 3.12 or 3.13 runs here (tried: $(PYTHON))." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
fi
endef

define SEE_VENV
import sys, sysconfig
ours = sysconfig.get_path("purelib")
theirs = sysconfig.get_path("purelib", "venv", {"base": sys.argv[1], "platbase": sys.argv[1]})
with open(f"{theirs}/seen.pth", "w", encoding="utf-8") as file:
    file.write(f"import site; site.addsitedir({ours!r})\n")
endef
export SEE_VENV

define DISK_CHECK
import pathlib, shutil, sys
needed, folder = float(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
while not folder.exists():
    folder = folder.parent
free = shutil.disk_usage(folder).free / 1e9
if free < needed:
    sys.exit(f"The environment needs about {needed:g} GB of disk, {free:.1f} GB are free there. "
             "Free some, or put it elsewhere: make VENV=/path/on/another/disk ...")
endef
export DISK_CHECK

# pip's own output is hundreds of lines; the large downloads are what one waits for.
define PIP_PROGRESS
/(Downloading|Using cached) .*[0-9] [MG]B\)/ {sub(/.*\//, "", $$2); print "  " $$0; fflush()}
/^Installing collected/ {print "  unpacking packages: " NF - 3; fflush()}
endef
export PIP_PROGRESS
