# PediScreen on a fresh machine: `make run` starts the workstation, `make test` checks it.
#
# Python packages go into .venv, once, and again whenever pyproject.toml changes (the stamp files below).
# PYTHON=python3.12 make run   chooses another interpreter.      PEDISCREEN_PORT=8600 make run   another port.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

# Threads that spin while they wait steal the other core from the process that works.
export OMP_WAIT_POLICY ?= passive

.PHONY: run test lint format system-packages

run: $(VENV)/.installed
	@exec $(BIN)/pediscreen up

test: $(VENV)/.installed-dev system-packages lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m engine.cli db check

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch is pinned in pyproject.toml and resolved together with everything else: asked for later, pip would already have
# taken a newer torch for transformers and peft.
$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing PediScreen into $(VENV) (a few minutes, the first time only) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/pip
	@echo "Installing PediScreen and what its tests need into $(VENV) (a few minutes, the first time only) ..."
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $(VENV)/.installed $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "This Python cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }

# The browser tests drive Chromium; the DICOM tests compare with dcmtk, send to and receive from Orthanc, and check
# reports with dicom3tools; the API's TypeScript client is run by Node. Orthanc's package starts a service that listens
# on every address: one that was installed here is stopped again.
system-packages:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v storescu >/dev/null || missing="$$missing dcmtk"; \
	command -v dciodvfy >/dev/null || missing="$$missing dicom3tools"; \
	[ -x /usr/sbin/Orthanc ] || missing="$$missing orthanc"; \
	[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$$missing orthanc-dicomweb"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		case "$$missing" in *orthanc*) [ ! -d /run/systemd/system ] || systemctl disable --now orthanc ;; esac; \
	else \
		echo "Please install for the full test suite (the tests that need them are skipped):$$missing"; \
	fi
