package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// runUp is `controlplane up`: everything from an empty folder to `ready`, then
// the wait for an end.
func runUp(args []string) error {
	flags := newFlags("up")
	dir := flags.String("dir", "", "folder for data, logs and credentials (created)")
	port := flags.Int("port", 0, "port of the API server on 127.0.0.1 (default: a free one)")
	usersFile := flags.String("users-file", "", "more users, one a line: NAME[,GROUP...]")
	outlive := flags.Bool("outlive-parent", false, "go on when the parent process is gone, until 'controlplane down'")
	if err := parse(flags, args, 0); err != nil {
		return err
	}
	root, err := dirOf(*dir)
	if err != nil {
		return err
	}

	stop := stopSignals(*outlive)
	s, err := prepare(layout{root}, *port, *usersFile)
	if err != nil {
		return err
	}
	listener, err := listenControl(s.layout)
	if err != nil {
		return err
	}
	defer listener.Close()
	go s.serveControl(listener)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	booted := make(chan error, 1)
	go func() { booted <- s.boot(ctx) }()
	for {
		select {
		case err := <-booted:
			if err == nil {
				fmt.Println("ready")
				booted = nil // says nothing any more
				continue
			}
			select {
			case c := <-s.died: // why it failed
				err = deathOf(c)
			default:
			}
			s.stopAll()
			return err
		case c := <-s.died:
			err := deathOf(c)
			s.stopAll()
			return err
		case <-s.down:
			s.stopAll()
			return nil
		case <-stop:
			go func() { // a second signal is from somebody in a hurry
				<-stop
				os.Exit(1)
			}()
			s.stopAll()
			return nil
		}
	}
}

// stopSignals gives what ends `up` from outside: signals, and the death of the
// parent unless it is to be outlived.
func stopSignals(outlive bool) <-chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if outlive {
		signal.Ignore(syscall.SIGHUP) // the terminal closes
		return signals
	}
	if !signal.Ignored(syscall.SIGHUP) { // not under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-parentDeath()
		signals <- syscall.SIGTERM
	}()
	return signals
}

// newFlags makes the flags of a subcommand. Mistakes are reported by main.
func newFlags(command string) *flag.FlagSet {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parse reads args and wants so many words after the flags.
func parse(flags *flag.FlagSet, args []string, words int) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError(flags.Name() + ": " + err.Error())
	}
	if flags.NArg() != words {
		return usageError(fmt.Sprintf("%s takes %d words after its flags, not %d", flags.Name(), words, flags.NArg()))
	}
	return nil
}

// dirOf makes the value of --dir absolute, since components don't share our
// working directory for ever.
func dirOf(dir string) (string, error) {
	if dir == "" {
		return "", usageError("--dir is missing: it names the folder that holds the control plane's data and kubeconfigs")
	}
	return filepath.Abs(dir)
}
