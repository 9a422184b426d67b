// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
)

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
	o.HostAction = HostAccept
	must(t, tab.SetOptions(o))
	if tab.state != nil {
		t.Error("what the operator sets is not compared")
	}
}
