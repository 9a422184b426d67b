// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/secret"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// debianEtcd starts members of Debian's etcd 3.4, an old one of the family,
// and returns their client URLs once they answer.
func debianEtcd(t *testing.T, members int, scheme string, args ...string) ([]string, []*os.Process) {
	t.Helper()
	labtest.Programs(t, "etcd-server", "/usr/bin/etcd")
	var clients, peers, cluster []string
	for i := range members {
		clients = append(clients, scheme+"://"+freePort(t))
		peers = append(peers, "http://"+freePort(t))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	var procs []*os.Process
	for i := range members {
		cmd := exec.Command("/usr/bin/etcd", append([]string{"--name", fmt.Sprintf("m%d", i), "--data-dir", t.TempDir(),
			"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--unsafe-no-fsync"}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, cmd.Process)
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	return clients, procs
}

func answers(t *testing.T, c *Client) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := c.Ping(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("etcd does not answer: ", err)
		}
	}
}

func TestOldEtcd(t *testing.T) {
	urls, _ := debianEtcd(t, 1, "http")
	c := openClient(t, urls...)
	answers(t, c)
	ctx := context.Background()
	if v, err := c.version(ctx); err != nil || v[0] != 3 {
		t.Errorf("version %v, %v", v, err)
	}
	if err := c.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	fill(t, c, 0, 600)
	r := startWatch(t, c, nil)
	r.synced(t)
	n := r.count()
	var ops []Op
	for i := range 128 {
		ops = append(ops, OpPut(setKey(i), setValue(i)))
	}
	rev := must[int64](t)(c.Commit(ctx, ops))
	r.at(t, rev)
	if ups := r.since(n); len(changes(ups)) != 128 || len(ups) != 1 {
		t.Fatalf("%d changes in %d updates", len(changes(ups)), len(ups))
	}
	rev = must[int64](t)(c.Put(ctx, "/unrelated", nil))
	wctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.WaitRevision(wctx, rev); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(ctx, setKey(1), nil); !errors.Is(err, ErrExists) {
		t.Error("created twice")
	}
}

func TestE03E14_QuorumLost(t *testing.T) {
	urls, procs := debianEtcd(t, 3, "http")
	c := openClient(t, urls[0]) // reaches the first member only
	answers(t, c)
	fill(t, c, 0, 20)
	r := startWatch(t, c, nil)
	r.synced(t)
	for _, p := range procs[1:] {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if _, err := c.Put(context.Background(), setKey(1), setValue(1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("put without quorum: %v", err)
	}
	t.Logf("put refused after %v", time.Since(began))
	r.wait(t, "the loss", func() bool { return !r.lastLocked().Connected })
	t.Logf("watch given up after %v", time.Since(began))
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	for _, p := range procs[1:] {
		if err := p.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	began = time.Now()
	r.wait(t, "the connection", func() bool { return r.lastLocked().Connected })
	t.Logf("back after %v", time.Since(began))
	answers(t, c)
	r.at(t, fill(t, c, 30, 31))
}

func TestE14_LeavesIsolatedMember(t *testing.T) {
	urls, procs := debianEtcd(t, 3, "http")
	c := openClient(t, urls...)
	for _, u := range urls {
		answers(t, openClient(t, u))
	}
	r := startWatch(t, c, nil)
	r.synced(t)
	other := openClient(t, urls[1:]...)
	// Whichever member serves the watch: stop each in turn.
	if err := procs[0].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var rev int64
	for rev == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		rev, _ = other.Put(ctx, setKey(1), setValue(1))
		cancel()
	}
	r.at(t, rev)
	t.Logf("the change came %v after the member stopped", time.Since(began))
	if d := time.Since(began); d > 12*time.Second {
		t.Errorf("took %v", d)
	}
}

// authority makes certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.make(t, "ca", nil)
	return a
}

func (a *authority) make(t *testing.T, name string, tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if tmpl == nil {
		tmpl = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	tmpl.SerialNumber, tmpl.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := tmpl, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.file(name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestTLSAndAuthentication(t *testing.T) {
	a := newAuthority(t)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a.make(t, "server", &x509.Certificate{ExtKeyUsage: both, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	a.make(t, "client", &x509.Certificate{ExtKeyUsage: both})
	urls, _ := debianEtcd(t, 1, "https", "--cert-file", a.file("server.crt"), "--key-file", a.file("server.key"),
		"--client-cert-auth", "--trusted-ca-file", a.file("ca.crt"))
	good := Config{Endpoints: urls, CAFile: a.file("ca.crt"), CertFile: a.file("client.crt"), KeyFile: a.file("client.key"), Timeout: 2 * time.Second}
	open := func(cfg Config) *Client {
		t.Helper()
		c, err := Open(context.Background(), cfg, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := open(good)
	answers(t, c)
	conn, err := c.DialRaw(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()

	other := newAuthority(t)
	wrong := good
	wrong.CAFile = other.file("ca.crt")
	if err := open(wrong).Ping(context.Background()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server of another authority: %v", err)
	}
	for _, bad := range []Config{{Endpoints: urls, CAFile: a.file("nosuch")}, {Endpoints: urls, CAFile: a.file("ca.key")},
		{Endpoints: urls, CertFile: a.file("client.crt")}, {Endpoints: urls, CertFile: a.file("client.crt"), KeyFile: a.file("server.key")}} {
		if c, err := Open(context.Background(), bad, testLog(t)); err == nil {
			c.Close()
			t.Errorf("opened with %+v", bad)
		}
	}

	// With a user, too, opening needs no etcd.
	away := open(Config{Endpoints: []string{"http://" + freePort(t)}, Username: "u", Password: secret.New("p"), Timeout: time.Second})
	if err := away.Ping(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}

	// Users.
	ctx := context.Background()
	for _, step := range []func() error{
		func() error { _, err := c.etcd.UserAdd(ctx, "root", "r"); return err },
		func() error { _, err := c.etcd.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.etcd.UserAdd(ctx, "muslin", "secret"); return err },
		func() error { _, err := c.etcd.RoleAdd(ctx, "net"); return err },
		func() error {
			_, err := c.etcd.RoleGrantPermission(ctx, "net", "/calico/", clientv3.GetPrefixRangeEnd("/calico/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.etcd.UserGrantRole(ctx, "muslin", "net"); return err },
		func() error { _, err := c.etcd.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil && !strings.Contains(err.Error(), "already exists") {
			t.Fatal(err)
		}
	}
	user := good
	user.Username, user.Password = "muslin", secret.New("secret")
	u := open(user)
	r := startWatch(t, u, nil)
	r.synced(t)
	rev := must[int64](t)(u.Put(ctx, setKey(1), setValue(1)))
	r.at(t, rev)
	if _, err := u.Put(ctx, "/elsewhere", nil); err == nil || !strings.Contains(err.Error(), "permission") {
		t.Errorf("written without permission: %v", err)
	}
	user.Password = secret.New("wrong")
	if err := open(user).Ping(ctx); !strings.Contains(fmt.Sprint(err), "authentication failed") || errors.Is(err, ErrUnavailable) {
		t.Errorf("wrong password: %v", err)
	}
}

func TestServerVersions(t *testing.T) {
	for v, want := range map[string][2]bool{"3.3.27": {false, false}, "3.4.23": {false, false}, "3.4.25": {true, false}, "3.5.7": {false, false},
		"3.5.8": {true, false}, "3.5.33": {true, true}, "3.6.0": {true, false}, "3.6.14": {true, true}, "3.7.0-rc.0": {true, false},
		"3.7.3": {true, true}, "3.8.0": {true, true}, "4.0.0": {true, true}, "": {false, false}} {
		p := parseVersion(v)
		if got := [2]bool{p.progressInOrder(), p.authorises()}; got != want {
			t.Errorf("%s: %v, want %v", v, got, want)
		}
	}
}
