// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// simulated is the simulation of a design in one family.
type simulated struct {
	design *fabric.Design
	family fabric.Family
	*sim.Sim
}

// simulate prepares a file for simulation, in each of its families or in the one that is asked for.
func (a *app) simulate(file, family string) (list []simulated, err error) {
	g, _, err := a.readFabric(file)
	if err != nil {
		return nil, err
	}
	for _, f := range g.Families {
		if family != "" && family != string(f) {
			continue
		}
		s, err := sim.New(g, f)
		if err != nil {
			return nil, inputError{fmt.Errorf("%s: %w", file, err)}
		}
		list = append(list, simulated{g, f, s})
	}
	if list == nil {
		return nil, usagef("%s has no family %s: it has %s", file, family, strings.Trim(fmt.Sprint(g.Families), "[]"))
	}
	return list, nil
}

func familyFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("family", "", "only this `family`: ipv4 or ipv6")
}

// failFlag is what is down: A,B or several flags.
func failFlag(cmd *cobra.Command) *[]string {
	return cmd.Flags().StringSlice("fail", nil, "what is down, two `names` at most: a device, a plane, or the link A-B")
}

// whatIf is what whatif answers for one family.
type whatIf struct {
	Family   fabric.Family `json:"family"`
	Problems []string      `json:"problems,omitempty"` // sessions that never come up
	*sim.WhatIf
	// Before and After are the ways of the pair that a named failure hurts most.
	Before *sim.Path `json:"before,omitempty"`
	After  *sim.Path `json:"after,omitempty"`
}

// lossy counts what loses traffic although there is a way: nothing down, or one thing, or what was named.
func (w *whatIf) lossy() (n int) {
	if !w.Healthy.Whole() {
		n++
	}
	for i := range w.Cases {
		if c := &w.Cases[i]; !c.Whole() && !strings.Contains(c.Kind, "+") {
			n += c.Cases
		}
	}
	return n
}

