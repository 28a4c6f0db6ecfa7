package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// child is one component as the supervisor sees it: how to start it, how to
// tell that it serves, and its process while there is one.
type child struct {
	name    string
	argv    []string
	logPath string
	pidPath string
	ready   func(context.Context) error
	// died gets the child when it ends unasked.
	died chan<- *child

	mu      sync.Mutex // over what follows: one start or stop at a time
	run     *process   // nil before the first start and after a stop
	retired bool       // never to be started again
}

// process is one run of a child.
type process struct {
	cmd   *exec.Cmd
	asked atomic.Bool   // set before we end it ourselves
	ended chan struct{} // closed when the process is gone and reaped
	err   error         // how it ended; read after ended
}

const (
	// startTimeout is many times what a start takes on a small machine.
	startTimeout = 2 * time.Minute
	// readyInterval is how often a starting component is asked.
	readyInterval = 20 * time.Millisecond
	// stopTimeout is what a component may take to end by itself.
	stopTimeout = 10 * time.Second
)

// start launches the component unless it runs, and waits until it serves.
func (c *child) start(ctx context.Context) error {
	run, err := c.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	begun := time.Now()
	for {
		notReady := c.ready(ctx)
		if notReady == nil {
			return nil
		}
		select {
		case <-run.ended:
			return fmt.Errorf("%s ended while it started: %v", c.name, run.err)
		case <-ctx.Done():
			return fmt.Errorf("%s doesn't serve after %s: %w; its log is %s",
				c.name, time.Since(begun).Round(time.Second), notReady, c.logPath)
		case <-time.After(readyInterval):
		}
	}
}

// launch starts the process unless there is one.
func (c *child) launch() (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return nil, errors.New("the control plane is stopping")
	}
	if c.run != nil {
		return c.run, nil
	}
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy

	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), supervisorEnv+"="+strconv.Itoa(os.Getpid()))
	if err := spawn(cmd); err != nil {
		return nil, err
	}
	c.run = &process{cmd: cmd, ended: make(chan struct{})}
	go c.reap(c.run)
	return c.run, os.WriteFile(c.pidPath, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600)
}

// reap waits for the process to end and tells the supervisor if nobody asked
// it to.
func (c *child) reap(run *process) {
	run.err = run.cmd.Wait()
	if run.err == nil {
		run.err = errors.New("exit status 0")
	}
	if !run.asked.Load() {
		c.died <- c // before ended closes, so that whoever sees that finds the cause here
	}
	close(run.ended)
}

// end signals the process and returns once it is gone. After SIGTERM a process
// that doesn't end in stopTimeout is killed.
func (c *child) end(signal syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return fmt.Errorf("%s isn't running; 'controlplane start' starts it", c.name)
	}
	run := c.run
	run.asked.Store(true)
	// An error means that it has ended by itself meanwhile, which is as well.
	_ = run.cmd.Process.Signal(signal)
	select {
	case <-run.ended:
	case <-time.After(stopTimeout):
		_ = run.cmd.Process.Kill()
		<-run.ended
	}
	c.run = nil
	return os.Remove(c.pidPath)
}

// retire keeps the component from being started again.
func (c *child) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
}

// lastError is how the component's run ended, once it has died unasked.
func (c *child) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return errors.New("not running")
	}
	<-c.run.ended
	return c.run.err
}
