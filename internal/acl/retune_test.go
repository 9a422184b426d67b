// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/policy"
)

// TestLightOptions changes each option that concerns a few chains, in a table with few
// policies and in one with many: the whole is never compared, what is written is as much
// in the one as in the other, and the table is then what it would be if it were made anew.
// An option that is new stands here, or is one of those that are in every policy.
func TestLightOptions(t *testing.T) {
	inNetns(t)
	options := []struct {
		name   string
		change func(*Options)
	}{
		{"HostAction", func(o *Options) { o.HostAction = HostAccept }},
		{"Speakers", func(o *Options) { o.Speakers, o.SpeakerPort = []string{"cali1"}, 179 }},
		{"SpeakerPort", func(o *Options) { o.SpeakerPort = 180 }},
		{"AllowVXLAN", func(o *Options) { o.AllowVXLAN = true }},
		{"AllowVXLAN", func(o *Options) { o.AllowVXLAN = false }},
		{"VXLANPort", func(o *Options) { o.VXLANPort = 8472 }},
		{"AllowIPIP", func(o *Options) { o.AllowIPIP = true }},
		{"NAT", func(o *Options) { o.NAT = NAT{Outgoing: nets("10.65.0.0/16"), Spared: nets("10.64.0.0/10")} }},
		{"Floating", func(o *Options) { o.Floating = AllFloating }},
		{"OpenStack", func(o *Options) { o.OpenStack = OpenStack{true, netip.MustParseAddrPort("127.0.0.1:8775")} }},
		{"Processes", func(o *Options) { o.Processes = true }},
		{"Leaving", func(o *Options) { o.Leaving = addrs("10.65.7.7", "fd65::7:7") }},
		{"Enslaved", func(o *Options) { o.Enslaved = []string{"cali1"} }},
		{"HostAction", func(o *Options) { o.HostAction = HostDrop }},
		{"Processes", func(o *Options) { o.Processes, o.Leaving = false, nil }},
		{"Failsafes", func(o *Options) { o.Failsafes[policy.Ingress] = []policy.Failsafe{{Proto: tcp, Port: 22}} }},
		{"LogPrefix", func(o *Options) { o.LogPrefix = "%t %n" }},
		{"LogLimit", func(o *Options) { o.LogLimit = Rate{10, time.Minute, 5} }},
		{"Denied", func(o *Options) { o.Denied = Rate{20, time.Second, 20} }},
	}
	tried := map[string]bool{"Log": true, "NetNS": true, "Own": true, "Socket": true, // for good, since Open
		"Prefixes": true, "AnySource": true}
	wrote := map[int][]int{}
	for _, size := range []int{20, 400} {
		tab, v := optionsTable(t, size)
		o := tab.opts
		for _, x := range options {
			tried[x.name] = true
			x.change(&o)
			must(t, tab.SetOptions(o))
			state, before := tab.state, tab.Stats().Messages
			must(t, tab.Apply(v, v.flush()))
			n := tab.Stats().Messages - before
			wrote[size] = append(wrote[size], n)
			if tab.state != state || state == nil {
				t.Errorf("%s, %d policies: the whole table is compared", x.name, size)
			}
			if n == 0 || n > 120 {
				t.Errorf("%s, %d policies: %d messages", x.name, size, n)
			}
			quiet(t, tab, v)
		}
		for name, change := range map[string]func(*Options){
			"Prefixes":  func(o *Options) { o.Prefixes = []string{"cali", "tap"} },
			"AnySource": func(o *Options) { o.AnySource = true },
			"Denied":    func(o *Options) { o.Denied = Rate{} },
		} {
			other := o
			change(&other)
			if o.light(other) {
				t.Errorf("%s is in every policy, or says which endpoints there may be, and is not compared", name)
			}
		}
		must(t, tab.Teardown())
	}
	t.Logf("messages: %v", wrote)
	if !slices.Equal(wrote[20], wrote[400]) {
		t.Errorf("messages with 20 policies %v, with 400 %v", wrote[20], wrote[400])
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Options]()) {
		if f.IsExported() && !tried[f.Name] {
			t.Errorf("nothing is known of the option %s", f.Name)
		}
	}
}

// optionsTable has so many policies in force, two of which log, a process of the host, an
// endpoint with a floating IP, and a host endpoint.
func optionsTable(t *testing.T, size int) (*Table, *memView) {
	tab, v := openTable(t, func(o *Options) { o.Denied = Rate{10, time.Second, 10} }), newView()
	log := gnp("logs", []policy.Rule{with(policy.Log), allow()}, []policy.Rule{allow()})
	passing := gnp("logs-and-passes", []policy.Rule{with(policy.Log), with(policy.Pass)}, nil)
	list := []*policy.Policy{v.policy(log)}
	for i := range size {
		list = append(list, v.policy(gnp(fmt.Sprint("p", i), []policy.Rule{allow(toPort(tcp, port(uint16(1000+i))))}, allowAll)))
	}
	tiers := both(tier("first", false, v.policy(passing)), tier("default", false, list...))
	e := v.effective(&policy.Effective{ID: "manymanymanymany", Tiers: tiers})
	for i, process := range []bool{false, true} {
		ep := &policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: fmt.Sprint(i)}, Interface: fmt.Sprint("cali", i+1), Effective: e, Process: process,
			Addrs: []netip.Addr{ip(fmt.Sprint("10.65.0.", i+1)), ip(fmt.Sprint("fd65::", i+1))}}
		if !process {
			ep.Floating = []policy.Floating{{External: ip("203.0.113.1"), Internal: ep.Addrs[0]}}
		}
		v.endpoint(ep)
	}
	host := v.effective(&policy.Effective{ID: "hosthosthosthost", Stage: policy.StageHost, Tiers: both(tier("default", false, list[0]))})
	v.host(&policy.HostEndpoint{Name: "h", Interfaces: []string{"up0"}, Stages: []*policy.Effective{host}})
	must(t, tab.Resync(v))
	v.flush()
	return tab, v
}

