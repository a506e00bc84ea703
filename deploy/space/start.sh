#!/usr/bin/env bash
# Start Workbench as a container does: on every interface, with its data in the user's home.
# Each WORKBENCH_… variable that is set already stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export WORKBENCH_HOST="${WORKBENCH_HOST:-0.0.0.0}"
export WORKBENCH_PORT="${WORKBENCH_PORT:-7860}"
export WORKBENCH_DATA_DIR="${WORKBENCH_DATA_DIR:-$HOME/data}"
if [ -n "${SPACE_ID:-}" ]; then # Hugging Face shows a Space in a frame of its own site
    export WORKBENCH_FRAME_ANCESTORS="${WORKBENCH_FRAME_ANCESTORS:-https://huggingface.co}"
fi
mkdir -p "$WORKBENCH_DATA_DIR"
exec "${WORKBENCH_VENV:-.venv}/bin/python" app.py "$@"
