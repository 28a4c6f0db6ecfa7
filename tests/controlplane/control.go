package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

// controlSocket is where the supervisor listens for the other subcommands, in
// the folder of --dir. One line each way: "VERB COMPONENT" is answered by "ok"
// or by what went wrong, "down" by the end of the connection.
const controlSocket = "control.sock"

const controlOK = "ok"

// listenControl opens the socket. The lock of the folder is ours, so a socket
// that is there already is a leftover.
func listenControl(l layout) (net.Listener, error) {
	if err := os.Remove(l.control()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// By its bare name from inside the folder: the path of a Unix socket may
	// have about 100 bytes, and folders of tests are commonly deep.
	if err := os.Chdir(l.root); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", controlSocket)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(controlSocket, 0o600)
}

// serveControl answers until the listener is closed. Each connection is on its
// own, so that a component which is starting can be killed.
func (s *supervisor) serveControl(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil {
				return // hung up
			}
			answer := controlOK
			if err := s.command(strings.Fields(line)); err != nil {
				answer = strings.ReplaceAll(err.Error(), "\n", " ")
			}
			_, _ = fmt.Fprintln(connection, answer) // it may have hung up
		}()
	}
}

// command carries out one line of the control socket.
func (s *supervisor) command(words []string) error {
	if len(words) == 1 && words[0] == "down" {
		s.downOnce.Do(func() { close(s.down) })
		select {} // the answer is that we are gone, and the folder's lock with us
	}
	if len(words) != 2 {
		return fmt.Errorf("the control socket takes a verb and a component, not %q", words)
	}
	c, err := s.child(words[1])
	if err != nil {
		return err
	}
	switch words[0] {
	case "start":
		return c.start(context.Background())
	case "stop":
		return c.end(syscall.SIGTERM)
	case "kill":
		return c.end(syscall.SIGKILL)
	}
	return fmt.Errorf("the control socket knows start, stop, kill and down, not %q", words[0])
}

// dialControl reaches the supervisor of the folder root, from inside of it as
// in listenControl.
func dialControl(root string) (net.Conn, error) {
	if err := os.Chdir(root); err != nil {
		return nil, err
	}
	return net.Dial("unix", controlSocket)
}

// runControl is the other end: `controlplane kill|stop|start|down`.
func runControl(verb string, args []string) error {
	flags := newFlags(verb)
	dir := flags.String("dir", "", "folder of the control plane")
	words := 1
	if verb == "down" {
		words = 0
	}
	if err := parse(flags, args, words); err != nil {
		return err
	}
	root, err := dirOf(*dir)
	if err != nil {
		return err
	}
	connection, err := dialControl(root)
	if err != nil {
		return fmt.Errorf("no control plane runs in %s (%w); 'controlplane up --dir %s' starts one", root, err, root)
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, verb, strings.Join(flags.Args(), " ")); err != nil {
		return err
	}
	if verb == "down" {
		_, _ = io.Copy(io.Discard, connection) // until the supervisor is gone
		return nil
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the control plane in %s ended before it answered; its own output says why", root)
	}
	if answer = strings.TrimSpace(answer); answer != controlOK {
		return errors.New(answer)
	}
	return nil
}
