package main

import (
	"os"
	"strconv"
	"time"
)

// parentPollInterval bounds how long an orphan lives. A look costs one system
// call.
const parentPollInterval = 100 * time.Millisecond

// firstParent is read before anything else can take time, so that a parent
// that dies during our start is still noticed.
var firstParent = os.Getppid()

// parentDeath returns a channel that closes when our parent process is gone.
//
// It compares parent ids rather than asking Linux for a parent-death signal:
// that signal fires when the parent's *thread* that started us ends, and a test
// runner commonly starts us from the thread of one test and goes on using us
// from others.
func parentDeath() <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for os.Getppid() == firstParent {
			time.Sleep(parentPollInterval)
		}
	}()
	return gone
}

// supervisorEnv tells a component which process it must not outlive.
const supervisorEnv = "CONTROLPLANE_SUPERVISOR_PID"

// dieWithSupervisor ends a component of ours when its supervisor ends, on
// systems where the kernel doesn't do that (see spawn_linux.go). A component
// started by hand has no supervisor and lives on its own.
func dieWithSupervisor() {
	supervisor, err := strconv.Atoi(os.Getenv(supervisorEnv))
	if err != nil || kernelEndsOrphans {
		return
	}
	if firstParent != supervisor {
		os.Exit(1)
	}
	go func() {
		<-parentDeath()
		os.Exit(1)
	}()
}
