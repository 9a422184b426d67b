// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/secret"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	type holder struct{ cfg Config } // unexported: fmt calls no methods there
	cfg := Config{Endpoints: []string{"http://127.0.0.1:2379"}, Username: "u", Password: secret.New("hunter2"), Key: secret.New("hunter2")}
	var b bytes.Buffer
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&b, f, cfg.Password)
		cfg.Dial = nil
		fmt.Fprintf(&b, f, cfg)
		fmt.Fprintf(&b, f, holder{cfg})
		fmt.Fprintf(&b, f, &holder{cfg})
	}
	j, err := json.Marshal(cfg.Password)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(j)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "password", cfg.Password)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "password", cfg.Password)
	if s := b.String(); strings.Contains(s, "hunter2") || strings.Contains(s, fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("printed: %s", s)
	}
	if !strings.Contains(b.String(), "***") || cfg.Password.Reveal() != "hunter2" {
		t.Error("want *** in print and the text from Reveal")
	}
}

func TestConfigFromEnv(t *testing.T) {
	for _, k := range []string{"ETCD_ENDPOINTS", "ETCD_DISCOVERY_SRV", "ETCD_USERNAME", "ETCD_PASSWORD", "ETCD_KEY_FILE", "ETCD_CERT_FILE", "ETCD_CA_CERT_FILE", "DATASTORE_TYPE"} {
		t.Setenv(k, "")
	}
	cfg, err := ConfigFromEnv()
	if err != nil || !cfg.IsZero() {
		t.Fatalf("%+v, %v", cfg, err)
	}
	t.Setenv("ETCD_ENDPOINTS", "https://a:2379, https://b:2379,")
	t.Setenv("ETCD_USERNAME", "u")
	t.Setenv("ETCD_PASSWORD", "p")
	t.Setenv("ETCD_KEY_FILE", "k")
	t.Setenv("ETCD_CERT_FILE", "c")
	t.Setenv("ETCD_CA_CERT_FILE", "ca")
	cfg, err = ConfigFromEnv()
	if err != nil || len(cfg.Endpoints) != 2 || cfg.Endpoints[1] != "https://b:2379" || cfg.Username != "u" || cfg.Password.Reveal() != "p" ||
		cfg.KeyFile != "k" || cfg.CertFile != "c" || cfg.CAFile != "ca" {
		t.Fatalf("%+v, %v", cfg, err)
	}
	t.Setenv("ETCD_DISCOVERY_SRV", "example.org")
	if _, err = ConfigFromEnv(); err == nil {
		t.Error("endpoints and discovery together are not refused")
	}
	t.Setenv("ETCD_ENDPOINTS", "")
	if cfg, err = ConfigFromEnv(); err != nil || cfg.DiscoverySRV != "example.org" {
		t.Fatalf("%+v, %v", cfg, err)
	}
	t.Setenv("ETCD_DISCOVERY_SRV", "")
	t.Setenv("ETCD_CERT_FILE", "")
	for _, bad := range []string{"10.0.0.1:2379", "ftp://x", "http://", "::"} {
		t.Setenv("ETCD_ENDPOINTS", bad)
		t.Setenv("ETCD_KEY_FILE", "")
		if _, err := ConfigFromEnv(); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
