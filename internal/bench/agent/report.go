// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muslin-net/muslin/internal/bench/proc"
)

// report is the outcome, for people and for programs.
type report struct {
	Hardware string   `json:"hardware"`
	Etcd     string   `json:"etcd"`
	Results  []result `json:"results"` // the first is the one that budgets are for
}

// json writes the report; times are nanoseconds, sizes are bytes.
func (r report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// row is a line of the table.
type row struct {
	part         string // of rowNames
	name, budget string
	cell         func(*result) string
}

func rows() (list []row) {
	var part string
	add := func(name, budget string, cell func(*result) string) {
		list = append(list, row{part, name, budget, cell})
	}
	both := func(name, budget string, of func(*result) *[families]spell) {
		for f := range families {
			add(name+", "+familyName[f], budget, func(r *result) string { return of(r)[f].String() })
		}
	}
	const own = "  of it after etcd's answer, the later family"
	part = "policy"
	both("policy opened → first packet", "5 / 15 ms", func(r *result) *[families]spell { return &r.Allow })
	add(own, "", func(r *result) string { return r.AllowOwn.String() })
	both("policy closed → last packet", "", func(r *result) *[families]spell { return &r.Deny })
	part = "endpoint"
	both("new endpoint, known kind → first packet", "5 / 15 ms", func(r *result) *[families]spell { return &r.Known })
	add(own, "", func(r *result) string { return r.KnownOwn.String() })
	both("new endpoint, new kind → first packet", "5 / 15 ms", func(r *result) *[families]spell { return &r.New })
	add(own, "", func(r *result) string { return r.NewOwn.String() })
	part = "policy"
	add("of that, etcd: put → its answer", "", func(r *result) string { return r.Put.String() })
	add("nftables commits per policy change", "1", func(r *result) string { return fmt.Sprintf("%.2f", r.Commits) })
	add("netlink messages per policy change", "", func(r *result) string { return fmt.Sprintf("%.1f", r.Messages) })
	add("CPU per policy change", "", func(r *result) string { return r.CPU.Round(10 * time.Microsecond).String() })
	part = "" // what is there anyway
	add("memory of an idle agent (VmRSS)", "60 MB", func(r *result) string { return total(r.Idle) })
	add("  anonymous / private / program file", "", func(r *result) string { return parts(r.Idle) })
	add("memory after a start (VmRSS)", "60 MB", func(r *result) string { return total(&r.Started) })
	add("memory while policy changes (VmRSS)", "60 MB", func(r *result) string { return total(&r.Busy) })
	add("  anonymous / private / program file", "", func(r *result) string { return parts(&r.Busy) })
	add("memory after all rounds (VmRSS)", "60 MB", func(r *result) string { return total(&r.Worked) })
	add("  anonymous / private / program file", "", func(r *result) string { return parts(&r.Worked) })
	add("  most, while starting (VmHWM)", "", func(r *result) string { return megabytes(r.Started.Peak) })
	part = "start"
	add("start to live, empty kernel", "0.70 s", func(r *result) string { return starts(r.Empty) })
	add("start to live, all programmed", "0.70 s", func(r *result) string { return starts(r.Programmed) })
	add("CPU of a start, empty kernel", "", func(r *result) string { return starts(r.EmptyCPU) })
	add("CPU of a start, all programmed", "", func(r *result) string { return starts(r.ProgrammedCPU) })
	add("nftables commits of a start, all programmed", "0", func(r *result) string { return fmt.Sprint(r.WarmCommits) })
	return list
}

func (s spell) String() string { return fmt.Sprintf("%.2f / %.2f ms", ms(s.Median), ms(s.P99)) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mb(n int64) float64         { return float64(n) / 1e6 }

func total(m *proc.Memory) string {
	if m == nil {
		return ""
	}
	return megabytes(m.RSS)
}

func parts(m *proc.Memory) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("%.1f / %.1f / %.1f MB", mb(m.Anonymous), mb(m.Private), mb(m.File))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", mb(n)) }

// starts shows the median and the longest.
func starts(list []time.Duration) string {
	s := proc.Samples(list)
	return fmt.Sprintf("%.2f (%.2f) s", s.Quantile(.5).Seconds(), s.Quantile(1).Seconds())
}

// table writes the report for people.
func (r report) table(out io.Writer, o options) error {
	base := &r.Results[0]
	fmt.Fprintf(out, "%s\netcd: %s\n", r.Hardware, r.Etcd)
	fmt.Fprintf(out, "Times of packets are median / p99 of %d rounds, a packet every %v; of starts median (longest) of %d.\n",
		base.Allow[0].Rounds, base.Interval.Round(time.Microsecond), len(base.Empty))
	fmt.Fprintf(out, "%d local endpoints, policies of %d rules, %d BGP sessions.\n\n", base.Scene.Local, base.Scene.Rules, base.Scene.nodes())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := []string{"", "budget"}
	for _, x := range r.Results {
		head = append(head, fmt.Sprintf("%d remote, %d policies", x.Scene.Remote, x.Scene.Policies))
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows() {
		if row.part != "" && !o.measures(row.part) {
			continue
		}
		cells := []string{row.name, row.budget}
		for i := range r.Results {
			cells = append(cells, row.cell(&r.Results[i]))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}
