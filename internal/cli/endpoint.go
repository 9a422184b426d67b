// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) endpointCommand() *cobra.Command {
	return groupCommand("endpoint", "List, attach and detach the workloads of this server",
		a.endpointListCommand(), a.endpointAttachCommand(), a.endpointDetachCommand())
}

func (a *app) endpointListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the workload endpoints of this server",
		Args:    args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		list, err := a.endpoints(cmd)
		if err != nil {
			return err
		}
		return a.show(*form, list, func() error {
			var rows [][]string
			for _, e := range list {
				state := e.State
				if e.Text != "" {
					state += ": " + e.Text
				}
				rows = append(rows, []string{e.Namespace, dash(e.Workload), dash(e.Interface),
					dash(strings.Join(e.Addresses, ",")), dash(strings.Join(e.Policies, ",")), state})
			}
			return writeTable(a.Out, []string{"NAMESPACE", "WORKLOAD", "INTERFACE", "ADDRESSES", "POLICIES", "STATE"}, rows)
		})
	}
	return cmd
}

func (a *app) endpoints(cmd *cobra.Command) ([]api.Endpoint, error) {
	ctx, cancel := ask(cmd)
	defer cancel()
	list := []api.Endpoint{}
	err := a.daemon().Get(ctx, "/v1/endpoints", nil, &list)
	return list, err
}

