// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// report is the outcome, for people and for programs.
type report struct {
	Hardware string        `json:"hardware"`
	Family   int           `json:"ipVersion"`
	Rates    []*rate       `json:"rates,omitempty"`
	Load     load          `json:"load"`
	Whole    time.Duration `json:"whole,omitempty"` // the load, from the index to the kernel
	Changes  []change      `json:"changes,omitempty"`
}

// rate is how many things of a kind a contestant let through, per second, each
// round.
type rate struct {
	Kind   string    `json:"kind"`
	Who    string    `json:"who"`
	Rules  int       `json:"rules,omitempty"`
	Values []float64 `json:"perSecond"`
	Shares []float64 `json:"ofNoFilter,omitempty"` // of what the same stage let through without a filter, just before and just after
}

func median(list []float64) float64 {
	v := slices.Sorted(slices.Values(list))
	return v[(len(v)-1)/2]
}

// change is how long changes of a kind took.
type change struct {
	Name     string        `json:"name"`
	Median   time.Duration `json:"median"`
	P99      time.Duration `json:"p99"`
	Commits  float64       `json:"commits"`
	Messages float64       `json:"messages"`
}

// kind is something to send.
type kind struct {
	row, name, unit string
	protocol        string
	do              func(*stage, time.Duration) (float64, error)
	budget          func(rules int) float64 // of the rate without a filter; 0 for none
}

var kinds = []kind{
	{"packets", "packets of one UDP flow that nobody answers", "kpps", "udp", (*stage).oneFlow, func(int) float64 { return 0.75 }},
	{"packets", "first packets of UDP flows", "kpps", "udp", (*stage).manyFlows, func(int) float64 { return 0 }},
	{"connects", "TCP connects", "k/s", "tcp", (*stage).connects, func(rules int) float64 {
		if rules == 1000 {
			return 0.88
		}
		return 0
	}},
}

// rates sends through every contestant, in turn, and through none between them. All take
// the same stage: two of the same kind differ by up to a tenth.
func rates(ctx context.Context, o options, rep *report, say func(string, ...any)) (err error) {
	l := lab.New("bp")
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := newStage(l, o.family)
	if err != nil {
		return err
	}
	defer s.close()
	for _, k := range kinds {
		if !o.measures(k.row) {
			continue
		}
		say("%s", k.name)
		free := &rate{Kind: k.name, Who: noFilter}
		list := []*rate{free}
		for round := range o.rounds {
			v, err := s.measure(k, o.span)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", k.name, noFilter, err)
			}
			free.Values = append(free.Values, v)
			at := 0
			for _, c := range contestants {
				for _, n := range c.sizes(o.counts) {
					at++
					if round == 0 {
						list = append(list, &rate{Kind: k.name, Who: c.name, Rules: n})
					}
					if err := errors.Join(ctx.Err(), s.compare(k, c, o.span, free, list[at])); err != nil {
						return fmt.Errorf("%s, %s, %d rules: %w", k.name, c.name, n, err)
					}
				}
			}
		}
		rep.Rates = append(rep.Rates, list...)
	}
	return nil
}

// sizes is how many rules a contestant is measured with.
func (c *contestant) sizes(counts []int) []int {
	if c.filters {
		return counts
	}
	return []int{0}
}

// compare measures a contestant, and no filter once more.
func (s *stage) compare(k kind, c contestant, span time.Duration, free, r *rate) error {
	if err := c.install(s, k.protocol, rules(max(r.Rules, 1), s.family)); err != nil {
		return err
	}
	v, err := s.measure(k, span)
	if err := errors.Join(err, s.clear()); err != nil {
		return err
	}
	before := free.Values[len(free.Values)-1]
	after, err := s.measure(k, span)
	if err != nil {
		return err
	}
	free.Values = append(free.Values, after)
	r.Values, r.Shares = append(r.Values, v), append(r.Shares, 2*v/(before+after))
	return nil
}

// measure sends for a while, and leaves no connection behind.
func (s *stage) measure(k kind, span time.Duration) (v float64, err error) {
	if k.protocol == "udp" {
		end, err := s.sink()
		if err != nil {
			return 0, err
		}
		defer end()
	}
	v, err = k.do(s, span)
	_, err2 := s.forget()
	return v, errors.Join(err, err2)
}

// json writes the report; times are nanoseconds.
func (r *report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// table writes medians and ratios for people.
func (r *report) table(out io.Writer) error {
	fmt.Fprintf(out, "%s\n", r.Hardware)
	if len(r.Rates) > 0 {
		fmt.Fprintf(out, "IPv%d. In a second of processor time. Medians; of the spread, least and most. The last rule allows what is sent.\n", r.Family)
	}
	for _, k := range kinds {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, x := range r.Rates {
			if x.Kind == k.name {
				x.row(w, k)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(r.Changes) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n%d local endpoints, %d policies of %d rules, a set of %d members; all of it from the index to the kernel: %.2f s\n",
		r.Load.Local, r.Load.Policies, r.Load.Rules, r.Load.Members, r.Whole.Seconds())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "from the object to the kernel\tmedian\tp99\tcommits\tmessages\tbudget")
	for _, c := range r.Changes {
		fmt.Fprintf(w, "  %s\t%.2f ms\t%.2f ms\t%.2f\t%.1f\tp99 ≤ 50 ms: %s\n", c.Name, ms(c.Median), ms(c.P99), c.Commits, c.Messages, verdict(c.P99 <= 50*time.Millisecond))
	}
	return w.Flush()
}

func (r *rate) row(w io.Writer, k kind) {
	if r.Who == noFilter {
		fmt.Fprintf(w, "\n%s\trules\t%s\tof no filter\tspread\tbudget\n  %s\t\t%.1f\t\t%.1f–%.1f\t\n", k.name, k.unit,
			r.Who, median(r.Values)/1000, slices.Min(r.Values)/1000, slices.Max(r.Values)/1000)
		return
	}
	rules, budget := "", ""
	if r.Rules > 0 {
		rules = fmt.Sprint(r.Rules)
	}
	share := median(r.Shares)
	if b := k.budget(r.Rules); b > 0 && r.Who == "muslin" {
		budget = fmt.Sprintf("≥ %.0f %%: %s", 100*b, verdict(share >= b))
	}
	fmt.Fprintf(w, "  %s\t%s\t%.1f\t%.0f %%\t%.0f–%.0f %%\t%s\n", r.Who, rules, median(r.Values)/1000, 100*share,
		100*slices.Min(r.Shares), 100*slices.Max(r.Shares), budget)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func verdict(held bool) string {
	if held {
		return "held"
	}
	return "MISSED"
}
