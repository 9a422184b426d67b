// SPDX-License-Identifier: Apache-2.0

package conform

import "testing"

func TestMemory(t *testing.T) { Run(t, NewMemory()) }
