// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Client asks the daemon whose run directory it was given. It may be used
// concurrently; the zero value is not usable.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client of the daemon that runs on runDir. Nothing is
// dialled before the first call.
func NewClient(runDir string) *Client {
	socket := filepath.Join(runDir, SocketName)
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}
}

// Get fills answer from path with the query.
func (c *Client) Get(ctx context.Context, path string, query url.Values, answer any) error {
	return c.do(ctx, http.MethodGet, path, query, nil, answer)
}

// Stream calls each with every line of path, which is JSON, until the daemon or
// ctx ends it, or each returns an error.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, each func(json.RawMessage) error) error {
	u := url.URL{Scheme: "http", Host: "muslin", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	if resp.StatusCode >= 400 {
		e := &Error{}
		if lines.Decode(e) != nil || e.Message == "" {
			e.Message = "daemon answered " + resp.Status
		}
		return e
	}
	for {
		var line json.RawMessage
		if err := lines.Decode(&line); errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(line); err != nil {
			return err
		}
	}
}

// Post sends body and fills answer.
func (c *Client) Post(ctx context.Context, path string, body, answer any) error {
	return c.do(ctx, http.MethodPost, path, nil, body, answer)
}

// Delete removes path.
func (c *Client) Delete(ctx context.Context, path string, query url.Values, answer any) error {
	return c.do(ctx, http.MethodDelete, path, query, nil, answer)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: "muslin", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		e := &Error{}
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(e) != nil || e.Message == "" {
			e.Message = "daemon answered " + resp.Status
		}
		return e
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// explain turns a failed dial into what the user can do about it.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("no daemon listens on %s: start one with `muslin run`, or name its run directory with --run-dir", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the daemon of %s is not running: start it with `muslin run`", c.socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission for %s: run as root", c.socket)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		who := "the daemon"
		if b, rerr := os.ReadFile(filepath.Join(filepath.Dir(c.socket), LockName)); rerr == nil {
			who += " (pid " + strings.TrimSpace(string(b)) + ")"
		}
		return fmt.Errorf("%s does not answer on %s: it is stopped, hangs, or has very much to do: %w", who, c.socket, context.DeadlineExceeded)
	}
	return fmt.Errorf("ask the daemon on %s: %w", c.socket, err)
}

// Status asks for the status; with a wait above zero the answer comes when the
// node is live at the datastore's current revision, or after the wait.
func (c *Client) Status(ctx context.Context, wait time.Duration) (*Status, error) {
	q := url.Values{}
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	s := &Status{}
	return s, c.Get(ctx, "/v1/status", q, s)
}

// DialDatastore opens a byte stream to the daemon's datastore. It has the form
// of a dialer: the address is ignored.
func (c *Client) DialDatastore(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, c.explain(err)
	}
	if dl, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(dl)
	}
	req := "POST /v1/etcd HTTP/1.1\r\nHost: muslin\r\nConnection: Upgrade\r\nUpgrade: " + Upgrade + "\r\nContent-Length: 0\r\n\r\n"
	if _, err := io.WriteString(conn, req); err != nil {
		conn.Close()
		return nil, err
	}
	// The answer's head is read byte by byte: what follows belongs to the stream.
	head := make([]byte, 0, 256)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil {
			conn.Close()
			return nil, fmt.Errorf("datastore of the local daemon: %w", err)
		}
		if head = append(head, b[0]); len(head) > 8<<10 {
			conn.Close()
			return nil, errors.New("datastore of the local daemon: answer too long")
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		rest, _ := io.ReadAll(io.LimitReader(conn, 4<<10))
		conn.Close()
		e := &Error{}
		if json.Unmarshal(rest, e) == nil && e.Message != "" {
			return nil, e
		}
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return nil, fmt.Errorf("datastore of the local daemon: %s", line)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
