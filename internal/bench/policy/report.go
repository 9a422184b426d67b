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
	Rates    []*rate       `json:"rates,omitempty"` // the first of each kind is that without a filter
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
}

func (r *rate) median() float64 {
	v := slices.Sorted(slices.Values(r.Values))
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

// rates sends through every contestant, in turn.
func rates(ctx context.Context, o options, rep *report, say func(string, ...any)) (err error) {
	l := lab.New("bp")
	defer func() { err = errors.Join(err, l.Close()) }()
	type entry struct {
		contestant
		rules int
		*stage
	}
	var entries []entry
	defer func() {
		for _, e := range entries {
			e.close()
		}
	}()
	for _, c := range contestants {
		counts := []int{0}
		if c.filters {
			counts = o.counts
		}
		for _, n := range counts {
			s, err := newStage(l, fmt.Sprint(len(entries)), o.family)
			if err != nil {
				return err
			}
			entries = append(entries, entry{c, n, s})
		}
	}
	var last string
	for _, k := range kinds {
		if !o.measures(k.row) {
			continue
		}
		if k.protocol != last {
			last = k.protocol
			say("putting %s rules into force", k.protocol)
			for _, e := range entries {
				if err := e.install(e.stage, k.protocol, rules(max(e.rules, 1), o.family)); err != nil {
					return fmt.Errorf("%s, %d rules: %w", e.name, e.rules, err)
				}
			}
		}
		say("%s", k.name)
		list := make([]*rate, len(entries))
		for i, e := range entries {
			list[i] = &rate{Kind: k.name, Who: e.name, Rules: e.rules}
		}
		for range o.rounds {
			for i, e := range entries {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				v, err := e.measure(k, o.span)
				if err != nil {
					return fmt.Errorf("%s, %s, %d rules: %w", k.name, e.name, e.rules, err)
				}
				list[i].Values = append(list[i].Values, v)
			}
		}
		rep.Rates = append(rep.Rates, list...)
	}
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
	return v, errors.Join(err, s.forget())
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
		var free float64
		for _, x := range r.Rates {
			if x.Kind != k.name {
				continue
			}
			m := x.median()
			if free == 0 {
				free = m
				fmt.Fprintf(w, "\n%s\trules\t%s\tspread\tof no filter\tbudget\n", k.name, k.unit)
			}
			rules, budget := "", ""
			if x.Rules > 0 {
				rules = fmt.Sprint(x.Rules)
			}
			if b := k.budget(x.Rules); b > 0 && x.Who == "muslin" {
				budget = fmt.Sprintf("≥ %.0f %%: %s", 100*b, verdict(m >= b*free))
			}
			fmt.Fprintf(w, "  %s\t%s\t%.1f\t%.1f–%.1f\t%.0f %%\t%s\n", x.Who, rules, m/1000, slices.Min(x.Values)/1000, slices.Max(x.Values)/1000, 100*m/free, budget)
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

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func verdict(held bool) string {
	if held {
		return "held"
	}
	return "MISSED"
}
