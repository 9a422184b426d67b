// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
)

func benchStore(b *testing.B) *Client {
	e, err := StartEmbedded(context.Background(), EmbeddedConfig{Dir: b.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	c, err := Open(context.Background(), Config{Endpoints: e.URLs()}, discardLog())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkFirstListing lists 10,000 endpoints, decoded, and reports what the
// watch itself keeps of them.
func BenchmarkFirstListing(b *testing.B) {
	c := benchStore(b)
	const n = 10000
	for i := 0; i < n; {
		var ops []Op
		for ; i < n && len(ops) < 128; i++ {
			name := fmt.Sprintf("compute--%03d-openstack-dev%05d-port", i%100, i)
			ops = append(ops, OpPut(resourcePrefix+"workloadendpoints/openstack/"+name, fmt.Appendf(nil,
				`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"%s","namespace":"openstack","uid":"5f6c0c4e-0000-0000-0000-%012d","creationTimestamp":"2026-08-22T13:33:20Z","labels":{"projectcalico.org/namespace":"openstack","projectcalico.org/orchestrator":"openstack","role":"web","sg":"sg-%d"}},"spec":{"orchestrator":"openstack","workload":"dev%05d","node":"compute-%03d","endpoint":"port","ipNetworks":["10.%d.%d.%d/32","fd00::%x/128"],"interfaceName":"tap%08x","mac":"02:00:00:00:00:01"}}`,
				name, i, i%50, i, i%100, i>>16, i>>8&255, i&255, i, i)))
		}
		if _, err := c.Commit(context.Background(), ops); err != nil {
			b.Fatal(err)
		}
	}
	var m0, m1 runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&m0)
		ctx, cancel := context.WithCancel(context.Background())
		seen, began := 0, time.Now()
		_ = c.Watch(ctx, func(u Update) {
			for _, ch := range u.Changes {
				if ch.Object != nil {
					seen++
				}
			}
			if u.InSync {
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-to-sync")
				runtime.GC()
				runtime.ReadMemStats(&m1)
				b.ReportMetric(float64(int64(m1.HeapAlloc)-int64(m0.HeapAlloc))/1024, "KiB-kept")
				cancel()
			}
		})
		if seen != n {
			b.Fatalf("%d objects", seen)
		}
	}
}

// BenchmarkPutToDeliver is from the start of a write to the consumer having it.
func BenchmarkPutToDeliver(b *testing.B) {
	c := benchStore(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := make(chan int64, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Watch(ctx, func(u Update) {
			if u.InSync {
				got <- u.Revision
			}
		})
	}()
	<-got
	var put time.Duration
	for b.Loop() {
		began := time.Now()
		rev, err := c.Put(ctx, setKey(1), setValue(1))
		if err != nil {
			b.Fatal(err)
		}
		put += time.Since(began)
		for <-got < rev {
		}
	}
	b.ReportMetric(float64(put.Microseconds())/float64(b.N), "µs-put-alone")
	cancel()
	<-done
}
