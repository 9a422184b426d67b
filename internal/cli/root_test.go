// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"testing"

	"github.com/spf13/cobra"
)

func TestEachCommandOnce(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		seen := map[string]bool{}
		for _, sub := range c.Commands() {
			if seen[sub.Name()] {
				t.Errorf("%s is there twice", sub.CommandPath())
			}
			seen[sub.Name()] = true
			walk(sub)
		}
	}
	walk(New("test", Streams{}))
}

func TestEndpointErrorsDoNotStutter(t *testing.T) {
	for text, want := range map[string]string{
		"endpoint default/x: attach calidd1: no link": "attach default/x: calidd1: no link",
		"endpoint default/x: no enabled IPPool":       "attach default/x: no enabled IPPool",
		"endpoint default/x on node a: not found":     "attach default/x on node a: not found",
		"the datastore is away":                       "attach default/x: the datastore is away",
	} {
		if got := about("attach", "default", "x", errors.New(text)).Error(); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}
