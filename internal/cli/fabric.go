// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/picture"
)

func (a *app) fabricCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fabric",
		Short: "Design a data centre in which servers are routers, and check it",
		Long: `One short file describes a data centre. These commands work out every AS number, address and
session of it, and say what would break before anybody cables it. They read files, and
nothing else: no daemon, no datastore. Only lab runs what it reads about, and only check asks
what runs.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(a.fabricInitCommand(), a.fabricDesignCommand(), a.fabricValidateCommand(), a.fabricSizesCommand(), a.fabricEmitCommand(), a.fabricRulesCommand(), a.fabricSwitchesCommand(),
		a.fabricWhatIfCommand(), a.fabricPathCommand(), a.fabricLabCommand(), a.fabricExplainCommand(),
		a.fabricCostCommand(), a.fabricAdviseCommand(), a.fabricDiffCommand(), a.fabricCheckCommand())
	for _, sub := range cmd.Commands() {
		a.completeFabric(sub)
	}
	return cmd
}

// inputError is a file that cannot be used: the exit code is that of a command
// that was not understood, since nothing was looked at.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// readFabric reads a file of either kind, and designs it if need be. Without a
// Fabric, the second result is nil.
func (a *app) readFabric(name string) (*fabric.Design, *fabric.Fabric, error) {
	var input []byte
	var err error
	if name == "-" {
		name = "stdin"
		input, err = io.ReadAll(io.LimitReader(a.In, fabric.MaxInput+1))
	} else {
		input, err = os.ReadFile(name)
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = fmt.Errorf("%s: %w", name, p.Err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: `muslin fabric init %s` makes a file to start from", err, name)
		}
		return nil, nil, inputError{err}
	}
	doc, err := fabric.Parse(input)
	if err != nil {
		var lines []error
		for l := range strings.SplitSeq(err.Error(), "\n") {
			lines = append(lines, fmt.Errorf("%s: %s", name, l))
		}
		return nil, nil, inputError{errors.Join(lines...)}
	}
	if doc.Fabric != nil {
		return doc.Fabric.Design(), doc.Fabric, nil
	}
	return doc.Design, nil, nil
}

func (a *app) fabricInitCommand() *cobra.Command {
	var model string
	var racks, servers, endpoints int
	cmd := &cobra.Command{
		Use:   "init [MODEL] [FILE]",
		Short: "Write a commented file to start from",
		Long: `Writes a file that describes a fabric, with the fields that its model has as comments. MODEL is
as-per-rack, as-per-server, downward-default or ethernet, as is that of --model. Without
FILE it is printed. A file that is there already is not touched. With -o json or yaml it has no
comments, and every field has the value that holds without it.`,
		Example: `  muslin fabric init pod-a.yaml
  muslin fabric init downward-default --racks 80`,
		Args:              args(cobra.MaximumNArgs(2)),
		ValidArgsFunction: completeInit,
	}
	form := answerForm(cmd)
	f := cmd.Flags()
	f.StringVar(&model, "model", string(fabric.ASPerRack), "`model`: as-per-rack, as-per-server, downward-default or ethernet")
	completeFlag(cmd, "model", modelNames()...)
	f.IntVar(&racks, "racks", 8, "racks")
	f.IntVar(&servers, "servers", 40, "servers in each rack")
	f.IntVar(&endpoints, "endpoints", 100, "endpoints on each server")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if len(files) > 0 && slices.Contains(modelNames(), files[0]) {
			if cmd.Flags().Changed("model") && model != files[0] {
				return usagef("%s and --model %s: give one", files[0], model)
			}
			model, files = files[0], files[1:]
		}
		if len(files) > 1 {
			return usagef("%s is no model: want %s", files[0], strings.Join(modelNames(), ", "))
		}
		if len(files) > 0 {
			if near := v3.Nearest(files[0], modelNames()); near != "" {
				return usagef("%s is no model: did you mean %s? A file of that name is ./%[1]s", files[0], near)
			}
		}
		for _, c := range []struct {
			flag string
			n    int
		}{{"racks", racks}, {"servers", servers}, {"endpoints", endpoints}} {
			if c.n < 1 {
				return usagef("--%s %d: want 1 or more", c.flag, c.n)
			}
		}
		name := "pod-a"
		if len(files) > 0 && files[0] != "-" {
			name = fabric.NameOf(strings.TrimSuffix(filepath.Base(files[0]), filepath.Ext(files[0])))
		}
		text := fabric.Template(name, fabric.Model(model), racks, servers, endpoints)
		doc, err := fabric.Parse([]byte(text))
		if err != nil {
			// Nobody has seen the lines of a file that is not written.
			return usage(errors.New(regexp.MustCompile(`(?m)^line \d+: `).ReplaceAllString(err.Error(), "")))
		}
		if *form != formTable {
			var b strings.Builder
			if err := writeValue(&b, *form, doc.Fabric); err != nil {
				return err
			}
			text = b.String()
		}
		if len(files) == 0 || files[0] == "-" {
			_, err := io.WriteString(a.Out, text)
			return err
		}
		w, err := os.OpenFile(files[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: it is not touched; remove it, or give another name", err)
		}
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, text)
		return errors.Join(err, w.Close())
	}
	return cmd
}

func (a *app) fabricDesignCommand() *cobra.Command {
	var out, device string
	cmd := &cobra.Command{
		Use:   "design FILE",
		Short: "Work out every AS number, address and session",
		Long: `Works out the devices of a fabric. -o json and yaml print the design, a document of the kind