func (a *app) fabricWhatIfCommand() *cobra.Command {
	var things, rows int
	cmd := &cobra.Command{
		Use:   "whatif FILE",
		Short: "Say what every failure does to a fabric",
		Long: `Simulates the fabric healthy, and with every link, port, switch, router and reflector down, one
at a time or with -k 2 every two of them; or with what --fail names. Failures that are in
the same place are simulated once, and counted. What is lost is told of ordered pairs of servers
that are up and still have a way to each other through switches.

The exit code is 0 if nothing is lost healthy and with one thing down, or with what was
named; 1 if something is; and 2 if the file cannot be read.`,
		Example: `  muslin fabric whatif pod-a.yaml
  muslin fabric whatif pod-a.yaml -k 2
  muslin fabric whatif pod-a.yaml --fail spine0-r1-t0`,
		Args: args(cobra.ExactArgs(1)),
	}
	form, family, fail := answerForm(cmd), familyFlag(cmd), failFlag(cmd)
	cmd.Flags().IntVarP(&things, "things", "k", 1, "how many `things` fail at once: 1 or 2")
	cmd.Flags().IntVar(&rows, "rows", 20, "`rows` of failures of two things that are shown; 0 is all")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if things < 1 || things > 2 {
			return usagef("-k %d: want 1 or 2", things)
		}
		list, err := a.simulate(files[0], *family)
		if err != nil {
			return err
		}
		var answers []*whatIf
		lossy := 0
		for _, s := range list {
			w, err := s.whatIf(things, *fail)
			if err != nil {
				return err
			}
			answers = append(answers, w)
			lossy += w.lossy()
		}
		err = a.show(*form, answers, func() error {
			for _, w := range answers {
				if err := a.showWhatIf(list[0].design, w, rows); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && lossy > 0 {
			err = fmt.Errorf("%s: traffic is lost although there is a way", list[0].design.Metadata.Name)
		}
		return err
	}
	return cmd
}

// whatIf answers for one family.
func (s *simulated) whatIf(things int, fail []string) (*whatIf, error) {
	out := &whatIf{Family: s.family, Problems: s.Problems()}
	if len(fail) == 0 {
		w, err := s.WhatIf(things)
		if err != nil {
			return nil, err
		}
		order := func(r *sim.Reach) int { return r.Cut*2 + r.Partly }
		slices.SortStableFunc(w.Cases, func(a, b sim.Reach) int {
			return cmp.Or(cmp.Compare(strings.Count(a.Kind, "+"), strings.Count(b.Kind, "+")), cmp.Compare(order(&b), order(&a)))
		})
		out.WhatIf = w
		return out, nil
	}
	f, err := s.failure(fail)
	if err != nil {
		return nil, err
	}
	healthy, err := s.Reach(sim.Failure{})
	if err != nil {
		return nil, err
	}
	r, err := s.Reach(f)
	if err != nil {
		return nil, err
	}
	r.Kind, r.Notice = "named", s.Notice(f)
	out.WhatIf = &sim.WhatIf{Healthy: *healthy, Cases: []sim.Reach{*r}}
	if r.From == "" {
		return out, nil
	}
	to, ok := s.Endpoint(r.To)
	if !ok {
		return out, nil
	}
	if out.Before, err = s.Path(r.From, to, sim.Failure{}); err == nil {
		out.After, err = s.Path(r.From, to, f)
	}
	return out, err
}

func (a *app) showWhatIf(g *fabric.Design, w *whatIf, rows int) error {
	h := &w.Healthy
	fmt.Fprintf(a.Out, "%s\n%s: ", g.Summary(), w.Family)
	switch {
	case h.Whole():
		fmt.Fprintf(a.Out, "healthy, every one of %s pairs of servers\n", fabric.Number(h.Pairs))
	default:
		fmt.Fprintf(a.Out, "BROKEN without any failure: %s\n", lossOf(h))
	}
	for _, p := range w.Problems {
		fmt.Fprintf(a.Out, "  no session: %s\n", p)
	}
	for _, r := range h.Restless {
		fmt.Fprintf(a.Out, "  %s\n", r)
	}
	var table [][]string
	left := 0
	cases := sim.Alike(w.Cases)
	for i := range cases {
		c := &cases[i]
		if rows > 0 && len(table) >= rows && strings.Contains(c.Kind, "+") {
			left++
			continue
		}
		lost := dash(c.At)
		if c.Why != "" {
			lost += ": " + c.Why
		}
		worst := absent
		if c.From != "" {
			worst = fmt.Sprintf("%s → %s %.0f %%", c.From, c.To, 100*c.Worst)
		}
		if c.Restless != nil {
			lost = strings.Join(c.Restless, "; ")
		}
		table = append(table, []string{c.Failure, fabric.Number(c.Cases - 1), fabric.Number(c.Cut), fabric.Number(c.Partly), fabric.Number(c.Apart), worst, lost, c.Noticed()})
	}
	if err := writeTable(a.Out, []string{"FAILURE", "AND LIKE IT", "PAIRS CUT", "PARTLY LOST", "WITHOUT A WAY", "WORST PAIR", "LOST AT", "NOTICED"}, table); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(a.Out, "and %d more kinds of failures of two things with loss: --rows 0 shows all\n", left)
	}
	for _, s := range w.Sums {
		fmt.Fprintf(a.Out, "%s: %s of %s lose traffic", s.Kind, fabric.Number(s.Lossy), fabric.Number(s.Cases))
		if s.Of != "" {
			fmt.Fprintf(a.Out, "; worst %s: %s pairs cut, %.0f %% of a pair's flows", s.Of, fabric.Number(s.MaxCut), 100*s.Worst)
		}
		fmt.Fprintln(a.Out)
	}
	for _, p := range []struct {
		when string
		path *sim.Path
	}{{"before", w.Before}, {"after", w.After}} {
		if p.path != nil {
			fmt.Fprintf(a.Out, "\n%s, %s", p.when, pathText(p.path))
		}
	}
	return nil
}

func lossOf(r *sim.Reach) string {
	return fmt.Sprintf("%s of %s pairs of servers cut, %s partly; %s → %s loses %.0f %% at %s: %s",
		fabric.Number(r.Cut), fabric.Number(r.Pairs), fabric.Number(r.Partly), dash(r.From), dash(r.To), 100*r.Worst, dash(r.At), dash(r.Why))
}

func (a *app) fabricPathCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "path FILE FROM TO",
		Short: "Show every way of packets through a fabric",
		Long: `Follows packets from a device to an address, or to the first endpoint of a server: every branch
of every ECMP group, with its share of the flows, and at each hop the route that was
chosen. A server may be written r0-s0 or, as in files, r0/s0. The exit code is 0 if all
arrives, 1 if some does not, and 2 if the file cannot be read or has no such device.`,
		Example: `  muslin fabric path pod-a.yaml r0/s0 r1/s1
  muslin fabric path pod-a.yaml r0/s0 10.65.1.1 --fail spine0-r1-t0`,
		Args: args(cobra.ExactArgs(3)),
	}
	form, family, fail := answerForm(cmd), familyFlag(cmd), failFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		s, to, err := a.simulateTo(words[0], words[2], *family)
		if err != nil {
			return err
		}
		from, err := deviceOf(s.design, words[0], words[1])
		if err != nil {
			return usage(err)
		}
		f, err := s.failure(*fail)
		if err != nil {
			return err
		}
		p, err := s.Path(from, to, f)
		if err != nil {
			return err
		}
		err = a.show(*form, p, func() error {
			_, err := fmt.Fprint(a.Out, pathText(p))
			return err
		})
		if err == nil && p.Lost > 1e-9 {
			err = fmt.Errorf("%.3g %% of the flows do not arrive", 100*p.Lost)
		}
		return err
	}
	return cmd
}

