// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// setting is what a feature asks of a daemon, in words that each of them
// translates into its own configuration.
type setting struct {
	ours, theirs string // ends of the session
	as           uint32 // the daemon's; ours is 64512
	password     string
	ttlSecurity  bool
	client       bool // we are a client of the daemon, which reflects
	addPath      bool // both ways
	role         Role // the daemon's
	limit        int  // of prefixes in each family
	markers      bool // enhanced route refresh (RFC 7313), where it is not on anyway
	hold         int  // seconds
	extNextHop   bool // IPv4 routes with IPv6 next hops
	less         bool // without 198.51.100.0/24
	more         []other
}

// other is a further neighbour of the daemon, which connects to it.
type other struct {
	addr string
	as   uint32
}

// daemon is a kind of neighbour.
type daemon struct {
	name, version, pkg string
	programs           []string
	files              func(s setting) map[string]string // its configuration
	command            []string                          // DIR and what follows are replaced
	restart            []string                          // further arguments for a restart (RFC 4724)
	owner              string                            // whom its directory must belong to
	client             []string                          // asks it, with the words of a question behind
	route              func(prefix string) []string      // the question what it knows of a prefix
	dump               [][]string                        // the questions for all that it knows
	session            func(ours string) []string
	up                 string // in the answer to that
	refresh            func(ours string) [][]string
	originate          func(s setting) [][]string // if the configuration cannot
	lacks              map[string]string          // features, by name, and why
}

// neighbour is a daemon in a namespace.
type neighbour struct {
	daemon
	t   *testing.T
	sp  *space
	dir string
	cmd *exec.Cmd
	set setting
}

func (d daemon) need(t *testing.T) {
	t.Helper()
	labtest.Require(t)
	labtest.Programs(t, d.pkg, d.programs...)
}

// start runs the daemon with a setting.
func (d daemon) start(t *testing.T, sp *space, s setting) *neighbour {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mu-bgp") // t.TempDir is too long a path for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	r := &neighbour{daemon: d, t: t, sp: sp, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s\n%s", r.ask(d.session(s.ours)...), r.ask(d.route("10.1.0.0/26")...), r.ask(d.route("fd00:1::/122")...))
			for _, f := range []string{"log", "out"} {
				text, _ := os.ReadFile(filepath.Join(dir, f))
				t.Logf("%s: %s\n%s", d.name, f, text[max(0, len(text)-6000):])
			}
		}
		r.kill()
		_ = os.RemoveAll(dir)
	})
	r.begin(s)
	return r
}

func (r *neighbour) place(words []string) (out []string) {
	for _, w := range words {
		out = append(out, strings.ReplaceAll(w, "DIR", r.dir))
	}
	return out
}

