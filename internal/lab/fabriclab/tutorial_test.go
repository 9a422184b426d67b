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
		s.run(t, dir, 0)
	}
}

// TestPage runs what is shown on the page about fabrics with the files that are shown there, and holds what it
// prints against the page. What asks a fabric that runs is left to the tutorial.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/fabric.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), regexp.MustCompile(`(?m)^    apiVersion: fabric/v1\n(?:    .*\n)+`).FindAllString(string(text), -1)
	for _, f := range files {
		name := regexp.MustCompile(`metadata: \{name: (.*)\}`).FindStringSubmatch(f)
		if err := os.WriteFile(filepath.Join(dir, name[1]+".yaml"), []byte(strings.ReplaceAll(f, "\n    ", "\n")[4:]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := steps(string(text))
	if len(files) < 3 || len(list) < 7 {
		t.Fatalf("only %d files and %d commands", len(files), len(list))
	}
	for _, s := range list {
		if !strings.Contains(s.command, "--live") {
			s.run(t, dir, 1)
		}
	}
}

// run runs a command in a directory: it succeeds, or ends with the code that it may, and prints what the page has.
func (s step) run(t *testing.T, dir string, may int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", s.command)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(muslin)+":"+os.Getenv("PATH"))
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState.ExitCode() != may {
		t.Fatalf("%s: %v: %s%s", s.command, err, out, errors.String())
	}
	if got := strings.TrimSpace(string(out)) + "\n"; !s.pattern().MatchString(got) && strings.TrimSpace(got+s.output) != "" {
		t.Errorf("%s\nprints\n%s\nand the page has\n%s", s.command, got, s.output)
	}
}
