// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"strings"
	"testing"
)

// The annotations of BFD, on both kinds that have them: what each sets, what is
// refused, and what they need of each other.
func TestBFDAnnotations(t *testing.T) {
	secret := map[string]string{"bfd-auth": "meticulous-sha1", "bfd-auth-secret": "fabric/bfd"}
	for _, c := range []struct {
		given map[string]string
		want  string // part of the settings, or what the error names
		bad   bool
	}{
		{map[string]string{"bfd-interval": "100ms"}, "Interval:100ms", false},
		{map[string]string{"bfd-interval": "9ms"}, "bfd-interval", true},
		{map[string]string{"bfd-interval": "61s"}, "bfd-interval", true},
		{map[string]string{"bfd-interval": "300"}, "bfd-interval", true},
		{map[string]string{"bfd-multiplier": "5"}, "Multiplier:5", false},
		{map[string]string{"bfd-multiplier": "0"}, "bfd-multiplier", true},
		{map[string]string{"bfd-multiplier": "256"}, "bfd-multiplier", true},
		{map[string]string{"bfd-multihop": "Enabled"}, "SingleHop:false Multihop:true", false},
		{map[string]string{"bfd-multihop": "Disabled"}, "SingleHop:true Multihop:false", false},
		{map[string]string{"bfd-multihop": "yes"}, "bfd-multihop", true},
		{secret, "Auth:meticulous-sha1 AuthKeyID:0 AuthSecret:{Name:fabric Key:bfd Optional:<nil>}", false},
		{map[string]string{"bfd-auth": "sha1", "bfd-auth-secret": "fabric/bfd", "bfd-auth-key-id": "255"}, "AuthKeyID:255", false},
		{map[string]string{"bfd-auth": "sha256", "bfd-auth-secret": "fabric/bfd"}, "bfd-auth", true},
		{map[string]string{"bfd-auth": "md5"}, "bfd-auth", true},
		{map[string]string{"bfd-auth-secret": "fabric/bfd"}, "bfd-auth-secret", true},
		{map[string]string{"bfd-auth": "md5", "bfd-auth-secret": "fabric"}, "bfd-auth-secret", true},
		{map[string]string{"bfd-auth": "md5", "bfd-auth-secret": "../../etc/shadow"}, "bfd-auth-secret", true},
		{map[string]string{"bfd-auth": "md5", "bfd-auth-secret": "fabric/.."}, "bfd-auth-secret", true},
		{map[string]string{"bfd-auth": "md5", "bfd-auth-secret": "fabric/bfd", "bfd-auth-key-id": "256"}, "bfd-auth-key-id", true},
	} {
		for _, kind := range []string{"BGPPeer", "BGPConfiguration"} {
			all := map[string]string{"muslin/bfd": "Enabled"}
			for name, v := range c.given {
				all[AnnotationPrefix+name] = v
			}
			r := annotated(t, kind, all)
			err := Validate(r)
			if (err != nil) != c.bad {
				t.Errorf("%s %v: %v", kind, c.given, err)
			}
			shown := settingsOf(r)
			if c.bad {
				shown = fmt.Sprint(err)
			}
			if !strings.Contains(shown, c.want) {
				t.Errorf("%s %v: %s, want %s", kind, c.given, shown, c.want)
			}
			// Settings of what is not on are a mistake, and of what is switched off are kept.
			if delete(all, "muslin/bfd"); Validate(r) == nil {
				t.Errorf("%s %v is taken without muslin/bfd", kind, c.given)
			}
			if all["muslin/bfd"] = "Disabled"; !c.bad && Validate(r) != nil {
				t.Errorf("%s %v: %v", kind, c.given, Validate(r))
			}
		}
	}
}
