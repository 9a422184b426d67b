// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/srv"

	"github.com/muslin-net/muslin/internal/secret"
)

const (
	// requestTimeout bounds one request; a caller's own deadline may be shorter.
	requestTimeout = 5 * time.Second
	srvService     = "etcd-client"
)

// Config says how to reach etcd. Exactly one of Endpoints and DiscoverySRV is
// set; certificates come from files or inline.
type Config struct {
	Endpoints    []string // http(s)://host:port or unix:///path
	DiscoverySRV string   // DNS domain with etcd-client SRV records
	Username     string
	Password     secret.Text

	CertFile, KeyFile, CAFile string
	Cert, CA                  string      // PEM
	Key                       secret.Text // PEM

	// Dial replaces the way a connection is made; addr is host:port, or
	// unix:///path. Nil dials addr directly.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Timeout bounds one request; 5 s when zero.
	Timeout time.Duration
}

// IsZero reports whether no endpoint is configured at all.
func (c Config) IsZero() bool { return len(c.Endpoints) == 0 && c.DiscoverySRV == "" }

// ConfigFromEnv reads the ETCD_* variables of calicoctl. Without any of them
// the result IsZero.
func ConfigFromEnv() (Config, error) {
	cfg := Config{
		Endpoints:    SplitEndpoints(os.Getenv("ETCD_ENDPOINTS")),
		DiscoverySRV: os.Getenv("ETCD_DISCOVERY_SRV"),
		Username:     os.Getenv("ETCD_USERNAME"),
		Password:     secret.New(os.Getenv("ETCD_PASSWORD")),
		KeyFile:      os.Getenv("ETCD_KEY_FILE"),
		CertFile:     os.Getenv("ETCD_CERT_FILE"),
		CAFile:       os.Getenv("ETCD_CA_CERT_FILE"),
	}
	if t := os.Getenv("DATASTORE_TYPE"); t != "" && t != "etcdv3" && cfg.IsZero() {
		return cfg, nil
	}
	return cfg, cfg.check("the environment")
}

// SplitEndpoints splits a comma-separated list of endpoints; blanks are
// dropped.
func SplitEndpoints(s string) []string {
	var out []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

func (c Config) check(where string) error {
	if len(c.Endpoints) > 0 && c.DiscoverySRV != "" {
		return fmt.Errorf("%s: both etcd endpoints and a discovery domain are set; set one of them", where)
	}
	if (c.CertFile == "") != (c.KeyFile == "") || (c.Cert == "") != c.Key.IsZero() {
		return fmt.Errorf("%s: a client certificate needs its key, and a key its certificate", where)
	}
	for _, e := range c.Endpoints {
		if err := CheckEndpoint(e); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// CheckEndpoint tells whether a text can be an endpoint, before anything is
// dialled. The error names it, and what is wanted.
func CheckEndpoint(e string) error {
	u, err := url.Parse(e)
	ok := err == nil
	if ok {
		switch u.Scheme {
		case "http", "https":
			_, err := strconv.ParseUint(cmp.Or(u.Port(), "2379"), 10, 16)
			ok = u.Hostname() != "" && err == nil
		case "unix", "unixs":
			ok = u.Host+u.Path != ""
		default:
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("etcd endpoint %s: want http(s)://host:port", e)
	}
	return nil
}

// resolve returns the endpoints, looked up in DNS if need be.
func (c Config) resolve() ([]string, error) {
	if err := c.check("etcd configuration"); err != nil {
		return nil, err
	}
	if len(c.Endpoints) > 0 {
		return c.Endpoints, nil
	}
	if c.DiscoverySRV == "" {
		return nil, errors.New("no etcd endpoint is configured; set ETCD_ENDPOINTS or --etcd")
	}
	found, err := srv.GetClient(srvService, c.DiscoverySRV, "")
	if err != nil {
		return nil, fmt.Errorf("etcd endpoints of %s: %w", c.DiscoverySRV, err)
	}
	if len(found.Endpoints) == 0 {
		return nil, fmt.Errorf("etcd endpoints of %s: no %s SRV records", c.DiscoverySRV, srvService)
	}
	return found.Endpoints, nil
}

// tlsConfig returns nil when nothing asks for TLS. Certificate files are read
// again for each handshake, so that rotation needs no restart.
func (c Config) tlsConfig(endpoints []string) (*tls.Config, error) {
	secure := c.CertFile != "" || c.CAFile != "" || c.Cert != "" || c.CA != ""
	for _, e := range endpoints {
		secure = secure || strings.HasPrefix(e, "https:") || strings.HasPrefix(e, "unixs:")
	}
	if !secure {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	ca := []byte(c.CA)
	if c.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(c.CAFile); err != nil {
			return nil, fmt.Errorf("etcd CA certificate: %w", err)
		}
	}
	if len(ca) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("etcd CA certificate %s: no certificate in PEM form found", c.CAFile)
		}
		out.RootCAs = pool
	}
	switch {
	case c.CertFile != "":
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("etcd client certificate: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	case c.Cert != "":
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key.Reveal()))
		if err != nil {
			return nil, fmt.Errorf("etcd client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
