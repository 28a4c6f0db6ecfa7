// Command registry is a real container registry for tests: CNCF Distribution as
// upstream ships it, with notifications, and beside it what makes and pushes
// images without a container engine (go-containerregistry), and crane.
//
// Nothing in it is hardened; never keep anything in it that matters.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/cmd/crane/cmd"
)

const usage = `registry: a real container registry for tests

  registry serve --dir DIR [--listen ADDRESS] [--tls]
                 [--htpasswd USER:PASSWORD | --token USER:PASSWORD [--token-life SECONDS]]
                 [--page TAGS] [--notify URL [--notify-header 'Name: value']...]...
      serve the folder DIR, print one line of JSON with the addresses, then
      wait; ends with its parent or by a signal. --token starts a token server
      beside it, which lets anonymous clients pull from public/... only.
  registry push [--user USER:PASSWORD] [--ca FILE] [--content TEXT] [--kind KIND] IMAGE
      make an image of a few bytes and push it; prints its digest.
      KIND is image (the default), docker, index (two architectures), helm
      or artifact (something of a media type of its own)
  registry tag    [--user USER:PASSWORD] [--ca FILE] IMAGE TAG    one more tag for IMAGE
  registry delete [--user USER:PASSWORD] [--ca FILE] IMAGE        the tag, or with a digest the manifest
  registry crane ...                                              the real crane
`

// errUsage is a mistake in the command line that the flags did not see.
var errUsage = errors.New("wrong arguments; see `registry help`")

func main() {
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "crane" {
		args = append([]string{"crane"}, args...)
	}
	if len(args) == 0 {
		args = []string{"help"}
	}
	var err error
	switch args[0] {
	case "serve":
		err = serve(args[1:])
	case "push":
		err = push(args[1:])
	case "tag":
		err = tag(args[1:])
	case "delete":
		err = remove(args[1:])
	case "crane":
		root := cmd.New("crane", "crane of go-containerregistry", nil)
		root.SetArgs(args[1:])
		err = root.Execute()
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		err = errUsage
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "registry: "+err.Error())
	os.Exit(1)
}
