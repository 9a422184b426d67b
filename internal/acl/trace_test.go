// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestTrace follows packets that this host sends and that a workload does, which
// our table, another's table, or nobody drops; and leaves nothing behind.
func TestTrace(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	p := r.v.policy(gnp("web", []policy.Rule{with(policy.Deny, toPort(udp, port(81))), allow(nil)}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "traceingresstier", Profiles: everyone.Profiles,
		Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}))
	r.apply()
	trace := func(q Probe, send func(packet []byte) error) *Traced {
		t.Helper()
		var out *Traced
		must(t, r.host.Do(func() (err error) {
			out, err = r.tab.Ledger().Trace(q, func() error { return send(Compose(q.Packet, q.ID)) })
			return err
		}))
		return out
	}
	for _, v := range []int{4, 6} {
		a, b := addrOf(v, "a"), addrOf(v, "b")
		from := func(name string) func(packet []byte) error {
			return func(packet []byte) error {
				hw, err := r.host.MAC("cali" + name)
				if err != nil {
					return err
				}
				typ := []byte{8, 0}
				if v == 6 {
					typ = []byte{0x86, 0xdd}
				}
				return r.wl[name].SendFrame("eth0", append(append(append(append([]byte{}, hw...), wlMAC(name)...), typ...), packet...))
			}
		}
		fromA, fromB := from("a"), from("b")
		flow := policy.Packet{Src: a, Dst: b, Proto: udp, SrcPort: 40001, DstPort: 81}
		got := trace(Probe{Packet: flow, In: "calia"}, fromA)
		if d := got.Dropped; got.Passed || d == nil || d.Policy == nil || d.Policy.Name != "web" || d.Rules != "0" || d.Direction != policy.Ingress {
			t.Errorf("IPv%d, denied by a rule: %+v", v, got)
		}
		flow.DstPort, flow.SrcPort = 80, 40002
		got = trace(Probe{Packet: flow, In: "calia"}, fromA)
		if n, err := r.host.LinkIndex("calib"); err != nil || !got.Passed || got.Out != n {
			t.Errorf("IPv%d, allowed: %+v, %v", v, got, err)
		}
		// What has been accepted asks for no more than that, and nor do answers.
		answer := policy.Packet{Src: b, Dst: a, Proto: udp, SrcPort: flow.DstPort, DstPort: flow.SrcPort}
		for _, got := range []*Traced{
			trace(Probe{Packet: flow, In: "calia"}, fromA), trace(Probe{Packet: answer, In: "calib"}, fromB), trace(Probe{Packet: answer, In: "calib"}, fromB),
		} {
			if !got.Passed {
				t.Errorf("IPv%d, accepted before: %+v", v, got)
			}
			for _, s := range got.Steps {
				if s.Table == TableName && !slices.Contains([]string{chainAntispoof, chainEgress, chainIngress}, s.Chain) {
					t.Errorf("IPv%d, accepted before: asks in %s: %+v", v, s.Chain, got)
				}
			}
		}
		icmpType := map[int]uint8{4: 8, 6: 128}[v]
		got = trace(Probe{Packet: policy.Packet{Src: a, Dst: b, Proto: map[int]uint8{4: 1, 6: 58}[v], ICMPType: icmpType}, In: "calia", ID: 7}, fromA)
		if !got.Passed {
			t.Errorf("IPv%d, echo: %+v", v, got)
		}
		flow.Src = netip.MustParseAddr(map[int]string{4: "198.51.100.1", 6: "2001:db8::1"}[v])
		got = trace(Probe{Packet: flow, In: "calia"}, fromA)
		if d := got.Dropped; d == nil || d.Chain != chainAntispoofSrc {
			t.Errorf("IPv%d, spoofed: %+v", v, got)
		}
		// What this host sends is asked about by nobody.
		own := policy.Packet{Src: addrOf(v, "host"), Dst: b, Proto: udp, SrcPort: 40003, DstPort: 81}
		fromHost := func(packet []byte) error { return sendRaw(packet, b) }
		if got = trace(Probe{Packet: own}, fromHost); !got.Passed {
			t.Errorf("IPv%d, from the host: %+v", v, got)
		}
	}
	tables, err := foreignTables(r.host)
	must(t, err)
	for _, name := range tables {
		if name == traceTable {
			t.Errorf("tables after all: %v", tables)
		}
	}
}

