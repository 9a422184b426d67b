// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// A daemon that must not start: what it says, and how soon.

func TestBadInput_SecondAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, servers(2))
	n1, n2 := c.Nodes[0], c.Nodes[1]
	if err := n1.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n1.Live(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	pid := n1.Process().Pid()
	own := filepath.Join(filepath.Dir(n1.Dir), "x")
	for _, try := range []struct {
		name       string
		in         *cluster.Node
		run, state string
		words      []string
	}{
		{"the same namespace", n1, own, own + "s", []string{"this network namespace"}},
		{"the same run directory", n2, n1.Dir, own + "s", []string{n1.Dir}},
		{"the same state directory", n2, own, n1.StateDir(), []string{n1.StateDir()}},
		{"the same everything", n1, n1.Dir, n1.StateDir(), nil},
	} {
		var out bytes.Buffer
		cmd := exec.Command(binary, "run", "--node", "other", "--run-dir", try.run, "--state-dir", try.state)
		cmd.Env, cmd.Stdout, cmd.Stderr = lab.CleanEnv(), &out, &out
		start := time.Now()
		p, err := try.in.Host.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		case <-time.After(5 * time.Second):
			p.Kill()
		}
		took := time.Since(start)
		if err := p.Wait(); err == nil || took > time.Second || !containsAll(out.String(), append(try.words, fmt.Sprintf("pid %d", pid))) {
			t.Errorf("%s: ended with %v after %v, want within 1s, naming pid %d: %s", try.name, err, took, pid, &out)
		}
		if s, err := n1.API().Status(t.Context(), 5*time.Second); err != nil || !s.Live || s.PID != pid {
			t.Errorf("%s: the first agent is disturbed: %v %v", try.name, s, err)
		}
	}
	// With a name, a namespace and directories of its own it runs, whatever
	// others left behind there.
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n2.Live(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	// The locks end with their holder, however it ends.
	n1.Kill()
	if err := n1.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, c)
}

func TestBadInput_Attach(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	w := attach(t, n, "there")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := revisionOf(t, n)
	for _, bad := range []struct {
		args  []string
		words []string
	}{
		{[]string{"a", "--netns", "mu-nowhere"}, []string{"attach default/a: --netns", "mu-nowhere", "no such file", "`ip netns`", "process"}},
		{[]string{"a", "--netns", "/nowhere/ns"}, []string{"attach default/a: --netns /nowhere/ns", "no such file"}},
		{[]string{"a", "--netns", file}, []string{"--netns " + file, "not a namespace"}},
		{[]string{"a", "--netns", "/proc/self/ns/mnt"}, []string{"--netns /proc/self/ns/mnt", "another kind"}},
		{[]string{"a", "--netns", "4294967295"}, []string{"--netns", "4294967295"}},
		{[]string{"Web_1", "--netns", w.Path()}, []string{`name "Web_1"`, "a–z", "web-1 would do"}},
		{[]string{"a-", "--netns", w.Path()}, []string{`name "a-"`, "a would do"}},
		{[]string{"a", "-n", "Shop", "--netns", w.Path()}, []string{`--namespace "Shop"`, "shop would do"}},
		{[]string{"a", "--interface", "Eth0", "--netns", w.Path()}, []string{`--interface "Eth0"`, "eth0 would do"}},
	} {
		out, text, code := command(t, "", append([]string{"endpoint", "attach", "--run-dir", n.Dir}, bad.args...)...)
		if code != 1 || out != "" || !containsAll(text, bad.words) {
			t.Errorf("attach %s: exit code %d, want 1, and words %q in:\n%s%s", strings.Join(bad.args, " "), code, bad.words, out, text)
		}
	}
	if after := revisionOf(t, n); after != before {
		t.Errorf("the datastore went from revision %d to %d", before, after)
	}
}

