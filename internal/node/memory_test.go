// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const smapsExample = `00400000-01174000 r-xp 00000000 fe:00 9978693                            /opt/my programs/muslin
Size:              13776 kB
Rss:               12496 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01174000-020e1000 r--p 00d74000 fe:00 9978693                            /opt/my programs/muslin
Rss:               13932 kB
Anonymous:             0 kB
020e1000-020f0000 r--p 01ce1000 fe:00 9978693                            /opt/my programs/muslin
Anonymous:            12 kB
020f0000-02177000 rw-p 01ce1000 fe:00 9978693                            /opt/my programs/muslin
Anonymous:             0 kB
02177000-02178000 r--p 00000000 fe:00 326269                             /opt/my programs/muslin.so
Anonymous:             0 kB
1b584000-1b5a5000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Anonymous:             0 kB
`

func TestCleanMappings(t *testing.T) {
	got, err := cleanMappings(strings.NewReader(smapsExample), "/opt/my programs/muslin")
	want := []mapping{{0x400000, 0x1174000}, {0x1174000, 0x20e1000}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("mappings %x, %v; want %x", got, err, want)
	}
	if _, err := cleanMappings(strings.NewReader("zz r-xp 0 0 0 x\n"), "x"); err == nil {
		t.Error("no error for a line that is no mapping")
	}
}

// TestForgetProgram goes on running after its own code was unmapped.
func TestForgetProgram(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	resident := func() (kb int) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
				for _, c := range strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")) {
					kb = 10*kb + int(c-'0')
				}
			}
		}
		return kb
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	clean, err := cleanMappings(f, program)
	if err != nil || len(clean) < 2 {
		t.Fatalf("%d mappings of %s, %v; want text and read-only data", len(clean), program, err)
	}
	before := resident()
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	if after := resident(); after >= before {
		t.Errorf("%d kB of files are mapped, %d kB before", after, before)
	}
}

// TestGiveBack lets hours pass, and notes in which seconds after the start memory is given
// back: in the first lull, and of an agent that never rests after a minute; later only
// what has grown by much, no more often than every 3 seconds, or every minute while
// something happens all the time.
func TestGiveBack(t *testing.T) {
	const mb = 1 << 20
	always := func(int) bool { return true }
	never := func(int) bool { return false }
	for _, c := range []struct {
		what string
		busy func(second int) bool
		grow func(second int) int // in MB
		want string
	}{
		{"at rest", never, func(int) int { return 0 }, "1"},
		{"at rest, and growing by little", never, func(s int) int { return map[bool]int{true: 1}[s > 1 && s < 5] }, "1"},
		{"at rest, after a burst", never, func(s int) int { return map[int]int{100: 5}[s] }, "1 100"},
		{"bursts in each second", never, func(int) int { return 20 }, "1 4 7 10 13 16 19 22 25 28 31 34 37 40"},
		{"busy for long", always, func(int) int { return 1 }, "60 120 180 240 300"},
		{"busy for long, and not growing", always, func(int) int { return 0 }, "60"},
		{"busy in the beginning", func(s int) bool { return s <= 20 }, func(int) int { return 0 }, "21"},
		{"busy after a start", func(s int) bool { return s > 1 }, func(s int) int { return 1 }, "1 61 121 181 241"},
	} {
		synctest.Test(t, func(t *testing.T) {
			last := 300
			if strings.Contains(c.want, "4 7") {
				last = 40
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Duration(last)*time.Second+time.Millisecond)
			defer stop()
			start := time.Now()
			second := func() int { return int(time.Since(start) / time.Second) }
			var given []string
			floor, since := 40*mb, 0
			size := func() (int, error) {
				n := floor
				for s := since + 1; s <= second(); s++ {
					n += c.grow(s) * mb
				}
				return n, nil
			}
			turns := func() (n uint64) {
				for s := range second() {
					if c.busy(s + 1) {
						n++
					}
				}
				return n
			}
			err := giveBack(ctx, turns, size, func(again bool) {
				if again != (len(given) > 0) {
					t.Errorf("%s: again is %v after %d times", c.what, again, len(given))
				}
				given, since = append(given, fmt.Sprint(second())), second()
			})
			if got := strings.Join(given, " "); err != nil || got != c.want {
				t.Errorf("%s: memory is given back after %s s, %v; want %s", c.what, got, err, c.want)
			}
		})
	}
}
