package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// layout names what lies in the folder given by --dir. The kubeconfigs, the
// audit log, the logs and the pid files are for tests to read; the rest is ours.
type layout struct{ root string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.root}, parts...)...)
}

func (l layout) kubeconfig() string              { return l.path("kubeconfig") }
func (l layout) kubeconfigOf(user string) string { return l.path("kubeconfig-" + user) }
func (l layout) auditLog() string                { return l.path("audit.log") }
func (l layout) log(component string) string     { return l.path("logs", component+".log") }
func (l layout) pid(component string) string     { return l.path("pids", component) }
func (l layout) etcdData() string                { return l.path("etcd") }
func (l layout) pki() string                     { return l.path("pki") }
func (l layout) tokens() string                  { return l.path("pki", "tokens.csv") }
func (l layout) auditPolicy() string             { return l.path("audit-policy.yaml") }
func (l layout) controllerKubeconfig() string    { return l.path("pki", "controller-manager.kubeconfig") }
func (l layout) control() string                 { return l.path(controlSocket) }
func (l layout) lock() string                    { return l.path("lock") }

// create makes the folders, and takes the lock that keeps a second supervisor
// out. The lock goes when this process goes, however it ends.
func (l layout) create() error {
	for _, dir := range []string{l.root, l.path("logs"), l.path("pids"), l.pki()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// Held by the descriptor, on purpose never closed: os.File would close it
	// once it is out of sight.
	fd, err := syscall.Open(l.lock(), syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: l.lock(), Err: err}
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("a control plane runs in %s already; stop it with 'controlplane down --dir %s', or give another --dir", l.root, l.root)
		}
		return &os.PathError{Op: "lock", Path: l.lock(), Err: err}
	}
	return nil
}
