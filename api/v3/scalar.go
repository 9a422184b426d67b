// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// isNull tells whether a value is the JSON null, which by the convention of
// encoding/json leaves what it is decoded into as it was.
func isNull(b []byte) bool { return string(b) == "null" }

// ASNumber is a four-octet AS number (RFC 6793). It reads a number, a decimal
// string or the dotted form "1.10" (RFC 5396) and writes a number.
type ASNumber uint32

// ParseASNumber reads the decimal or the dotted form.
func ParseASNumber(s string) (ASNumber, error) {
	if hi, lo, ok := strings.Cut(s, "."); ok {
		h, err1 := strconv.ParseUint(hi, 10, 16)
		l, err2 := strconv.ParseUint(lo, 10, 16)
		if err1 != nil || err2 != nil {
			return 0, fmt.Errorf("AS number %q: want 0–65535.0–65535", s)
		}
		return ASNumber(h<<16 | l), nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("AS number %q: want 0–4294967295", s)
	}
	return ASNumber(n), nil
}

// UnmarshalJSON reads any of the three forms. The dotted form must be in
// quotes: as a number, 1.10 has already become 1.1.
func (a *ASNumber) UnmarshalJSON(b []byte) error {
	if isNull(b) {
		return nil
	}
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	} else if strings.Contains(s, ".") {
		return fmt.Errorf("AS number %s: put the dotted form in quotes", s)
	}
	n, err := ParseASNumber(s)
	if err != nil {
		return err
	}
	*a = n
	return nil
}

// Protocol is an IP protocol by name (TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite)
// or number. The case of a name is kept; a numeric string becomes a number.
type Protocol struct {
	Num  uint8  // 0 when Name is set
	Name string // "" when Num is set
}

// ProtocolNumber returns a protocol by number.
func ProtocolNumber(n uint8) Protocol { return Protocol{Num: n} }

// ProtocolName returns a protocol by name.
func ProtocolName(s string) Protocol { return Protocol{Name: s} }

// Number returns the IP protocol number, and false for a name nobody knows.
func (p Protocol) Number() (uint8, bool) {
	if p.Name == "" {
		return p.Num, true
	}
	switch strings.ToLower(p.Name) {
	case "icmp":
		return 1, true
	case "tcp":
		return 6, true
	case "udp":
		return 17, true
	case "icmpv6":
		return 58, true
	case "sctp":
		return 132, true
	case "udplite":
		return 136, true
	}
	return 0, false
}

// String returns the name, or the number in decimal.
func (p Protocol) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(int(p.Num))
}

// UnmarshalJSON reads a number or a name.
func (p *Protocol) UnmarshalJSON(b []byte) error {
	if isNull(b) {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if n, err := strconv.ParseUint(s, 10, 8); err == nil {
			*p = Protocol{Num: uint8(n)}
			return nil
		}
		*p = Protocol{Name: s}
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 8)
	if err != nil {
		return fmt.Errorf("protocol %s: want a name or 1–255", b)
	}
	*p = Protocol{Num: uint8(n)}
	return nil
}

// MarshalJSON writes a name as a string and a number as a number.
func (p Protocol) MarshalJSON() ([]byte, error) {
	if p.Name != "" {
		return json.Marshal(p.Name)
	}
	return json.Marshal(p.Num)
}

// Port is a port, a range of ports, or the name of one. Name is empty for
// the numeric forms, for which Min ≤ Max.
type Port struct {
	Min, Max uint16
	Name     string
}

// SinglePort returns a Port that matches just n.
func SinglePort(n uint16) Port { return Port{Min: n, Max: n} }

// ParsePort reads "80", "1000:2000" or a name.
func ParsePort(s string) (Port, error) {
	if lo, hi, ok := strings.Cut(s, ":"); ok {
		l, err1 := strconv.ParseUint(lo, 10, 16)
		h, err2 := strconv.ParseUint(hi, 10, 16)
		if err1 != nil || err2 != nil || l > h {
			return Port{}, fmt.Errorf("port range %q: want min:max within 0–65535, min not above max", s)
		}
		return Port{Min: uint16(l), Max: uint16(h)}, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		if n > 65535 {
			return Port{}, fmt.Errorf("port %q: want 0–65535", s)
		}
		return SinglePort(uint16(n)), nil
	}
	if s == "" || len(s) > 128 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" {
		return Port{}, fmt.Errorf("port name %q: want 1–128 of letters, digits, '_', '.', '-'", s)
	}
	return Port{Name: s}, nil
}

// String is the inverse of ParsePort.
func (p Port) String() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Min == p.Max:
		return strconv.Itoa(int(p.Min))
	}
	return fmt.Sprintf("%d:%d", p.Min, p.Max)
}

// UnmarshalJSON reads a number or one of the string forms.
func (p *Port) UnmarshalJSON(b []byte) error {
	if isNull(b) {
		return nil
	}
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	} else if _, err := strconv.ParseUint(s, 10, 16); err != nil {
		return fmt.Errorf("port %s: want 0–65535", s)
	}
	q, err := ParsePort(s)
	if err != nil {
		return err
	}
	*p = q
	return nil
}

// MarshalJSON writes a single port as a number and the rest as strings.
func (p Port) MarshalJSON() ([]byte, error) {
	if p.Name == "" && p.Min == p.Max {
		return json.Marshal(p.Min)
	}
	return json.Marshal(p.String())
}

// Duration is a Go duration string in JSON.
type Duration struct{ time.Duration }

// UnmarshalJSON reads a string such as "30s".
func (d *Duration) UnmarshalJSON(b []byte) error {
	if isNull(b) {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: want a string such as \"30s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: want a string such as \"30s\"", s)
	}
	d.Duration = v
	return nil
}

// MarshalJSON writes the string form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.Duration.String()) }

// IntOrString keeps a member that may be a number or a string as it came.
type IntOrString struct {
	Text     string
	IsString bool
}

// UnmarshalJSON reads either form.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	if isNull(b) {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		v.IsString = true
		return json.Unmarshal(b, &v.Text)
	}
	if _, err := strconv.ParseInt(string(b), 10, 64); err != nil {
		return fmt.Errorf("%s: want a number or a string", b)
	}
	v.Text, v.IsString = string(b), false
	return nil
}

// MarshalJSON writes the form that was read.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if v.IsString || v.Text == "" {
		return json.Marshal(v.Text)
	}
	return []byte(v.Text), nil
}
