// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/node"
	"github.com/muslin-net/muslin/internal/store"
)

// parseRun is what `muslin run` would start with.
func parseRun(t *testing.T, env map[string]string, words ...string) (node.Config, logConfig, error) {
	t.Helper()
	for _, v := range []string{"ETCD_ENDPOINTS", "ETCD_DISCOVERY_SRV", "ETCD_USERNAME", "ETCD_PASSWORD",
		"ETCD_KEY_FILE", "ETCD_CERT_FILE", "ETCD_CA_CERT_FILE", "DATASTORE_TYPE"} {
		t.Setenv(v, env[v])
	}
	root := New("v1", Streams{})
	cmd, rest, err := root.Find(append([]string{"run"}, words...))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	fl := cmd.Flags()
	str := func(name string) string { return fl.Lookup(name).Value.String() }
	f := runFlags{config: str("config")}
	f.Node, f.StateDir, f.InterfacePrefix = str("node"), str("state-dir"), str("interface-prefix")
	f.IP, f.IP6, f.Log, f.LogLevel = str("ip"), str("ip6"), str("log"), str("log-level")
	f.SnapshotMaxAge = str("snapshot-max-age")
	f.embedded, _ = fl.GetBool("embedded-etcd")
	f.own, _ = fl.GetBool("own-tables")
	f.EtcdListen, _ = fl.GetStringSlice("etcd-listen")
	a := &app{version: "v1", etcd: str("etcd"), runDir: str("run-dir")}
	return a.runConfig(fl, f)
}

func TestRunConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "muslin.yaml")
	text := "node: filenode\netcd: [http://192.0.2.1:2379]\nstateDir: /s\nrunDir: /r\nip: 10.0.0.1/24\nsnapshotMaxAge: 90m\nlogLevel: debug\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base := node.Config{Version: "v1", StateDir: "/var/lib/muslin", RunDir: "/run/muslin", SnapshotMaxAge: 24 * time.Hour}
	with := func(f func(*node.Config)) node.Config { c := base; f(&c); return c }
	endpoints := func(e ...string) store.Config { return store.Config{Endpoints: e} }
	env := map[string]string{"ETCD_ENDPOINTS": "http://192.0.2.2:2379", "ETCD_USERNAME": "u"}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want node.Config
	}{
		{"nothing said: an etcd of our own", nil, nil, with(func(c *node.Config) { c.Embedded = true })},
		{"flag", nil, []string{"--etcd", "http://a:1,http://b:2"}, with(func(c *node.Config) { c.Store = endpoints("http://a:1", "http://b:2") })},
		{"environment", env, nil, with(func(c *node.Config) { c.Store = endpoints("http://192.0.2.2:2379"); c.Store.Username = "u" })},
		{"flag over environment, which still says who", env, []string{"--etcd", "http://a:1"},
			with(func(c *node.Config) { c.Store = endpoints("http://a:1"); c.Store.Username = "u" })},
		{"embedded over environment", env, []string{"--embedded-etcd"}, with(func(c *node.Config) { c.Embedded = true })},
		{"listen", nil, []string{"--etcd-listen", "10.0.0.1:2379,http://127.0.0.1:2379"},
			with(func(c *node.Config) {
				c.Embedded = true
				c.EtcdListen = []string{"http://10.0.0.1:2379", "http://127.0.0.1:2379"}
			})},
		{"file", nil, []string{"--config", file}, node.Config{Version: "v1", Node: "filenode", StateDir: "/s", RunDir: "/r",
			Store: endpoints("http://192.0.2.1:2379"), IP: netip.MustParsePrefix("10.0.0.1/24"), SnapshotMaxAge: 90 * time.Minute}},
		{"environment and flags over file", env, []string{"--config", file, "--node", "n", "--run-dir", "/run/muslin", "--snapshot-max-age", "0", "--ip6", "fd00::1/64"},
			node.Config{Version: "v1", Node: "n", StateDir: "/s", RunDir: "/run/muslin",
				Store: store.Config{Endpoints: []string{"http://192.0.2.2:2379"}, Username: "u"},
				IP:    netip.MustParsePrefix("10.0.0.1/24"), IP6: netip.MustParsePrefix("fd00::1/64")}},
		{"tables of our own", nil, []string{"--own-tables"}, with(func(c *node.Config) { c.Embedded, c.OwnTables = true, true })},
		{"prefixes", nil, []string{"--interface-prefix", "cali,tap"}, with(func(c *node.Config) { c.Embedded = true; c.InterfacePrefix = "cali,tap" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, log, err := parseRun(t, c.env, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if want := map[bool]string{true: "debug", false: "info"}[strings.Contains(strings.Join(c.args, " "), "--config")]; log.level != want {
				t.Errorf("log level %s, want %s", log.level, want)
			}
		})
	}
}

func TestRunConfigRefuses(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "muslin.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		args []string
		want []string // parts of the error
	}{
		{[]string{"--etcd", "http://a:1", "--embedded-etcd"}, []string{"--etcd", "--embedded-etcd"}},
		{[]string{"--etcd", "a:1"}, []string{"a:1", "http(s)://host:port"}},
		{[]string{"--etcd", "http://a:1", "--etcd-listen", "http://b:2"}, []string{"--etcd-listen"}},
		{[]string{"--etcd-listen", "b"}, []string{"--etcd-listen b"}},
		{[]string{"--embedded-etcd=false"}, []string{"--etcd"}},
		{[]string{"--ip", "10.0.0.1"}, []string{"--ip 10.0.0.1", "10.0.0.2/24"}},
		{[]string{"--ip", "fd00::1/64"}, []string{"--ip fd00::1/64", "IPv4"}},
		{[]string{"--ip6", "fe80::1/64"}, []string{"--ip6"}},
		{[]string{"--interface-prefix", "cali,"}, []string{"--interface-prefix"}},
		{[]string{"--snapshot-max-age", "1"}, []string{"--snapshot-max-age", "24h"}},
		{[]string{"--log", "file", "--log-level", "loud"}, []string{"--log file", "--log-level loud"}},
		{[]string{"--config", "/nonexistent"}, []string{"--config", "/nonexistent"}},
		{[]string{"--config", file("nodename: x\n")}, []string{"--config", "nodename"}},
		{[]string{"--config", file("ndoe: x\nip: 5\netcd: {}\n")}, []string{"unknown member ndoe: did you mean node?", "ip: want a string, not a number", "etcd: want a string, or a list"}},
		{[]string{"--config", file("node: a\nnode: b\n")}, []string{"--config", "node"}},
		{[]string{"--config", file("- node\n")}, []string{"--config", "want members"}},
		{[]string{"--config", file("etcd: a:1\n")}, []string{"a:1", "http(s)://host:port"}},
		{[]string{"--config", file("etcd: [http://a:1]\nembeddedEtcd: true\n")}, []string{"etcd", "embeddedEtcd"}},
	} {
		_, _, err := parseRun(t, nil, c.args...)
		if err == nil {
			t.Errorf("%v: no error", c.args)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: error %q does not name %q", c.args, err, w)
			}
		}
	}
}

type syslogLines []string

func (s *syslogLines) Err(m string) error     { *s = append(*s, "err "+m); return nil }
func (s *syslogLines) Warning(m string) error { *s = append(*s, "warning "+m); return nil }
func (s *syslogLines) Info(m string) error    { *s = append(*s, "info "+m); return nil }
func (s *syslogLines) Debug(m string) error   { *s = append(*s, "debug "+m); return nil }

func TestSyslogCarriesSeverity(t *testing.T) {
	var lines syslogLines
	log := slog.New(newSyslogHandler(&lines, slog.LevelInfo))
	log.Debug("not this")
	log.With("peer", "host2").Info("session up", "as", 64512)
	log.WithGroup("g").Warn("odd", "time", "kept")
	log.Error("bad")
	want := syslogLines{`info msg="session up" peer=host2 as=64512`, "warning msg=odd g.time=kept", "err msg=bad"}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
}
