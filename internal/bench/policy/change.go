// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bench/proc"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// load is what is in force while changes are made.
type load struct {
	Local    int `json:"localEndpoints"`
	Policies int `json:"policies"`
	Rules    int `json:"rulesPerPolicy"`
	Members  int `json:"members"`
}

// apps is how many kinds of endpoint there are: each policy selects one.
const apps = 100

func local(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)})
}

// endpoint is a local one.
func (l load) endpoint(i, app int) *v3.WorkloadEndpoint {
	w := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: fmt.Sprintf("local-%d", i), Namespace: namespace,
		Labels: map[string]string{"projectcalico.org/namespace": namespace, "app": fmt.Sprintf("app%d", app)}}}}
	v6 := netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x65, 14: byte(i >> 8), 15: byte(i)})
	w.Spec.Node, w.Spec.InterfaceName, w.Spec.IPNetworks = node, fmt.Sprintf("cali%d", i), []string{local(i).String(), v6.String()}
	return w
}

// member is a remote endpoint, of the large set.
func (l load) member(i int) *v3.WorkloadEndpoint {
	w := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: fmt.Sprintf("remote-%d", i), Namespace: namespace,
		Labels: map[string]string{"projectcalico.org/namespace": namespace, "in": "crowd"}}}}
	a := netip.AddrFrom4([4]byte{10, byte(80 + i>>16), byte(i >> 8), byte(i)})
	w.Spec.Node, w.Spec.InterfaceName, w.Spec.IPNetworks = "elsewhere", fmt.Sprintf("cali%d", i), []string{a.String()}
	return w
}

// policy is one that lets its last port in from the large set, and others from
// networks. Each variant has another port, or another network.
func (l load) policy(i, port, net int) *v3.GlobalNetworkPolicy {
	p := &v3.GlobalNetworkPolicy{}
	p.Spec.Selector = fmt.Sprintf("app == 'app%d'", i%apps)
	tcp := v3.ProtocolName("TCP")
	for j := range l.Rules {
		r := v3.Rule{Action: "Allow", Protocol: &tcp, Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(uint16(1000 + j))}}}
		r.Source.Nets = []string{fmt.Sprintf("172.%d.%d.%d/28", 16+(i+j)%16, i%256, j*16%256), fmt.Sprintf("2001:db8:%x:%x::/64", i, j)}
		switch j {
		case 0:
			r.Source.Nets[0] = fmt.Sprintf("192.168.%d.0/24", net%256)
		case l.Rules - 1:
			r.Source = v3.EntityRule{Selector: "in == 'crowd'"}
			r.Destination.Ports = []v3.Port{v3.SinglePort(uint16(20_000 + port))}
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	p.Spec.Egress = []v3.Rule{{Action: "Allow"}}
	return p
}

// agent is the part of it that policy goes through.
type agent struct {
	index *policy.Index
	table *acl.Table
}

func (a *agent) endpoint(w *v3.WorkloadEndpoint, gone bool) {
	k := policy.Key{Kind: "WorkloadEndpoint", Namespace: namespace, Name: w.Metadata.Name}
	if gone {
		a.index.Set(k, nil, nil)
		return
	}
	a.index.Set(k, w, nil)
}

func (a *agent) policy(i int, p *v3.GlobalNetworkPolicy) {
	k := policy.Key{Kind: "GlobalNetworkPolicy", Name: fmt.Sprintf("policy-%05d", i)}
	if p == nil {
		a.index.Set(k, nil, nil)
		return
	}
	a.index.Set(k, p, nil)
}

func (a *agent) apply() error { return a.table.Apply(a.index, a.index.Flush()) }

// changes measures how long one object takes from the index to the kernel.
func changes(ctx context.Context, o options, rep *report, say func(string, ...any)) (err error) {
	l := lab.New("bp")
	defer func() {
		if e := l.Close(); err == nil {
			err = e
		}
	}()
	host, err := l.Namespace("h")
	if err != nil {
		return err
	}
	fd, err := os.Open(host.Path())
	if err != nil {
		return err
	}
	defer fd.Close()
	a := &agent{index: policy.NewIndex(node)}
	if a.table, err = acl.Open(acl.Options{Log: slog.New(slog.DiscardHandler), Prefixes: []string{"cali"}, NetNS: int(fd.Fd())}); err != nil {
		return err
	}
	defer a.table.Close()
	say("putting %d endpoints, %d policies and a set of %d into force", o.load.Local, o.load.Policies, o.load.Members)
	for i := range o.load.Local {
		a.endpoint(o.load.endpoint(i, i%apps), false)
	}
	for i := range o.load.Members {
		a.endpoint(o.load.member(i), false)
	}
	for i := range o.load.Policies {
		a.policy(i, o.load.policy(i, 0, 0))
	}
	began := time.Now()
	if err := a.apply(); err != nil {
		return err
	}
	rep.Whole = time.Since(began)
	n, m := o.load.Policies, o.load.Members
	for _, k := range []struct {
		name string
		do   func(i int)
	}{
		{"another port in a policy", func(i int) { a.policy(i%n, o.load.policy(i%n, 1+i, 0)) }},
		{"another network in a policy", func(i int) { a.policy(i%n, o.load.policy(i%n, 1+i, 1+i)) }},
		{"a policy more", func(i int) { a.policy(n+i, o.load.policy(n+i, 0, 0)) }},
		{"a policy less", func(i int) { a.policy(n+i, nil) }},
		{"an endpoint more", func(i int) { a.endpoint(o.load.endpoint(o.load.Local+i, i%apps), false) }},
		{"another label of an endpoint", func(i int) { a.endpoint(o.load.endpoint(o.load.Local+i, (i+1)%apps), false) }},
		{"an endpoint less", func(i int) { a.endpoint(o.load.endpoint(o.load.Local+i, 0), true) }},
		{"a member of the set more", func(i int) { a.endpoint(o.load.member(m+i), false) }},
		{"a member of the set less", func(i int) { a.endpoint(o.load.member(m+i), true) }},
	} {
		say("%d times %s", o.changes, k.name)
		var took proc.Samples
		before := a.table.Stats()
		for i := range o.changes {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// As changes come, and not one after the other as fast as they are taken.
			time.Sleep(2 * time.Millisecond)
			began := time.Now()
			k.do(i)
			if err := a.apply(); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			took = append(took, time.Since(began))
		}
		for _, p := range a.table.Problems() {
			return fmt.Errorf("%s: %s: %w", k.name, p.Object, p.Err)
		}
		after := a.table.Stats()
		rep.Changes = append(rep.Changes, change{Name: k.name, Median: took.Quantile(0.5), P99: took.Quantile(0.99),
			Messages: float64(after.Messages-before.Messages) / float64(o.changes), Commits: float64(after.Commits-before.Commits) / float64(o.changes)})
	}
	return nil
}
