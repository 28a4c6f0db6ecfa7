//go:build unix && !linux

package main

import (
	"os/exec"
	"syscall"
)

// kernelEndsOrphans is false: there is no parent-death signal here, so our own
// components watch their parent. Binaries from KUBEBUILDER_ASSETS can't, and
// outlive a supervisor that is killed with SIGKILL.
const kernelEndsOrphans = false

// spawn starts cmd in a process group of its own, so that a Ctrl-C at the
// terminal reaches only the supervisor and the children are stopped in order.
func spawn(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}
