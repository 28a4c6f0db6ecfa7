package main

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// kernelEndsOrphans says that spawn asks the kernel to kill a child when its
// supervisor dies, kill -9 included.
const kernelEndsOrphans = true

type spawnRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// spawner keeps one OS thread for starting processes, for as long as we live:
// Linux sends the parent-death signal when the thread that started the child
// ends, not when the process does, and Go may end threads as it likes.
var spawner = sync.OnceValue(func() chan<- spawnRequest {
	requests := make(chan spawnRequest)
	go func() {
		runtime.LockOSThread()
		for r := range requests {
			r.done <- r.cmd.Start()
		}
	}()
	return requests
})

// spawn starts cmd so that it dies with this process, and in a process group
// of its own, so that a Ctrl-C at the terminal reaches only the supervisor and
// the children are stopped in order.
func spawn(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	spawner() <- spawnRequest{cmd, done}
	return <-done
}
