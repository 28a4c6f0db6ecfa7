// Command controlplane is a real Kubernetes control plane in one binary, for
// demos and tests: kube-apiserver, kube-controller-manager and etcd as
// upstream ships them, kubectl beside them, and a small supervisor that starts
// the three, hands out credentials and lets a test kill and restart each one.
//
// It needs no root and no container engine. It runs no pods: workloads are
// stored, defaulted and validated only. Nothing in it is hardened, nothing is
// synced to disk, and every credential lies in a folder; never keep anything
// in it that matters.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const usage = `controlplane: a real Kubernetes control plane for demos and tests

  controlplane up --dir DIR [--port PORT] [--users-file FILE] [--outlive-parent]
      start etcd, kube-apiserver and kube-controller-manager, write
      DIR/kubeconfig and DIR/kubeconfig-USER, print "ready", then wait;
      SIGTERM, SIGINT or the death of its parent stops everything
  controlplane kill  --dir DIR COMPONENT   SIGKILL; it stays dead until 'start'
  controlplane stop  --dir DIR COMPONENT   SIGTERM; it stays down until 'start'
  controlplane start --dir DIR COMPONENT   same flags, port and data; returns once it serves
  controlplane down  --dir DIR             stop everything

  controlplane etcd|kube-apiserver|kube-controller-manager|kubectl ...
      the real program; a symlink of that name does the same

COMPONENT is etcd, kube-apiserver or kube-controller-manager. FILE has a user
a line: NAME[,GROUP...]. Of a folder named by KUBEBUILDER_ASSETS, 'up' uses the
kube-apiserver, the etcd and, if it is there, the kube-controller-manager.
`

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if _, ok := programs[name]; !ok {
		if len(args) == 0 {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		name, args = args[0], args[1:]
	}
	if run, ok := programs[name]; ok {
		os.Exit(run(name, args))
	}

	var err error
	switch name {
	case "up":
		err = runUp(args)
	case "kill", "stop", "start", "down":
		err = runControl(name, args)
	case "help", "-h", "--help":
		err = flag.ErrHelp
	default:
		err = usageError(fmt.Sprintf("unknown command %q", name))
	}
	if err == nil {
		return
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	fmt.Fprintln(os.Stderr, "controlplane: "+strings.TrimRight(err.Error(), "\n"))
	var wrong usageError
	if errors.As(err, &wrong) {
		fmt.Fprint(os.Stderr, "\n"+usage)
		os.Exit(2)
	}
	os.Exit(1)
}

// usageError is a mistake in the command line, answered with the usage text
// and exit status 2.
type usageError string

func (e usageError) Error() string { return string(e) }
