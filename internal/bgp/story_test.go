// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var updateStories = flag.Bool("update", false, "write what the stories in testdata/story get to hear")

// Stories are narrated golden files, one for each RFC that says what a speaker
// passes on. A story is a sequence of blocks: remarks behind #, commands, a
// line of four dashes, and what came of the commands, up to an empty line.
//
//	speaker as=N id=ADDR [cluster=ADDR] [track] [restarting]
//	peer NAME as=N addr=ADDR [id=ADDR] [client] [add-path=N] [add-path-receive] [local-as=N]
//	    [next-hop-auto] [next-hop-self] [next-hop-keep] [third-party=PREFIX] [allow-local-as=N]
//	    [as-override] [remove-private-as] [prepend=N] [default-route] [graceful-shutdown] [no-rewrite]
//	    [role=provider|customer|peer] [pass-unknown] [needs-policy] [shutdown=TEXT] [no-shutdown]; and of its OPEN: [two-octet]
//	    [restart-time=N] [kept=FAMILY,FAMILY] [restarts]
//	up NAME..., down NAME...
//	change NAME OPTION...
//	NAME announces PREFIX [path-id=N] [next-hop=ADDR] [path=AS,AS] [local-pref=N] [med=N]
//	    [origin=N] [community=A:B,A:B] [originator=ADDR] [clusters=ADDR,ADDR]
//	NAME withdraws PREFIX [path-id=N]
//	originate PREFIX [local-pref=N], remove PREFIX
//	show PREFIX, why PREFIX|ADDR
//	and those of wire: story_wire_test.go
//
// What came of it: what each peer hears, and "routes:" what the daemon is told.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/story/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			now := tell(t, string(old))
			if *updateStories {
				if err := os.WriteFile(file, []byte(now), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			was, is := strings.Split(string(old), "\n"), strings.Split(now, "\n")
			for i := range max(len(was), len(is)) {
				if i >= len(was) || i >= len(is) || was[i] != is[i] {
					t.Fatalf("%s:%d: differs from here on; is:\n%s", file, i+1, strings.Join(is[min(i, len(is)):min(i+10, len(is))], "\n"))
				}
			}
		})
	}
}

// tell runs a story and returns it with what came of each block.
func tell(t *testing.T, text string) string {
	var out strings.Builder
	var d *desk
	skip := false
	ran := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			out.WriteString("----\n")
			for _, l := range told(d) {
				out.WriteString(l + "\n")
			}
			skip, ran = true, false
		case line == "":
			if ran {
				t.Fatalf("commands without ---- before %q", out.String())
			}
			skip = false
			out.WriteString("\n")
		case skip:
		case strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n")
			d = command(t, d, strings.Fields(line))
			ran = true
		}
	}
	return out.String()
}

// shown holds the lines that show has printed in this block.
var shown = map[*desk][]string{}

// told collects what the peers and the daemon hear.
func told(d *desk) (lines []string) {
	lines = append(lines, shown[d]...)
	delete(shown, d)
	for _, p := range d.peers {
		lines = append(lines, d.ended(p)...)
		for _, l := range d.heard(p) {
			lines = append(lines, p.name+" hears "+l)
		}
	}
	for _, l := range d.learned() {
		lines = append(lines, "routes: "+l)
	}
	return lines
}

// options are the words of a command: key=value, or a word alone.
type options map[string]string

func optionsOf(words []string) options {
	o := options{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		o[k] = v
	}
	return o
}

func (o options) num(key string) (uint32, bool) {
	v, ok := o[key]
	n, err := strconv.ParseUint(v, 10, 32)
	if ok && err != nil {
		panic(err)
	}
	return uint32(n), ok
}

func (o options) addr(key string) netip.Addr {
	if v, ok := o[key]; ok {
		return netip.MustParseAddr(v)
	}
	return netip.Addr{}
}

