// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
)

// oneWay sends a datagram of one flow that nobody answers, from a to b, and tells
// whether it arrived.
type oneWay struct {
	r    *rig
	fd   int
	into *arrivals
}

func newOneWay(r *rig, v int) *oneWay {
	o := &oneWay{r: r, into: newArrivals(r, r.wl["b"], forbiddenPort)}
	must(r, r.wl["a"].Do(func() (err error) {
		domain := map[int]int{4: unix.AF_INET, 6: unix.AF_INET6}[v]
		if o.fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		b := addrOf(v, "b")
		if v == 4 {
			return unix.Connect(o.fd, &unix.SockaddrInet4{Port: forbiddenPort, Addr: b.As4()})
		}
		return unix.Connect(o.fd, &unix.SockaddrInet6{Port: forbiddenPort, Addr: b.As16()})
	}))
	r.Cleanup(func() { unix.Close(o.fd) })
	// What arrives is dropped behind the counter: an answer that nobody listens
	// would make the flow one of two ways.
	o.into.dropAll(r)
	return o
}

func (o *oneWay) arrives(within time.Duration) bool {
	o.r.Helper()
	before := o.into.count(o.r, 0)
	_, err := unix.Write(o.fd, []byte("one way"))
	must(o.r, err)
	for end := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		if o.into.count(o.r, 0) > before {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// expect says whether what is sent arrives, and what a counter of policy counts
// of it.
func (o *oneWay) expect(what string, arrives bool, asked uint64) {
	o.r.Helper()
	before := o.asked()
	limit := 50 * time.Millisecond
	if arrives {
		limit = 5 * time.Second
	}
	if got := o.arrives(limit); got != arrives {
		o.r.Errorf("%s: arrived %v, want %v", what, got, arrives)
	}
	if got := o.asked() - before; got != asked {
		o.r.Errorf("%s: policy was asked %d times, want %d", what, got, asked)
	}
}

// asked is what the rules and ends of ingress have counted.
func (o *oneWay) asked() (n uint64) {
	o.r.Helper()
	l := o.r.tab.Ledger()
	l.netns = int(o.r.nsFile.Fd())
	list, err := l.Read()
	must(o.r, err)
	for _, c := range list {
		if c.Direction == policy.Ingress {
			n += c.Packets
		}
	}
	return n
}

// TestAcceptedFlow sends a one-way flow, which never becomes established: policy
// is asked for its first packet, and again after each commit, and what it comes
// to deny stops with the commit. A commit of what does not concern the flow, one
// that takes the interface away, and a table that is compared are the same.
func TestAcceptedFlow(t *testing.T) {
	for _, v := range []int{4, 6} {
		r := newRig(t)
		open := []policy.Rule{allow(toPort(udp, port(forbiddenPort)))}
		shut := []policy.Rule{allow(toPort(udp, port(allowedPort)))}
		p := r.v.policy(gnp("p", open, nil))
		in := r.v.effective(&policy.Effective{ID: "ingressingressin", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}})
		r.endpoint("a", r.allowAllEffective())
		r.endpoint("b", in)
		r.apply()
		r.expect(false, lab.UDP, "a", "b", 80, v) // neighbours are known from here on
		o := newOneWay(r, v)
		o.expect("the first packet", true, 1)
		o.expect("the second", true, 0)
		r.endpoint("c", r.v.effectives["allowallallowall"])
		r.apply()
		o.expect("after another commit", true, 1)
		o.expect("and again", true, 0)
		r.v.policy(gnp("p", shut, nil))
		r.apply()
		o.expect("when it is denied", false, 1)
		o.expect("and still is", false, 1)
		r.v.policy(gnp("p", open, nil))
		r.apply()
		o.expect("when it is allowed again", true, 1)
		o.expect("and still is", true, 0)
		must(t, r.tab.Resync(r.v))
		o.expect("after a comparison that finds nothing", true, 0)
		b := policy.EndpointID{Namespace: "ns", Name: "b"}
		ep := r.v.endpoints[b]
		r.v.removeEndpoint(b)
		r.apply()
		o.expect("when the interface is unknown", false, 0)
		r.v.endpoint(ep)
		r.apply()
		o.expect("when it is known again", true, 1)

		// Another process finds the epoch in the kernel. One that has to repair
		// something begins another, and so does a table where there was none.
		was := r.tab.state.epoch
		must(t, r.host.Do(func() error { r.tab = openTable(t); return nil }))
		must(t, r.tab.Resync(r.v))
		if now := r.tab.state.epoch; now != was {
			t.Errorf("the epoch was %d, and %d after a restart", was, now)
		}
		o.expect("after a restart", true, 0)
		var m msgs
		m.flushChain("", Acceptor(policy.Egress))
		must(t, r.tab.sock.transact(&m))
		must(t, r.tab.Resync(r.v))
		o.expect("after a repair", true, 1)
		m = msgs{}
		m.elems(unix.NFT_MSG_DELSETELEM, setAccepted, r.tab.state.epoch.elems()[:1])
		must(t, r.tab.sock.transact(&m))
		must(t, r.tab.Resync(r.v))
		if e, ok := mustRead(t, r.tab).epoch(r.tab.renderer()); !ok || e != r.tab.state.epoch {
			t.Errorf("the kernel's epoch is %d, %v, and that of the state %d", e, ok, r.tab.state.epoch)
		}
	}
}

func mustRead(t *testing.T, tab *Table) *actual {
	a, err := tab.sock.read()
	must(t, err)
	return a
}

// TestEpochs goes round, and has each number differ from the others in what is looked
// up, and from what no flow was given.
func TestEpochs(t *testing.T) {
	seen := map[string]bool{"\x00\x00\x00\x00": true}
	e := epoch(7)
	for range epochs {
		for _, x := range e.elems() {
			if seen[x.key] {
				t.Fatalf("epoch %d: %x was there before", e, x.key)
			}
			seen[x.key] = true
		}
		e = e.next()
	}
	if e != 7 {
		t.Errorf("after %d epochs: %d, want 7", epochs, e)
	}
	out, in := markOf(policy.Egress), markOf(policy.Ingress)
	if in&out != 0 || (in|out)&markCut != 0 {
		t.Error("bits overlap")
	}
	for range 10000 {
		if e := anyEpoch(); e < 1 || e > epochs {
			t.Fatalf("epoch %d", e)
		}
	}
}

// TestEpochBesideTheNext has packets of one flow under way on several processors while
// an epoch ends: some are still among the rules of before, and all write the mark, which
// each reads first. In whichever order they do, the flow has no more of the new epoch
// than the new rules gave it.
func TestEpochBesideTheNext(t *testing.T) {
	type packet struct {
		epoch
		policy.Direction
	}
	const before, after = epoch(5), epoch(6)
	// What the rule does with the mark is read from the rule.
	write := func(p packet) (keep, bits uint32) {
		attrs(p.epoch.rule(&renderer{}, p.Direction).exprs, func(_ uint16, e []byte) bool {
			attrs(e, func(typ uint16, data []byte) bool {
				if typ == unix.NFTA_EXPR_DATA && strings.Contains(string(e), "bitwise") {
					attrs(data, func(typ uint16, v []byte) bool {
						switch typ {
						case unix.NFTA_BITWISE_MASK:
							keep = binary.NativeEndian.Uint32(v[len(v)-4:])
						case unix.NFTA_BITWISE_XOR:
							bits = binary.NativeEndian.Uint32(v[len(v)-4:])
						}
						return true
					})
				}
				return true
			})
			return true
		})
		return keep, bits
	}
	accepted := func(mark uint32, d policy.Direction) bool {
		return mark&(markCut|markOf(d)) == after.bits(d)
	}
	packets := []packet{{before, policy.Egress}, {before, policy.Ingress}, {after, policy.Egress}, {after, policy.Ingress}}
	orders := 0
	// Each packet reads (step 1) and writes (step 2), in all orders of two of each.
	var play func(mark uint32, list []packet, read []uint32, step []int, given [2]bool)
	play = func(mark uint32, list []packet, read []uint32, step []int, given [2]bool) {
		for _, d := range directions {
			if accepted(mark, d) && !given[d] {
				t.Fatalf("%v in steps %v: mark %#08x is one of the new epoch in direction %v, in which it accepted nothing", list, step, mark, d)
			}
		}
		orders++
		for i, p := range list {
			switch step[i] {
			case 0:
				read, step := slices.Clone(read), slices.Clone(step)
				read[i], step[i] = mark, 1
				play(mark, list, read, step, given)
			case 1:
				step, given := slices.Clone(step), given
				step[i] = 2
				given[p.Direction] = given[p.Direction] || p.epoch == after
				keep, bits := write(p)
				play(read[i]&keep^bits, list, read, step, given)
			}
		}
	}
	for _, a := range packets {
		for _, b := range packets {
			for _, c := range packets {
				for _, mark := range []uint32{0, before.bits(policy.Egress), before.bits(policy.Ingress), before.bits(policy.Egress) | before.bits(policy.Ingress), 0xfff} {
					play(mark, []packet{a, b, c}, make([]uint32, 3), make([]int, 3), [2]bool{})
				}
			}
		}
	}
	if keep, bits := write(packets[0]); keep != ^markOf(policy.Egress) || bits != before.bits(policy.Egress) {
		t.Errorf("the rule keeps %#08x and writes %#08x: was it read?", keep, bits)
	}
	if orders < 10000 {
		t.Errorf("%d steps", orders)
	}
}

// TestAcceptedFlowElsewhere: the mark of the epoch says nothing of an interface that
// no endpoint has. A route that leads the flow there, for which nothing is committed,
// does not let it in.
func TestAcceptedFlowElsewhere(t *testing.T) {
	for _, v := range []int{4, 6} {
		r := newRig(t)
		r.endpoint("a", r.allowAllEffective())
		r.endpoint("b", r.allowAllEffective())
		r.apply()
		r.expect(true, lab.UDP, "a", "b", 80, v) // neighbours are known from here on
		o := newOneWay(r, v)
		o.expect("the first packet", true, 1)
		c := newArrivals(t, r.wl["c"], forbiddenPort)
		r.leadToC(v, "b")
		if o.arrives(50*time.Millisecond) || c.count(t, 0) > 0 {
			t.Errorf("IPv%d: an accepted flow goes to an interface without endpoint", v)
		}
	}
}

// TestAnswersElsewhere: nor does it of answers, which a route leads to an interface that no
// endpoint has.
func TestAnswersElsewhere(t *testing.T) {
	for _, v := range []int{4, 6} {
		r := newRig(t)
		r.endpoint("a", r.allowAllEffective())
		r.endpoint("b", r.allowAllEffective())
		r.apply()
		r.expect(true, lab.UDP, "a", "b", 80, v) // neighbours are known from here on
		o := newOneWay(r, v)
		o.expect("the first packet", true, 1)
		to, err := unix.Getsockname(o.fd)
		must(t, err)
		from := netip.AddrPortFrom(addrOf(v, "b"), forbiddenPort).String()
		here, there := newArrivals(t, r.wl["a"], portOf(to)), newArrivals(t, r.wl["c"], portOf(to))
		answer := func() {
			t.Helper()
			must(t, r.wl["b"].Do(func() error {
				c, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))}).Dial("udp", netip.AddrPortFrom(addrOf(v, "a"), portOf(to)).String())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("answer"))
				return err
			}))
		}
		answer()
		labtest.Poll(t, 5*time.Second, func() error {
			if here.count(t, 0) == 0 {
				return errors.New("the answer does not arrive")
			}
			return nil
		})
		r.leadToC(v, "a")
		answer()
		time.Sleep(50 * time.Millisecond)
		if here.count(t, 0) > 1 || there.count(t, 0) > 0 {
			t.Errorf("IPv%d: an answer goes to an interface without endpoint", v)
		}
	}
}

