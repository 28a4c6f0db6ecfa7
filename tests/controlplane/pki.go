package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is longer than any demo is left running.
const certificateLife = 365 * 24 * time.Hour

// pki is the key material under DIR/pki. ECDSA throughout: making RSA keys
// would be a good part of the time it takes to start.
type pki struct {
	caPEM             []byte
	caFile            string
	certFile, keyFile string // of the API server and the controller manager
	serviceAccountKey string
}

// newPKI makes a certificate authority and a serving certificate for the
// loopback interface. They are new at every start, since the kubeconfigs are
// too; the key that signs service account tokens is kept, so tokens that lie in
// the data of an earlier start stay valid.
func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &pki{
		caFile:            filepath.Join(dir, "ca.crt"),
		certFile:          filepath.Join(dir, "server.crt"),
		keyFile:           filepath.Join(dir, "server.key"),
		serviceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	if _, err := os.Stat(p.serviceAccountKey); errors.Is(err, fs.ErrNotExist) {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		if err := writeKey(p.serviceAccountKey, key); err != nil {
			return nil, err
		}
	}

	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "controlplane test authority"},
		NotBefore:             now.Add(-time.Hour), // clocks differ a little between machines and containers
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1),
		Subject:      pkix.Name{CommonName: "controlplane"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caKey, err := newKey()
	if err != nil {
		return nil, err
	}
	serverKey, err := newKey()
	if err != nil {
		return nil, err
	}
	if p.caPEM, err = sign(ca, ca, caKey, caKey); err != nil {
		return nil, err
	}
	serverPEM, err := sign(server, ca, serverKey, caKey)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(
		os.WriteFile(p.caFile, p.caPEM, 0o600),
		os.WriteFile(p.certFile, serverPEM, 0o600),
		writeKey(p.keyFile, serverKey),
	)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// sign makes the certificate of key, signed by the issuer, as PEM.
func sign(certificate, issuer *x509.Certificate, key, issuerKey *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, certificate, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", certificate.Subject, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
