// SPDX-License-Identifier: Apache-2.0

// Command muslin is the whole system in one binary.
package main

import (
	_ "github.com/coreos/go-systemd/v22/daemon"
	_ "github.com/gaissmai/bart"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/nftables"
	_ "github.com/google/uuid"
	_ "github.com/mdlayher/netlink"
	_ "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/vishvananda/netlink"
	_ "github.com/vishvananda/netns"
	_ "go.etcd.io/etcd/client/v3"
	_ "go.etcd.io/etcd/server/v3/embed"
	_ "go.uber.org/zap"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "google.golang.org/grpc"
	_ "pgregory.net/rapid"
	_ "sigs.k8s.io/yaml"
)

func main() {}
