package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// supervisor owns the three components.
type supervisor struct {
	layout layout
	prober *prober
	// children in the order of starting; each needs those before it.
	children []*child
	// died gets each component that ends unasked.
	died chan *child
	// down is closed by the first `controlplane down`.
	down     chan struct{}
	downOnce sync.Once
}

// prepare reserves the ports and writes everything the components and their
// users read: keys, tokens, kubeconfigs, the audit policy.
func prepare(l layout, port int, usersFile string) (*supervisor, error) {
	if err := l.create(); err != nil {
		return nil, err
	}
	p, err := newPorts(port)
	if err != nil {
		return nil, err
	}
	users, err := newUsers(usersFile)
	if err != nil {
		return nil, err
	}
	keys, err := newPKI(l.pki())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		writeTokenFile(l.tokens(), users),
		writeAuditPolicy(l.auditPolicy()),
		writeKubeconfigs(l, p.apiServerURL(), keys.caPEM, users),
	); err != nil {
		return nil, err
	}

	probes := newProber(p, keys.caPEM, named(users, supervisorName).token)
	s := &supervisor{
		layout: l,
		prober: probes,
		died:   make(chan *child, 3), // one of each, so that no reaper ever waits
		down:   make(chan struct{}),
	}
	for _, c := range []struct {
		name  string
		args  []string
		ready func(context.Context) error
	}{
		{etcdName, etcdArgs(l, p), probes.etcd},
		{apiServerName, apiServerArgs(l, p, keys), probes.apiServer},
		{controllerManagerName, controllerManagerArgs(l, p, keys), probes.controllerManager},
	} {
		program, err := programFor(c.name)
		if err != nil {
			return nil, err
		}
		s.children = append(s.children, &child{
			name:    c.name,
			argv:    append(program, c.args...),
			logPath: l.log(c.name),
			pidPath: l.pid(c.name),
			ready:   c.ready,
			died:    s.died,
		})
	}
	return s, nil
}

// writeKubeconfigs writes the admin's kubeconfig, one for each user a test may
// play, and the one of the controllers.
func writeKubeconfigs(l layout, server string, caPEM []byte, users []user) error {
	var errs []error
	for _, u := range users {
		var path string
		switch u.name {
		case supervisorName:
			continue // in memory only
		case controllerName:
			path = l.controllerKubeconfig()
		case adminName:
			path = l.kubeconfig()
		default:
			path = l.kubeconfigOf(u.name)
		}
		errs = append(errs, writeKubeconfig(path, server, caPEM, u))
	}
	return errors.Join(errs...)
}

// boot starts the components one after the other and waits until a client may
// begin: the API server is ready, namespace default is there with its
// ServiceAccount.
func (s *supervisor) boot(ctx context.Context) error {
	for _, c := range s.children {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, there := range []func(context.Context) error{s.prober.defaultNamespace, s.prober.defaultServiceAccount} {
		for {
			notYet := there(ctx)
			if notYet == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the control plane serves, but a new cluster's objects are missing: %w; the logs are in %s",
					notYet, filepath.Dir(s.layout.log(apiServerName)))
			case <-time.After(readyInterval):
			}
		}
	}
	return nil
}

// child finds a component by name.
func (s *supervisor) child(name string) (*child, error) {
	for _, c := range s.children {
		if c.name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no component %q: there are %s, %s and %s", name, etcdName, apiServerName, controllerManagerName)
}

// stopAll ends the components in the opposite order of starting, so that none
// loses what it leans on first. Nothing starts again after that.
func (s *supervisor) stopAll() {
	for _, c := range s.children {
		c.retire()
	}
	for i := len(s.children) - 1; i >= 0; i-- {
		// The only errors: it isn't running, or its pid file is gone already.
		_ = s.children[i].end(syscall.SIGTERM)
	}
}

// deathOf says which component ended unasked, how, and what it said last. Call
// it before stopAll, which forgets and adds to the log.
func deathOf(c *child) error {
	return fmt.Errorf("%s ended unasked (%v), so everything is stopped. The end of %s:\n%s",
		c.name, c.lastError(), c.logPath, logTail(c.logPath))
}