func TestBadInput_RunArguments(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	ns := labtest.Namespace(t, l, "host") // for a daemon that would start after all
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, bad := range []struct {
		args  []string
		code  int
		words []string
	}{
		{[]string{"--node", "a b"}, 2, []string{"--node", "a b"}},
		{[]string{"--node", "-x"}, 2, []string{"--node", "-x"}},
		{[]string{"--node", strings.Repeat("n", 254)}, 2, []string{"--node"}},
		{[]string{"--ip", "10.0.0.300/24"}, 2, []string{"--ip", "10.0.0.300/24", "10.0.0.2/24"}},
		{[]string{"--ip", "10.0.0.2"}, 2, []string{"--ip", "length"}},
		{[]string{"--ip", "fd00::2/64"}, 2, []string{"--ip", "IPv4"}},
		{[]string{"--ip", "127.0.0.1/8"}, 2, []string{"--ip", "127.0.0.1/8"}},
		{[]string{"--ip6", "10.0.0.2/24"}, 2, []string{"--ip6", "IPv6", "fd00::2/64"}},
		{[]string{"--ip6", "fe80::1/64"}, 2, []string{"--ip6", "fe80::1/64"}},
		{[]string{"--etcd", "10.0.0.1:2379"}, 2, []string{"etcd", "10.0.0.1:2379", "http"}},
		{[]string{"--etcd", "ftp://10.0.0.1"}, 2, []string{"ftp://10.0.0.1", "http"}},
		{[]string{"--etcd", "http://"}, 2, []string{"http(s)://host:port"}},
		{[]string{"--etcd", "http://10.0.0.1:2379", "--embedded-etcd"}, 2, []string{"--etcd", "--embedded-etcd"}},
		{[]string{"--etcd", "http://10.0.0.1:2379", "--etcd-listen", "http://10.0.0.1:2379"}, 2, []string{"--etcd-listen"}},
		{[]string{"--etcd-listen", "nonsense"}, 2, []string{"--etcd-listen nonsense", `"nonsense" is not an IP address`, "http://10.0.0.1:2379"}},
		{[]string{"--etcd-listen", "http://host1:2379"}, 2, []string{"--etcd-listen http://host1:2379", `"host1" is not an IP address`}},
		{[]string{"--etcd-listen", "http://10.0.0.1:99999,https://[::1]:1"}, 2, []string{"--etcd-listen http://10.0.0.1:99999", "port 99999", "--etcd-listen https://[::1]:1", "TLS"}},
		{[]string{"--etcd-listen", "http://127.0.0.1:2379/etcd"}, 2, []string{"--etcd-listen http://127.0.0.1:2379/etcd", "more than an address and a port"}},
		{[]string{"--etcd-listen", "http://192.0.2.1:2379"}, 1, []string{"192.0.2.1:2379", "no interface of this host", "--etcd-listen"}},
		{[]string{"--interface-prefix", "ca li"}, 2, []string{"--interface-prefix", "ca li"}},
		{[]string{"--interface-prefix", "lo"}, 2, []string{"--interface-prefix", "lo"}},
		{[]string{"--log", "nowhere"}, 2, []string{"--log", "nowhere"}},
		{[]string{"--log-level", "loud"}, 2, []string{"--log-level", "loud"}},
		{[]string{"--nod", "x"}, 2, []string{"--nod"}},
		{[]string{"now"}, 2, []string{"now"}},
		{[]string{"--config", filepath.Join(dir, "missing")}, 1, []string{"--config", "missing"}},
		{[]string{"--config", file("unknown.yaml", "node: a\nstatedir: /x\n")}, 1, []string{"unknown.yaml", "statedir", "stateDir"}},
		{[]string{"--config", file("type.yaml", "node: [a]\n")}, 1, []string{"type.yaml", "node"}},
		{[]string{"--config", file("twice.yaml", "node: a\nnode: b\n")}, 1, []string{"twice.yaml", "node"}},
		{[]string{"--config", file("bad.yaml", "ip: 10.0.0.0.1\n")}, 2, []string{"ip", "10.0.0.0.1"}},
	} {
		var out bytes.Buffer
		cmd := exec.Command(binary, append([]string{"run", "--run-dir", filepath.Join(dir, "r"), "--state-dir", filepath.Join(dir, "s")}, bad.args...)...)
		cmd.Env, cmd.Stdout, cmd.Stderr = lab.CleanEnv(), &out, &out
		p, err := ns.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		case <-time.After(10 * time.Second):
			p.Kill()
		}
		var exit *exec.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != bad.code || !containsAll(out.String(), bad.words) {
			t.Errorf("muslin run %s: %v, want exit code %d and the words %q in:\n%s", strings.Join(bad.args, " "), err, bad.code, bad.words, &out)
		}
	}
}
