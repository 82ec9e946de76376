#!/bin/sh
# Prints the first Python that is new enough and can make a virtual environment; explains itself where there is none.
# Usage: find_python.sh [CANDIDATE]. Without a candidate it tries the usual names.
set -u
for name in ${1:-python3 python3.13 python3.12 python3.11}; do
    path=$(command -v "$name") || continue
    if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        if "$path" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "$path"
            exit 0
        fi
        echo "setup: $path has no venv module. On Debian or Ubuntu: sudo apt-get install -y python3-venv" >&2
        exit 1
    fi
    seen="${seen:-}${seen:+, }$name is $("$path" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo broken)"
done
echo "setup: expected Python 3.11 or newer, got ${seen:-none at all}. Install one and run: make PYTHON=/path/to/python3.11" >&2
exit 1
