// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// syslogAgain is how long a syslog daemon that was not there is left alone.
const syslogAgain = 10 * time.Second

// syslogOrElse writes to syslog or, while there is no daemon for it, to standard error:
// a server without a syslog daemon needs its agent all the same. It is safe for
// concurrent use.
type syslogOrElse struct {
	stderr io.Writer
	dial   func() (severities, error)

	mu    sync.Mutex
	to    severities // nil while there is none
	again time.Time  // when to look for it next
}

func (s *syslogOrElse) write(severity, text string, send func(severities) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.to == nil && !now.Before(s.again) {
		to, err := s.dial()
		if s.to = to; err != nil {
			if s.to = nil; s.again.IsZero() {
				fmt.Fprintf(s.stderr, "muslin: warning: --log syslog: %v: is a syslog daemon running? Logs go to standard error until it is\n", err)
			}
			s.again = now.Add(syslogAgain)
		}
	}
	if s.to != nil {
		if err := send(s.to); err == nil {
			return nil
		}
		s.to, s.again = nil, time.Time{} // it has gone since, and that is to be said
	}
	_, err := fmt.Fprintf(s.stderr, "level=%s %s\n", severity, text)
	return err
}

// Err, Warning, Info and Debug implement severities.
func (s *syslogOrElse) Err(m string) error {
	return s.write("ERROR", m, func(to severities) error { return to.Err(m) })
}

func (s *syslogOrElse) Warning(m string) error {
	return s.write("WARN", m, func(to severities) error { return to.Warning(m) })
}

func (s *syslogOrElse) Info(m string) error {
	return s.write("INFO", m, func(to severities) error { return to.Info(m) })
}

func (s *syslogOrElse) Debug(m string) error {
	return s.write("DEBUG", m, func(to severities) error { return to.Debug(m) })
}
