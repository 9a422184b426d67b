// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestSyslogThatIsNotThere: without a syslog daemon logs go to standard error, which is
// said once, and to syslog as soon as there is one.
func TestSyslogThatIsNotThere(t *testing.T) {
	var stderr bytes.Buffer
	var lines syslogLines
	there := false
	s := &syslogOrElse{stderr: &stderr, dial: func() (severities, error) {
		if !there {
			return nil, errors.New("no such file")
		}
		return &lines, nil
	}}
	log := slog.New(newSyslogHandler(s, slog.LevelInfo))
	log.Info("one")
	log.Warn("two", "peer", "n2")
	if got := strings.Split(strings.TrimSpace(stderr.String()), "\n"); len(got) != 3 ||
		!strings.Contains(got[0], "no such file") || got[1] != "level=INFO msg=one" || got[2] != "level=WARN msg=two peer=n2" {
		t.Errorf("on standard error: %q", got)
	}
	there = true
	s.again = time.Now()
	stderr.Reset()
	log.Error("three")
	if want := (syslogLines{"err msg=three"}); !reflect.DeepEqual(lines, want) || stderr.Len() > 0 {
		t.Errorf("syslog has %q, and standard error %q", lines, stderr.String())
	}
}
