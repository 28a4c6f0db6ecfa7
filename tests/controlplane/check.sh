#!/bin/sh
# check.sh CONTROLPLANE: shows on the built binary what README.md promises, on
# Linux. Takes about a minute and a half; prints a line for each thing shown.
set -eu
[ $# = 1 ] || { echo "usage: check.sh CONTROLPLANE" >&2; exit 2; }
cp=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
unset KUBECONFIG KUBEBUILDER_ASSETS
# Deep on purpose: the path of a Unix socket may have only about 100 bytes.
top=$(mktemp -d)
base=$top/a-folder-whose-name-is-long/and-another-one-below-it-as-tests-have-them/up-to-more-than-one-hundred
mkdir -p "$base"
up=
trap 'kill -9 $up 2>/dev/null || :; rm -rf "$top"' EXIT
trap 'exit 1' INT TERM

ok() { echo "ok: $*"; }
fail() { echo "FAILED: $*" >&2; [ -z "${err:-}" ] || cat "$err" >&2; exit 1; }
now() { date +%s%N | cut -c1-13; } # ms
kc() { "$cp" kubectl --kubeconfig "$dir/kubeconfig" "$@"; }

# start NAME [FLAG...]: a control plane in folder NAME, up to "ready".
start() {
    dir=$base/$1 out=$base/$1.out err=$base/$1.err
    shift
    : >"$out"
    begun=$(now)
    "$cp" up --dir "$dir" "$@" >"$out" 2>"$err" &
    up=$!
    until [ "$(cat "$out")" = ready ]; do
        kill -0 $up 2>/dev/null || fail "up ended before it was ready"
        sleep 0.02
    done
    took=$(($(now) - begun))
}

# gone PID...: none of them lives, at the latest after 3 s.
gone() {
    for pid in "$@"; do
        tries=0
        # A zombie is gone too; whoever adopted it reaps it in its own time.
        while grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$pid/status"; do
            tries=$((tries + 1))
            [ $tries -lt 60 ] || fail "process $pid lives on: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-200)"
            sleep 0.05
        done
    done
}

printf '# comment\nci,robots,builders\n' >"$base/users"
start one --users-file "$base/users"
ok "ready after $took ms, 'ready' alone on stdout"
children=$(cat "$dir"/pids/*)
for pid in $up $children; do
    echo "    $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -d' ' -f2): $(($(awk '/^VmRSS/ {print $2}' "/proc/$pid/status") / 1024)) MB"
done
[ "$(kc get namespace default -o name)" = namespace/default ] || fail "no namespace default"
kc version | grep -q 'Server Version: v1\.' || fail "no server version"
for user in viewer operator nobody ci; do
    [ "$("$cp" kubectl --kubeconfig "$dir/kubeconfig-$user" auth whoami -o 'jsonpath={.status.userInfo.username}')" = $user ] || fail "$user isn't $user"
    ! "$cp" kubectl --kubeconfig "$dir/kubeconfig-$user" get pods 2>/dev/null || fail "$user may list pods"
done
[ -z "$(find "$dir" -type f -perm /077)" ] || fail "others may read $(find "$dir" -type f -perm /077)"
ok "users are who they should be, may nothing yet, and no file is for others to read"

kc create configmap counted >/dev/null
[ "$(grep -c '"stage":"ResponseComplete".*"verb":"create","user":{"username":"admin".*"resource":"configmaps"' "$dir/audit.log")" = 1 ] || fail "one create isn't one line of audit.log"
! grep -q 'RequestReceived\|ResponseStarted' "$dir/audit.log" || fail "audit.log has more than one line a call"
ok "one call is one line of audit.log"

for component in etcd kube-controller-manager kube-apiserver; do
    for verb in kill stop; do
        pid=$(cat "$dir/pids/$component")
        "$cp" $verb --dir "$dir" $component || fail "$verb $component"
        gone "$pid"
        [ ! -e "$dir/pids/$component" ] || fail "pid file of $component stays"
        begun=$(now)
        "$cp" start --dir "$dir" $component || fail "start $component"
        took=$(($(now) - begun))
        [ "$(cat "$dir/pids/$component")" != "$pid" ] || fail "$component has its old pid"
        kc get configmap counted >/dev/null || fail "data lost by $verb $component"
        ok "$component: $verb, and start in $took ms"
    done
done
! "$cp" kill --dir "$dir" kubelet 2>/dev/null || fail "killed what isn't there"
! "$cp" up --dir "$dir" 2>/dev/null || fail "two in one folder"
kill -0 $up || fail "the supervisor left"

kc apply -f - >/dev/null <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
YAML
kc wait --for=condition=Established crd/things.example.org >/dev/null
kc create namespace away >/dev/null
thing() { # NAME [OWNER-UID]
    kc create -o 'jsonpath={.metadata.uid}' -f - <<YAML
apiVersion: example.org/v1
kind: Thing
metadata:
  name: $1
  namespace: away
  ownerReferences:${2:+ [{apiVersion: example.org/v1, kind: Thing, name: owner, uid: $2\}]}
YAML
}
owner=$(thing owner)
thing owned "$owner" >/dev/null
kc delete thing owner -n away >/dev/null
begun=$(now)
kc wait --for=delete thing/owned -n away --timeout=60s >/dev/null || fail "the owned thing isn't collected"
ok "a new kind's owned objects are collected, $(($(now) - begun)) ms after the owner"
kc delete namespace away --timeout=60s >/dev/null || fail "the namespace stays"
kc auth whoami --token "$(kc create token default)" | grep -q system:serviceaccount:default:default || fail "no ServiceAccount token"
ok "a namespace goes away, a ServiceAccount logs in"

children=$(cat "$dir"/pids/*)
kill $up
wait $up || fail "exit status $? after SIGTERM"
gone $children
ok "SIGTERM: exit 0, nothing left"

start one
kc get configmap counted >/dev/null || fail "data lost by the second up"
ok "up again in the same folder, with its data, in $took ms"
children=$(cat "$dir"/pids/*)
"$cp" down --dir "$dir"
gone $up $children
! "$cp" down --dir "$dir" 2>/dev/null || fail "down twice"
ok "down: nothing left"

start two
children=$(cat "$dir"/pids/*)
kill -9 $up
gone $children
ok "kill -9 of the supervisor: nothing left"

start two
children=$(cat "$dir"/pids/*)
kill -9 "$(cat "$dir/pids/etcd")"
status=0
wait $up || status=$?
[ $status = 1 ] || fail "exit status $status after a death unasked"
grep -q '^controlplane: etcd ended unasked' "$err" || fail "doesn't say that etcd died"
gone $children
ok "a component that dies unasked: exit 1, says which, nothing left"

dir=$base/three
mkfifo "$base/fifo"
sh -c '"$0" up --dir "$1" >"$2" & echo $! >"$1.pid"; wait' "$cp" "$dir" "$base/fifo" &
parent=$!
read -r line <"$base/fifo"
[ "$line" = ready ] || fail "said $line"
up=$(cat "$dir.pid")
children=$(cat "$dir"/pids/*)
kill -9 $parent
gone $up $children
ok "kill -9 of the parent: nothing left"

mkdir "$base/assets"
for component in etcd kube-apiserver; do
    ln -s "$cp" "$base/assets/$component"
done
KUBEBUILDER_ASSETS=$base/assets
export KUBEBUILDER_ASSETS
start four
grep -q "$base/assets/etcd" "/proc/$(cat "$dir/pids/etcd")/cmdline" || fail "KUBEBUILDER_ASSETS isn't honoured"
[ -e "$dir/pids/kube-controller-manager" ] || fail "no controller manager beside KUBEBUILDER_ASSETS"
"$cp" down --dir "$dir"
ok "binaries of KUBEBUILDER_ASSETS are used, ready after $took ms"
unset KUBEBUILDER_ASSETS
up=
echo "all shown"
