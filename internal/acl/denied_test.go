// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestDenied logs what policy denies, in both directions and families, no more
// of a flood than the rate allows, and nothing when it is switched off.
func TestDenied(t *testing.T) {
	rate := Rate{Packets: 50, Unit: time.Second, Burst: 50}
	r := newRig(t, func(o *Options) { o.Denied = rate })
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	p := r.v.policy(gnp("web", []policy.Rule{with(policy.Deny, toPort(udp, port(80))), allow(toPort(udp, port(81)))}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "ingressbydefault", Profiles: everyone.Profiles,
		Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}))
	r.endpoint("c", r.v.effective(&policy.Effective{ID: "nothingallowedat"}))
	r.apply()
	quiet(t, r.tab, r.v)

	var log *DeniedLog
	must(t, r.host.Do(func() (err error) {
		log, err = OpenDenied(0)
		return err
	}))
	defer log.Close()
	must(t, r.host.Do(func() error {
		if second, err := OpenDenied(0); err == nil {
			second.Close()
			t.Error("two listen to one group")
		} else if !strings.Contains(err.Error(), "another process listens") {
			t.Error(err)
		}
		return nil
	}))
	var mu sync.Mutex
	var seen []Denied
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- log.Read(ctx, func(list []Denied) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, list...)
		})
	}()
	type what struct {
		src, dst netip.Addr
		proto    uint8
		port     uint16
		dir      policy.Direction
	}
	count := func(w what) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, d := range seen {
			if (what{d.Src, d.Dst, d.Proto, d.DstPort, d.Direction}) == w {
				n++
			}
		}
		return n
	}
	for _, v := range []int{4, 6} {
		for _, c := range []struct {
			from, to string
			proto    lab.Proto
			number   uint8
			port     uint16
			dir      policy.Direction
		}{
			{"a", "b", lab.UDP, udp, 80, policy.Ingress}, // by a rule
			{"n", "b", lab.UDP, udp, 82, policy.Ingress}, // at the end of a tier
			{"c", "a", lab.UDP, udp, 80, policy.Egress},  // no profile
			{"a", "b", lab.ICMP, map[int]uint8{4: 1, 6: 58}[v], 0, policy.Ingress},
		} {
			w := what{addrOf(v, c.from), addrOf(v, c.to), c.number, c.port, c.dir}
			labtest.Poll(t, 10*time.Second, func() error {
				if o := r.probe(v, c.proto, c.from, c.to, c.port, 50*time.Millisecond); o.Verdict == lab.Reached {
					t.Fatalf("%+v was not denied", w)
				}
				if count(w) == 0 {
					return errNone
				}
				return nil
			})
		}
		mu.Lock()
		for _, d := range seen {
			if in, out := d.In != "", d.Out != ""; !in || out != (d.Direction == policy.Ingress) {
				t.Errorf("%+v: where it was dropped is not known", d)
			}
		}
		mu.Unlock()
		r.expect(true, lab.UDP, "a", "b", 81, v)
		if n := count(what{addrOf(v, "a"), addrOf(v, "b"), udp, 81, policy.Ingress}); n != 0 {
			t.Errorf("%d packets that were allowed are logged", n)
		}
	}

	// A flood: the log has what the rate allows, and every packet is dropped.
	mu.Lock()
	seen = nil
	mu.Unlock()
	began := time.Now()
	const flood = 20_000
	sender, err := r.wl["a"].Dial(t.Context(), "udp", netip.AddrPortFrom(addr4["b"], 80).String())
	must(t, err)
	defer sender.Close()
	for range flood {
		_, err := sender.Write([]byte("x"))
		must(t, err)
	}
	w := what{addr4["a"], addr4["b"], udp, 80, policy.Ingress}
	labtest.Poll(t, 10*time.Second, func() error {
		if count(w) == 0 {
			return errNone
		}
		return nil
	})
	time.Sleep(200 * time.Millisecond) // what the kernel had gathered
	if n, most := count(w), 50+int(50*(time.Since(began).Seconds()+1)); n > most {
		t.Errorf("%d of %d packets are logged, want at most %d", n, flood, most)
	}
	quiet(t, r.tab, r.v)

	// Another rate.
	r.retune(func(o *Options) { o.Denied = Rate{1, time.Hour, 1} })
	mu.Lock()
	seen = nil
	mu.Unlock()
	for range 20 {
		r.expect(false, lab.UDP, "a", "b", 80, 4)
	}
	if n := count(w); n != 1 {
		t.Errorf("%d packets are logged, want one an hour", n)
	}

	o := r.tab.opts
	o.Denied = Rate{}
	must(t, r.tab.SetOptions(o))
	r.apply()
	if text := r.tab.Text(r.v); strings.Contains(text, ChainDenied) || !strings.Contains(text, "counter drop") {
		t.Errorf("a log that is off leaves something:\n%s", text)
	}
	mu.Lock()
	seen = nil
	mu.Unlock()
	r.expect(false, lab.UDP, "a", "b", 80)
	if n := count(w); n != 0 {
		t.Errorf("%d packets are logged while it is off", n)
	}
	cancel()
	must(t, <-ended)
}

