// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// maxTries bounds how often a write that gives no resourceVersion starts over
// because somebody else wrote first.
const maxTries = 10

// ErrUnreadable says that some stored values cannot be read. ReadAll returns the others
// with it.
var ErrUnreadable = errors.New("cannot be read")

// unreadable marks what decodeKV says of a stored value.
func unreadable(err error) error { return fmt.Errorf("%w: %w", ErrUnreadable, err) }

// Objects are the resources in the datastore, with the semantics of calicoctl:
// defaults are filled in and names checked before anything is stored, an
// object refers to what exists, and members that others stored and we do not
// know survive. It is safe for concurrent use.
type Objects struct {
	c *Client

	mu          sync.Mutex
	initialized bool
}

// Objects returns the typed view of the datastore.
func (c *Client) Objects() *Objects { return &Objects{c: c} }

// Close closes the client that the view was made from.
func (o *Objects) Close() error { return o.c.Close() }

// title names an object in errors: NetworkPolicy(shop/web).
func title(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + "(" + name + ")"
}

func titleOf(r v3.Resource) string {
	return title(r.Type().Kind, r.Meta().Namespace, r.Meta().Name)
}

// Create stores a new object and returns it as stored, with its
// resourceVersion. ErrExists if there is one of that name, ErrReadOnly for
// objects that users do not write. r is not changed.
func (o *Objects) Create(ctx context.Context, r v3.Resource) (v3.Resource, error) {
	if err := o.initialize(ctx); err != nil {
		return nil, fail("create", r, err)
	}
	obj, err := prepare(r)
	if err != nil {
		return nil, fail("create", r, err)
	}
	if obj.Meta().ResourceVersion != "" {
		return nil, fail("create", r, errors.New("metadata.resourceVersion: must not be set on a new object"))
	}
	if _, err := o.find(ctx, obj); err == nil {
		return nil, fail("create", r, ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return nil, fail("create", r, err)
	}
	out, err := o.create(ctx, obj)
	return out, fail("create", r, err)
}

func (o *Objects) create(ctx context.Context, obj v3.Resource) (v3.Resource, error) {
	obj.Meta().ResourceVersion = ""
	stamp(obj.Meta())
	if err := o.check(ctx, obj, nil); err != nil {
		return nil, err
	}
	value, err := v3.EncodeMerged(obj, nil)
	if err != nil {
		return nil, err
	}
	key := v3.KeyOf(obj)
	rev, err := o.c.Create(ctx, key, value)
	if err != nil {
		return nil, bare(err)
	}
	return decodeKV(KV{Key: key, Value: value, Revision: rev})
}

// Update stores a new version of an object that exists and returns it as
// stored. With a resourceVersion the stored one must be at it: ErrConflict.
// Without, the newest is replaced. Identity and unknown members come from what
// is stored. ErrNotFound if there is none. r is not changed.
func (o *Objects) Update(ctx context.Context, r v3.Resource) (v3.Resource, error) {
	if err := o.initialize(ctx); err != nil {
		return nil, fail("update", r, err)
	}
	out, err := o.update(ctx, r)
	return out, fail("update", r, err)
}

// Replace is Update.
func (o *Objects) Replace(ctx context.Context, r v3.Resource) (v3.Resource, error) {
	if err := o.initialize(ctx); err != nil {
		return nil, fail("replace", r, err)
	}
	out, err := o.update(ctx, r)
	return out, fail("replace", r, err)
}

func (o *Objects) update(ctx context.Context, r v3.Resource) (v3.Resource, error) {
	obj, err := prepare(r)
	if err != nil {
		return nil, err
	}
	want := obj.Meta().ResourceVersion
	for try := 0; ; try++ {
		out, err := o.updateOnce(ctx, obj, want)
		if err == nil || !errors.Is(err, ErrConflict) || want != "" || try >= maxTries {
			return out, err
		}
		if !sleep(ctx, jitter(time.Duration(try+1)*5*time.Millisecond)) {
			return nil, ctx.Err()
		}
	}
}

func (o *Objects) updateOnce(ctx context.Context, obj v3.Resource, want string) (v3.Resource, error) {
	kv, err := o.find(ctx, obj)
	if err != nil {
		return nil, err
	}
	if want != "" && want != formatRevision(kv.Revision) {
		return nil, fmt.Errorf("resourceVersion %s: %w", want, ErrConflict)
	}
	old, err := decodeKV(kv)
	if err != nil {
		// A value nobody can read is replaced as a whole.
		old, kv.Value = nil, nil
	} else {
		adopt(obj.Meta(), old.Meta())
	}
	stamp(obj.Meta())
	if err := o.check(ctx, obj, old); err != nil {
		return nil, err
	}
	value, err := v3.EncodeMerged(obj, kv.Value)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(value, kv.Value) {
		return decodeKV(kv)
	}
	rev, err := o.c.Update(ctx, kv.Key, value, kv.Revision)
	if err != nil {
		return nil, bare(err)
	}
	return decodeKV(KV{Key: kv.Key, Value: value, Revision: rev})
}

// adopt takes from the store what is not the user's to change: everything but
// labels and annotations.
func adopt(m, stored *v3.ObjectMeta) {
	labels, annotations := m.Labels, m.Annotations
	*m = *stored
	m.Labels, m.Annotations, m.ResourceVersion = labels, annotations, ""
}

// Apply is Update if the object exists and Create if it does not.
func (o *Objects) Apply(ctx context.Context, r v3.Resource) (v3.Resource, error) {
	if err := o.initialize(ctx); err != nil {
		return nil, fail("apply", r, err)
	}
	for try := 0; ; try++ {
		out, err := o.update(ctx, r)
		if errors.Is(err, ErrNotFound) {
			var obj v3.Resource
			if obj, err = prepare(r); err == nil {
				out, err = o.create(ctx, obj)
			}
		}
		if !errors.Is(err, ErrExists) || try >= maxTries {
			return out, fail("apply", r, err)
		}
	}
}

// Same tells whether r is what is stored, so that Apply would change nothing. Objects
// that users do not write can be compared, too.
func (o *Objects) Same(ctx context.Context, r v3.Resource) (bool, error) {
	info, ok := v3.InfoFor(r)
	if !ok {
		return false, nil
	}
	obj, err := clone(info, r)
	if err != nil {
		return false, fail("compare", r, err)
	}
	v3.Default(obj)
	kv, err := o.find(ctx, obj)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fail("compare", r, err)
	}
	old, err := decodeKV(kv)
	if want := obj.Meta().ResourceVersion; err != nil || want != "" && want != formatRevision(kv.Revision) {
		return false, nil // writing it says what is wrong
	}
	adopt(obj.Meta(), old.Meta())
	value, err := v3.EncodeMerged(obj, kv.Value)
	return err == nil && bytes.Equal(value, kv.Value), nil
}

