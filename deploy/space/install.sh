#!/usr/bin/env bash
# Install Workbench for start.sh, into WORKBENCH_VENV (default: .venv of the project).
# Without a GPU at build time, WORKBENCH_ENGINE tells which engine: cpu or cuda.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORKBENCH_ENGINE="${WORKBENCH_ENGINE:-cpu}" \
    exec python3 scripts/install.py --venv "${WORKBENCH_VENV:-.venv}"
