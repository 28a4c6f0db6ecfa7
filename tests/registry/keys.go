package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is longer than any test.
const certificateLife = 24 * time.Hour

// keys is an authority, new at each start, and one certificate of it, which
// serves https and signs tokens.
type keys struct {
	caFile string
	leaf   tls.Certificate
}

func newKeys(dir string) (*keys, error) {
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "registry test authority"},
		NotBefore:             now.Add(-time.Hour), // clocks differ a little between machines and containers
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1),
		Subject:      pkix.Name{CommonName: "registry"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	k := &keys{
		caFile: filepath.Join(dir, "ca.crt"),
		leaf:   tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: serverKey},
	}
	der, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	// The last two are for servers of a test's own.
	return k, errors.Join(
		writePEM(k.caFile, "CERTIFICATE", root),
		writePEM(filepath.Join(dir, "server.crt"), "CERTIFICATE", leaf),
		writePEM(filepath.Join(dir, "server.key"), "EC PRIVATE KEY", der),
	)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// serving is how https is offered.
func (k *keys) serving() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{k.leaf}, MinVersion: tls.VersionTLS12}
}
