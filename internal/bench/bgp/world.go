// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// world is what one measurement happens in, and nothing of it is left for the
// next one: a router in a namespace, and one with all its neighbours.
type world struct {
	*cluster.Cluster
	o       options
	dir     string
	router  *cluster.Node // the namespace of whichever daemon is measured
	outside *lab.Host
	etcd    *datastore.Server // of a daemon that has one
}

var (
	routerAddr = netip.MustParsePrefix("10.0.0.1/16")
	onLink     = netip.MustParseAddr("10.0.9.9") // a next hop behind the uplink
)

const (
	routerName = "router"
	etcdURL    = "http://10.0.255.1:2379"
)

// neighbour is the address of peer number i.
func neighbour(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(1 + i/200), byte(1 + i%200)})
}

func newWorld(o options, peers int) (w *world, err error) {
	w = &world{o: o}
	if w.dir, err = os.MkdirTemp("/tmp", "mu-bgp"); err != nil { // short, for a unix socket's path
		return nil, err
	}
	w.Cluster, err = cluster.New(cluster.Options{
		Binary: o.binary, Dir: w.dir, Etcd: etcdURL,
		Servers: []cluster.Server{{Name: routerName, V4: routerAddr, Args: []string{"--log-level", "warn"}}},
	})
	if err != nil {
		return nil, err
	}
	w.router = w.Nodes[0]
	var addrs []netip.Prefix
	for i := range peers {
		addrs = append(addrs, netip.PrefixFrom(neighbour(i), 16))
	}
	if w.outside, err = w.Lab.Host(w.Fabric, "outside", append(addrs, netip.PrefixFrom(onLink, 16))...); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends everything and removes it.
func (w *world) Close() error {
	if w.etcd != nil {
		w.etcd.Close()
	}
	return w.Cluster.Close()
}

// dialAll brings the sessions of peers from first up, n of them.
func (w *world) dialAll(ctx context.Context, first, n int) (list []*session, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.limit)
	defer cancel()
	list = make([]*session, n)
	errs := make([]error, n)
	done := make(chan struct{})
	for i := range n {
		go func() {
			list[i], errs[i] = dial(ctx, w.outside.Namespace, neighbour(first+i), netip.AddrPortFrom(routerAddr.Addr(), 179))
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	if err := errors.Join(errs...); err != nil {
		closeAll(list)
		return nil, err
	}
	return list, nil
}

var errLate = errors.New("too late")

// until polls until a condition holds. How often it looks is how exact a time
// that ends there can be.
func (w *world) until(ctx context.Context, every time.Duration, what string, cond func() (bool, error)) error {
	end := time.Now().Add(w.o.limit)
	for {
		ok, err := cond()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w: not within %v", what, errLate, w.o.limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}
