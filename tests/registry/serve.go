package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

const (
	// notifyTimeout is what a receiver may take to answer.
	notifyTimeout = 5 * time.Second
	// notifyThreshold failures in a row make the registry wait for notifyBackoff.
	notifyThreshold = 3
	// notifyBackoff is short, so that a test of a receiver that comes back is.
	notifyBackoff = 500 * time.Millisecond
	// parentPollInterval bounds how long an orphan lives.
	parentPollInterval = 100 * time.Millisecond
	// pageSize of lists of tags, as upstream's default.
	pageSize = 1000
)

// firstParent is read before anything else can take time, so that a parent that
// dies during our start is still noticed.
var firstParent = os.Getppid()

// started is the line by which whoever started us learns the addresses.
type started struct {
	Address string `json:"address"`
	CA      string `json:"ca,omitempty"`
	Tokens  string `json:"tokens,omitempty"`
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of images and keys")
	listen := flags.String("listen", "127.0.0.1:0", "address")
	withTLS := flags.Bool("tls", false, "https, by an authority in DIR/ca.crt that is new at each start")
	htpasswd := flags.String("htpasswd", "", "USER:PASSWORD for basic authentication")
	token := flags.String("token", "", "USER:PASSWORD for the token server")
	tokenLife := flags.Int("token-life", 300, "seconds for which a token is said to be good")
	page := flags.Int("page", pageSize, "most tags in one answer")
	var endpoints []configuration.Endpoint
	flags.Func("notify", "URL that is told of every push", func(url string) error {
		endpoints = append(endpoints, configuration.Endpoint{
			Name: fmt.Sprintf("endpoint-%d", len(endpoints)), URL: url, Headers: http.Header{},
			Timeout: notifyTimeout, Threshold: notifyThreshold, Backoff: notifyBackoff,
		})
		return nil
	})
	flags.Func("notify-header", "'Name: value' for the last --notify", func(header string) error {
		name, value, ok := strings.Cut(header, ":")
		if !ok || len(endpoints) == 0 {
			return errors.New("write 'Name: value' after --notify URL")
		}
		endpoints[len(endpoints)-1].Headers.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || flags.NArg() > 0 {
		return errUsage
	}
	logrus.SetLevel(logrus.WarnLevel)

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	answer := started{Address: listener.Addr().String()}
	images := filepath.Join(*dir, "images")
	if err := os.MkdirAll(images, 0o700); err != nil {
		return err
	}
	keys, err := newKeys(*dir)
	if err != nil {
		return err
	}

	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": images},
			"delete":     configuration.Parameters{"enabled": true},
			// No clean-up in the background: these live for seconds.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
		Notifications: configuration.Notifications{Endpoints: endpoints},
		Tags:          configuration.Tags{MaxTags: *page},
	}
	config.HTTP.Secret = "these tests"
	// What notifications name as their source.
	config.HTTP.Addr = answer.Address
	// Images of tests name nothing that lies elsewhere, so nothing is looked for.
	config.Validation.Disabled = true

	switch {
	case *htpasswd != "":
		file := filepath.Join(*dir, "htpasswd")
		user, password, _ := strings.Cut(*htpasswd, ":")
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600); err != nil {
			return err
		}
		config.Auth = configuration.Auth{"htpasswd": {"realm": "tests", "path": file}}
	case *token != "":
		server, err := newTokenServer(*token, *tokenLife, keys)
		if err != nil {
			return err
		}
		at, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		// By name: go-containerregistry takes no realm on another private address.
		_, port, err := net.SplitHostPort(at.Addr().String())
		if err != nil {
			return err
		}
		answer.Tokens = net.JoinHostPort("localhost", port)
		scheme := "http"
		if *withTLS {
			scheme = "https"
			at = tls.NewListener(at, keys.serving())
		}
		go func() { fatal(http.Serve(at, server)) }()
		config.Auth = configuration.Auth{"token": {
			"realm":   scheme + "://" + answer.Tokens + "/token",
			"service": tokenService, "issuer": tokenIssuer, "rootcertbundle": keys.caFile,
		}}
	}

	app := handlers.NewApp(context.Background(), config)
	if *withTLS {
		answer.CA = keys.caFile
		listener = tls.NewListener(listener, keys.serving())
	}
	go func() { fatal(http.Serve(listener, app)) }()
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		return err
	}
	// Compares parent ids rather than asking the kernel for a signal: that is sent
	// when the thread that started us ends, and a test's thread ends with the test.
	for os.Getppid() == firstParent {
		time.Sleep(parentPollInterval)
	}
	return nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "registry: "+err.Error())
	os.Exit(1)
}
