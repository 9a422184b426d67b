// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// rig is the fabric that everything happens on: the measured agent on a server
// of its own, etcd on another, and all remote nodes on a third, which speaks
// BGP for each of them with our own engine and sends the measured packets.
type rig struct {
	*cluster.Cluster
	agent  *cluster.Node
	remote *lab.Host
	etcd   *lab.Host
	target *lab.Namespace // workload 1, the one that is measured
	crowd  *lab.Namespace // the other workloads
	fresh  *lab.Namespace // where new endpoints appear
	client *datastore.Server

	ctx      context.Context // of speakers
	cancel   context.CancelFunc
	speakers sync.WaitGroup
}

const etcdURL = "http://10.0.255.1:2379"

func newRig(ctx context.Context, o options) (_ *rig, err error) {
	dir, err := os.MkdirTemp("/tmp", "mu-bench") // short, for a unix socket's path
	if err != nil {
		return nil, err
	}
	v4, v6 := uplink(0)
	r := &rig{}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.Cluster, err = cluster.New(cluster.Options{
		Binary: o.binary, Dir: dir, Etcd: etcdURL,
		Servers: []cluster.Server{{Name: agentNode, V4: v4, V6: v6, Args: []string{"--log-level", "warn"}}},
	})
	if err != nil {
		r.cancel()
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	r.agent = r.Nodes[0]
	if r.remote, err = r.Lab.Host(r.Fabric, "remote"); err != nil {
		return nil, err
	}
	if r.etcd, err = r.Lab.Host(r.Fabric, "etcd", netip.MustParsePrefix("10.0.255.1/16")); err != nil {
		return nil, err
	}
	if r.client, err = datastore.Start(ctx, r.etcd, o.etcd, filepath.Join(dir, "etcd"), etcdURL); err != nil {
		return nil, err
	}
	for name, ns := range map[string]**lab.Namespace{"target": &r.target, "crowd": &r.crowd, "fresh": &r.fresh} {
		if *ns, err = r.Lab.Workload(name); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// plug makes the cable of the endpoint at a place of the measured node.
func (r *rig) plug(ns *lab.Namespace, host int, inside string) error {
	mac, err := net.ParseMAC(localMAC(host))
	if err != nil {
		return err
	}
	if err := lab.Veth(lab.End{NS: r.agent.Namespace, Name: localInterface(host)}, lab.End{NS: ns, Name: inside, MAC: mac}); err != nil {
		return err
	}
	v4, v6 := nodeAddr(0, host)
	return errors.Join(ns.AddAddr(inside, netip.PrefixFrom(v4, 32)), ns.AddAddr(inside, netip.PrefixFrom(v6, 128)))
}

// Close ends everything and removes it.
func (r *rig) Close() error {
	r.cancel()
	r.speakers.Wait()
	if r.client != nil {
		r.client.Close()
	}
	return r.Cluster.Close()
}

// build makes the cables of all local endpoints, and what the sender needs.
func (r *rig) build(s scene) error {
	if err := r.plug(r.target, 1, "eth0"); err != nil {
		return err
	}
	for host := 2; host <= s.Local; host++ {
		if err := r.plug(r.crowd, host, fmt.Sprintf("eth%d", host)); err != nil {
			return err
		}
	}
	// The sender is the first endpoint of the first remote node.
	v4, v6 := nodeAddr(1, 1)
	to4, to6 := nodeAddr(0, 0)
	via4, via6 := uplink(0)
	own4, own6 := uplink(0xfe00)
	return errors.Join(
		r.remote.AddAddr(r.remote.Uplink, own4), r.remote.AddAddr(r.remote.Uplink, own6),
		r.remote.AddAddr("lo", netip.PrefixFrom(v4, 32)), r.remote.AddAddr("lo", netip.PrefixFrom(v6, 128)),
		r.remote.AddRoute(netip.PrefixFrom(to4, 24), via4.Addr(), r.remote.Uplink),
		r.remote.AddRoute(netip.PrefixFrom(to6, 120), via6.Addr(), r.remote.Uplink),
	)
}
