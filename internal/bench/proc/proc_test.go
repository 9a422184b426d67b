// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var s Samples
	for i := range 200 {
		s = append(s, time.Duration(200-i))
	}
	for q, want := range map[float64]time.Duration{0.5: 100, 0.99: 198, 1: 200} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v of 1…200 is %d, want %d", q, got, want)
		}
	}
	if got := (Samples{}).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

// TestOwnProcess reads this process: what it has touched is resident, and what
// it has computed is counted.
func TestOwnProcess(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<20)
	for i := range block {
		block[i] = byte(i)
	}
	m, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m.RSS < int64(len(block)) || m.Peak < m.RSS || m.Anonymous < int64(len(block)) {
		t.Errorf("after touching %d bytes: %+v", len(block), m)
	}
	after, err := CPU(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("CPU went from %v to %v: %v", before, after, err)
	}
	if block[1] != 1 {
		t.Error("the block is gone")
	}
	if _, err := CPU(1<<22 + 5); err == nil {
		t.Error("a process number beyond the kernel's limit has used CPU")
	}
}