func (o options) apply(pc *PeerConfig) {
	for k := range o {
		switch k {
		case "client":
			pc.Client = true
		case "no-client":
			pc.Client = false
		case "add-path-receive":
			pc.AddPathReceive = true
		case "add-path":
			n, _ := o.num(k)
			pc.AddPathSend = int(n)
		case "local-as":
			pc.LocalASN, _ = o.num(k)
		case "next-hop-auto":
			pc.NextHopMode = NextHopAuto
		case "next-hop-self":
			pc.NextHopMode = NextHopSelf
		case "next-hop-keep":
			pc.NextHopMode = NextHopKeep
		case "third-party":
			pc.NextHopMode = NextHopThirdParty
			shared := netip.MustParsePrefix(o[k])
			if shared.Addr().Is4() {
				pc.Rewrite.Shared4 = shared
			} else {
				pc.Rewrite.Shared6 = shared
			}
		case "allow-local-as":
			n, _ := o.num(k)
			pc.AllowLocalAS = uint8(n)
		case "as-override":
			pc.Rewrite.ASOverride = true
		case "remove-private-as":
			pc.Rewrite.RemovePrivateAS = true
		case "prepend":
			n, _ := o.num(k)
			pc.Rewrite.Prepend = uint8(n)
		case "default-route":
			pc.Rewrite.DefaultRoute = true
		case "graceful-shutdown":
			pc.Rewrite.GracefulShutdown = true
		case "role": // ours
			pc.Role = map[string]Role{"provider": RoleProvider, "customer": RoleCustomer, "peer": RolePeer}[o[k]]
		case "pass-unknown":
			pc.PassUnknown = true
		case "needs-policy": // as internal/filter has it for a strict session
			refuse := func(*Route) Verdict {
				return Verdict{Refused: RefusedNoPolicy, Detail: "no filter on an eBGP session (RFC 8212)"}
			}
			pc.Import, pc.Export, pc.ImportID, pc.ExportID = refuse, refuse, "none", "none"
		case "has-policy":
			pc.Import, pc.Export, pc.ImportID, pc.ExportID = nil, nil, "", ""
		case "shutdown":
			pc.Shutdown, pc.ShutdownText = true, strings.ReplaceAll(o[k], "_", " ")
		case "no-shutdown":
			pc.Shutdown, pc.ShutdownText = false, ""
		case "no-rewrite":
			pc.Rewrite = Rewrite{}
		}
	}
}

func command(t *testing.T, d *desk, w []string) *desk {
	o := optionsOf(w[1:])
	switch w[0] {
	case "speaker":
		asn, _ := o.num("as")
		cfg := Config{ASN: asn, RouterID: o.addr("id"), ClusterID: o.addr("cluster"), NextHop4: o.addr("id"), NextHop6: netip.MustParseAddr("fd00::1")}
		if d != nil {
			d.configure(cfg)
			d.settle()
			return d
		}
		_, restarting := o["restarting"]
		d = newDesk(t, cfg, func(opt *Options) {
			_, opt.TrackNextHops = o["track"]
			opt.Restarting = restarting
		})
		d.s.originated = !restarting
		return d
	case "peer":
		asn, _ := o.num("as")
		pc := PeerConfig{Addr: netip.AddrPortFrom(o.addr("addr"), 179), ASN: asn}
		o.apply(&pc)
		id := o.addr("id")
		if !id.IsValid() {
			id = o.addr("addr")
		}
		o.open(&d.add(w[1], pc, id).open)
	case "up":
		for _, name := range w[1:] {
			d.up(d.peer(name))
		}
	case "down":
		for _, name := range w[1:] {
			d.down(d.peer(name))
		}
	case "change":
		p := d.peer(w[1])
		o.open(&p.open)
		d.change(p, o.apply)
		d.settle()
	case "originate":
		lp, _ := o.num("local-pref")
		d.originate(Origination{Prefix: netip.MustParsePrefix(w[1]), LocalPref: lp})
	case "remove":
		d.s.Originate(nil, []netip.Prefix{netip.MustParsePrefix(w[1])})
		d.settle()
	case "why":
		asked, err := netip.ParsePrefix(w[1])
		if err != nil {
			a := netip.MustParseAddr(w[1])
			asked = netip.PrefixFrom(a, a.BitLen())
		}
		shown[d] = append(shown[d], d.why(asked)...)
	case "show":
		for _, l := range d.paths(netip.MustParsePrefix(w[1])) {
			shown[d] = append(shown[d], w[1]+": "+l)
		}
	default:
		if d.wire(w, o) {
			break
		}
		p := d.peer(w[0])
		id, _ := o.num("path-id")
		ref := pathRef{netip.MustParsePrefix(w[2]), id}
		switch w[1] {
		case "withdraws":
			d.says(p, nil, ref)
		case "announces":
			d.says(p, o.attrs(p), ref)
		default:
			t.Fatalf("not a command: %q", w)
		}
	}
	return d
}