// begin writes the configuration and runs the program; more follows its usual
// arguments.
func (r *neighbour) begin(s setting, more ...string) {
	r.t.Helper()
	r.set = s
	for name, text := range r.files(s) {
		text = strings.ReplaceAll(text, "DIR", r.dir)
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(r.dir, "ctl"))
	if r.owner != "" {
		if out, err := exec.Command("chown", "-R", r.owner, r.dir).CombinedOutput(); err != nil {
			r.t.Fatalf("%v: %s", err, out)
		}
	}
	out, err := os.OpenFile(filepath.Join(r.dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	words := append(r.place(r.command), more...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, out, out
	if _, err := inSpace(r.sp, func() (any, error) { return nil, cmd.Start() }); err != nil {
		r.t.Fatal(err)
	}
	r.cmd = cmd
	if r.originate == nil {
		return
	}
	for _, words := range r.originate(s) {
		within(r.t, 20*time.Second, r.name+" takes "+strings.Join(words, " "), func() bool {
			_, err := r.tell(words...)
			return err == nil
		})
	}
}

// kill ends it without a word to its neighbours.
func (r *neighbour) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *neighbour) tell(words ...string) (string, error) {
	words = append(r.place(r.client), words...)
	return inSpace(r.sp, func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // also when the test has ended
		defer cancel()
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		return string(out), err
	})
}

func (r *neighbour) ask(words ...string) string {
	out, _ := r.tell(words...)
	return out
}

// has says whether it knows a prefix, with all these words in what it says.
func (r *neighbour) has(prefix string, words ...string) bool {
	out := r.ask(r.route(prefix)...)
	for _, w := range append(words, prefix) {
		if !strings.Contains(out, w) {
			return false
		}
	}
	return true
}

func (r *neighbour) wait(prefix string, words ...string) {
	r.t.Helper()
	within(r.t, 20*time.Second, fmt.Sprintf("%s has %s with %q", r.name, prefix, words), func() bool { return r.has(prefix, words...) })
}

func (r *neighbour) lost(prefix string) {
	r.t.Helper()
	within(r.t, 20*time.Second, fmt.Sprintf("%s has no %s any more", r.name, prefix), func() bool { return r.isUp() && !r.has(prefix) })
}

func (r *neighbour) isUp() bool {
	return strings.Contains(r.ask(r.session(r.set.ours)...), r.up)
}

// own are the prefixes that the daemon originates.
func (s setting) own4() []string {
	if s.less {
		return []string{"192.0.2.0/24"}
	}
	return []string{"192.0.2.0/24", "198.51.100.0/24"}
}

// hop4 is the daemon's next hop for its IPv4 routes.
func (s setting) hop4() string {
	if s.extNextHop {
		return "fd99::2"
	}
	return "10.99.0.2"
}

const own6 = "2001:db8:1::/48"

// words is text with a line for each that applies.
type words struct{ strings.Builder }

func (w *words) when(cond bool, format string, args ...any) {
	if cond {
		fmt.Fprintf(&w.Builder, format+"\n", args...)
	}
}

func (w *words) add(format string, args ...any) { w.when(true, format, args...) }

var daemonBIRD = daemon{
	name: "BIRD", version: "2.0.12", pkg: "bird2", programs: []string{"/usr/sbin/bird", "/usr/sbin/birdc"},
	command: []string{"/usr/sbin/bird", "-f", "-c", "bird.conf", "-s", "DIR/ctl", "-P", "pid"},
	restart: []string{"-R"},
	client:  []string{"/usr/sbin/birdc", "-s", "DIR/ctl"},
	route:   func(p string) []string { return []string{"show", "route", "all", p} },
	dump:    [][]string{{"show", "route", "protocol", "muslin"}},
	session: func(string) []string { return []string{"show", "protocols", "all", "muslin"} },
	up:      "Established",
	refresh: func(string) [][]string { return [][]string{{"reload", "in", "muslin"}} },
	files: func(s setting) map[string]string {
		var w words
		w.add(`log "log" all; router id 10.99.0.2;
protocol device {}
protocol direct { ipv4; ipv6; }
filter theirs {
	if source = RTS_STATIC then { if net.type = NET_IP4 then bgp_next_hop = ` + s.hop4() + `; else bgp_next_hop = fd99::2; accept; }
	if source = RTS_BGP then accept;
	reject;
}
protocol static s6 { ipv6; route ` + own6 + ` blackhole; }`)
		w.add("protocol static s4 { ipv4; route %s blackhole; }", strings.Join(s.own4(), " blackhole; route "))
		channel := "import all; export filter theirs;"
		if s.addPath {
			channel += " add paths on;"
		}
		if s.limit > 0 {
			channel += fmt.Sprintf(" receive limit %d action disable;", s.limit)
		}
		four := channel
		if s.extNextHop {
			four += " extended next hop on;"
		}
		session := func(name, local, addr string, as uint32, four, channel, more string) {
			w.add(`protocol bgp %s { local %s port 1790 as %d; neighbor %s port 1790 as %d; multihop 2; strict bind on; hold time %d;
	connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on; %s ipv4 { %s }; ipv6 { %s }; }`,
				name, local, s.as, addr, as, s.hold, more, four, channel)
		}
		var more words
		more.when(s.password != "", "password %q;", s.password)
		more.when(s.ttlSecurity, "ttl security on;")
		more.when(s.client, "rr client; rr cluster id 2.2.2.2;")
		more.when(s.role != 0, "local role %s; require roles on;", s.role)
		session("muslin", s.theirs, s.ours, 64512, four, channel, more.String())
		for i, o := range s.more {
			rr := "passive on;"
			if s.client {
				rr += "rr client; rr cluster id 2.2.2.2;"
			}
			session(fmt.Sprint("more", i), "10.99.0.2", o.addr, o.as, "import all; export filter theirs;", "import all; export filter theirs;", rr)
		}
		return map[string]string{"bird.conf": w.String()}
	},
}

var daemonFRR = daemon{
	name: "FRR", version: "8.4.4", pkg: "frr", programs: []string{"/usr/lib/frr/bgpd", "/usr/bin/vtysh"},
	command: []string{"/usr/lib/frr/bgpd", "-Z", "-f", "DIR/bgpd.conf", "-i", "DIR/pid", "-p", "1790", "-l", "10.99.0.2", "-l", "fd99::2",
		"--vty_socket", "DIR", "-P", "0", "--log", "file:DIR/log", "-u", "frr", "-g", "frr"},
	owner:  "frr:frr",
	client: []string{"/usr/bin/vtysh", "--vty_socket", "DIR", "-d", "bgpd", "-c"},
	route: func(p string) []string {
		return []string{"show bgp " + familyWord(p, "ipv4", "ipv6") + " unicast " + p}
	},
	dump:    [][]string{{"show bgp ipv4 unicast"}, {"show bgp ipv6 unicast"}},
	session: func(ours string) []string { return []string{"show bgp neighbors " + ours} },
	up:      "BGP state = Established",
	refresh: func(ours string) [][]string {
		return [][]string{{"clear bgp ipv4 unicast " + ours + " soft in"}, {"clear bgp ipv6 unicast " + ours + " soft in"}}
	},
	files: func(s setting) map[string]string {
		var w words
		set4 := " set ip next-hop 10.99.0.2"
		if s.extNextHop {
			set4 = " set ipv6 next-hop global fd99::2"
		}
		// First, because one that comes later counts only after five seconds.
		w.add(`ip prefix-list own4 permit 192.0.2.0/24
ip prefix-list own4 permit 198.51.100.0/24
ipv6 prefix-list own6 permit ` + own6 + `
route-map out permit 10
 match ip address prefix-list own4
` + set4 + `
exit
route-map out permit 20
 match ipv6 address prefix-list own6
 set ipv6 next-hop global fd99::2
exit
route-map out permit 30
exit`)
		w.add("router bgp %d\n bgp router-id 10.99.0.2\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check", s.as)
		w.add(" bgp disable-ebgp-connected-route-check\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state")
		w.when(s.client, " bgp cluster-id 2.2.2.2")
		session := func(local, addr string, as uint32) {
			w.add(" neighbor %s remote-as %d\n neighbor %[1]s port 1790\n neighbor %[1]s update-source %[3]s", addr, as, local)
			w.add(" neighbor %s timers connect 1\n neighbor %[1]s timers %d %d\n neighbor %[1]s advertisement-interval 0", addr, s.hold/3, s.hold)
		}
		session(s.theirs, s.ours, 64512)
		w.when(s.extNextHop, " neighbor %s capability extended-nexthop", s.ours)
		w.when(s.ttlSecurity, " neighbor %s ttl-security hops 2", s.ours)
		w.when(!s.ttlSecurity && s.as != 64512, " neighbor %s ebgp-multihop 2", s.ours)
		w.when(s.password != "", " neighbor %s password %s", s.ours, s.password)
		w.when(s.role != 0, " neighbor %s local-role %s strict-mode", s.ours, s.role)
		for _, o := range s.more {
			session("10.99.0.2", o.addr, o.as)
			w.add(" neighbor %s passive", o.addr)
		}
		for _, f := range []string{"ipv4", "ipv6"} {
			w.add(" address-family %s unicast", f)
			nets := s.own4()
			if f == "ipv6" {
				nets = []string{own6}
			}
			for _, n := range nets {
				w.add("  network %s", n)
			}
			w.add("  neighbor %s activate\n  neighbor %[1]s route-map out out", s.ours)
			w.when(s.addPath, "  neighbor %s addpath-tx-all-paths", s.ours)
			w.when(s.client, "  neighbor %s route-reflector-client", s.ours)
			w.when(s.limit > 0, "  neighbor %s maximum-prefix %d", s.ours, s.limit)
			for _, o := range s.more {
				w.add("  neighbor %s activate\n  neighbor %[1]s route-map out out", o.addr)
				w.when(s.client, "  neighbor %s route-reflector-client", o.addr)
			}
			w.add(" exit-address-family")
		}
		return map[string]string{"bgpd.conf": w.String()}
	},
}

const (
	noRoles   = "it has no roles"
	noMarkers = "it has no enhanced route refresh"
	noRefresh = "it ignores every ROUTE-REFRESH, and logs that the family was not negotiated"
)

// familyWord is how a client calls the address family of a prefix.
func familyWord(prefix, word4, word6 string) string {
	if netip.MustParsePrefix(prefix).Addr().Is4() {
		return word4
	}
	return word6
}

var daemonGoBGP = daemon{
	name: "GoBGP", version: "3.10", pkg: "gobgpd", programs: []string{"/usr/bin/gobgpd", "/usr/bin/gobgp"},
	command: []string{"/usr/bin/gobgpd", "-f", "DIR/gobgpd.conf", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-l", "debug"},
	restart: []string{"-r"},
	client:  []string{"/usr/bin/gobgp"},
	route: func(p string) []string {
		return []string{"global", "rib", p, "-a", familyWord(p, "ipv4", "ipv6")}
	},
	dump:    [][]string{{"global", "rib", "-a", "ipv4"}, {"global", "rib", "-a", "ipv6"}},
	session: func(ours string) []string { return []string{"neighbor", ours} },
	up:      "BGP state = ESTABLISHED",
	lacks: map[string]string{
		roles:         noRoles,
		roleMismatch:  noRoles,
		markersTheirs: noMarkers,
		markersOurs:   noMarkers,
		refreshTheirs: "a soft reset works on the routes it has kept, it asks for none",
		bfd:           "it has no BFD",
		onInterface:   "it sends no router advertisements",
	},
	originate: func(s setting) (out [][]string) {
		for _, p := range s.own4() {
			out = append(out, []string{"global", "rib", "add", p, "nexthop", s.hop4(), "-a", "ipv4"})
		}
		return append(out, []string{"global", "rib", "add", own6, "nexthop", "fd99::2", "-a", "ipv6"})
	},
	files: func(s setting) map[string]string {
		var w words
		w.add("[global.config]\nas = %d\nrouter-id = \"10.99.0.2\"\nport = 1790\nlocal-address-list = [\"10.99.0.2\", \"fd99::2\"]", s.as)
		session := func(local, addr string, as uint32, main bool) {
			w.add("[[neighbors]]\n[neighbors.config]\nneighbor-address = %q\npeer-as = %d", addr, as)
			w.when(main && s.password != "", "auth-password = %q", s.password)
			w.add("[neighbors.transport.config]\nlocal-address = %q\nremote-port = 1790\npassive-mode = %v", local, !main)
			w.add("[neighbors.timers.config]\nhold-time = %d\nkeepalive-interval = %d\nconnect-retry = 5\nidle-hold-time-after-reset = 2", s.hold, s.hold/3)
			w.when(as != s.as, "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 2")
			w.when(main && s.ttlSecurity, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 254")
			w.when(s.client, "[neighbors.route-reflector.config]\nroute-reflector-client = true\nroute-reflector-cluster-id = \"2.2.2.2\"")
			w.when(main, "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60")
			for _, f := range []string{"ipv4", "ipv6"} {
				w.add("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"%s-unicast\"", f)
				w.when(main, "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true")
				w.when(main && s.addPath, "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 4")
				w.when(main && s.limit > 0, "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = %d", s.limit)
			}
		}
		session(s.theirs, s.ours, 64512, true)
		for _, o := range s.more {
			session("10.99.0.2", o.addr, o.as, false)
		}
		return map[string]string{"gobgpd.conf": w.String()}
	},
}

var daemonOpenBGPD = daemon{
	name: "OpenBGPD", version: "7.7", pkg: "openbgpd", programs: []string{"/usr/sbin/bgpd", "/usr/sbin/bgpctl"},
	// Its chroot is the home of its user, which only its unit makes.
	command: []string{"/usr/bin/unshare", "-m", "sh", "-ec", `mount -t tmpfs none /run
mkdir -p ~_openbgpd
exec /usr/sbin/bgpd -d -v -f DIR/bgpd.conf`},
	client:  []string{"/usr/sbin/bgpctl", "-s", "DIR/ctl"},
	route:   func(p string) []string { return []string{"show", "rib", "detail", p} },
	dump:    [][]string{{"show", "rib"}},
	session: func(ours string) []string { return []string{"show", "neighbor", ours} },
	up:      "BGP state = Established",
	refresh: func(ours string) [][]string { return [][]string{{"neighbor", ours, "refresh"}} },
	lacks: map[string]string{
		restartTheirs: "it announces no family that it could keep forwarding",
		refreshOurs:   noRefresh,
		markersTheirs: noRefresh,
		markersOurs:   noRefresh,
		extNextHop:    "it does not have it",
		bfd:           "it has no BFD",
		onInterface:   "it has no peers by interface",
	},
	files: func(s setting) map[string]string {
		var w words
		w.add("AS %d\nrouter-id 10.99.0.2\nlisten on 10.99.0.2 port 1790\nlisten on fd99::2 port 1790\nfib-update no\nsocket \"DIR/ctl\"\nholdtime %d", s.as, s.hold)
		for _, p := range s.own4() {
			w.add("network %s set nexthop 10.99.0.2", p)
		}
		w.add("network %s set nexthop fd99::2", own6)
		session := func(local, addr string, as uint32, main bool) {
			w.add("neighbor %s {\n remote-as %d\n port 1790\n local-address %s\n announce IPv4 unicast\n announce IPv6 unicast", addr, as, local)
			w.when(as != s.as, " multihop 2")
			w.when(!main, " passive")
			w.when(s.client, " route-reflector 2.2.2.2")
			w.when(main && s.password != "", " tcp md5sig password %q", s.password)
			w.when(main && s.ttlSecurity, " ttl-security yes")
			w.when(main && s.role != 0, " announce policy %s enforce", s.role)
			w.when(main && s.addPath, " announce add-path recv yes\n announce add-path send all")
			w.when(main && s.limit > 0, " max-prefix %d", s.limit)
			w.when(main && s.markers, " announce enhanced refresh yes")
			w.add("}")
		}
		session(s.theirs, s.ours, 64512, true)
		for _, o := range s.more {
			session("10.99.0.2", o.addr, o.as, false)
		}
		w.add("allow from any\nallow to any\nmatch to any set nexthop no-modify")
		return map[string]string{"bgpd.conf": w.String()}
	},
}
