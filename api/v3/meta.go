// SPDX-License-Identifier: Apache-2.0

package v3

import "encoding/json"

// APIVersion is the apiVersion of every resource of Calico's v3 model.
const APIVersion = "projectcalico.org/v3"

// TypeMeta names the schema of an object.
type TypeMeta struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
}

// ObjectMeta is the metadata of every resource. ResourceVersion is the etcd
// ModRevision in decimal; it is never stored, only filled in on read.
//
// KeyName is the name in the object's key where that differs from Name, which
// is possible for policies only: the key is the identity, Name is what users
// see. It is empty when both are the same. See KeyName and DecodeKV.
type ObjectMeta struct {
	KeyName           string            `json:"-"`
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp *string           `json:"creationTimestamp,omitempty"`
	DeletionTimestamp *string           `json:"deletionTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	OwnerReferences   json.RawMessage   `json:"ownerReferences,omitempty"`
	Finalizers        []string          `json:"finalizers,omitempty"`
}

// Resource is any object of the model. Implementations are pointers; the
// accessors return pointers into the object, so that a caller may change it.
type Resource interface {
	Type() *TypeMeta
	Meta() *ObjectMeta
}

// Object is what every kind embeds.
type Object struct {
	TypeMeta `json:",inline"`
	Metadata ObjectMeta `json:"metadata"`
}

// Type returns the kind and apiVersion.
func (o *Object) Type() *TypeMeta { return &o.TypeMeta }

// Meta returns the metadata.
func (o *Object) Meta() *ObjectMeta { return &o.Metadata }
