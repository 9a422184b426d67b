// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
)

// completionTime bounds what a key press may cost.
const completionTime = 2 * time.Second

// completeObjects completes KIND from the registry and NAME… from the
// datastore, if it answers at once.
func (a *app) completeObjects(cmd *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if f := cmd.Flags().Lookup("filename"); f != nil && f.Changed {
		return nil, none
	}
	if len(words) == 0 {
		var out []string
		for _, k := range v3.Kinds() {
			out = append(out, strings.ToLower(k.Kind))
		}
		return out, none
	}
	k, ok := v3.LookupKind(words[0])
	if !ok {
		return nil, none
	}
	namespace := ""
	if k.Namespaced {
		namespace, _ = cmd.Flags().GetString("namespace")
	}
	return a.names(k.Kind, namespace, words[1:], partial), none
}

// completeNames completes the names of a cluster-scoped kind.
func (a *app) completeNames(kind string) cobra.CompletionFunc {
	return func(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
		return a.names(kind, "", words, partial), cobra.ShellCompDirectiveNoFileComp
	}
}

// names lists the objects whose names begin like partial and are not among
// those given; none if the datastore does not answer.
func (a *app) names(kind, namespace string, given []string, partial string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	o, err := a.objects(ctx)
	if err != nil {
		return nil
	}
	defer o.Close()
	all, _, err := o.ReadAll(ctx, kind, namespace)
	if err != nil {
		return nil
	}
	var out []string
	for _, r := range all {
		if n := r.Meta().Name; strings.HasPrefix(n, partial) && !slices.Contains(given, n) {
			out = append(out, n)
		}
	}
	return out
}

// completeExplain completes the ends from the workloads of the datastore, and
// the protocol.
func (a *app) completeExplain(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	switch len(words) {
	case 0, 1:
	case 2:
		return []string{"tcp", "udp", "icmp", "icmpv6", "ping", "sctp"}, none
	default:
		return nil, none
	}
	out := []string{"host"}
	for _, w := range a.workloads() {
		if strings.HasPrefix(w, partial) {
			out = append(out, w)
		}
	}
	return out, none
}

// workloads lists the workloads of all servers as explain takes them.
func (a *app) workloads() (out []string) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	o, err := a.objects(ctx)
	if err != nil {
		return nil
	}
	defer o.Close()
	all, _, _ := o.ReadAll(ctx, "WorkloadEndpoint", "") // with an error: what could be read
	for _, r := range all {
		w, ok := r.(*v3.WorkloadEndpoint)
		if !ok {
			continue
		}
		name := w.Spec.Workload
		if name == "" {
			name = w.Spec.Pod
		}
		if name == "" {
			continue
		}
		if w.Metadata.Namespace != "default" {
			name = w.Metadata.Namespace + "/" + name
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// completeNamespaces completes the named network namespaces of this host.
func completeNamespaces(_ *cobra.Command, _ []string, partial string) (out []string, _ cobra.ShellCompDirective) {
	if strings.Contains(partial, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, _ := os.ReadDir(namedNamespaces) // none is no names
	for _, n := range names {
		if strings.HasPrefix(n.Name(), partial) {
			out = append(out, n.Name())
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completePeers completes the names of the daemon's BGP sessions.
func (a *app) completePeers(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	var got api.Peers
	if a.daemon().Get(ctx, "/v1/bgp/peers", nil, &got) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, p := range got.Peers {
		if p.Name != "" {
			out = append(out, p.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completionRoutes is how many routes are looked at for completion: enough for
// a rack, and no burden for whoever has more.
const completionRoutes = 5000

// completePrefixes completes a prefix from the best routes.
func (a *app) completePrefixes(_ *cobra.Command, words []string, partial string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(words) > 0 {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	var got api.BGPRoutes
	q := url.Values{"view": {"best"}, "limit": {strconv.Itoa(completionRoutes)}}
	if a.daemon().Get(ctx, "/v1/bgp/routes", q, &got) != nil {
		return nil, none
	}
	var out []string
	for _, r := range got.Routes {
		if strings.HasPrefix(r.Prefix, partial) {
			out = append(out, r.Prefix)
		}
	}
	return slices.Compact(out), none // equal paths follow each other
}
