// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// TestMain lets more tests run beside each other than there are processors: most of their time they wait for timers
// of the protocol, and for other daemons.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", fmt.Sprint(2*runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
