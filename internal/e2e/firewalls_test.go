// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// dockerStart is what dockerd 20.10 has iptables do when it starts, in its order.
//
//go:embed testdata/docker-start
var dockerStart string

// nftablesConf is the file that Debian's nftables.service loads.
const nftablesConf = `flush ruleset
table inet filter {
	chain input { type filter hook input priority filter; }
	chain forward { type filter hook forward priority filter; }
	chain output { type filter hook output priority filter; }
}
`

// TestT04_FirewallsOfOthers runs firewalld, nftables.service, iptables, ufw and what
// Docker does on a server with an agent, which has its tables back within a second
// of what took them away, or with --own-tables never loses them. What is theirs
// stays to the byte, handles included, while ours is repaired beside it.
func TestT04_FirewallsOfOthers(t *testing.T) {
	labtest.Require(t)
	for pkg, path := range map[string]string{
		"nftables": "/usr/sbin/nft", "iptables": "/usr/sbin/iptables-nft", "ufw": "/usr/sbin/ufw", "firewalld": "/usr/sbin/firewalld",
	} {
		labtest.Programs(t, pkg, path)
	}
	g := startGuarded(t, 2)
	n := g.Nodes[0]
	list := []firewall{
		{"nftables.service", 10, nftablesService},
		{"iptables", 3, iptables},
		{"docker", 2, docker},
		{"ufw", 1, ufw},
		{"firewalld", 1, func(t *testing.T) [][]string { return firewalld(t, n.Namespace) }},
	}
	if *dockerRoot != "" {
		list = append(list, firewall{"dockerd", 3, dockerd})
	}
	t.Run("repaired", func(t *testing.T) {
		var all spans
		forbidden := forbiddenAt(t, g)
		for _, f := range list {
			all = append(all, f.passes(t, g, forbidden, false)...)
		}
		slices.Sort(all)
		t.Logf("all: %v", all)
		if len(all) < 10 || all[len(all)/2] > 100*time.Millisecond || all[len(all)-1] > repairLimit {
			t.Errorf("repaired %v: want a median of 100 ms, and %v at worst", all, repairLimit)
		}
	})
	t.Run("owned", func(t *testing.T) {
		n.Kill()
		n.Args = append(n.Args, "--own-tables")
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		if err := n.Live(context.Background(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(n.Log(), "lacks owners") {
			t.Skip("the kernel lacks owners of tables that stay")
		}
		forbidden := forbiddenAt(t, g)
		for _, f := range list {
			if took := f.passes(t, g, forbidden, true); len(took) > 0 {
				t.Errorf("%s: the tables were not whole: %v", f.name, took)
			}
		}
	})
}

// firewall is another program that writes rules, and what is done to it a number of times.
type firewall struct {
	name   string
	rounds int
	do     func(*testing.T) [][]string
}

const forbiddenPPS = 500

// forbiddenAt has the first server send what must not arrive, to itself and away.
func forbiddenAt(t *testing.T, g *guardedServers) *streams {
	t.Helper()
	s := newStreams(30000)
	s.begin(t, g.strangers[0], g.members[0], forbiddenPPS, false)
	s.begin(t, g.mutes[0], g.members[2], forbiddenPPS, false)
	return s
}

// passes does all of it on the first server, under packets, and returns for how
// long our tables were not whole, each time that they were not.
func (f firewall) passes(t *testing.T, g *guardedServers, forbidden *streams, owned bool) (took spans) {
	t.Helper()
	n, before := g.Nodes[0], forbidden.delivered()
	table := openNFT(t, n.Namespace)
	do := f.do(t)
	want := table.atRest(t)
	for range f.rounds {
		for _, args := range do {
			took = append(took, table.bent(t, want, func() error { return program(t, n.Namespace, args[0], args[1:]...) })...)
		}
	}
	theirs := rulesOfOthers(t, n.Namespace)
	if theirs == "" {
		t.Fatalf("%s has no rules", f.name)
	}
	limit := 0
	if !owned {
		took = append(took, table.bent(t, want, table.deleteTable)...)
		limit = forbiddenPPS * len(forbidden.flows) * (f.rounds + 1)
	}
	time.Sleep(100 * time.Millisecond) // what was let in arrives
	arrived := forbidden.delivered() - before
	time.Sleep(100 * time.Millisecond)
	if more := forbidden.delivered() - before - arrived; more > 0 {
		t.Errorf("%s: %d forbidden datagrams arrived after the repair", f.name, more)
	}
	t.Logf("%s: not whole for %v; %d forbidden datagrams arrived", f.name, took, arrived)
	if arrived > limit {
		t.Errorf("%s: %d forbidden datagrams arrived, a second's worth for each round is %d", f.name, arrived, limit)
	}
	if now := rulesOfOthers(t, n.Namespace); now != theirs {
		t.Errorf("%s: its rules were\n%s\nand after our repair\n%s", f.name, theirs, now)
	}
	allowed := newStreams(20000)
	allowed.begin(t, g.members[0], g.members[1], 200, true)
	allowed.begin(t, g.members[2], g.members[0], 200, true)
	allowed.running(t)
	allowed.lossless(t)
	return took
}

// bent runs do and returns how long it took, each time that what is ours was seen not
// to be as wanted, until it was again.
func (n *nft) bent(t *testing.T, want string, do func() error) (took spans) {
	t.Helper()
	done := make(chan error, 1)
	last := n.generation(t)
	go func() { done <- do() }()
	var since time.Time
	start, ended, seen := time.Now(), false, want
	for {
		if g := n.generation(t); g != last {
			now := time.Now()
			switch text, ok := n.textOf(t, g); {
			case !ok: // another commit interrupted it
			case text == want:
				if !since.IsZero() {
					took, since = append(took, now.Sub(since)), time.Time{}
				}
				last, seen = g, text
			case text == seen: // said twice: a commit that is about to end may have been seen half
				if since.IsZero() {
					since = now
				}
				last = g
			default:
				seen = text
			}
		} else if ended && since.IsZero() {
			return took
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("not repaired after 20 s; generation %d, last read %d; the program ended: %v; gone:\n%s\nmore:\n%s",
				n.generation(t), last, ended, linesWithout(want, seen), linesWithout(seen, want))
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// linesWithout is the lines that a has oftener than b.
func linesWithout(a, b string) string {
	have := map[string]int{}
	for line := range strings.SplitSeq(b, "\n") {
		have[line]++
	}
	return strings.Join(slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool {
		have[line]--
		return have[line] >= 0
	}), "\n")
}

// rulesOfOthers is what nft says of all tables but ours, handles included and counts left out.
func rulesOfOthers(t *testing.T, ns *lab.Namespace) (all string) {
	t.Helper()
	tables, err := output(ns, "nft", "list", "tables")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(tables) {
		if w := strings.Fields(line); w[2] != "muslin" {
			text, err := output(ns, "nft", "-a", "-s", "list", "table", w[1], w[2])
			if err != nil {
				t.Fatal(err)
			}
			all += text
		}
	}
	return all
}

// nftablesService is what a restart of Debian's nftables.service does.
func nftablesService(t *testing.T) [][]string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "nftables.conf")
	if err := os.WriteFile(conf, []byte(nftablesConf), 0o600); err != nil {
		t.Fatal(err)
	}
	return [][]string{{"nft", "flush", "ruleset"}, {"nft", "-f", conf}}
}

// iptables empties the chains and fills them anew.
func iptables(*testing.T) (do [][]string) {
	for _, name := range []string{"iptables-nft", "ip6tables-nft"} {
		do = append(do, []string{name, "-F"}, []string{name, "-X"}, []string{name, "-t", "nat", "-F"}, []string{name, "-N", "mine"},
			[]string{name, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "mine"}, []string{name, "-A", "mine", "-j", "ACCEPT"})
	}
	return do
}

var dockerRoot = flag.String("docker", "", "folder into which Debian's docker.io, containerd and runc are extracted, for TestT04_FirewallsOfOthers to run the daemon itself")

// dockerd starts Docker's daemon and a container with a published port, and ends both, in a file system and processes of their own.
func dockerd(t *testing.T) [][]string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mu-docker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const script = `export PATH="$1/usr/sbin:$1/usr/bin:$PATH" DOCKER_HOST="unix://$0/sock"
mount --make-rprivate / && mount -t tmpfs none /run && mount -t proc proc /proc
dockerd --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" -H "$DOCKER_HOST" --storage-driver vfs >"$0/log" 2>&1 &
for i in $(seq 300); do docker info >/dev/null 2>&1 && break; sleep 0.1; done
mkdir -p "$0/root" && cp "$2" "$0/root/muslin" && tar -C "$0/root" -c . | docker import - muslin >/dev/null &&
docker run -d --name web -p 8080:80 --entrypoint /muslin muslin version >/dev/null &&
iptables-nft -I DOCKER-USER -j ACCEPT && docker rm -f web >/dev/null && kill $(cat "$0/pid") && wait || { tail -20 "$0/log" >&2; exit 1; }`
	return [][]string{{"unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, dir, *dockerRoot, binary}}
}

// docker is a start of dockerd. What it forwards by itself it says in FORWARD, whose
// policy is drop then; DOCKER-USER is for what the administrator has besides.
func docker(*testing.T) [][]string {
	script := "iptables-nft -D DOCKER-USER -j ACCEPT\n"
	for line := range strings.Lines(dockerStart) {
		if !strings.HasPrefix(line, "#") {
			script += "iptables-nft --wait " + line
		}
	}
	return [][]string{{"sh", "-c", script + "iptables-nft -I DOCKER-USER -j ACCEPT"}}
}

// ufw is switched on and reloaded, in a tree of files of its own.
func ufw(t *testing.T) [][]string {
	t.Helper()
	root, err := os.MkdirTemp("/run", "muslin-ufw") // it wants no directory above that all may write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	const script = `cd "$0" && mkdir -p etc/default lib usr/share && cp -r /etc/ufw etc/ && cp -r /lib/ufw lib/ && cp -r /usr/share/ufw usr/share/ &&
		sed -E 's/^(DEFAULT_(INPUT|FORWARD)_POLICY)=.*/\1="ACCEPT"/' /etc/default/ufw >etc/default/ufw`
	if out, err := exec.Command("sh", "-c", script, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var do [][]string
	for _, verb := range []string{"enable", "reload"} {
		do = append(do, []string{"ufw", "--rootdir=" + root, "--datadir=" + root, "--force", verb})
	}
	return do
}

// firewalld runs in the namespace, with a system bus of its own. All interfaces are in the
// zone trusted: what others have for them decides.
func firewalld(t *testing.T, ns *lab.Namespace) [][]string {
	t.Helper()
	dir := t.TempDir()
	bus := "unix:path=" + filepath.Join(dir, "bus")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
	for name, text := range map[string]string{
		"bus.conf": `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>` + bus + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`,
		"firewalld.conf": "DefaultZone=trusted\nFirewallBackend=nftables\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"/usr/bin/dbus-daemon", "--nofork", "--nopidfile", "--config-file=" + filepath.Join(dir, "bus.conf")},
		{"/usr/sbin/firewalld", "--nofork", "--nopid", "--log-file", filepath.Join(dir, "log"), "--system-config", dir},
	} {
		p, err := ns.Start(exec.Command(args[0], args[1:]...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		eventually(t, 10*time.Second, func() error { _, err := os.Stat(filepath.Join(dir, "bus")); return err })
	}
	eventually(t, 30*time.Second, func() error {
		if out, err := output(ns, "firewall-cmd", "--state"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return [][]string{{"firewall-cmd", "--reload"}, {"firewall-cmd", "--complete-reload"}}
}
