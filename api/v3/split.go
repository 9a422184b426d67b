// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	yaml2 "go.yaml.in/yaml/v2"
)

// part is one document of the input.
type part struct {
	text   string
	before int // lines of the input before it
}

// split cuts the input into documents that are not blank: at the lines "---" and
// "..." of YAML, and behind each JSON value.
func split(input []byte) []part {
	text := strings.TrimPrefix(string(input), "\ufeff")
	var parts []part
	var doc strings.Builder
	blank := true
	line, before := 0, 0
	end := func() {
		if !blank {
			parts = append(parts, splitJSON(part{doc.String(), before})...)
		}
		doc.Reset()
		blank, before = true, line
	}
	for l := range strings.SplitAfterSeq(text, "\n") {
		content := strings.TrimRight(l, " \t\r\n")
		if isMarker(content) {
			end()
			l = "   " + l[3:]
			content = content[3:]
		}
		line++
		c := strings.TrimSpace(content)
		directive := strings.HasPrefix(content, "%YAML ") || strings.HasPrefix(content, "%TAG ")
		if c != "" && c[0] != '#' && !directive {
			blank = false
		}
		doc.WriteString(l)
	}
	end()
	return parts
}

// isMarker tells whether a line separates documents (YAML 1.2, 9.1).
func isMarker(line string) bool {
	rest, start := strings.CutPrefix(line, "---")
	if !start {
		if rest, start = strings.CutPrefix(line, "..."); !start {
			return false
		}
	}
	return rest == "" || rest[0] == ' ' || rest[0] == '\t'
}

// splitJSON cuts a document behind each JSON object or array that it begins with.
// What follows them is a document of its own, and if it is none, reading it says so.
func splitJSON(p part) []part {
	var parts []part
	for {
		start := skipComments(p.text)
		rest := p.text[start:]
		if rest == "" {
			return parts
		}
		var value json.RawMessage
		d := json.NewDecoder(strings.NewReader(rest))
		if rest[0] != '{' && rest[0] != '[' || d.Decode(&value) != nil {
			return append(parts, p)
		}
		n := start + int(d.InputOffset())
		p.before += strings.Count(p.text[:start], "\n")
		parts = append(parts, part{p.text[start:n], p.before})
		p.before += strings.Count(p.text[start:n], "\n")
		p.text = p.text[n:]
	}
}

// skipComments returns where in a text something other than space and comments begins.
func skipComments(text string) int {
	rest := text
	for {
		rest = strings.TrimLeft(rest, " \t\r\n")
		if !strings.HasPrefix(rest, "#") {
			return len(text) - len(rest)
		}
		if _, rest, _ = strings.Cut(rest, "\n"); rest == "" {
			return len(text)
		}
	}
}

// yamlRest is an error if there is more in a text than the one YAML document that the
// parser reads of it: it would drop the rest without a word.
func yamlRest(text string) error {
	d := yaml2.NewDecoder(strings.NewReader(text))
	var skip struct{}
	var shape *yaml2.TypeError
	if err := d.Decode(&skip); err != nil && !errors.As(err, &shape) {
		return err
	}
	switch err := d.Decode(&skip); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil || errors.As(err, &shape):
		return errors.New("another document begins within a line")
	default:
		line := 1 // the parser counts from 0, and leaves that out
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
			line++
		}
		return fmt.Errorf(`line %d: what follows the object belongs to none: begin another document with a line "---"`, line)
	}
}
