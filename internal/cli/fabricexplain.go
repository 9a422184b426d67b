// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

func (a *app) fabricExplainCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "explain FILE TO",
		Short: "Say why a device has a route, or why it has none",
		Long: `Explains what a device knows of an address, or of the first endpoint of a server: which paths its
peers sent, which one won and at which step of the decision process (RFC 4271 section 9.1)
each other one lost; what was refused and why, with what the device's software says about it;
who sent nothing, and why. If the device has no route, it says over which sessions the route
does not come that somebody announces. The reasons come from the code that decides.

A server may be written r0-s0 or, as in files, r0/s0. The exit code is 0 if packets from the
device arrive, 1 if some do not, and 2 if the file cannot be read or has no such device.`,
		Example: `  muslin fabric explain pod-a.yaml 10.64.16.0 --at r0-s0
  muslin fabric explain pod-a.yaml r1-s0 --at r0-s0 --fail spine0-r1-t0`,
		Args: args(cobra.ExactArgs(2)),
	}
	form, family, fail := answerForm(cmd), familyFlag(cmd), failFlag(cmd)
	cmd.Flags().StringVar(&at, "at", "", "the `device` that is asked about")
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if at == "" {
			return usagef("give --at DEVICE: `muslin fabric design %s` lists them", words[0])
		}
		s, to, err := a.simulateTo(words[0], words[1], *family)
		if err != nil {
			return err
		}
		f, err := s.failure(*fail)
		if err != nil {
			return err
		}
		at, err := deviceOf(s.design, words[0], at)
		if err != nil {
			return usage(err)
		}
		e, err := s.Explain(at, to, f)
		if err != nil {
			return err
		}
		err = a.show(*form, e, func() error {
			_, err := fmt.Fprint(a.Out, explainText(e))
			return err
		})
		if err == nil && !e.Reached {
			err = fmt.Errorf("%s does not reach %s: lost are %s", at, to, e.Lost)
		}
		return err
	}
	return cmd
}

// simulateTo is the simulation in the family of an address, or of the first endpoint of a server.
func (a *app) simulateTo(file, word, family string) (s simulated, to netip.Addr, err error) {
	to, bad := netip.ParseAddr(word)
	if bad == nil && family == "" {
		family = string(fabric.IPv6)
		if to.Is4() {
			family = string(fabric.IPv4)
		}
	}
	list, err := a.simulate(file, family)
	if err != nil {
		return s, to, err
	}
	s = list[0]
	if bad != nil {
		name, near := findDevice(s.design, word)
		var ok bool
		if to, ok = s.Endpoint(name); !ok {
			if near != "" {
				near = "; " + near
			}
			return s, to, usagef("%s: want an address, or a server that has endpoints of %s%s", word, s.family, near)
		}
	}
	return s, to, nil
}

// explainText is an explanation for people: the verdict first.
func explainText(e *sim.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s, %s: ", e.To, e.Device, withDown(e.Failure))
	switch {
	case e.Discard.IsValid():
		fmt.Fprintf(&b, "dropped by its discard route %s\n", e.Discard)
	case !e.By.IsValid():
		fmt.Fprint(&b, "no route\n")
	case e.Reached:
		fmt.Fprintf(&b, "%s is followed, and everything arrives\n", e.By)
	default:
		fmt.Fprintf(&b, "%s is followed, and lost are %s\n", e.By, e.Lost)
	}
	for _, name := range e.Without {
		fmt.Fprintf(&b, "  no session with %s\n", name)
	}
	for _, r := range e.Routes {
		fmt.Fprintf(&b, "%s, %s of %s\n", r.Prefix, r.Kind, someOf(r.Origins, r.Many))
		if r.Local {
			fmt.Fprint(&b, "  its own: it goes before what peers send\n")
		}
		for _, p := range r.Paths {
			pathReasons(&b, &p)
		}
		for _, x := range r.Silent {
			fmt.Fprintf(&b, "  not sent by %s%s: %s\n", x.Peer, manyMore(x.Many), x.Why)
		}
		if len(r.Ends) > 0 {
			fmt.Fprint(&b, "  it ends at\n")
		}
		for _, x := range r.Ends {
			if x.To == "" {
				fmt.Fprintf(&b, "    %s: it %s\n", x.From, x.Why)
				continue
			}
			fmt.Fprintf(&b, "    %s → %s%s: %s\n", x.From, x.To, manyMore(x.Many), x.Why)
		}
	}
	if len(e.Routes) == 0 {
		fmt.Fprint(&b, "nobody announces a prefix around it\n")
	}
	return b.String()
}

func pathReasons(b *strings.Builder, p *sim.ReasonedPath) {
	path := strings.Trim(fmt.Sprint(p.ASPath), "[]")
	if path == "" {
		path = "empty"
	}
	fmt.Fprintf(b, "  from %s%s via %s, AS path %s: ", p.From, manyMore(p.Many), p.NextHop, path)
	switch {
	case p.Refused != "":
		fmt.Fprintf(b, "not used: %s\n", p.Refused)
	case p.Best:
		fmt.Fprint(b, "the best\n")
	case p.Used:
		fmt.Fprintf(b, "used beside the best, which wins by %s\n", p.Beaten)
	default:
		fmt.Fprintf(b, "lost by %s\n", p.Beaten)
	}
	if p.Says != "" {
		fmt.Fprintf(b, "    its software says: %s\n", p.Says)
	}
}

// manyMore tells of how many a line stands.
func manyMore(n int) string {
	if n > 1 {
		return fmt.Sprintf(" and %s like it", fabric.Number(n-1))
	}
	return ""
}

// someOf is a list of which perhaps only the first are at hand.
func someOf(names []string, all int) string {
	text := strings.Join(names, ", ")
	switch more := all - len(names); {
	case all == 0:
		return "whoever has one to give"
	case more > 0:
		text += fmt.Sprintf(" and %s more", fabric.Number(more))
	}
	return text
}
