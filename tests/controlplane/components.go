package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ports are the ones the components serve on, all on 127.0.0.1.
type ports struct{ apiServer, controllerManager, etcd, etcdPeer int }

func (p ports) apiServerURL() string { return fmt.Sprintf("https://127.0.0.1:%d", p.apiServer) }
func (p ports) controllerManagerURL() string {
	return fmt.Sprintf("https://127.0.0.1:%d", p.controllerManager)
}
func (p ports) etcdURL() string     { return fmt.Sprintf("http://127.0.0.1:%d", p.etcd) }
func (p ports) etcdPeerURL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.etcdPeer) }

// newPorts reserves a port for each server. With apiServer 0 that one is
// chosen too.
func newPorts(apiServer int) (ports, error) {
	p := ports{apiServer: apiServer}
	if apiServer != 0 {
		if err := holdPort(apiServer, true); err != nil {
			return p, fmt.Errorf("--port %d: %w; leave --port out to have a free one chosen", apiServer, err)
		}
	}
	for _, port := range []*int{&p.apiServer, &p.controllerManager, &p.etcd, &p.etcdPeer} {
		if *port != 0 {
			continue
		}
		var err error
		if *port, err = reservePort(); err != nil {
			return p, err
		}
	}
	return p, nil
}

func etcdArgs(l layout, p ports) []string {
	return []string{
		"--name=default",
		"--data-dir=" + l.etcdData(),
		"--listen-client-urls=" + p.etcdURL(),
		"--advertise-client-urls=" + p.etcdURL(),
		"--listen-peer-urls=" + p.etcdPeerURL(),
		"--initial-advertise-peer-urls=" + p.etcdPeerURL(),
		"--initial-cluster=default=" + p.etcdPeerURL(),
		// A killed process loses nothing that it handed to the kernel; only a
		// crash of the whole machine does, and no test outlives that.
		"--unsafe-no-fsync",
		// Benchmarks write faster than the API server compacts (every 5 min).
		"--quota-backend-bytes=8589934592",
		"--log-level=warn",
	}
}

func apiServerArgs(l layout, p ports, k *pki) []string {
	return []string{
		"--etcd-servers=" + p.etcdURL(),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", p.apiServer),
		"--tls-cert-file=" + k.certFile,
		"--tls-private-key-file=" + k.keyFile,
		"--cert-dir=" + l.pki(),
		// Without an address the server asks for the default route, which a
		// machine may not have. Nothing reaches a pod here, so the endpoints of
		// the kubernetes Service are not kept either.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC",
		"--token-auth-file=" + l.tokens(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + k.serviceAccountKey,
		"--service-account-signing-key-file=" + k.serviceAccountKey,
		// On SIGTERM, end watches after 2 s. The default is to wait a minute for
		// every watching client to hang up, which controllers don't.
		"--shutdown-send-retry-after=true",
		"--audit-policy-file=" + l.auditPolicy(),
		"--audit-log-path=" + l.auditLog(),
		// In MB: never rotated in practice, so that one file holds all calls.
		"--audit-log-maxsize=16384",
	}
}

// controllers are those without which objects would not be garbage collected,
// namespaces never go away and ServiceAccounts not work. The others manage
// pods, nodes and volumes, of which there are none.
var controllers = []string{
	"garbage-collector-controller",
	"namespace-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
}

func controllerManagerArgs(l layout, p ports, k *pki) []string {
	return []string{
		"--kubeconfig=" + l.controllerKubeconfig(),
		"--authentication-kubeconfig=" + l.controllerKubeconfig(),
		"--authorization-kubeconfig=" + l.controllerKubeconfig(),
		// Nobody but us asks it anything. The lookup wants a ConfigMap that a
		// controller left out here would publish, and complains for ever.
		"--authentication-skip-lookup=true",
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", p.controllerManager),
		"--tls-cert-file=" + k.certFile,
		"--tls-private-key-file=" + k.keyFile,
		"--service-account-private-key-file=" + k.serviceAccountKey,
		"--root-ca-file=" + k.caFile,
		// Upstream's 20 calls a second would take minutes over the dependents
		// of a large fleet.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

// assetsEnv names a folder of ready-made binaries, by the convention of
// controller-runtime's envtest.
const assetsEnv = "KUBEBUILDER_ASSETS"

// programFor gives the start of the command line that runs a component: its
// binary in KUBEBUILDER_ASSETS if that is set, else ourselves. That folder
// commonly has no controller manager, and then ours is used.
func programFor(component string) ([]string, error) {
	if assets := os.Getenv(assetsEnv); assets != "" {
		path, err := filepath.Abs(filepath.Join(assets, component))
		if err != nil {
			return nil, err
		}
		if _, err = os.Stat(path); err == nil {
			return []string{path}, nil
		}
		if component != controllerManagerName {
			return nil, fmt.Errorf("%s=%s: %w; unset it to use the components built into this binary", assetsEnv, assets, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{self, component}, nil
}