// sendRaw sends an IP packet from the network namespace of the calling thread.
func sendRaw(packet []byte, dst netip.Addr) error {
	domain, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dst.As16()})
	if dst.Is4() {
		domain, to = unix.AF_INET, &unix.SockaddrInet4{Addr: dst.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, to)
}

// TestTrace_Process follows what processes of the host send: a packet that is dropped
// on its way out is refused to its sender, too, and one to another process goes out by
// lo and comes in again.
func TestTrace_Process(t *testing.T) {
	r := processRig(t)
	ports := func(name string, ingress, egress uint16) *policy.Policy {
		rules := func(denied uint16) []policy.Rule {
			return []policy.Rule{with(policy.Deny, toPort(udp, port(denied))), allow()}
		}
		return r.v.policy(gnp(name, rules(ingress), rules(egress)))
	}
	r.process("p", ports("p", 80, 81))
	r.process("q", ports("q", 82, 83))
	r.apply()
	for i, c := range []struct {
		to     string
		port   uint16
		denied string
		in     policy.Direction
	}{
		{"n", 81, "p", policy.Egress}, {"q", 81, "p", policy.Egress}, {"q", 82, "q", policy.Ingress},
		{"n", 84, "", 0}, {"a", 84, "", 0}, {"q", 84, "", 0}, {"p", 84, "", 0},
	} {
		for _, v := range []int{4, 6} {
			p := policy.Packet{Src: placed(v, "p"), Dst: placed(v, c.to), Proto: udp, SrcPort: uint16(40100 + i), DstPort: c.port}
			var got *Traced
			must(t, r.host.Do(func() (err error) {
				got, err = r.tab.Ledger().Trace(Probe{Packet: p}, func() error { return sendRaw(Compose(p, 0), p.Dst) })
				return err
			}))
			d := got.Dropped
			switch {
			case c.denied == "":
				out := map[string]string{"n": "up0", "a": "calia"}[c.to]
				n := 0
				if out != "" {
					var err error
					n, err = r.host.LinkIndex(out)
					must(t, err)
				}
				if !got.Passed || d != nil || got.Out != n {
					t.Errorf("IPv%d to %s port %d: %+v, want it to pass by %q", v, c.to, c.port, got, out)
				}
			case got.Passed, d == nil, d.Policy == nil, d.Policy.Name != c.denied, d.Direction != c.in:
				t.Errorf("IPv%d to %s port %d: %+v, want it denied by %s", v, c.to, c.port, got, c.denied)
			}
			asked := slices.ContainsFunc(got.Steps, func(s Seen) bool { return s.Policy != nil && s.Policy.Name == "q" && s.Direction == policy.Ingress })
			if want := c.to == "q" && c.denied != "p"; asked != want {
				t.Errorf("IPv%d to %s port %d: ingress of q asked %v: %+v", v, c.to, c.port, asked, got.Steps)
			}
		}
	}
	// One who may not send at all is told so, and not that the packet was dropped.
	p := policy.Packet{Src: placed(4, "p"), Dst: placed(4, "q"), Proto: udp, SrcPort: 40200, DstPort: 84}
	must(t, r.host.Do(func() error {
		if _, err := r.tab.Ledger().Trace(Probe{Packet: p}, func() error { return unix.EPERM }); !errors.Is(err, unix.EPERM) {
			t.Errorf("not sent: %v", err)
		}
		return nil
	}))
}

func foreignTables(ns *lab.Namespace) (names []string, err error) {
	err = ns.Do(func() error {
		s, err := openSocket(0)
		if err != nil {
			return err
		}
		defer s.close()
		return s.dump(unix.NFPROTO_UNSPEC, unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, nil, func(data []byte) { names = append(names, tableOf(data)) })
	})
	return names, err
}

// FuzzTraceEvent: whatever an event holds, it is read within its bounds.
func FuzzTraceEvent(f *testing.F) {
	var b buf
	b.str(unix.NFTA_TRACE_TABLE, traceTable)
	b.str(unix.NFTA_TRACE_CHAIN, traceFirstChain)
	b.u32(unix.NFTA_TRACE_ID, 7)
	at := b.begin(unix.NFTA_TRACE_VERDICT)
	b.u32(unix.NFTA_VERDICT_CODE, nfDrop)
	b.end(at)
	f.Add([]byte(b))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := following{ledger: &Ledger{}}
		x.take(data)
		x.take(data)
		if x.out.Passed && !x.began {
			t.Error("it passed and never began")
		}
	})
}
