// SPDX-License-Identifier: Apache-2.0

// Package secret holds what must not be printed.
package secret

import "log/slog"

// Text holds a password or a private key. Every way of printing it gives
// "***"; only Reveal gives the text. The text is behind a pointer because fmt
// does not call methods on fields it cannot reach, but prints a pointer there
// as an address.
type Text struct{ text *string }

// New wraps s; an empty s gives the zero Text.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{text: &s}
}

// Reveal returns the text.
func (s Text) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Text) IsZero() bool { return s.text == nil }

// String returns "***", or "" when there is no secret.
func (s Text) String() string {
	if s.text == nil {
		return ""
	}
	return "***"
}

// GoString is String.
func (s Text) GoString() string { return s.String() }

// MarshalText is String.
func (s Text) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String.
func (s Text) LogValue() slog.Value { return slog.StringValue(s.String()) }