var errNone = errors.New("nothing is logged")

// TestLogPrefix is what lines of the kernel's log begin with.
func TestLogPrefix(t *testing.T) {
	p := gnp("tier.web", nil, nil)
	np := *p
	np.Key = policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: "default.db"}
	np.Name = "db"
	for _, c := range []struct {
		pattern string
		p       *policy.Policy
		want    string
	}{
		{"calico-packet", p, "calico-packet: "},
		{"%t %k %n %p", p, "default gnp tier.web tier.web: "},
		{"%t %k %n %p", &np, "default np db shop/db: "},
		{"%p", profile("kns.shop", nil, nil), "kns.shop: "},
		{"%x \"\n%%", p, "%x ??%%: "},
		{strings.Repeat("x", 64) + "%n%n", gnp(strings.Repeat("y", 200), nil, nil), strings.Repeat("x", 64) + strings.Repeat("y", 53) + "...: "},
	} {
		if got := logPrefix(c.pattern, c.p); got != c.want {
			t.Errorf("%q of %s: got %q, want %q", c.pattern, c.p.Name, got, c.want)
		}
	}
}

// TestLogLimit: rules that log are bounded, and what is beyond goes on.
func TestLogLimit(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.LogPrefix, o.LogLimit = "m-%k-%n", Rate{Packets: 10, Unit: time.Minute, Burst: 5}
	})
	p := r.v.policy(gnp("logs", []policy.Rule{with(policy.Log), allow()}, nil))
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "logslogslogslogs", Profiles: everyone.Profiles,
		Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}))
	r.apply()
	quiet(t, r.tab, r.v)
	if text := r.tab.Text(r.v); !strings.Contains(text, `counter limit rate 10/1m0s burst 5 packets log prefix "m-gnp-logs: " level notice`) {
		t.Errorf("no bound:\n%s", text)
	}
	for range 10 {
		r.expect(true, lab.UDP, "a", "b", 80)
	}
	r.retune(func(o *Options) { o.LogPrefix, o.LogLimit = "other", Rate{} })
	if text := r.tab.Text(r.v); !strings.Contains(text, `counter log prefix "other: " level notice`) {
		t.Errorf("another prefix, and no bound:\n%s", text)
	}
	r.expect(true, lab.UDP, "a", "b", 80)
}

// FuzzParsePacket: whatever a workload sends, it is read within its bounds, and
// what is read of a whole packet is what was put there.
func FuzzParsePacket(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 1, 2, 0, 8, 0, 0})
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0, 1, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 1, 2, 0, 8, 0, 0})
	six := append([]byte{0x60, 0, 0, 0, 0, 16, 0, 64}, make([]byte, 32)...)
	f.Add(append(slices.Clone(six), 6, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 81, 0, 0, 0, 0))
	six[6] = 44
	f.Add(append(slices.Clone(six), 58, 0, 0, 1, 0, 0, 0, 0, 128, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parsePacket(b)
		if !ok {
			return
		}
		if p.Src.Is4() != p.Dst.Is4() || p.Src.Is4() != (b[0]>>4 == 4) {
			t.Errorf("%+v of %x", p, b)
		}
		if !policy.HasPorts(p.Proto) && p.SrcPort|p.DstPort != 0 {
			t.Errorf("ports of protocol %d: %+v", p.Proto, p)
		}
		if p.Src.Is6() && p.Proto == icmp && p.ICMPType|p.ICMPCode != 0 {
			t.Errorf("ICMP type in IPv6: %+v", p)
		}
	})
}