// TestOptionsOfTheModel changes what follows from the model, alone and together with
// endpoints, in a table with many policies: the whole is never compared, a change writes
// as much as it is, and the table is then what it would be if it were made anew.
func TestOptionsOfTheModel(t *testing.T) {
	inNetns(t)
	tab, v := openTable(t), newView()
	var list []*policy.Policy
	for i := range 200 {
		list = append(list, v.policy(gnp(fmt.Sprint("p", i), []policy.Rule{allow(toPort(tcp, port(uint16(1000+i))))}, allowAll)))
	}
	e := v.effective(&policy.Effective{ID: "manymanymanymany", Tiers: both(tier("default", false, list...))})
	endpoint := func(i int, floating, stack bool) {
		ep := &policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: fmt.Sprint(i)}, Interface: fmt.Sprint("cali", i), Effective: e, OpenStack: stack}
		for _, a := range []string{fmt.Sprintf("10.65.0.%d", i), fmt.Sprintf("fd65::%d", i)} {
			ep.Addrs = append(ep.Addrs, ip(a))
			if floating {
				ep.Floating = append(ep.Floating, policy.Floating{External: ip(strings.NewReplacer("10.65", "203.0", "fd65", "2001:db8").Replace(a)), Internal: ip(a)})
			}
		}
		v.endpoint(ep)
	}
	for i := range 50 {
		endpoint(i+1, i%10 == 0, i%20 == 0)
	}
	must(t, tab.Resync(v))
	v.flush()
	apply := func(what string, o Options, most int) {
		t.Helper()
		must(t, tab.SetOptions(o))
		state, before := tab.state, tab.Stats().Messages
		must(t, tab.Apply(v, v.flush()))
		if tab.state != state || state == nil {
			t.Errorf("%s: the whole table is compared", what)
		}
		if n := tab.Stats().Messages - before; n == 0 || n > most {
			t.Errorf("%s: %d messages, want at most %d", what, n, most)
		}
		quiet(t, tab, v)
	}
	o := tab.opts
	o.Speakers, o.SpeakerPort = []string{"cali1"}, 179
	apply("the first speaker", o, 60) // two chains are written anew
	o.Speakers = []string{"cali1", "cali2"}
	apply("another speaker", o, 8)
	o.Speakers = nil
	apply("no speaker", o, 60)
	o.Floating = OpenStackFloating
	apply("OpenStack's floating IPs", o, 40)
	o.Floating = AllFloating
	apply("all floating IPs", o, 20)
	o.Floating = NoFloating
	apply("no floating IPs", o, 40)
	for i := range 300 {
		o.NAT.Spared = append(o.NAT.Spared, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 32))
	}
	o.NAT.Outgoing = nets("10.65.0.0/16", "fd65::/48")
	o.NAT.Spared = append(o.NAT.Spared, nets("10.65.0.0/16", "fd65::/48")...)
	apply("translation", o, 40)
	o.NAT.Spared = append([]netip.Prefix{}, o.NAT.Spared[1:]...)
	apply("a server less", o, 8)
	o.NAT.Spared = append(o.NAT.Spared, nets("10.64.0.0/10")...) // one of them is in it now
	apply("a wider pool", o, 8)
	o.NAT.Spared = append(o.NAT.Spared, nets("0.0.0.0/0")...)
	apply("everything is spared", o, 20)

	// In any order, and several together with endpoints that come and go.
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) (out []netip.Prefix) {
		for _, n := range nets(from...) {
			if rnd.IntN(2) == 0 {
				out = append(out, n)
			}
		}
		return out
	}
	for step := range 150 {
		switch rnd.IntN(4) {
		case 0:
			o.NAT.Outgoing = pick("10.65.0.0/16", "10.66.0.0/16", "fd65::/48", "fd66::/48")
		case 1:
			o.NAT.Spared = pick("10.65.0.0/16", "10.66.0.0/16", "10.64.0.0/10", "10.67.0.0/32", "10.67.0.1/32", "0.0.0.0/0", "255.0.0.0/8", "fd65::/48", "fd00::/8", "ff00::/8")
		case 2:
			o.Speakers = nil
			for i := range 3 {
				if rnd.IntN(2) == 0 {
					o.Speakers = append(o.Speakers, fmt.Sprint("cali", i))
				}
			}
			o.SpeakerPort = uint16(179 + rnd.IntN(2))
		case 3:
			o.Floating = Floating(rnd.IntN(3))
		}
		for range rnd.IntN(3) {
			if i := 1 + rnd.IntN(60); rnd.IntN(4) == 0 {
				v.removeEndpoint(policy.EndpointID{Namespace: "ns", Name: fmt.Sprint(i)})
			} else {
				endpoint(i, rnd.IntN(2) == 0, rnd.IntN(2) == 0)
			}
		}
		must(t, tab.SetOptions(o))
		state := tab.state
		must(t, tab.Apply(v, v.flush()))
		if tab.state != state {
			t.Fatalf("step %d: the whole table is compared", step)
		}
		quiet(t, tab, v)
	}
}
