#!/bin/sh
# build.sh OUT: builds the control plane into the file OUT, unless OUT is there
# and was built from these very sources. The first build takes some five minutes
# on two cores: it compiles the whole of Kubernetes' API server.
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
    echo "building the control plane needs Go $(sed -n 's/^go //p' go.mod) or newer (https://go.dev/dl)" >&2
    exit 1
}

# Without its version the API server calls itself v0.0.0-master, which kubectl
# and helm refuse.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
    flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit=0000000000000000000000000000000000000000"
done

echo "building the control plane ($version); the first time this takes minutes" >&2
# Beside its place first: whoever runs the old one meanwhile isn't disturbed,
# and a build that is broken off leaves nothing that looks finished.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$out.new" .
mv "$out.new" "$out"
echo "$key" >"$out.sources"
