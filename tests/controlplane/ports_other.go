//go:build unix && !linux

package main

import (
	"fmt"
	"net"
)

// holdPort only checks that port is free: other systems don't let a second
// socket listen on a port that is bound.
func holdPort(port int, _ bool) error {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	return listener.Close()
}