// shared tells whether packets come to a hop over what more than the two devices are on: a cable between
// them is called after them.
func shared(from string, h sim.Hop) bool {
	return h.Segment != "" && h.Segment != from+"--"+h.Device && h.Segment != h.Device+"--"+from
}

// withDown says what is down, by the names of it; healthy is said as it is.
func withDown(failure string) string {
	if failure == sim.Healthy {
		return failure
	}
	return "with " + failure + " down"
}

// pathText is the ways of packets for people.
func pathText(p *sim.Path) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s, %s: ", p.From, p.To, withDown(p.Failure))
	if p.Lost < 1e-9 {
		fmt.Fprintf(&b, "everything arrives, by %s\n", fabric.Amount(len(p.Branches)+p.LeftOut, "way"))
	} else {
		fmt.Fprintf(&b, "%.3g %% of the flows are lost\n", 100*p.Lost)
	}
	for _, x := range p.Branches {
		fmt.Fprintf(&b, "  %.3g %% %s", 100*x.Share, x.End)
		if x.Many > 1 {
			fmt.Fprintf(&b, ", by %d ways like this", x.Many)
		}
		b.WriteByte('\n')
		for i, h := range x.Hops {
			fmt.Fprintf(&b, "    %-12s", h.Device)
			if i > 0 && shared(x.Hops[i-1].Device, h) {
				fmt.Fprintf(&b, " over %s", h.Segment)
			}
			switch {
			case !h.Prefix.IsValid():
				fmt.Fprintf(&b, " %s", x.End) // the last one
			case len(h.ASPath) == 0:
				fmt.Fprintf(&b, " %s", h.Prefix)
			default:
				fmt.Fprintf(&b, " %s by AS path %s", h.Prefix, strings.Trim(fmt.Sprint(h.ASPath), "[]"))
			}
			b.WriteByte('\n')
		}
	}
	if p.LeftOut > 0 {
		fmt.Fprintf(&b, "  and %s more\n", fabric.Amount(p.LeftOut, "way"))
	}
	return b.String()
}
