package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// The names of the supervised components, as upstream calls their binaries.
const (
	etcdName              = "etcd"
	apiServerName         = "kube-apiserver"
	controllerManagerName = "kube-controller-manager"
	kubectlName           = "kubectl"
)

// programs are the upstream programs inside this binary. Each takes the very
// flags of its upstream binary, so the supervisor can start one of these or a
// binary from KUBEBUILDER_ASSETS with the same arguments.
var programs = map[string]func(name string, args []string) int{
	etcdName:              runEtcd,
	apiServerName:         runAPIServer,
	controllerManagerName: runControllerManager,
	kubectlName:           runKubectl,
}

// become makes the process look like the upstream program: several of them
// read os.Args themselves, for help texts, plugins and log flags.
func become(name string, args []string) {
	os.Args = append([]string{name}, args...)
}

func runEtcd(name string, args []string) int {
	become(name, args)
	dieWithSupervisor()
	etcdmain.Main(os.Args)
	return 0
}

func runAPIServer(name string, args []string) int {
	become(name, args)
	dieWithSupervisor()
	return cli.Run(apiserver.NewAPIServerCommand())
}

func runControllerManager(name string, args []string) int {
	become(name, args)
	dieWithSupervisor()
	return cli.Run(controllermanager.NewControllerManagerCommand())
}

func runKubectl(name string, args []string) int {
	become(name, args)
	// As upstream's main: klog's level must be known before the command tree
	// is built, because building it loads plugins and .kuberc.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // prints in kubectl's own manner and exits
	}
	return 0
}
