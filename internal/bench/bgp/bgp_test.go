// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestMain is also the etcd that the benchmark starts in a process of its own.
func TestMain(m *testing.M) {
	if yes, err := datastore.Serving(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	} else if yes {
		return
	}
	os.Exit(m.Run())
}

// TestBenchmarkRuns keeps the benchmark working, with BIRD where it is
// installed. It judges no figure: what a busy machine shows says nothing.
func TestBenchmarkRuns(t *testing.T) {
	labtest.Require(t)
	binary, err := labtest.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	against := ""
	if _, err := exec.LookPath("bird"); err == nil {
		against = "bird"
	}
	// BIRD does wait for a dead neighbour, and a test does not.
	names := small(t, binary, against, "learn,reflect,kernel,churn")
	maps.Copy(names, small(t, binary, "", "restart"))
	for _, want := range []string{"time", "CPU", "growth of memory", "in: time", "out: time", "kernel memory per route", "p99.9", "back after"} {
		if !names[want] {
			t.Errorf("no figure %q in %v", want, names)
		}
	}
}

// small does rows at a small size and returns the names of all figures, of
// which each has a value for every daemon.
func small(t *testing.T, binary, against, rows string) map[string]bool {
	t.Helper()
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"-binary", binary, "-etcd", datastore.Own, "-against", against, "-o", "json", "-rows", rows,
		"-routes", "3000", "-sets", "300", "-reflected", "2000", "-clients", "3", "-base", "200", "-churn", "1s",
		"-neighbours", "4", "-rounds", "1", "-rest", "1ms", "-limit", "60s", "-grow=false",
	}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			names[f.Name] = true
			for _, d := range r.Daemons {
				if len(f.Values[d]) == 0 {
					t.Errorf("%s: %s: nothing for %s: %q", s.Title, f.Name, d, f.Missed[d])
				}
			}
		}
	}
	return names
}

// TestTable prints what a report says, budgets included.
func TestTable(t *testing.T) {
	s := &section{Title: "work", budgets: map[string]budget{"time": {Ratio: 1}, "memory": {Most: 40}}}
	for i, v := range []float64{3, 1, 2} {
		s.note("muslin", "time", "s", v)
		s.note("bird", "time", "s", v*2)
		s.note("muslin", "memory", "MB", 41+float64(i))
	}
	s.miss("bird", "memory", "MB", "> 1s")
	var out bytes.Buffer
	if err := (report{Hardware: "here", Daemons: []string{"muslin", "bird"}, Sections: []*section{s}}).table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00 s", "4.00 s", "0.50", "≤ 1 × bird: held", "42.0 MB", "> 1s", "≤ 40 MB: MISSED"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

// TestEncode reads back what the feeder writes: whole messages, every route
// once, in order, as many attribute sets as were asked for.
func TestEncode(t *testing.T) {
	for _, c := range []table{
		{Routes: 1, Sets: 1}, {Routes: 806, Sets: 1}, {Routes: 20000, Sets: 1}, {Routes: 20000, Sets: 2000},
		{Routes: 20000, Sets: 20000}, {layout: layout{Spread: true}, Routes: 20000, Sets: 3},
	} {
		c.First, c.nextHop = netip.MustParseAddr("20.0.0.0"), netip.MustParseAddr("10.0.0.9")
		for _, withdraw := range []bool{false, true} {
			chunks := c.announce()
			if withdraw {
				chunks = c.withdraw()
			}
			seen, sets, up, down := map[uint32]bool{}, map[string]bool{}, 0, 0
			for _, chunk := range chunks {
				if len(chunk) > chunkSize {
					t.Errorf("%+v: a chunk of %d octets", c, len(chunk))
				}
				for r := bytes.NewReader(chunk); r.Len() > 0; {
					typ, body, err := readMessage(r, make([]byte, maxMessage))
					if err != nil || typ != 2 {
						t.Fatalf("%+v: type %d: %v", c, typ, err)
					}
					a, w, eor, err := count(body)
					if err != nil || eor {
						t.Fatalf("%+v: %v, End-of-RIB %v", c, err, eor)
					}
					up, down = up+a, down+w
					nlri := body[2 : 2+binary.BigEndian.Uint16(body)]
					if !withdraw {
						l := 4 + binary.BigEndian.Uint16(body[2:])
						sets[string(body[4:l])] = true
						nlri = body[l:]
					}
					for ; len(nlri) > 0; nlri = nlri[5:] {
						seen[binary.BigEndian.Uint32(nlri[1:])] = true
					}
				}
			}
			switch {
			case len(seen) != c.Routes:
				t.Errorf("%+v: %d different prefixes", c, len(seen))
			case withdraw && (up != 0 || down != c.Routes), !withdraw && (up != c.Routes || down != 0):
				t.Errorf("%+v: %d announced, %d withdrawn", c, up, down)
			case !withdraw && len(sets) != c.Sets:
				t.Errorf("%+v: %d attribute sets", c, len(sets))
			}
			for i := range c.Routes {
				if !seen[c.prefix(i)] {
					t.Fatalf("%+v: route %d is missing", c, i)
				}
			}
		}
	}
}

// FuzzCount: what a daemon sends cannot bring the receiver down, and a body
// that is accepted is accounted for to the last octet.
func FuzzCount(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 5, 32, 1, 2, 3, 4, 0, 0, 24, 1, 2, 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		up, down, _, err := count(body)
		if err == nil && up+down > len(body) {
			t.Errorf("%d routes in %d octets", up+down, len(body))
		}
	})
}
