#!/bin/sh
# build.sh OUT: builds helm into the file OUT, unless OUT is there and was built
# from this very go.mod. The first build takes some two minutes on two cores.
set -eu
[ $# = 1 ] || { echo "usage: build.sh OUT" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"

# Linux has the one, macOS the other.
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
key=$(cat go.mod go.sum build.sh | $sum | cut -d' ' -f1)
[ -x "$out" ] && [ "$(cat "$out.sources" 2>/dev/null)" = "$key" ] && exit 0

command -v go >/dev/null || {
    echo "building helm needs Go $(sed -n 's/^go //p' go.mod) or newer (https://go.dev/dl); or install helm 3 on the PATH" >&2
    exit 1
}

# As helm's own Makefile: without them `helm version` and the Kubernetes version
# that `helm template` and `helm lint` assume are wrong.
version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3)
client=$(go list -m -f '{{.Version}}' k8s.io/client-go)
minor=${client#v0.}
minor=${minor%%.*}
flags="-s -w -X helm.sh/helm/v3/internal/version.version=$version"
for package in pkg/lint/rules pkg/chartutil; do
    flags="$flags -X helm.sh/helm/v3/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/$package.k8sVersionMinor=$minor"
done

echo "building helm $version; the first time this takes minutes" >&2
# Beside its place first: a build that is broken off leaves nothing that looks
# finished.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$out.new" helm.sh/helm/v3/cmd/helm
mv "$out.new" "$out"
echo "$key" >"$out.sources"
