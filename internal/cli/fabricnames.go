// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// dashed is a device as designs call it, of one as files do: r0/s0 is r0-s0.
func dashed(word string) string { return strings.ReplaceAll(word, "/", "-") }

// findDevice is the name of the device that a person means by a word. If there is none, near ends the
// message that says so: with the name that is like it, or with nothing.
func findDevice(g *fabric.Design, word string) (name, near string) {
	names := make([]string, len(g.Devices))
	for i := range g.Devices {
		names[i] = g.Devices[i].Name
		if names[i] == word || names[i] == dashed(word) {
			return names[i], ""
		}
	}
	if best := v3.Nearest(dashed(word), names); best != "" {
		near = fmt.Sprintf("did you mean %q?", best)
	}
	return "", near
}

// deviceOf is findDevice for a device that has to be there.
func deviceOf(g *fabric.Design, file, word string) (string, error) {
	name, near := findDevice(g, word)
	if name != "" {
		return name, nil
	}
	return "", fmt.Errorf("no device %q: %s", word, strings.TrimSpace(fmt.Sprintf("%s `muslin fabric design %s` lists them", near, file)))
}

// failure reads what --fail names.
func (s *simulated) failure(words []string) (sim.Failure, error) {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = w
		if _, err := s.Failure(dashed(w)); err == nil {
			names[i] = dashed(w)
		}
	}
	f, err := s.Failure(names...)
	if err != nil {
		return f, usage(err)
	}
	return f, nil
}
