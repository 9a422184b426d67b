// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// cell is one pair and service: what was expected, what packets did in each
// family, and what the model says decided it.
type cell struct {
	from, to string
	service  service
	want     bool
	v4, v6   lab.Outcome
	decider  string
}

func (c *cell) right() bool { return ok(c.v4) == c.want && ok(c.v6) == c.want }

func ok(o lab.Outcome) bool { return o.Verdict == lab.Reached }

type matrix []*cell

// probe sends every probe and asks the daemon of the source's server who
// decides. A probe that must not pass is a wait, so many run at once.
func (d *demo) probe(ctx context.Context) (matrix, error) {
	var m matrix
	var g errgroup.Group
	g.SetLimit(60)
	for _, from := range workloads {
		for _, to := range workloads {
			if from.name == to.name {
				continue
			}
			for _, s := range services {
				c := &cell{from: from.name, to: to.name, service: s, want: expected(from.name, to.name, s)}
				m = append(m, c)
				g.Go(func() error {
					c.v4 = d.ask(ctx, c, netip.Addr.Is4)
					c.v6 = d.ask(ctx, c, netip.Addr.Is6)
					return ctx.Err()
				})
			}
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, c := range m {
		var e api.Explain
		proto := c.service.proto.String()
		if c.service.proto == lab.ICMP {
			proto = "ping" // of both families
		}
		q := url.Values{"src": {c.from}, "dst": {c.to}, "proto": {proto}, "port": {strconv.Itoa(int(c.service.port))}}
		if err := d.Nodes[0].API().Get(ctx, "/v1/explain", q, &e); err != nil {
			return nil, fmt.Errorf("explain %s %s %s: %w", c.from, c.to, c.service.text, err)
		}
		c.decider = decider(&e)
	}
	return m, nil
}

func (d *demo) ask(ctx context.Context, c *cell, family func(netip.Addr) bool) lab.Outcome {
	for _, a := range d.workloads[c.to].Addrs {
		if family(a) {
			return d.workloads[c.from].Probe(ctx, lab.Probe{Proto: c.service.proto, Dst: a, Port: c.service.port, Timeout: 700 * time.Millisecond})
		}
	}
	return lab.Outcome{Verdict: lab.Failed, Err: fmt.Errorf("%s has no address of the family", c.to)}
}

// decider names the step that decided: the first that denied, or the last of
// those that all allowed.
func decider(e *api.Explain) string {
	var texts []string
	for _, f := range e.Families {
		t := "?"
		for _, s := range f.Steps {
			t = s.Where + ": " + s.Object
			if s.Rule >= 0 {
				t += fmt.Sprintf(" rule %d", s.Rule)
			}
			if s.Verdict == "deny" {
				break
			}
		}
		if len(texts) == 0 || texts[len(texts)-1] != t {
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, " | ")
}

// print writes who may talk to whom, and returns the number of wrong cells.
// Services of a pair that fared alike share a line.
func (m matrix) print(out io.Writer) (wrong int) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nFROM\tTO\tSERVICE\tEXPECTED\tIPv4\tIPv6\t\tDECIDED BY\n")
	for i := 0; i < len(m); {
		line := line(m[i])
		names := []string{m[i].service.text}
		j := i + 1
		for ; j < len(m) && m[j].from == m[i].from && m[j].to == m[i].to; j++ {
			if alike(m[i], m[j]) {
				names = append(names, m[j].service.text)
			} else {
				break
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m[i].from, m[i].to, strings.Join(names, " "), line)
		i = j
	}
	w.Flush()
	passed := 0
	for _, c := range m {
		if !c.right() {
			wrong++
		}
		for _, o := range []lab.Outcome{c.v4, c.v6} {
			if ok(o) {
				passed++
			}
		}
	}
	fmt.Fprintf(out, "\n%d probes, %d passed, %d dropped; %d of %d cells wrong\n", 2*len(m), passed, 2*len(m)-passed, wrong, len(m))
	return wrong
}

func line(c *cell) string {
	mark := ""
	if !c.right() {
		mark = "WRONG"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", word(c.want), verdict(c.v4), verdict(c.v6), mark, c.decider)
}

func alike(a, b *cell) bool { return line(a) == line(b) }

func word(pass bool) string {
	if pass {
		return "pass"
	}
	return "drop"
}

func verdict(o lab.Outcome) string {
	switch o.Verdict {
	case lab.Reached:
		return "passed"
	case lab.TimedOut:
		return "dropped"
	}
	return o.Verdict.String()
}