// leadToC routes the address of a workload to the interface of c.
func (r *rig) leadToC(v int, name string) {
	for _, args := range [][]string{
		{"neigh", "replace", addrOf(v, "c").String(), "lladdr", wlMAC("c").String(), "dev", "calic", "nud", "permanent"},
		{"route", "replace", host(addrOf(v, name)).String(), "via", addrOf(v, "c").String(), "dev", "calic"},
	} {
		must(r, r.host.Do(func() error { return exec.Command("ip", args...).Run() }))
	}
}

func portOf(sa unix.Sockaddr) uint16 {
	if a, is := sa.(*unix.SockaddrInet4); is {
		return uint16(a.Port)
	}
	return uint16(sa.(*unix.SockaddrInet6).Port)
}

// TestEpochInChainAlone: a rule that gives another epoch than the one that is looked up
// is found and repaired, in either direction.
func TestEpochInChainAlone(t *testing.T) {
	inNetns(t)
	tab, v := openTable(t), smallView()
	must(t, tab.Resync(v))
	for _, d := range directions {
		var m msgs
		m.flushChain("", chainEpoch(d))
		m.addRule("", chainEpoch(d), tab.state.epoch.next().rule(tab.renderer(), d))
		must(t, tab.sock.transact(&m))
		must(t, tab.Resync(v))
		if got := mustRead(t, tab).chains[chainEpoch(d)].rules; !slices.Equal(got, []sum{tab.state.epoch.rule(tab.renderer(), d).sum}) {
			t.Errorf("%v: the chain does not give epoch %d", d, tab.state.epoch)
		}
		quiet(t, tab, v)
	}
}
