// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// muslin is the binary that was built from this tree, as `muslin run`, with an
// etcd in another process on another host.
type muslin struct {
	node *cluster.Node
}

func (m *muslin) name() string { return "muslin" }

func (m *muslin) configure(ctx context.Context, w *world, j job) error {
	m.node = w.router
	host, err := w.Lab.Host(w.Fabric, "etcd", netip.MustParsePrefix("10.0.255.1/16"))
	if err != nil {
		return err
	}
	if w.etcd, err = datastore.Start(ctx, host, w.o.etcd, filepath.Join(w.dir, "etcd"), etcdURL); err != nil {
		return err
	}
	ops, err := objects(j)
	if err != nil {
		return err
	}
	for len(ops) > 0 {
		n := min(len(ops), 100)
		if _, err := w.etcd.Commit(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// objects are the node, its neighbours and the blocks it announces.
func objects(j job) (ops []store.Op, err error) {
	node := &v3.Node{}
	node.Metadata.Name = routerName
	node.Spec.BGP = &v3.NodeBGP{IPv4Address: routerAddr.String()}
	// What is fed lies in no pool.
	node.Metadata.Annotations = map[string]string{v3.AnnotationPrefix + "may-announce": "0.0.0.0/0"}
	if !j.program {
		node.Metadata.Annotations[v3.AnnotationPrefix+"program-routes"] = "Disabled"
	}
	if j.reflect {
		node.Spec.BGP.RouteReflectorClusterID = routerAddr.Addr().String()
	}
	list := []v3.Resource{node}
	if len(j.own) > 0 {
		pool := &v3.IPPool{}
		pool.Metadata.Name = "own"
		pool.Spec.CIDR = "10.64.0.0/10"
		list = append(list, pool)
	}
	for i := range j.peers + j.silent {
		p := &v3.BGPPeer{}
		p.Metadata.Name = fmt.Sprintf("peer%d", i)
		p.Spec.PeerIP, p.Spec.ASNumber = neighbour(i).String(), asn
		p.Spec.KeepaliveTime = &v3.Duration{Duration: holdTime / 3 * time.Second}
		list = append(list, p)
	}
	for _, r := range list {
		b, err := v3.EncodeMerged(r, nil)
		if err != nil {
			return nil, err
		}
		info, _ := v3.InfoFor(r)
		ops = append(ops, store.OpPut(v3.Key(info.Kind, "", r.Meta().Name), b))
	}
	for _, p := range j.own {
		key, err := ipam.AffinityKey(ipam.HostOwner(routerName), p)
		if err != nil {
			return nil, err
		}
		value, err := ipam.Affinity{State: ipam.Confirmed}.Encode()
		if err != nil {
			return nil, err
		}
		ops = append(ops, store.OpPut(key, value))
	}
	return ops, nil
}

// start starts it; what an earlier process left behind is found without a word.
func (m *muslin) start(bool) error { return m.node.Start() }

func (m *muslin) kill()       { m.node.Kill() }
func (m *muslin) pid() int    { return m.node.Process().Pid() }
func (m *muslin) log() string { return m.node.Log() }

func (m *muslin) received(ctx context.Context) (n int, err error) {
	var peers api.Peers
	if err := m.node.API().Get(ctx, "/v1/bgp/peers", nil, &peers); err != nil {
		return 0, err
	}
	for _, p := range peers.Peers {
		n += p.Accepted
	}
	return n, nil
}

func (m *muslin) programmed(ctx context.Context) (int, error) {
	s, err := m.node.API().Status(ctx, 0)
	if err != nil {
		return 0, err
	}
	return s.Counts["routes"], nil
}
