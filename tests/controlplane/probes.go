package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// prober asks the components whether they serve.
type prober struct {
	client *http.Client
	token  string
	ports  ports
}

// probeTimeout bounds one question: a server that has just opened its port may
// be slow to answer the first.
const probeTimeout = 5 * time.Second

func newProber(p ports, caPEM []byte, token string) *prober {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPEM)
	return &prober{
		client: &http.Client{
			Timeout: probeTimeout,
			Transport: &http.Transport{
				// No proxy: it is all on this machine. No kept connections: one
				// to a server that was killed would make the next question fail.
				TLSClientConfig:   &tls.Config{RootCAs: roots},
				DisableKeepAlives: true,
			},
		},
		token: token,
		ports: p,
	}
}

func (p *prober) etcd(ctx context.Context) error {
	return p.get(ctx, p.ports.etcdURL()+"/health")
}

func (p *prober) apiServer(ctx context.Context) error {
	return p.get(ctx, p.ports.apiServerURL()+"/readyz")
}

func (p *prober) controllerManager(ctx context.Context) error {
	return p.get(ctx, p.ports.controllerManagerURL()+"/healthz")
}

// defaultNamespace says whether namespace default is there: the API server
// makes it a little after it says that it is ready.
func (p *prober) defaultNamespace(ctx context.Context) error {
	return p.get(ctx, p.ports.apiServerURL()+"/api/v1/namespaces/default")
}

// defaultServiceAccount says whether the controllers have begun to work: the
// first thing seen of them is the ServiceAccount of the default namespace.
func (p *prober) defaultServiceAccount(ctx context.Context) error {
	return p.get(ctx, p.ports.apiServerURL()+"/api/v1/namespaces/default/serviceaccounts/default")
}

func (p *prober) get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Only the API server knows the token; the others answer anyone on these
	// paths, also while the API server is down and can't vouch for a token.
	if strings.HasPrefix(url, p.ports.apiServerURL()) {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// Read to the end, else the server logs a call that was broken off.
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
