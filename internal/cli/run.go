// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/muslin-net/muslin/internal/node"
	"github.com/muslin-net/muslin/internal/store"
)

// runFile is the file of --config; each member is the flag of that name.
type runFile struct {
	Node            string
	Etcd            words
	EmbeddedEtcd    *bool
	EtcdListen      words
	StateDir        string
	RunDir          string
	SecretsDir      string
	InterfacePrefix string
	OwnTables       *bool
	SnapshotMaxAge  string
	IP              string
	IP6             string
	Log             string
	LogLevel        string
}

// members says where each member of the file goes.
func (f *runFile) members() map[string]any {
	return map[string]any{
		"node": &f.Node, "etcd": &f.Etcd, "embeddedEtcd": &f.EmbeddedEtcd, "etcdListen": &f.EtcdListen,
		"stateDir": &f.StateDir, "runDir": &f.RunDir, "secretsDir": &f.SecretsDir, "interfacePrefix": &f.InterfacePrefix, "ownTables": &f.OwnTables, "snapshotMaxAge": &f.SnapshotMaxAge,
		"ip": &f.IP, "ip6": &f.IP6, "log": &f.Log, "logLevel": &f.LogLevel,
	}
}

// runFlags are the flags of run, as given.
type runFlags struct {
	config string
	runFile
	embedded, own bool
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent and BGP speaker of this server",
		Long: `Runs the agent and BGP speaker of this server until SIGTERM or SIGINT. The data plane
stays in place when it ends, and is taken over, not rebuilt, when it starts again.

The datastore is the one of --etcd, else of the ETCD_* variables as calicoctl reads them
(ETCD_ENDPOINTS, ETCD_USERNAME, ETCD_CA_CERT_FILE and so on), else of the file; with none
of them it runs an etcd of its own, with its data in the state directory.

--config names a YAML file whose members are the flags in camel case (node, etcd,
embeddedEtcd, etcdListen, stateDir, runDir, secretsDir, interfacePrefix, ownTables,
snapshotMaxAge, ip, ip6, log, logLevel). A flag wins over the environment, and the environment over the file.`,
		Example: `  muslin run
  muslin run --etcd http://10.0.0.1:2379 --ip 10.0.0.2/24
  muslin run --etcd-listen http://127.0.0.1:2379,http://10.0.0.1:2379
  muslin run --config /etc/muslin/muslin.yaml --log syslog`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := a.runConfig(cmd.Flags(), f)
			if err != nil {
				return err
			}
			logger, err := openLog(log, a.Err)
			if err != nil {
				return err
			}
			cfg.BFDCommand, cfg.EtcdCommand, cfg.KeeperCommand = bfdCommand(cfg.RunDir, log), etcdCommand(log), keeperCommand(cfg.RunDir)
			return node.Run(cmd.Context(), cfg, logger)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&a.etcd, "etcd", "", "datastore `URL`s, comma separated (default: ETCD_ENDPOINTS, then the file, then an embedded etcd)")
	fl.StringVar(&f.config, "config", "", "YAML `file` with settings for flags that are not given")
	fl.StringVar(&f.Node, "node", "", "`name` of this node (default: the host's name)")
	fl.BoolVar(&f.embedded, "embedded-etcd", false, "run an etcd of its own (the default when no endpoint is configured)")
	fl.StringSliceVar((*[]string)(&f.EtcdListen), "etcd-listen", nil, "`URLs` on which the embedded etcd answers (default: http://127.0.0.1:2379)")
	fl.StringVar(&f.StateDir, "state-dir", "/var/lib/muslin", "`directory` of what outlives a restart")
	fl.StringVar(&f.SecretsDir, "secrets-dir", "/etc/muslin/secrets", "`directory` of the secrets that objects refer to")
	fl.StringVar(&f.InterfacePrefix, "interface-prefix", "", "name `prefix` of workload interfaces, several with commas (default: FelixConfiguration's, else cali)")
	fl.BoolVar(&f.own, "own-tables", false, "let no other program change the packet filter, also while the agent is dead (Linux 6.9 or later)")
	fl.StringVar(&f.SnapshotMaxAge, "snapshot-max-age", "24h", "oldest `age` of what the datastore held by which a boot without it opens workloads; 0 for any")
	fl.StringVar(&f.IP, "ip", "", "this node's IPv4 `address/length` (default: what the Node has, else autodetected)")
	fl.StringVar(&f.IP6, "ip6", "", "this node's IPv6 `address/length` (default: what the Node has, else autodetected)")
	fl.StringVar(&f.Log, "log", "stderr", "`place` where logs go: stderr or syslog")
	fl.StringVar(&f.LogLevel, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	_ = cmd.RegisterFlagCompletionFunc("log", cobra.FixedCompletions([]string{"stderr", "syslog"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logLevels, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runConfig makes the daemon's configuration of flags, environment and file.
func (a *app) runConfig(flags *pflag.FlagSet, f runFlags) (node.Config, logConfig, error) {
	file, err := readRunFile(f.config)
	if err != nil {
		return node.Config{}, logConfig{}, err
	}
	// pick takes the flag if it was given, else the file's value if there is
	// one, else the flag's default.
	pick := func(name, flag, file string) string {
		if !flags.Changed(name) && file != "" {
			return file
		}
		return flag
	}
	cfg := node.Config{
		Version:         a.version,
		Node:            pick("node", f.Node, file.Node),
		StateDir:        pick("state-dir", f.StateDir, file.StateDir),
		RunDir:          pick("run-dir", a.runDir, file.RunDir),
		SecretsDir:      pick("secrets-dir", f.SecretsDir, file.SecretsDir),
		InterfacePrefix: pick("interface-prefix", f.InterfacePrefix, file.InterfacePrefix),
	}
	cfg.OwnTables = f.own
	if !flags.Changed("own-tables") && file.OwnTables != nil {
		cfg.OwnTables = *file.OwnTables
	}
	log := logConfig{to: pick("log", f.Log, file.Log), level: pick("log-level", f.LogLevel, file.LogLevel)}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	_, err = node.ParseName(cfg.Node)
	note(err)
	cfg.IP, err = nodeAddress("ip", pick("ip", f.IP, file.IP), false)
	note(err)
	cfg.IP6, err = nodeAddress("ip6", pick("ip6", f.IP6, file.IP6), true)
	note(err)
	cfg.SnapshotMaxAge, err = snapshotMaxAge(pick("snapshot-max-age", f.SnapshotMaxAge, file.SnapshotMaxAge))
	note(err)
	note(checkPrefixes(cfg.InterfacePrefix))
	note(log.check())
	note(a.runStore(flags, f, file, &cfg))
	if err := errors.Join(errs...); err != nil {
		return cfg, log, usage(err)
	}
	return cfg, log, nil
}

// runStore decides which datastore: that of a flag, of the environment, of the
// file, or one inside the process.
func (a *app) runStore(flags *pflag.FlagSet, f runFlags, file runFile, cfg *node.Config) error {
	env, err := store.ConfigFromEnv()
	if err != nil {
		return err
	}
	cfg.Store = env
	given := flags.Changed("embedded-etcd")
	switch {
	case given && f.embedded && a.etcd != "":
		return errors.New("--etcd and --embedded-etcd: give one of them")
	case a.etcd != "":
		cfg.Store.Endpoints, cfg.Store.DiscoverySRV = store.SplitEndpoints(a.etcd), ""
	case given && f.embedded:
		cfg.Embedded = true
	case !env.IsZero():
	case len(file.Etcd) > 0:
		if file.EmbeddedEtcd != nil && *file.EmbeddedEtcd {
			return fmt.Errorf("%s: etcd and embeddedEtcd: give one of them", f.config)
		}
		cfg.Store.Endpoints = file.Etcd
	case given, file.EmbeddedEtcd != nil && !*file.EmbeddedEtcd:
		return errors.New("no datastore: name one with --etcd or ETCD_ENDPOINTS, or leave the embedded one on")
	default:
		cfg.Embedded = true
	}
	listen := file.EtcdListen
	if flags.Changed("etcd-listen") {
		listen = f.EtcdListen
	}
	if !cfg.Embedded {
		if flags.Changed("etcd-listen") {
			return errors.New("--etcd-listen is for the embedded etcd, and an external one is configured")
		}
		return checkEndpoints(cfg.Store.Endpoints, cfg.Store.DiscoverySRV)
	}
	cfg.Store = store.Config{}
	cfg.EtcdListen, err = listenURLs(listen)
	return err
}

// words is a list in the file: a YAML list, or one string with commas.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = store.SplitEndpoints(one)
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return errors.New("want a string, or a list of strings")
	}
	*w = list
	return nil
}

// readRunFile reads the file strictly: an unknown member is an error.
func readRunFile(name string) (runFile, error) {
	var f runFile
	if name == "" {
		return f, nil
	}
	fail := func(err error) (runFile, error) { return f, fmt.Errorf("--config %s: %w", name, err) }
	text, err := os.ReadFile(name)
	if err != nil {
		return f, fmt.Errorf("--config: %w", err)
	}
	members := map[string]json.RawMessage{}
	if text, err = yaml.YAMLToJSONStrict(text); err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(text, &members); err != nil {
		return fail(errors.New("want members such as `node: host1`, one a line"))
	}
	targets := f.members()
	known := slices.Sorted(maps.Keys(targets))
	var errs []error
	for _, m := range slices.Sorted(maps.Keys(members)) {
		at, ok := targets[m]
		if !ok {
			hint := ""
			if near := nearest(m, known); near != "" {
				hint = "did you mean " + near + "? "
			}
			errs = append(errs, fmt.Errorf("unknown member %s: %smembers are %s", m, hint, strings.Join(known, ", ")))
			continue
		}
		if err := json.Unmarshal(members[m], at); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				err = fmt.Errorf("want a %s, not a %s", wrong.Type, wrong.Value)
			}
			errs = append(errs, fmt.Errorf("%s: %w", m, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return f, prefixLines("--config "+name, err)
	}
	return f, nil
}

func snapshotMaxAge(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--snapshot-max-age %q: want a duration such as 24h, or 0 for any age", text)
	}
	return d, nil
}

// nodeAddress reads an address of this node with its subnet's length.
func nodeAddress(flag, text string, six bool) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(text)
	a := p.Addr()
	if err != nil || a.Is4In6() || a.Is6() != six || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		family, example := "IPv4", "10.0.0.2/24"
		if six {
			family, example = "IPv6", "fd00::2/64"
		}
		return netip.Prefix{}, fmt.Errorf("--%s %s: want an %s address of this host with its subnet's length, such as %s", flag, text, family, example)
	}
	if last := a.BitLen() - 1; p.Bits() < last && (a == p.Masked().Addr() || !six && isBroadcast(p)) {
		return netip.Prefix{}, fmt.Errorf("--%s %s: is not an address of a host, but of its whole subnet: give the host's, with the subnet's length", flag, text)
	}
	return p, nil
}

