package main

import (
	"os"
	"syscall"
)

// holdPort binds port on 127.0.0.1 without listening and keeps it bound. Linux
// lets a component of ours bind and listen beside that, since both sides set
// SO_REUSEADDR (Go's listeners always do), but gives the port to nobody's
// outgoing connection and fails every other holdPort.
//
// With wanted, the person named the port: connections of an earlier server
// that linger in TIME_WAIT are then no reason to refuse it.
func holdPort(port int, wanted bool) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	share := func() error {
		return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	}
	bind := func() error {
		return os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	}
	// Bound first and shared after, the bind fails if anyone at all has the
	// port; the other way round only if someone listens there.
	steps := []func() error{bind, share}
	if wanted {
		steps = []func() error{share, bind}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			_ = syscall.Close(fd)
			return err
		}
	}
	return nil
}