// Read returns one object. ErrNotFound.
func (o *Objects) Read(ctx context.Context, kind, namespace, name string) (v3.Resource, error) {
	obj, err := reference(kind, namespace, name)
	if err != nil {
		return nil, &Error{Op: "get", Object: title(kind, namespace, name), Err: err}
	}
	if virtual(obj) {
		return v3.DefaultAllowProfile(), nil
	}
	kv, err := o.find(ctx, obj)
	if err != nil {
		return nil, fail("get", obj, err)
	}
	return decodeKV(kv)
}

// ReadAll returns all objects of a kind, in one namespace or, with "", in all,
// in key order, and the revision they were read at. Values that cannot be read
// are left out and named in an error that is ErrUnreadable; the rest is valid
// all the same.
func (o *Objects) ReadAll(ctx context.Context, kind, namespace string) ([]v3.Resource, int64, error) {
	info, ok := v3.LookupKind(kind)
	if !ok {
		return nil, 0, &Error{Op: "list", Object: kind, Err: errors.New("no such kind")}
	}
	if !info.Namespaced {
		namespace = ""
	}
	prefix := v3.ListPrefix(info.Kind, namespace)
	if prefix == "" {
		return nil, 0, &Error{Op: "list", Object: title(info.Kind, namespace, "*"), Err: errors.New("not a namespace")}
	}
	kvs, rev, err := o.c.List(ctx, prefix)
	if err != nil {
		return nil, 0, err
	}
	out := make([]v3.Resource, 0, len(kvs)+1)
	var bad []error
	for _, kv := range kvs {
		obj, err := decodeKV(kv)
		if err != nil {
			bad = append(bad, unreadable(err))
			continue
		}
		out = append(out, obj)
	}
	if info.Kind == "Profile" {
		out = append(out, v3.DefaultAllowProfile())
	}
	return out, rev, errors.Join(bad...)
}

