// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/node/api"
)

// TestLogSettings reads the rates and the prefix of the packet logs.
func TestLogSettings(t *testing.T) {
	burst := 7
	felix := &v3.FelixConfiguration{Spec: v3.FelixConfigurationSpec{LogPrefix: "m %p", LogActionRateLimit: "10/minute", LogActionRateLimitBurst: &burst}}
	felix.Metadata.Annotations = map[string]string{"muslin/denied-log": "20/second"}
	s, problems := resolve(nil, felixSources{configs: map[string]*v3.FelixConfiguration{"default": felix}})
	if len(problems) > 0 || s.logPrefix != "m %p" || s.logLimit != (acl.Rate{Packets: 10, Unit: time.Minute}) || s.logBurst != 7 ||
		s.denied != (acl.Rate{Packets: 20, Unit: time.Second, Burst: 20}) {
		t.Errorf("%+v, %v", s, problems)
	}
	s, problems = resolve(nil, felixSources{})
	if len(problems) > 0 || s.logPrefix != "calico-packet" || s.logLimit != (acl.Rate{}) || s.logBurst != 5 || s.denied != (acl.Rate{}) {
		t.Errorf("built in: %+v, %v", s, problems)
	}
	for _, v := range []string{"10", "10/fortnight", "0/second", "-1/second", "10000/second", "/second", "x", "Enabled"} {
		felix.Metadata.Annotations["muslin/denied-log"] = v
		s, problems := resolve(nil, felixSources{configs: map[string]*v3.FelixConfiguration{"default": felix}})
		if s.denied != (acl.Rate{}) || len(problems) != 1 || problems[0].field != "muslin/denied-log" {
			t.Errorf("%q: %+v, problems %v", v, s.denied, problems)
		}
	}
}

// TestDeniedIsBounded: what is alike is one flow and one line, and neither is
// without bound.
func TestDeniedIsBounded(t *testing.T) {
	var log strings.Builder
	d := &Daemon{log: slog.New(slog.NewTextHandler(&log, nil)), loop: &loop{}}
	for i := range 2 * deniedKept {
		n := api.Denied{Source: fmt.Sprint(i), Destination: "b", By: "x"}
		d.denied(n)
		d.denied(n)
	}
	answer, err := d.getPolicyDenied(nil)
	if err != nil {
		t.Fatal(err)
	}
	list := answer.(api.DeniedList).Flows
	if len(list) != deniedKept || list[0].Source != fmt.Sprint(2*deniedKept-1) || list[0].Packets != 2 {
		t.Errorf("%d flows, the last is %+v", len(list), list[0])
	}
	if n := strings.Count(log.String(), "msg=denied"); n != deniedLines {
		t.Errorf("%d lines, want %d", n, deniedLines)
	}
	d.endWindow()
	if !strings.Contains(log.String(), fmt.Sprintf("others=%d", 2*deniedKept-deniedLines)) {
		t.Error("it is not said how many lines are missing")
	}
	log.Reset()
	d.denied(api.Denied{Source: fmt.Sprint(2*deniedKept - 1), Destination: "b", By: "x"})
	if !strings.Contains(log.String(), "packets=3") {
		t.Errorf("in the next window: %s", log.String())
	}
}
