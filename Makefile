# Two commands matter: `make demo` shows what ddpm does, `make test` checks a change.
#
# Both work in .venv, which is made when it is missing. The package is installed there in one of two forms, and a
# stamp says which: .venv/wheel, built from the present sources, for `make demo`; .venv/editable, with the tools of
# the dev extra, for everything else. Each form takes the place of the other. The dependencies stay, so that a change
# of form costs seconds, and none when nothing changed.
#
# Nothing is written outside this folder, pip's cache and what `ddpm` itself keeps in its data directory.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint types faults slow bench dist clean
unexport PYTHONPATH PYTHONHOME

# What .venv is made with: the first of these that is new enough and has the venv module.
PYTHON  ?= python3 python3.14 python3.13 python3.12 python3.11
DISK_GB ?= 10

VENV := .venv
RUN  := $(VENV)/bin/python
# As many processes as there are processors, up to four, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --maxprocesses 4
PIP  := $(RUN) -m pip --disable-pip-version-check -q

# Folders are listed too: their time changes when a file in them goes.
SOURCES := $(shell find src -name __pycache__ -prune -o -print) pyproject.toml README.md LICENSE NOTICE

# Ends a recipe with one line on stderr.
STOP := stop() { printf 'ddpm-cli: %s\n' "$$*" >&2; exit 1; };

# pip unpacks gigabytes where TMPDIR says, and /tmp is often smaller than the disk that was asked about.
define INSTALL
	@$(STOP) set -- $(VENV)/lib/python*/site-packages/torch; \
	[ -d "$$1" ] || { \
	  free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1048576) }'); \
	  [ "$$free" -ge $(DISK_GB) ] || stop "$(DISK_GB) GB of free disk are needed here, found $$free GB: free some, then try again"; \
	  echo 'Installing ddpm-cli and what it needs into $(VENV); PyTorch alone can be a download of gigabytes.'; \
	}
	@rm -f $(VENV)/wheel $(VENV)/editable
	@mkdir -p $(VENV)/tmp
	@TMPDIR="$$PWD/$(VENV)/tmp" $(PIP) install $(1)
	@rm -rf $(VENV)/tmp
	@touch $@
endef

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/wheel  ## install the wheel into .venv and draw 64 digits: grid.png
	@$(VENV)/bin/ddpm sample -n 64 -o grid.png
	@echo "The picture: $$PWD/grid.png"

test: lint types  ## lint, types, tests: what every change must pass
	$(PYTEST)

lint: $(VENV)/editable  ## ruff: rules and format
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

types: $(VENV)/editable  ## mypy, strict
	$(RUN) -m mypy

faults: $(VENV)/editable  ## kill, starve and feed garbage, for many minutes; prints what was survived
	$(PYTEST) -m '' --timeout 1800 tests/faults

slow: $(VENV)/editable  ## all tests, the slow ones too
	$(PYTEST) -m '' --timeout 1800

bench: $(VENV)/editable build/peers  ## measure, for an hour, on a machine with nothing else to do; writes into docs/
	$(RUN) benchmarks/write.py

build/peers: benchmarks/peers.txt | $(RUN)
	rm -rf $@
	$(PIP) install --no-deps --target $@ -r $<

dist: $(VENV)/editable  ## build the sdist and the wheel into dist/ and verify them
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*
	@$(STOP) wheel=$$($(RUN) -m zipfile -l dist/*.whl) && sdist=$$($(RUN) -m tarfile -l dist/*.tar.gz) || exit 1; \
	set -- src/ddpm_cli/data/mnist/*.gz; [ $$# -eq 4 ] || stop 'src/ddpm_cli/data/mnist does not hold the four files of MNIST'; \
	for file in "$$@" src/ddpm_cli/weights/*.safetensors src/ddpm_cli/weights/*.json; do \
	  case "$$wheel" in *"$${file#src/}"*) ;; *) stop "$$file is not in the wheel" ;; esac; \
	  case "$$sdist" in *"$$file"*) ;; *) stop "$$file is not in the sdist" ;; esac; \
	done
	@ls -l dist

clean:  ## remove what was built and the tools' caches; .venv stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis grid.png
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@$(STOP) found=; python=; bare=; \
	for p in $(PYTHON); do \
	  v=$$("$$p" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { found="$$found $$v"; continue; }; \
	  "$$p" -c 'import ensurepip, venv' 2>/dev/null || { bare="$${bare:-$$v}"; continue; }; \
	  python=$$p; break; \
	done; \
	if [ -n "$$python" ]; then "$$python" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
	elif [ -n "$$bare" ]; then stop "Python $$bare lacks its venv module: install it (Debian, Ubuntu: apt install python$$bare-venv), then try again"; \
	else stop "Python 3.11 or newer is needed, found$${found:- none}: install it, or name it: make PYTHON=/path/to/python3"; fi

$(VENV)/editable: pyproject.toml src/ddpm_cli/__init__.py | $(RUN)
	$(call INSTALL,--editable '.[dev]')

$(VENV)/wheel: $(SOURCES) | $(RUN)
	$(call INSTALL,.)
