package main

import (
	"fmt"
	"math/rand/v2"
)

// Ports are taken from below the range from which systems give ports to
// outgoing connections (32768 and up on Linux, 49152 elsewhere). A client that
// retries while the API server is down could otherwise be given the server's
// own port for its connection, connect to itself, and keep the server from
// coming back.
const (
	firstPort = 20000
	lastPort  = 31999
	portTries = 100 // each fails only if that very port is taken
)

// reservePort finds a free port and keeps it for as long as this process
// lives, also while the component that serves on it is down.
func reservePort() (int, error) {
	var last error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if last = holdPort(port, false); last == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d on 127.0.0.1 in %d tries: %w",
		firstPort, lastPort, portTries, last)
}
