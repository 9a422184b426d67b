// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is the outcome, for people and for programs.
type report struct {
	Hardware string     `json:"hardware"`
	Etcd     string     `json:"etcd,omitempty"`
	Daemons  []string   `json:"daemons"` // ours first, then what it is compared with
	Sections []*section `json:"sections"`
}

// section is one piece of work, at one size.
type section struct {
	Title   string    `json:"title"`
	Figures []*figure `json:"figures"`
	budgets map[string]budget
}

// figure is one quantity of it, for each daemon as often as it was measured.
type figure struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Values map[string][]float64 `json:"values"`
	Missed map[string]string    `json:"missed,omitempty"` // why there is no value
	Budget *budget              `json:"budget,omitempty"` // of ours
}

// budget is what the median of ours may be: at most so much, and at most so
// many times what another daemon took.
type budget struct {
	Most  float64 `json:"most,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
}

func (s *section) figure(name, unit string) *figure {
	for _, f := range s.Figures {
		if f.Name == name {
			return f
		}
	}
	f := &figure{Name: name, Unit: unit, Values: map[string][]float64{}, Missed: map[string]string{}}
	if b, ok := s.budgets[name]; ok {
		f.Budget = &b
	}
	s.Figures = append(s.Figures, f)
	return f
}

// note adds a value.
func (s *section) note(daemon, name, unit string, value float64) {
	f := s.figure(name, unit)
	f.Values[daemon] = append(f.Values[daemon], value)
}

// miss says that there is none.
func (s *section) miss(daemon, name, unit, why string) { s.figure(name, unit).Missed[daemon] = why }

func (f *figure) median(daemon string) (float64, bool) {
	v := slices.Sorted(slices.Values(f.Values[daemon]))
	if len(v) == 0 {
		return 0, false
	}
	return v[(len(v)-1)/2], true
}

func (f *figure) cell(daemon string) string {
	m, ok := f.median(daemon)
	switch {
	case !ok && f.Missed[daemon] != "":
		return f.Missed[daemon]
	case !ok:
		return "–"
	case f.Unit == "":
		return fmt.Sprintf("%.0f", m)
	case m < 10:
		return fmt.Sprintf("%.2f %s", m, f.Unit)
	}
	return fmt.Sprintf("%.1f %s", m, f.Unit)
}

// ratio is ours to theirs.
func (f *figure) ratio(ours, theirs string) (float64, bool) {
	a, ok1 := f.median(ours)
	b, ok2 := f.median(theirs)
	return a / b, ok1 && ok2 && b > 0
}

// verdict compares ours with the budget.
func (f *figure) verdict(daemons []string) string {
	if f.Budget == nil {
		return ""
	}
	ours, ok := f.median(daemons[0])
	var parts []string
	if f.Budget.Most > 0 {
		parts = append(parts, fmt.Sprintf("≤ %g %s", f.Budget.Most, f.Unit))
		ok = ok && ours <= f.Budget.Most
	}
	if f.Budget.Ratio > 0 && len(daemons) > 1 {
		parts = append(parts, fmt.Sprintf("≤ %g × %s", f.Budget.Ratio, daemons[1]))
		r, known := f.ratio(daemons[0], daemons[1])
		ok = ok && (!known || r <= f.Budget.Ratio)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + map[bool]string{true: ": held", false: ": MISSED"}[ok]
}

// json writes the report with every single value.
func (r report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// table writes medians and ratios for people.
func (r report) table(out io.Writer) error {
	fmt.Fprintf(out, "%s\n", r.Hardware)
	if r.Etcd != "" {
		fmt.Fprintf(out, "datastore of muslin, in a process of its own: %s\n", r.Etcd)
	}
	fmt.Fprint(out, "Medians; MB are 10⁶ octets. The feeder is this program; its CPU is what it used while it fed and received.\n")
	for _, s := range r.Sections {
		fmt.Fprintf(out, "\n%s\n", s.Title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		head := append([]string{" "}, r.Daemons...)
		for _, d := range r.Daemons[1:] {
			head = append(head, r.Daemons[0]+"/"+d)
		}
		fmt.Fprintln(w, strings.Join(append(head, "budget"), "\t"))
		for _, f := range s.Figures {
			cells := []string{"  " + f.Name}
			for _, d := range r.Daemons {
				cells = append(cells, f.cell(d))
			}
			for _, d := range r.Daemons[1:] {
				if x, ok := f.ratio(r.Daemons[0], d); ok {
					cells = append(cells, fmt.Sprintf("%.2f", x))
				} else {
					cells = append(cells, "–")
				}
			}
			fmt.Fprintln(w, strings.Join(append(cells, f.verdict(r.Daemons)), "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