// initialize does what calicoctl does before it writes. Only an etcd that does
// not answer is worth reporting here; the rest is left to the write itself.
func (o *Objects) initialize(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.initialized {
		return nil
	}
	err := o.c.EnsureInitialized(ctx)
	// What cannot be read stays so until somebody mends it; looking again
	// before every write would not help.
	o.initialized = err == nil || errors.Is(err, ErrUnreadable)
	if errors.Is(err, ErrUnavailable) {
		return bare(err)
	}
	return nil
}

// find returns the stored form of the object that obj names. A policy of the
// default tier may lie under the prefixed name that older clients gave it.
func (o *Objects) find(ctx context.Context, obj v3.Resource) (KV, error) {
	key := v3.KeyOf(obj)
	if key == "" {
		return KV{}, errors.New("metadata.name and metadata.namespace do not make a key")
	}
	kv, err := o.c.Get(ctx, key)
	if !errors.Is(err, ErrNotFound) || !tiered(obj.Type().Kind) || obj.Meta().KeyName != "" {
		return kv, bare(err)
	}
	m := obj.Meta()
	legacy, lerr := o.c.Get(ctx, v3.Key(obj.Type().Kind, m.Namespace, v3.DefaultTier+"."+m.Name))
	if lerr != nil {
		return KV{}, bare(lerr)
	}
	if found, derr := decodeKV(legacy); derr == nil && found.Meta().Name == m.Name {
		return legacy, nil
	}
	return KV{}, ErrNotFound
}

// prepare returns a copy of r that is complete and valid.
func prepare(r v3.Resource) (v3.Resource, error) {
	info, ok := v3.InfoFor(r)
	if !ok {
		return nil, fmt.Errorf("kind: %q is not a kind of resource", r.Type().Kind)
	}
	obj, err := clone(info, r)
	if err != nil {
		return nil, err
	}
	m := obj.Meta()
	switch {
	case info.Namespaced && m.Namespace == "":
		m.Namespace = "default"
	case !info.Namespaced && m.Namespace != "":
		return nil, fmt.Errorf("metadata.namespace: a %s has none", info.Kind)
	}
	if err := writable(obj); err != nil {
		return nil, err
	}
	v3.Default(obj)
	if err := v3.Validate(obj); err != nil {
		return nil, err
	}
	return obj, nil
}

func clone(info v3.KindInfo, r v3.Resource) (v3.Resource, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	obj := info.New()
	if err := json.Unmarshal(b, obj); err != nil {
		return nil, err
	}
	*obj.Type() = v3.TypeMeta{Kind: info.Kind, APIVersion: v3.APIVersion}
	obj.Meta().KeyName = r.Meta().KeyName
	return obj, nil
}

// reference makes an empty object that only has a name.
func reference(kind, namespace, name string) (v3.Resource, error) {
	info, ok := v3.LookupKind(kind)
	if !ok {
		return nil, errors.New("no such kind")
	}
	obj := info.New()
	if info.Namespaced && namespace == "" {
		namespace = "default"
	}
	if !info.Namespaced {
		namespace = ""
	}
	obj.Meta().Name, obj.Meta().Namespace = name, namespace
	return obj, nil
}

// createStored and updateStored write an object without any check.
func (c *Client) createStored(ctx context.Context, key string, obj v3.Resource) error {
	value, err := v3.EncodeMerged(obj, nil)
	if err != nil {
		return fail("create", obj, err)
	}
	_, err = c.Create(ctx, key, value)
	return fail("create", obj, bare(err))
}

func (c *Client) updateStored(ctx context.Context, kv KV, obj v3.Resource) error {
	value, err := v3.EncodeMerged(obj, kv.Value)
	if err != nil {
		return fail("update", obj, err)
	}
	_, err = c.Update(ctx, kv.Key, value, kv.Revision)
	return fail("update", obj, bare(err))
}

// fail names the object and the operation.
func fail(op string, r v3.Resource, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Object: titleOf(r), Err: err}
}

// bare drops the key from an error that is about to name the object.
func bare(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