FabricDesign, which every other command also reads; it can be changed by hand or written
without this. With --device the interfaces, sessions and routes of one.

With --out it writes design.json, the tables of devices, addresses and sessions, the topology
as diagram.svg and a report as REPORT.html into a directory.`,
		Example: `  muslin fabric design pod-a.yaml
  muslin fabric design pod-a.yaml --device r0-t0
  muslin fabric design pod-a.yaml --out design`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().StringVar(&out, "out", "", "write into this `directory`")
	cmd.Flags().StringVar(&device, "device", "", "show one device by `name`")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		g, f, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		if out != "" {
			return a.writeDesign(out, g, f, *form)
		}
		x := g.Index()
		if device == "" {
			return a.show(*form, g, func() error {
				if _, err := fmt.Fprintf(a.Out, "%s\n\n", g.Summary()); err != nil {
					return err
				}
				return writeTable(a.Out, deviceHeads, deviceRows(x))
			})
		}
		device, err := deviceOf(g, files[0], device)
		if err != nil {
			return err
		}
		d := x.Device(device)
		return a.show(*form, d, func() error { return a.showDevice(x, d) })
	}
	return cmd
}

// writeDesign writes a design and its tables into a directory.
func (a *app) writeDesign(dir string, g *fabric.Design, f *fabric.Fabric, form string) error {
	r := picture.New(g, f)
	answer := struct {
		Name    string   `json:"name"`
		Summary string   `json:"summary"`
		Files   []string `json:"files"`
	}{Name: g.Metadata.Name, Summary: g.Summary()}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	x := g.Index()
	for _, file := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{"design.json", func(w io.Writer) error { return json.NewEncoder(w).Encode(g) }},
		{"devices.txt", func(w io.Writer) error { return writeTable(w, deviceHeads, deviceRows(x)) }},
		{"addresses.txt", func(w io.Writer) error { return writeTable(w, addressHeads, addressRows(g.Devices, true)) }},
		{"sessions.txt", func(w io.Writer) error { return writeTable(w, sessionHeads, sessionRows(x, g.Devices, true)) }},
		{"diagram.svg", func(w io.Writer) error { _, err := io.WriteString(w, r.SVG()); return err }},
		{"REPORT.html", func(w io.Writer) error { _, err := io.WriteString(w, r.HTML()); return err }},
	} {
		w, err := os.Create(filepath.Join(dir, file.name))
		if err != nil {
			return err
		}
		if err := errors.Join(file.write(w), w.Close()); err != nil {
			return err
		}
		answer.Files = append(answer.Files, file.name)
	}
	return a.show(form, answer, func() error {
		_, err := fmt.Fprintf(a.Out, "%s\nwritten to %s: %s\n", g.Summary(), dir, strings.Join(answer.Files, ", "))
		return err
	})
}

var (
	deviceHeads  = []string{"DEVICE", "ROLE", "AS", "ROUTER ID", "SOFTWARE", "PORTS", "PEERS", "ROUTES"}
	addressHeads = []string{"DEVICE", "INTERFACE", "SEGMENT", "ADDRESSES"}
	sessionHeads = []string{"DEVICE", "PEER", "SEGMENT", "PEER AS", "ADDRESS", "PROFILE"}
)

func deviceRows(x *fabric.Index) (rows [][]string) {
	for i := range x.Devices {
		d := &x.Devices[i]
		routes, ports := 0, 0
		for _, o := range d.Originate {
			routes += o.Count
		}
		for _, p := range d.Interfaces {
			if p.Segment != "" {
				ports++
			}
		}
		rows = append(rows, []string{d.Name, string(d.Role), strconv.FormatUint(uint64(d.AS), 10), d.RouterID.String(), string(d.Software),
			strconv.Itoa(ports), fabric.Number(x.Peers(d)), fabric.Number(routes)})
	}
	return rows
}

// texts joins values.
func texts[T fmt.Stringer](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return dash(strings.Join(out, ", "))
}

// addressRows has a first column with the device's name if named is set.
func addressRows(devices []fabric.Device, named bool) (rows [][]string) {
	for i := range devices {
		for _, p := range devices[i].Interfaces {
			rows = append(rows, lead(named, devices[i].Name, p.Name, dash(p.Segment), texts(p.Addresses)))
		}
	}
	return rows
}

func sessionRows(x *fabric.Index, devices []fabric.Device, named bool) (rows [][]string) {
	for i := range devices {
		d := &devices[i]
		for _, s := range d.Sessions {
			rows = append(rows, lead(named, d.Name, s.Peer, dash(s.Segment), strconv.FormatUint(uint64(s.PeerAS), 10), texts(s.Address), s.Profile))
		}
		for _, m := range x.MeshesOf(d) {
			rows = append(rows, lead(named, d.Name, fmt.Sprintf("mesh %s: %s", m.Name, fabric.Number(x.MeshPeers(m, d))), m.Segment, absent, absent, m.Profile))
		}
	}
	return rows
}

func lead(named bool, name string, cells ...string) []string {
	if named {
		return append([]string{name}, cells...)
	}
	return cells
}

// showDevice is one device, in three tables.
func (a *app) showDevice(x *fabric.Index, d *fabric.Device) error {
	one := []fabric.Device{*d}
	var routes [][]string
	for _, o := range d.Originate {
		routes = append(routes, []string{string(o.Kind), o.Prefix.String(), fabric.Number(o.Count)})
	}
	fmt.Fprintf(a.Out, "%s: %s, AS %d, router ID %s, %s\n", d.Name, d.Role, d.AS, d.RouterID, d.Software)
	for _, t := range []struct {
		heads []string
		rows  [][]string
	}{
		{addressHeads[1:], addressRows(one, false)},
		{sessionHeads[1:], sessionRows(x, one, false)},
		{[]string{"ANNOUNCES", "FIRST", "COUNT"}, routes},
	} {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintln(a.Out)
		if err := writeTable(a.Out, t.heads, t.rows); err != nil {
			return err
		}
	}
	return nil
}

// verdict is what validate answers.
type verdict struct {
	Name     string           `json:"name"`
	Summary  string           `json:"summary"`
	Sessions int              `json:"sessions"`
	Findings []*check.Finding `json:"findings"`
}

func (a *app) fabricValidateCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Say what is wrong with a fabric or a design",
		Long: `Holds a design against every rule: of a file of the kind Fabric, which is designed first, or of
