#!/bin/sh
# build.sh OUT: builds the registry of the tests into the file OUT, unless OUT is
# there and was built from these very sources. The first build takes some two
# minutes on two cores.
set -eu
[ $# = 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"

# Linux has the one, macOS the other.
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
key=$(cat go.mod go.sum ./*.go build.sh | $sum | cut -d' ' -f1)
[ -x "$out" ] && [ "$(cat "$out.sources" 2>/dev/null)" = "$key" ] && exit 0

command -v go >/dev/null || {
    echo "building the registry of the tests needs Go $(sed -n 's/^go //p' go.mod) or newer (https://go.dev/dl)" >&2
    exit 1
}

version=$(go list -m -f '{{.Version}}' github.com/distribution/distribution/v3)
crane=$(go list -m -f '{{.Version}}' github.com/google/go-containerregistry)
flags="-s -w -X github.com/distribution/distribution/v3/version.version=$version"
flags="$flags -X github.com/google/go-containerregistry/cmd/crane/cmd.Version=$crane"

echo "building the registry of the tests ($version); the first time this takes some two minutes" >&2
# Beside its place first: whoever runs the old one meanwhile isn't disturbed,
# and a build that is broken off leaves nothing that looks finished.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$out.new" .
mv "$out.new" "$out"
echo "$key" >"$out.sources"
