// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/node/api"
)

func (a *app) fabricCheckCommand() *cobra.Command {
	var ask, all bool
	var racks, servers int
	var dirs, seen []string
	var record string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Compare a design with what the vRouters of a running fabric see",
		Long: `Holds a fabric that runs against its design: the sessions of vRouters, AS numbers, received and
announced prefixes, next hops, AS paths, and the kernel's routes. Each difference is named
with the device, what is expected, what is seen, and what probably made it so. Of several
daemons one that does not answer is a difference, too, named by its directory. Which endpoints
there are is what the datastore says; how they travel, the simulation of the design.

With --live the daemon of this server is asked, or with --run-dirs several: run directories,
or a directory that has them, such as that of a lab. --record writes what they said into a
file, which --seen reads: so the servers of a fabric are recorded one by one, and compared
together. With --racks and --servers what runs is a copy that was made as small, as labs are.

The exit code is 0 if all is as designed, 1 if something is not, and 2 if the file cannot be
read.`,
		Example: `  muslin fabric check --live pod-a.yaml
  muslin fabric check --live pod-a.yaml --run-dirs /run/muslin-lab/pod-a --racks 3 --servers 2
  muslin fabric check --live pod-a.yaml --record r0-s0.json
  muslin fabric check pod-a.yaml --seen r0-s0.json,r1-s0.json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	f := cmd.Flags()
	f.BoolVar(&ask, "live", false, "ask the daemon of this server")
	f.StringSliceVar(&dirs, "run-dirs", nil, "with --live: ask the daemons of these run `directories`, or in these")
	f.StringVar(&record, "record", "", "with --live: write what was seen into this `file`")
	f.StringSliceVar(&seen, "seen", nil, "compare what these `files` have recorded")
	f.BoolVarP(&all, "all", "a", false, "also what follows from other differences")
	f.IntVar(&racks, "racks", 0, "of a smaller copy: its `number` of racks")
	f.IntVar(&servers, "servers", 0, "of a smaller copy: its `number` of servers in each rack")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		switch {
		case ask == (len(seen) > 0):
			return usagef("give --live to ask daemons, or --seen FILE for what was recorded of them")
		case !ask && (len(dirs) > 0 || record != ""):
			return usagef("--run-dirs and --record go with --live")
		}
		if err := fromOne(f, "racks", "servers"); err != nil {
			return err
		}
		g, file, err := a.readFabric(files[0])
		switch {
		case err != nil:
			return err
		case file == nil && racks+servers > 0:
			return usagef("%s is a FabricDesign: only a Fabric can be made smaller", files[0])
		case racks+servers > 0:
			g = file.Scale(racks, servers, 0).Design()
		}
		doc, err := readSeen(seen)
		if ask {
			doc, err = a.look(cmd.Context(), dirs)
		}
		if err != nil {
			return err
		}
		if record != "" {
			text, err := json.Marshal(doc)
			if err == nil {
				err = os.WriteFile(record, text, 0o644)
			}
			if err != nil {
				return err
			}
		}
		answer, err := live.Check(g, doc)
		if err != nil {
			return inputError{fmt.Errorf("%s: %w", files[0], err)}
		}
		err = a.show(*form, answer, func() error {
			_, err := fmt.Fprint(a.Out, checkText(answer, g, all))
			return err
		})
		if n := len(answer.Findings); err == nil && n > 0 {
			err = fmt.Errorf("%s: %d differences between the fabric and its design", answer.Name, n)
		}
		return err
	}
	return cmd
}

// fromOne refuses flags that say fewer than one.
func fromOne(f *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if n, err := f.GetInt(name); err != nil || f.Changed(name) && n < 1 {
			return usagef("--%s %d: want 1 or more", name, n)
		}
	}
	return nil
}

// look asks the daemons of run directories, and the datastore of the first that answers. If none does that is an error.
func (a *app) look(ctx context.Context, dirs []string) (*live.Document, error) {
	dirs, err := runDirs(dirs)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		dirs = []string{a.runDir}
	}
	doc, first := &live.Document{}, *a
	var errs []error
	for _, dir := range dirs {
		s, err := seenOf(ctx, dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
			doc.Mute = append(doc.Mute, live.Mute{Dir: dir, Why: err.Error()})
			continue
		}
		if len(doc.VRouters) == 0 {
			first.runDir = dir
		}
		doc.VRouters = append(doc.VRouters, *s)
	}
	if len(doc.VRouters) == 0 {
		return nil, errors.Join(errs...)
	}
	doc.Nodes, err = first.liveNodes(ctx)
	return doc, err
}

// runDirs are the directories with a daemon's socket in them among those given, and right below them. Of a
// lab's, those of its servers.
func runDirs(given []string) (list []string, err error) {
	for _, dir := range given {
		if _, err := os.Stat(filepath.Join(dir, api.SocketName)); err == nil {
			list = append(list, dir)
			continue
		}
		below, err := filepath.Glob(filepath.Join(dir, "*", api.SocketName))
		if err != nil || len(below) == 0 {
			return nil, fmt.Errorf("--run-dirs: neither %s nor a directory in it has %s, the socket of a daemon", dir, api.SocketName)
		}
		for _, socket := range below {
			list = append(list, filepath.Dir(socket))
		}
	}
	return list, nil
}

// seenOf asks a daemon.
func seenOf(ctx context.Context, dir string) (*live.Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	c, s := api.NewClient(dir), &live.Seen{}
	for _, question := range []struct {
		path   string
		query  url.Values
		answer any
	}{
		{"/v1/bgp/peers", nil, &s.Peers},
		{"/v1/bgp/routes", url.Values{"view": {"accepted"}}, &s.Paths},
		{"/v1/bgp/routes", url.Values{"view": {"rejected"}}, &s.Refused},
		{"/v1/routes", nil, &s.Routes},
	} {
		if err := c.Get(ctx, question.path, question.query, question.answer); err != nil {
			return nil, err // the others would fail alike
		}
	}
	return s, nil
}

// liveNodes are the nodes of the datastore with the addresses of their endpoints.
func (a *app) liveNodes(ctx context.Context) ([]live.Node, error) {
	o, err := a.objects(ctx)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	as := uint32(v3.DefaultASNumber)
	list, _, err := o.ReadAll(ctx, "BGPConfiguration", "")
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if c, ok := r.(*v3.BGPConfiguration); ok && c.Metadata.Name == "default" && c.Spec.ASNumber != nil {
			as = uint32(*c.Spec.ASNumber)
		}
	}
	nodes, of := []live.Node{}, map[string]int{}
	list, _, err = o.ReadAll(ctx, "Node", "")
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		n, ok := r.(*v3.Node)
		if !ok {
			continue
		}
		x := live.Node{Name: n.Metadata.Name, AS: as}
		if b := n.Spec.BGP; b != nil {
			if b.ASNumber != nil {
				x.AS = uint32(*b.ASNumber)
			}
			x.Addresses = addrs([]string{b.IPv4Address, b.IPv6Address})
		}
		of[x.Name] = len(nodes)
		nodes = append(nodes, x)
	}
	list, _, err = o.ReadAll(ctx, "WorkloadEndpoint", "")
	for _, r := range list {
		if w, ok := r.(*v3.WorkloadEndpoint); ok {
			if i, ok := of[w.Spec.Node]; ok {
				nodes[i].Endpoints = append(nodes[i].Endpoints, addrs(w.Spec.IPNetworks)...)
			}
		}
	}
	return nodes, err
}

// addrs are the addresses of texts that have one, with or without a length.
func addrs(texts []string) (list []netip.Addr) {
	for _, t := range texts {
		host, _, _ := strings.Cut(t, "/")
		if a, err := netip.ParseAddr(host); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// readSeen reads what was recorded, and puts it together.
func readSeen(files []string) (*live.Document, error) {
	all := &live.Document{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, inputError{err}
		}
		var doc live.Document
		if err := json.Unmarshal(text, &doc); err != nil {
			return nil, inputError{fmt.Errorf("%s: %w: --record writes such a file", name, err)}
		}
		all.VRouters = append(all.VRouters, doc.VRouters...)
		all.Mute = append(all.Mute, doc.Mute...)
		if all.Nodes == nil {
			all.Nodes = doc.Nodes
		}
	}
	return all, nil
}

// checkText is the answer for people: the verdict first.
func checkText(c *live.Answer, g *fabric.Design, all bool) string {
	var b strings.Builder
	servers := 0
	for i := range g.Devices {
		if g.Devices[i].Software == fabric.Muslin {
			servers++
		}
	}
	follow := 0
	for _, f := range c.Findings {
		if f.Follows {
			follow++
		}
	}
	fmt.Fprintf(&b, "%s: %d of %d vRouters asked; %d sessions, %d paths, %d routes compared: ", c.Name, len(c.VRouters), servers, c.Sessions, c.Paths, c.Routes)
	if len(c.Findings) == 0 {
		fmt.Fprint(&b, "all as designed\n")
		return b.String()
	}
	fmt.Fprintf(&b, "%d differences\n", len(c.Findings))
	alike := map[live.Finding]int{} // but for the device
	for _, f := range c.Findings {
		f.Device = ""
		alike[f]++
	}
	for _, f := range c.Findings {
		device := f.Device
		f.Device = ""
		n := alike[f]
		alike[f] = 0
		if n == 0 || f.Follows && !all {
			continue
		}
		if n > 1 {
			device += fmt.Sprintf(" and %s like it", fabric.Number(n-1))
		}
		fmt.Fprintf(&b, "%s: %s", device, f.Kind)
		if f.Prefix.IsValid() {
			fmt.Fprintf(&b, " %s", f.Prefix)
			if f.Count > 1 {
				fmt.Fprintf(&b, " and %s like it", fabric.Number(f.Count-1))
			}
		}
		if f.Peer != "" && f.Kind != live.Session {
			fmt.Fprintf(&b, " from %s", f.Peer)
		} else if f.Peer != "" {
			fmt.Fprintf(&b, " with %s", f.Peer)
		}
		fmt.Fprintf(&b, "\n      expected  %s\n      seen      %s\n", f.Expected, f.Seen)
		if f.Cause != "" {
			fmt.Fprintf(&b, "      cause     %s\n", f.Cause)
		}
	}
	if follow > 0 && !all {
		fmt.Fprintf(&b, "%d more follow from these; --all shows them\n", follow)
	}
	return b.String()
}
