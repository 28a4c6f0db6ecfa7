package main

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// client is how the commands that write reach a registry.
type client struct {
	user, ca *string
}

func clientFlags(flags *flag.FlagSet) client {
	return client{
		user: flags.String("user", "", "USER:PASSWORD"),
		ca:   flags.String("ca", "", "PEM file of the authority that signed the registry's certificate"),
	}
}

func (c client) options() ([]remote.Option, error) {
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	// The registries of tests are on this machine, whatever proxy a shell has.
	transport.Proxy = nil
	if *c.ca != "" {
		pem, err := os.ReadFile(*c.ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, errors.New(*c.ca + " has no certificate")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	options := []remote.Option{remote.WithTransport(transport)}
	if user, password, ok := strings.Cut(*c.user, ":"); ok {
		options = append(options, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	}
	return options, nil
}

func push(args []string) error {
	flags := flag.NewFlagSet("push", flag.ContinueOnError)
	client := clientFlags(flags)
	content := flags.String("content", "", "what the one file of the image says")
	kind := flags.String("kind", "image", "image, docker, index, helm or artifact")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errUsage
	}
	reference, err := name.ParseReference(flags.Arg(0))
	if err != nil {
		return err
	}
	options, err := client.options()
	if err != nil {
		return err
	}

	var image v1.Image
	switch *kind {
	case "index":
		index, err := newIndex(*content)
		if err != nil {
			return err
		}
		if err := remote.WriteIndex(reference, index, options...); err != nil {
			return err
		}
		return printDigest(index.Digest())
	case "image":
		image, err = newImage(*content, types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer)
	case "docker":
		image, err = newImage(*content, types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer)
	case "helm":
		image, err = newImage(*content, types.OCIManifestSchema1, "application/vnd.cncf.helm.config.v1+json",
			"application/vnd.cncf.helm.chart.content.v1.tar+gzip")
	case "artifact":
		image, err = newImage(*content, types.OCIManifestSchema1, "application/vnd.tranche.test.v1+json", types.OCILayer)
	default:
		err = errUsage
	}
	if err != nil {
		return err
	}
	if err := remote.Write(reference, image, options...); err != nil {
		return err
	}
	return printDigest(image.Digest())
}

// newImage makes an image with one file.
func newImage(content string, manifest, config, layer types.MediaType) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), config)
	if manifest == types.OCIManifestSchema1 && config != types.OCIConfigJSON {
		return mutate.Append(base, mutate.Addendum{Layer: static.NewLayer([]byte(content), layer)})
	}
	var file bytes.Buffer
	archive := tar.NewWriter(&file)
	if err := archive.WriteHeader(&tar.Header{Name: "content", Mode: 0o644, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := archive.Write([]byte(content)); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file.Bytes())), nil }
	one, err := tarball.LayerFromOpener(open, tarball.WithMediaType(layer))
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, one)
}

// newIndex makes an index of two architectures.
func newIndex(content string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := newImage(content+" for "+architecture, types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer)
		if err != nil {
			return nil, err
		}
		platform := &v1.Platform{OS: "linux", Architecture: architecture}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index, nil
}

func printDigest(digest v1.Hash, err error) error {
	if err == nil {
		fmt.Println(digest)
	}
	return err
}

func tag(args []string) error {
	flags := flag.NewFlagSet("tag", flag.ContinueOnError)
	client := clientFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errUsage
	}
	reference, err := name.ParseReference(flags.Arg(0))
	if err != nil {
		return err
	}
	options, err := client.options()
	if err != nil {
		return err
	}
	image, err := remote.Get(reference, options...)
	if err != nil {
		return err
	}
	return remote.Tag(reference.Context().Tag(flags.Arg(1)), image, options...)
}

func remove(args []string) error {
	flags := flag.NewFlagSet("delete", flag.ContinueOnError)
	client := clientFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errUsage
	}
	reference, err := name.ParseReference(flags.Arg(0))
	if err != nil {
		return err
	}
	options, err := client.options()
	if err != nil {
		return err
	}
	return remote.Delete(reference, options...)
}
