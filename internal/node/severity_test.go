// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// logSeverityScreen: what BGP logs, with the command line at info; the node's
// own configuration wins over the cluster's.
func TestBGPSeverity(t *testing.T) {
	conf := func(level string) *v3.BGPConfiguration {
		if level == "absent" {
			return nil
		}
		return &v3.BGPConfiguration{Spec: v3.BGPConfigurationSpec{LogSeverityScreen: level}}
	}
	for _, c := range []struct{ global, own, want string }{
		{"absent", "absent", "info warn error"},
		{"Info", "absent", "info warn error"},
		{"Debug", "absent", "debug info warn error"},
		{"trace", "absent", "debug info warn error"},
		{"Warning", "absent", "warn error"},
		{"Error", "absent", "error"},
		{"Fatal", "absent", "error"},
		{"None", "absent", ""},
		{"Debug", "None", ""},
		{"None", "Info", "info warn error"},
		{"None", "", ""},
	} {
		t.Run(fmt.Sprint(c.global, " ", c.own), func(t *testing.T) {
			var out bytes.Buffer
			h := newSeverity(slog.NewTextHandler(&out, nil))
			log := slog.New(h).With("part", "bgp").WithGroup("g")
			h.least.Set(bgpSeverity(conf(c.global), conf(c.own)))
			for level, text := range map[slog.Level]string{slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "error"} {
				log.Log(t.Context(), level, text)
			}
			var got []string
			for _, text := range []string{"debug", "info", "warn", "error"} {
				if strings.Contains(out.String(), "msg="+text) {
					got = append(got, text)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("logged %q, want %q", s, c.want)
			}
		})
	}
}
