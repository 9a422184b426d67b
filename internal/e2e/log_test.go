// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What the agent writes to stderr says of every session and route, of each family, that
// it came and that it went.
func TestLog_SessionsAndRoutes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	logged := func(words ...string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			text, err := os.ReadFile(n1.LogFile())
			if err != nil {
				return err
			}
		lines:
			for line := range strings.Lines(string(text)) {
				for _, w := range words {
					if !strings.Contains(line, w+" ") && !strings.Contains(line, w+"\n") {
						continue lines
					}
				}
				return nil
			}
			return fmt.Errorf("no line of the log has all of %q:\n%s", words, text)
		})
	}
	routed(t, n1, attach(t, n2, "w").Addrs...)
	own := blocksOf(t, n2)
	session := []string{"peer=n2", "address=10.0.0.2:179"}
	logged(append(session, `msg="BGP session up"`, "level=INFO", `families="ipv4-unicast ipv6-unicast"`)...)
	logged(`msg="route added"`, "level=INFO", "prefix="+own[false].String(), "via=10.0.0.2")
	logged(`msg="route added"`, "level=INFO", "prefix="+own[true].String(), "via=fd00::2")

	apply(t, c, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false}\n")
	logged(append(session, `msg="BGP session down"`, "level=WARN")...)
	for _, block := range own {
		logged(`msg="route deleted"`, "level=INFO", "prefix="+block.String())
	}
	if text, _ := os.ReadFile(n1.LogFile()); !strings.Contains(string(text), "removed from the configuration") && !strings.Contains(string(text), "cease (6/3)") {
		t.Errorf("the log does not say why the session ended:\n%s", text)
	}
}