func (a *app) endpointAttachCommand() *cobra.Command {
	var req api.Attach
	var labels []string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "attach NAME {--netns NS | --host-process}",
		Short: "Make a network namespace, or a process of this server, a workload",
		Long: `Makes an interface in the network namespace, gives it addresses, writes its
WorkloadEndpoint and returns when it is live, printing the addresses, one a line.

NS is a name as ` + "`ip netns`" + ` knows it, the path of a namespace file, or a process id.

With --host-process it is whatever process of this server binds to the addresses, which
are on lo then.`,
		Example: `  muslin endpoint attach web --netns web --label app=web
  muslin endpoint attach db --netns /proc/4711/ns/net --ip 10.65.0.7 --profile db
  muslin endpoint attach dns --host-process --ip 10.65.0.53 --label app=dns`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	f := cmd.Flags()
	f.StringVar(&req.NetNS, "netns", "", "network `namespace`: name, path or process id")
	f.BoolVar(&req.HostProcess, "host-process", false, "a process of this server, with the addresses on lo, instead of a namespace")
	f.StringVarP(&req.Namespace, "namespace", "n", "default", "`namespace` of the WorkloadEndpoint")
	f.StringVar(&req.Interface, "interface", "eth0", "`name` of the interface inside")
	f.StringArrayVar(&labels, "label", nil, "label `key=value`; may be repeated")
	f.StringArrayVar(&req.Profiles, "profile", nil, "profile `name`, in order; may be repeated")
	f.StringArrayVar(&req.IPs, "ip", nil, "`address` wanted, v4 or v6; may be repeated (default: one per family with a pool)")
	f.BoolVar(&req.Anycast, "anycast", false, "endpoints on other servers may have the address, too, if it is in no pool")
	f.StringVar(&req.From, "from", "", "`server` that has the endpoint now, with these --ip: both have it until it is detached there")
	f.IntVar(&req.MTU, "mtu", 0, "MTU of the interface in `bytes` (default: the kernel's, 1500)")
	f.DurationVar(&timeout, "timeout", 10*time.Second, "give up and undo after this `duration`")
	_ = cmd.RegisterFlagCompletionFunc("profile", a.completeNames("Profile"))
	_ = cmd.RegisterFlagCompletionFunc("netns", completeNamespaces)
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		var err error
		req.Name = words[0]
		if !req.HostProcess {
			req.NetNS, err = netnsPath(req.NetNS)
		} else if cmd.Flags().Changed("netns") || cmd.Flags().Changed("interface") || cmd.Flags().Changed("mtu") {
			err = usagef("--host-process goes without --netns, --interface and --mtu")
		} else {
			req.Interface = ""
		}
		if err != nil {
			return err
		}
		if req.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		if req.From != "" && len(req.IPs) == 0 {
			return usagef("--from %s: give the addresses that the endpoint has there with --ip", req.From)
		}
		for _, ip := range req.IPs {
			if _, err := netip.ParseAddr(ip); err != nil {
				return usagef("--ip %s: want an IPv4 or IPv6 address without a prefix length", ip)
			}
		}
		if timeout <= 0 {
			return usagef("--timeout %s: want a duration above 0", timeout)
		}
		req.Timeout = timeout.String()
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout+daemonTime)
		defer cancel()
		var done api.Attached
		if err := a.daemon().Post(ctx, "/v1/endpoints", req, &done); err != nil {
			return about("attach", req.Namespace, req.Name, err)
		}
		if done.Text != "" {
			fmt.Fprintf(a.Err, "muslin: warning: %s/%s: %s\n", req.Namespace, req.Name, done.Text)
		}
		return a.show(*form, done, func() error {
			for _, addr := range done.Addresses {
				addr, _, _ = strings.Cut(addr, "/")
				if _, err := fmt.Fprintln(a.Out, addr); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func (a *app) endpointDetachCommand() *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "detach NAME…",
		Short: "Undo attach",
		Long: `Removes the WorkloadEndpoint, releases its addresses and removes the interface that
attach made. The network namespace itself stays.`,
		Args: args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
			list, err := a.endpoints(cmd)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var out []string
			for _, e := range list {
				if e.Namespace == namespace && strings.HasPrefix(e.Workload, partial) && !slices.Contains(words, e.Workload) {
					out = append(out, e.Workload)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
	}
	var inner string
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "default", "`namespace` of the WorkloadEndpoint")
	cmd.Flags().StringVar(&inner, "interface", "eth0", "`name` of the interface inside, as given to attach")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		q := url.Values{}
		if cmd.Flags().Changed("interface") {
			q.Set("interface", inner)
		}
		var errs []error
		for _, name := range words {
			if name == "" || strings.Contains(name, "/") {
				return usagef("name %q: names have no '/'; give the namespace with -n", name)
			}
			ctx, cancel := ask(cmd)
			err := a.daemon().Delete(ctx, "/v1/endpoints/"+namespace+"/"+name, q, nil)
			cancel()
			if err != nil {
				errs = append(errs, fmt.Errorf("%w%s", about("detach", namespace, name, err), a.otherInterface(cmd, namespace, name, inner)))
				continue
			}
			fmt.Fprintf(a.Out, "detached %s/%s\n", namespace, name)
		}
		return tally(errs, len(words))
	}
	return cmd
}

// about names the endpoint in an error, unless the daemon did.
func about(verb, namespace, name string, err error) error {
	id := namespace + "/" + name
	if rest, ok := strings.CutPrefix(err.Error(), "endpoint "+id); ok {
		if rest, ok := strings.CutPrefix(rest, ": "+verb+" "); ok {
			return fmt.Errorf("%s %s: %s", verb, id, rest)
		}
		return fmt.Errorf("%s %s%s", verb, id, rest)
	}
	return fmt.Errorf("%s %s: %w", verb, id, err)
}

// otherInterface is the hint for a workload that is not attached here, or not as
// the interface that detach was asked for.
func (a *app) otherInterface(cmd *cobra.Command, namespace, name, asked string) string {
	list, err := a.endpoints(cmd)
	if err != nil {
		return ""
	}
	var have []string
	for _, e := range list {
		if e.Namespace != namespace || e.Workload != name {
			continue
		}
		if w, err := v3.ParseWorkloadEndpointName(e.Name); err == nil && w.Endpoint != "" {
			have = append(have, w.Endpoint)
		}
	}
	switch {
	case len(have) == 0:
		return ": `muslin endpoint list` lists those of this server"
	case slices.Contains(have, asked):
		return ""
	}
	return fmt.Sprintf(" (it is attached as %s: add --interface %s)", strings.Join(have, ", "), have[0])
}

// namedNamespaces is where `ip netns` keeps its names.
const namedNamespaces = "/run/netns"

// netnsPath turns what --netns accepts into the path of a namespace file.
func netnsPath(s string) (string, error) {
	switch {
	case s == "":
		return "", usagef("--netns: name the network namespace: a name, a path or a process id; or say --host-process")
	case strings.Contains(s, "/"):
		return filepath.Abs(s)
	}
	if pid, err := strconv.ParseUint(s, 10, 32); err == nil {
		return fmt.Sprintf("/proc/%d/ns/net", pid), nil
	}
	return filepath.Join(namedNamespaces, s), nil
}

// parseLabels reads key=value pairs.
func parseLabels(words []string) (map[string]string, error) {
	out := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, usagef("--label %q: want key=value", w)
		}
		if old, ok := out[k]; ok && old != v {
			return nil, usagef("--label %s is given twice: %q and %q", k, old, v)
		}
		out[k] = v
	}
	return out, nil
}
