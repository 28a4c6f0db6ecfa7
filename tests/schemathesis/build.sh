#!/bin/sh
# build.sh: installs schemathesis into target/tools/schemathesis, unless it is
# there and was installed from this very requirements.txt.
set -eu
cd "$(dirname "$0")"
out=../../target/tools/schemathesis

cmp -s requirements.txt "$out/requirements.txt" && [ -x "$out/bin/st" ] && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "schemathesis needs Python 3.10 or newer with venv (https://www.python.org); PYTHON names another one" >&2
    exit 1
}
rm -rf "$out"
mkdir -p "$(dirname "$out")"
"$python" -m venv "$out"
"$out/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
# Last: an installation that is broken off leaves nothing that looks finished.
cp requirements.txt "$out/requirements.txt"
