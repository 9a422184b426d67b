// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain SRC DST PROTO [PORT]",
		Short: "Say whether a packet may pass, and which rule of which policy decides",
		Long: `Says for each address family that both ends share whether the first packet of a flow may
pass, and which object decides at each step of its way: whether its source is its sender's,
egress policy, the route and who announced it, ingress policy. The answer comes from the
model, and from the kernel's forwarding tables: no packet is sent.

With --live one is: as if the sender had sent it, it goes through the kernel of this server,
which tells of each rule that decides. It arrives if nothing is in its way.

SRC and DST are workloads (name, or namespace/name), addresses, or host for this server.
PROTO is a name or a number; tcp, udp, sctp and udplite need a port. icmp is an echo request
of IPv4, icmpv6 one of IPv6, and ping either.`,
		Example: `  muslin explain web db tcp 5432
  muslin explain shop/web 192.0.2.7 udp 53
  muslin explain web db ping
  muslin explain web db tcp 5432 --live`,
		Args: args(cobra.RangeArgs(3, 4)),
	}
	cmd.ValidArgsFunction = a.completeExplain
	form := answerForm(cmd)
	var live bool
	var source string
	cmd.Flags().BoolVar(&live, "live", false, "send such a packet, and tell what becomes of it")
	cmd.Flags().StringVar(&source, "source", "", "source `address` of the packet, if it is not the sender's own")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		q := url.Values{"src": {words[0]}, "dst": {words[1]}, "proto": {words[2]}}
		ported, err := hasPorts(words[2])
		if err != nil {
			return err
		}
		if len(words) == 4 {
			if !ported {
				return usagef("explain: %s has no ports: leave out %q (icmp is an echo request)", words[2], words[3])
			}
			if n, err := strconv.ParseUint(words[3], 10, 16); err != nil || n == 0 {
				return usagef("port %q: want 1–65535", words[3])
			}
			q.Set("port", words[3])
		} else if ported {
			return usagef("explain: %s needs a port", words[2])
		}
		if live {
			q.Set("live", "1")
		}
		if source != "" {
			q.Set("source", source)
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var e api.Explain
		if err := a.daemon().Get(ctx, "/v1/explain", q, &e); err != nil {
			return err
		}
		return a.show(*form, e, func() error { return a.showExplain(e) })
	}
	return cmd
}

// hasPorts tells whether a protocol, by name or number, has ports.
func hasPorts(name string) (bool, error) {
	switch strings.ToLower(name) {
	case "icmp", "icmpv6", "ping":
		return false, nil
	}
	n, ok := v3.ProtocolName(name).Number()
	if !ok {
		v, err := strconv.ParseUint(name, 10, 8)
		if err != nil || v == 0 {
			return false, usagef("protocol %q: want tcp, udp, icmp, icmpv6, ping, sctp, udplite or 1–255", name)
		}
		n = uint8(v)
	}
	return slices.Contains([]uint8{6, 17, 132, 136}, n), nil
}

// headline says what becomes of the packet, and of which objects that is true.
func headline(e api.Explain, f api.ExplainPath) string {
	v := "DENIED"
	switch {
	case f.Allowed && f.Unroutable == "" && f.Blocked == "":
		v = "ALLOWED"
	case f.Allowed:
		v = "ALLOWED by policy, but NOTHING PASSES"
	}
	if e.OtherState {
		v += ", by the objects that are stored; THE KERNEL HOLDS ANOTHER STATE, see the notes"
	}
	return v
}

func (a *app) showExplain(e api.Explain) error {
	what := e.Protocol
	if e.Port > 0 {
		what += fmt.Sprintf(" %d", e.Port)
	}
	if len(e.Families) == 0 {
		_, err := fmt.Fprintf(a.Out, "%s and %s share no address family\n", e.Source, e.Destination)
		return err
	}
	w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', 0)
	for _, f := range e.Families {
		fmt.Fprintf(w, "%s  %s (%s) to %s (%s), %s: %s\n", f.Family, e.Source, f.From, e.Destination, f.To, what, headline(e, f))
		for _, s := range f.Steps {
			text := s.Text
			if text == "" {
				text = s.Object
				if s.Rule >= 0 {
					text += fmt.Sprintf(", rule %d", s.Rule)
				}
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", s.Where, s.Verdict, text)
		}
		if f.Blocked != "" {
			fmt.Fprintf(w, "  way\tnone\t%s\n", f.Blocked)
		}
		if l := f.Live; l != nil {
			where := ""
			if l.Verdict == "passed" {
				where = "to this server"
				if l.Device != "" {
					where = "by " + l.Device
				}
			}
			fmt.Fprintf(w, "  live\t%s\t%s\n", l.Verdict, where)
			for _, s := range l.Steps {
				fmt.Fprintf(w, "    %s\t%s\t%s\n", s.Where, s.Verdict, s.Text)
			}
			if l.Differs != "" {
				fmt.Fprintf(w, "    this is not what the model says: %s\n", l.Differs)
			}
		}
	}
	for _, n := range e.Notes {
		if slices.ContainsFunc(e.Families, func(f api.ExplainPath) bool { return f.Blocked == n }) {
			continue // said as the way
		}
		fmt.Fprintf(w, "note: %s\n", n)
	}
	return w.Flush()
}
