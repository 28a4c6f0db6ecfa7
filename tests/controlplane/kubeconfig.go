package main

import (
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes a kubeconfig (mode 0600) by which u reaches server.
func writeKubeconfig(path, server string, caPEM []byte, u user) error {
	const cluster = "controlplane"
	config := api.NewConfig()
	config.Clusters[cluster] = &api.Cluster{Server: server, CertificateAuthorityData: caPEM}
	config.AuthInfos[u.name] = &api.AuthInfo{Token: u.token}
	config.Contexts[cluster] = &api.Context{Cluster: cluster, AuthInfo: u.name, Namespace: "default"}
	config.CurrentContext = cluster
	return clientcmd.WriteToFile(*config, path)
}