the kind FabricDesign, whoever wrote it.

The exit code is 0 if no finding is an error, 1 if one is, and 2 if the file cannot be
read. A setting that is outside of the usual is an error until spec.bgp.advanced gives a
reason for it.`,
		Example: `  muslin fabric validate pod-a.yaml
  muslin fabric validate design.json -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also findings for information, and all devices of each")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		g, _, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		v := verdict{Name: g.Metadata.Name, Summary: g.Summary(), Sessions: g.Index().Sessions(), Findings: check.Design(g)}
		if v.Findings == nil {
			v.Findings = []*check.Finding{}
		}
		if err := a.show(*form, v, func() error { return a.showVerdict(v, all) }); err != nil {
			return err
		}
		if n := count(v.Findings, check.Error) + count(v.Findings, check.Advanced); n > 0 {
			return fmt.Errorf("%s: %d of %d findings must be mended", v.Name, n, len(v.Findings))
		}
		return nil
	}
	return cmd
}

func count(list []*check.Finding, s check.Severity) int {
	n := 0
	for _, f := range list {
		if f.Severity == s {
			n++
		}
	}
	return n
}

func (a *app) showVerdict(v verdict, all bool) error {
	var b strings.Builder
	fmt.Fprintln(&b, v.Summary)
	for _, f := range v.Findings {
		if f.Severity == check.Info && !all {
			continue
		}
		fmt.Fprintf(&b, "%-8s %s %s\n", strings.ToUpper(string(f.Severity)), f.ID, f.Message)
		lines := func(head string, list []string) {
			for _, l := range list {
				fmt.Fprintf(&b, "         %-5s %s\n", head, l)
				head = ""
			}
		}
		lines("why", []string{f.Why})
		lines("fix", f.Fix)
		lines("see", f.Evidence)
		if all && len(f.Devices) > 0 {
			lines("at", []string{strings.Join(f.Devices, " ")})
		}
	}
	var parts []string
	for _, s := range []check.Severity{check.Error, check.Advanced, check.Warning, check.Info} {
		if n := count(v.Findings, s); n > 0 {
			word := string(s)
			if n > 1 && (s == check.Error || s == check.Warning) {
				word += "s"
			}
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	if parts == nil {
		parts = []string{"no findings"}
	}
	fmt.Fprintf(&b, "%s; %d rules, %s", strings.Join(parts, ", "), len(check.Rules), fabric.Amount(v.Sessions, "session"))
	if n := count(v.Findings, check.Info); n > 0 && !all {
		fmt.Fprint(&b, "; --all shows what is for information")
	}
	_, err := fmt.Fprintln(a.Out, b.String())
	return err
}

func (a *app) fabricRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rules [ID…]",
		Short:   "List the rules that validate knows",
		Example: "  muslin fabric rules FAB-NH-001",
		Args:    args(cobra.ArbitraryArgs),
	}
	form := answerForm(cmd)
	cmd.RunE = func(_ *cobra.Command, ids []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		type rule struct {
			ID       string         `json:"id"`
			Severity check.Severity `json:"severity"`
			What     string         `json:"what"`
			Why      string         `json:"why"`
		}
		list, unknown := []rule{}, slices.Clone(ids)
		for _, r := range check.Rules {
			if len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(id, r.ID) }) {
				list = append(list, rule{r.ID, r.Severity, r.What, r.Why})
			}
			unknown = slices.DeleteFunc(unknown, func(id string) bool { return strings.EqualFold(id, r.ID) })
		}
		for _, id := range unknown {
			if what := check.Refused[strings.ToUpper(id)]; what != "" {
				return fmt.Errorf("%s is no rule: a file is refused for %s when it is read", strings.ToUpper(id), what)
			}
		}
		if len(unknown) > 0 {
			return fmt.Errorf("no rule %s: `muslin fabric rules` lists them", strings.Join(unknown, ", "))
		}
		return a.show(*form, list, func() error {
			if len(ids) > 0 {
				for _, r := range list {
					if _, err := fmt.Fprintf(a.Out, "%s (%s): %s\n%s\n", r.ID, r.Severity, r.What, r.Why); err != nil {
						return err
					}
				}
				return nil
			}
			var rows [][]string
			for _, r := range list {
				rows = append(rows, []string{r.ID, string(r.Severity), r.What})
			}
			return writeTable(a.Out, []string{"ID", "SEVERITY", "WHAT"}, rows)
		})
	}
	return cmd
}

func (a *app) fabricSwitchesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "switches",
		Short: "List what switches hold, by silicon and table profile",
		Args:  args(cobra.NoArgs),
	}
	form := answerForm(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		return a.show(*form, fabric.Catalogue, func() error {
			var rows [][]string
			for _, p := range fabric.Catalogue {
				entries := func(c fabric.Count) string {
					if c == 0 {
						return absent
					}
					return fabric.Number(int(c))
				}
				rows = append(rows, []string{p.Name, entries(p.MAC), entries(p.HostTable), entries(p.LPMTable), dash(string(p.HostRoutesIn)), entries(p.ECMP), p.Source})
			}
			return writeTable(a.Out, []string{"NAME", "MAC", "HOST", "LPM", "HOST ROUTES IN", "ECMP", "SOURCE"}, rows)
		})
	}
	return cmd
}