// attrs are those of an announcement of p.
func (o options) attrs(p *deskPeer) *attrs {
	a := &attrs{nextHop: p.cfg.Addr.Addr()}
	if nh := o.addr("next-hop"); nh.IsValid() {
		a.nextHop = nh
	}
	if v, ok := o["path"]; ok {
		s := segment{typ: segSequence}
		for as := range strings.SplitSeq(v, ",") {
			var n uint32
			if _, err := fmt.Sscan(as, &n); err != nil {
				panic(err)
			}
			s.as = append(s.as, n)
		}
		a.path = []segment{s}
	}
	if a.localPref, a.hasLocalPref = o.num("local-pref"); !a.hasLocalPref && !p.c.ebgp {
		a.localPref, a.hasLocalPref = 100, true
	}
	a.med, a.hasMED = o.num("med")
	origin, _ := o.num("origin")
	a.origin = uint8(origin)
	if v, ok := o["community"]; ok {
		for c := range strings.SplitSeq(v, ",") {
			var hi, lo uint32
			if _, err := fmt.Sscanf(c, "%d:%d", &hi, &lo); err != nil {
				panic(err)
			}
			a.comms = append(a.comms, hi<<16|lo)
		}
	}
	if id := o.addr("originator"); id.IsValid() {
		a.originator, a.hasOriginator = id32(id), true
	}
	if v, ok := o["clusters"]; ok {
		for c := range strings.SplitSeq(v, ",") {
			a.clusters = append(a.clusters, id32(netip.MustParseAddr(c)))
		}
	}
	a.comms = slices.Clip(a.comms)
	return a
}

// why renders what Why says.
func (d *desk) why(asked netip.Prefix) (lines []string) {
	names := map[netip.Addr]string{}
	for _, p := range d.peers {
		names[p.cfg.Addr.Addr()] = p.name
	}
	for _, w := range d.s.explain(asked) {
		for _, p := range w.Paths {
			from := names[p.Peer]
			if p.Peer == (netip.Addr{}) {
				from = "here"
			}
			l := fmt.Sprintf("%s from %s: ", w.Prefix, from)
			switch {
			case p.Best:
				l += "best"
			case p.Lost != nil:
				l += fmt.Sprintf("lost by %s: %s against %s", p.Lost.Step, p.Lost.Value, p.Lost.To)
				if p.Lost.Used {
					l += ", and is used beside it"
				}
			default:
				l += "no candidate: " + p.Reason
			}
			lines = append(lines, l)
		}
		for _, p := range w.Peers {
			l := fmt.Sprintf("%s to %s: told", w.Prefix, names[p.Addr.Addr()])
			if !p.Told {
				l = fmt.Sprintf("%s to %s: not told: %s", w.Prefix, names[p.Addr.Addr()], p.NotTold)
			}
			if !p.Sent {
				l += "; has not sent it"
			}
			lines = append(lines, l)
		}
	}
	return lines
}
