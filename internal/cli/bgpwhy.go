// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) bgpWhyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why PREFIX|ADDRESS",
		Short: "Explain why a prefix is routed as it is",
		Long: `Explains a prefix, or the longest one around an address: which path won; on which step of
the decision process (RFC 4271 section 9.1) each other one lost, with both values; why a
path is no candidate: refused by what, or its next hop is dead; who has not sent it; who is
told of it, and why others are not; from which object this server announces it; and what
the kernel made of it. The reasons come from the code that decides.

When the longest prefix has no way, shorter ones follow until one has.`,
		Example: `  muslin bgp why 10.65.0.0/26
  muslin bgp why 10.65.0.7
  muslin bgp why fd65::7 -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if _, err := netip.ParsePrefix(words[0]); err != nil {
			if _, err := netip.ParseAddr(words[0]); err != nil {
				return usagef("%s: want an address, or ADDRESS/LENGTH", words[0])
			}
		}
		ctx, cancel := ask(cmd)
		defer cancel()
		var w api.BGPWhy
		if err := a.daemon().Get(ctx, "/v1/bgp/why", url.Values{"prefix": {words[0]}}, &w); err != nil {
			return err
		}
		return a.show(*form, w, func() error {
			for i, p := range w.Answers {
				if i > 0 {
					fmt.Fprintln(a.Out)
				}
				if err := a.showWhy(p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func (a *app) showWhy(w api.BGPWhyPrefix) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", w.Prefix)
	if w.Origin != "" {
		fmt.Fprintf(&b, "  from here: %s\n", w.Origin)
	}
	for _, p := range w.Paths {
		from := "this server"
		if p.Peer != "" {
			from = p.Peer
		}
		fmt.Fprintf(&b, "  path from %s", from)
		if p.NextHop != "" {
			fmt.Fprintf(&b, " via %s", p.NextHop)
		}
		switch {
		case p.Best:
			b.WriteString(": the best")
		case p.Lost != nil:
			to := "this server's own"
			if p.Lost.Peer != "" {
				to = "that from " + p.Lost.Peer
			}
			fmt.Fprintf(&b, ": lost to %s by %s: %s against %s", to, p.Lost.Step, p.Lost.Value, p.Lost.To)
			if p.Equal {
				b.WriteString("; used beside it")
			}
		default:
			fmt.Fprintf(&b, ": no candidate: %s", p.NoCandidate)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  kernel: %s\n", w.Kernel)
	for _, p := range w.Peers {
		said := "has sent it"
		switch {
		case p.Sent:
		case p.State != bgp.Established.String():
			said = strings.TrimSuffix("has no session ("+p.State+"): "+p.Error, ": ")
		case p.OverLimit:
			said = "has not sent it, or it was turned away: the peer is beyond its limit of prefixes"
		case p.Complete:
			said = "has not sent it"
		default:
			said = "has not sent it yet: no End-of-RIB from it"
		}
		fmt.Fprintf(&b, "  peer %s: %s", p.Name, said)
		switch {
		case p.Told:
			b.WriteString("; is told of it")
		case p.State == bgp.Established.String():
			fmt.Fprintf(&b, "; is not told: %s", p.NotTold)
		}
		b.WriteByte('\n')
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(a.Out, oneLine(strings.TrimRight(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}