// isBroadcast tells whether all bits of the host's part of an IPv4 address are set.
func isBroadcast(p netip.Prefix) bool {
	a := p.Addr().As4()
	host := uint32(1)<<(32-p.Bits()) - 1
	return binary.BigEndian.Uint32(a[:])&host == host
}

var ifPrefix = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,14}$`)

func checkPrefixes(list string) error {
	if list == "" {
		return nil
	}
	for p := range strings.SplitSeq(list, ",") {
		if !ifPrefix.MatchString(p) {
			return fmt.Errorf("--interface-prefix %q: want 1–14 letters, digits, '_', '.', '-', or several such with commas", p)
		}
		if strings.HasPrefix("lo", p) {
			return fmt.Errorf("--interface-prefix %q: it would claim the loopback interface", p)
		}
	}
	return nil
}

// listenURLs completes what the embedded etcd listens on: host:port will do.
func listenURLs(list []string) ([]string, error) {
	var out []string
	var errs []error
	for _, given := range list {
		l := given
		if !strings.Contains(l, "://") {
			l = "http://" + l
		}
		if _, err := store.ListenURL(l); err != nil {
			errs = append(errs, fmt.Errorf("--etcd-listen %s: %w", given, err))
		}
		out = append(out, l)
	}
	return out, errors.Join(errs...)
}
