// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time such as 100ms or 9s. NoDuration is "off", which differs
// from a field that is left out, 0.
type Duration time.Duration

// NoDuration is the value of a field that says off.
const NoDuration Duration = -1

// On tells whether there is a time.
func (d Duration) On() bool { return d > 0 }

// String is as in a file.
func (d Duration) String() string {
	if !d.On() {
		return "off"
	}
	return time.Duration(d).String()
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a time or off.
func (d *Duration) UnmarshalText(b []byte) error {
	if s := string(b); s == "off" || s == "0" {
		*d = NoDuration
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err != nil || v <= 0 || v > 24*time.Hour {
		return fmt.Errorf("want a time up to a day such as 100ms or 9s, or off")
	}
	*d = Duration(v)
	return nil
}

// Count is a number of table entries. 16k is 16,384, as vendors write it.
type Count int64

// UnmarshalText reads 16384 or 16k.
func (c *Count) UnmarshalText(b []byte) error {
	v, err := scaled(string(b), map[string]int64{"": 1, "k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20})
	if err != nil {
		return fmt.Errorf("want a number of entries such as 16384 or 16k, which is the same")
	}
	*c = Count(v)
	return nil
}

// UnmarshalJSON reads a number, or such a text.
func (c *Count) UnmarshalJSON(b []byte) error { return c.UnmarshalText(bytes.Trim(b, `"`)) }

// Bytes is an amount of memory.
type Bytes int64

// UnmarshalText reads 4GiB, 512MiB or a number of bytes.
func (v *Bytes) UnmarshalText(b []byte) error {
	n, err := scaled(string(b), map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9})
	if err != nil {
		return fmt.Errorf("want an amount of memory such as 4GiB")
	}
	*v = Bytes(n)
	return nil
}

// UnmarshalJSON reads a number, or such a text.
func (v *Bytes) UnmarshalJSON(b []byte) error { return v.UnmarshalText(bytes.Trim(b, `"`)) }

// scaled reads digits and a unit.
func scaled(s string, units map[string]int64) (int64, error) {
	digits := strings.TrimRight(s, "kKmMGiB")
	unit, ok := units[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, strconv.ErrSyntax
	}
	return n * unit, nil
}
