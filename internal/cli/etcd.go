// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/store"
)

const etcdProcess = "etcd-process"

// etcdCommand is the beginning of the command line of the process of an embedded etcd. It is
// the binary that runs now, also when the file has been replaced since.
func etcdCommand(log logConfig) []string {
	return []string{"/proc/self/exe", etcdProcess, "--log", log.to, "--log-level", log.level}
}

// etcdProcessCommand is for the agent to start.
func (a *app) etcdProcessCommand() *cobra.Command {
	var log logConfig
	var cfg store.EmbeddedConfig
	cmd := &cobra.Command{
		Use:    etcdProcess,
		Short:  "Run the embedded etcd of the agent of this server, which starts this by itself",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := log.check(); err != nil {
				return usage(err)
			}
			logger, err := openLog(log, a.Err)
			if err != nil {
				return err
			}
			// The agent tells it to end, when it has ended itself; a terminal or a
			// service manager tells all of its processes at once.
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			cfg.Log = logger.With("part", "etcd")
			store.Serve(cfg, a.In, a.Out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Dir, "data-dir", "", "`directory` of the data")
	f.StringSliceVar(&cfg.ListenClient, "listen", nil, "`URLs` to answer on")
	f.StringVar(&log.to, "log", "stderr", "where logs go: stderr or syslog")
	f.StringVar(&log.level, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	return cmd
}
