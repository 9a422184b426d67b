// SPDX-License-Identifier: Apache-2.0

package bfdd_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// BenchmarkThousandSessions has two processes with 1,000 sessions between them,
// of both families, and measures one of them for a second per round: its share of a
// core, its resident memory (that of the test binary, which is smaller than the
// product's), and how many sessions failed meanwhile.
//
//	go test -run '^$' -bench ThousandSessions -benchtime 10x ./internal/bfdd
func BenchmarkThousandSessions(b *testing.B) {
	const n = 1000
	for _, interval := range []string{"300ms", "100ms"} {
		b.Run(interval, func(b *testing.B) {
			l := labtest.New(b)
			f := labtest.Fabric(b, l, "seg")
			ha := labtest.Host(b, l, f, "a", a4+"/24", a6+"/64")
			hb := labtest.Host(b, l, f, "b", b4+"/24", b6+"/64")
			// Each session has a pair of addresses of its own, behind one
			// neighbour: the kernel's neighbour tables are small.
			for _, r := range []struct {
				h          *lab.Host
				dst4, via4 string
				dst6, via6 string
			}{{ha, "10.2.0.0/16", b4, "fd00:2::/32", b6}, {hb, "10.1.0.0/16", a4, "fd00:1::/32", a6}} {
				if err := errors.Join(r.h.AddRoute(netip.MustParsePrefix(r.dst4), netip.MustParseAddr(r.via4), ""),
					r.h.AddRoute(netip.MustParsePrefix(r.dst6), netip.MustParseAddr(r.via6), "")); err != nil {
					b.Fatal(err)
				}
			}
			var toB, toA []string
			for i := range n / 2 {
				for _, p := range []struct {
					format string
					bits   int
				}{{"10.%d.%d.%d", 32}, {"fd00:%d::%d:%d", 128}} {
					at := func(side int) netip.Addr {
						return netip.MustParseAddr(fmt.Sprintf(p.format, side, i/250, 1+i%250))
					}
					if err := errors.Join(ha.AddAddr("lo", netip.PrefixFrom(at(1), p.bits)), hb.AddAddr("lo", netip.PrefixFrom(at(2), p.bits))); err != nil {
						b.Fatal(err)
					}
					toB, toA = append(toB, at(1).String(), at(2).String()), append(toA, at(2).String(), at(1).String())
				}
			}
			a := newServer(b, ha, []string{"INTERVAL=" + interval}, toB...)
			far := newServer(b, hb, []string{"INTERVAL=" + interval}, toA...)
			a.start()
			far.start()
			far.want("Up")
			r := a.want("Up")
			pid := r.PID
			before, failed := cpu(b, pid), failures(a.report())
			start := time.Now()
			b.ResetTimer()
			for range b.N {
				time.Sleep(time.Second)
			}
			b.StopTimer()
			took := time.Since(start)
			b.ReportMetric(100*(cpu(b, pid)-before).Seconds()/took.Seconds(), "%core")
			b.ReportMetric(float64(rss(b, pid))/1024, "MB")
			b.ReportMetric(float64(failures(a.report())-failed), "failures")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpu is the time that a process has spent on processors.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// rss is a process's resident memory in kB.
func rss(t testing.TB, pid int) (kB int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return kB
}
