// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// step is a command of the tutorial and what it prints.
type step struct{ command, output string }

// steps reads the commands of a page: indented lines that begin with $, with their output
// behind them.
func steps(page string) (list []step) {
	inside := false
	for line := range strings.Lines(page) {
		text, indented := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(text, "$ ")
		switch {
		case indented && isCommand:
			list, inside = append(list, step{command: strings.TrimSpace(command)}), true
		case inside && indented:
			list[len(list)-1].output += text
		case inside && strings.TrimSpace(line) == "":
			list[len(list)-1].output += "\n"
		default:
			inside = false
		}
	}
	for i := range list {
		list[i].output = strings.TrimSpace(list[i].output)
	}
	return list
}

// pattern is an output as a page shows it: … stands for anything in a line, and on a line of its own for any lines.
func (s step) pattern() *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for line := range strings.Lines(s.output + "\n") {
		if strings.TrimSpace(line) == "…" {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, "\n ")), "…", ".*") + ` *\n`)
	}
	return regexp.MustCompile(b.String() + `$`)
}

// TestTutorial runs every command of the tutorial, from the empty file to the lab and its end, and
// holds what it prints against the page.
func TestTutorial(t *testing.T) {
	labtest.Require(t)
	labtest.Programs(t, "frr", frrDir+"/bgpd", "/usr/bin/vtysh")
	page, err := os.ReadFile("../../../docs/fabric-tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	name := "t-" + strings.ToLower(rand.Text()[:10])
	list := steps(strings.ReplaceAll(string(page), "dc1", name))
	if len(list) < 15 {
		t.Fatalf("only %d commands", len(list))
	}
	t.Cleanup(func() {
		if found, err := Down(name); err != nil || found && !t.Failed() {
			t.Errorf("down: was still there %v, %v", found, err)
		}
	})
	dir := t.TempDir()
	for _, s := range list {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", s.command)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(muslin)+":"+os.Getenv("PATH"))
		var errors strings.Builder
		cmd.Stderr = &errors
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s%s", s.command, err, out, errors.String())
		}
		if got := strings.TrimSpace(string(out)) + "\n"; !s.pattern().MatchString(got) && strings.TrimSpace(got+s.output) != "" {
			t.Errorf("%s\nprints\n%s\nand the page has\n%s", s.command, got, s.output)
		}
	}
}
