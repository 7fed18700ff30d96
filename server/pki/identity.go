// Package pki is what Millstream puts into X.509 certificates and reads from
// them: who their owner is. It also makes certificates, for those who have no
// authority of their own.
//
// A certificate names its owner by one URI among its subject alternative names,
//
//	millstream://CLUSTER/ROLE/ID     millstream://prod/broker/1
//
// which every authority can put there (docs/operations/tls.md, ADR 10).
//
// It refuses to own files, connections and what a role may do: it is pure, but
// for keys, which come from crypto/rand.
//
// INVARIANT: an identity that is read from a certificate is valid, and is the
// only one in it: a certificate with two speaks for nobody. The package starts
// no goroutine and keeps no state.
package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Scheme is that of the URIs that say who a certificate is of.
const Scheme = "millstream"

// maxNumber is the greatest identity of a broker or controller.
const maxNumber = 1<<20 - 1

// Role is what the owner of a certificate is in its cluster.
type Role string

// Roles.
const (
	RoleBroker     Role = "broker"     // a broker, to controllers and brokers
	RoleController Role = "controller" // a controller, to controllers and brokers
	RoleServer     Role = "server"     // a public listener, to clients
	RoleClient     Role = "client"     // a client, to public listeners
)

// Roles returns all of them.
func Roles() []Role { return []Role{RoleBroker, RoleController, RoleServer, RoleClient} }

// Identity says who the owner of a certificate is.
type Identity struct {
	// Cluster is the name that the cluster has in its certificates.
	Cluster string
	Role    Role
	// ID is a number for brokers and controllers, a name for others.
	ID string
}

// Numbered returns the identity of a broker or a controller.
func Numbered(cluster string, role Role, id int32) Identity {
	return Identity{Cluster: cluster, Role: role, ID: strconv.Itoa(int(id))}
}

// String returns the identity as certificates have it.
func (i Identity) String() string { return i.uri().String() }

func (i Identity) uri() *url.URL {
	return &url.URL{Scheme: Scheme, Host: i.Cluster, Path: "/" + string(i.Role) + "/" + i.ID}
}

var (
	// clusterName is a label of DNS: the host of a URI.
	clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	ownerName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

// InvalidError says that something cannot stand in a certificate.
type InvalidError struct {
	// Name of what cannot: cluster, role, id, host, validity, authority.
	Name string
	// Why it cannot, to follow the name.
	Why string
}

// Error says it for people.
func (e *InvalidError) Error() string { return e.Name + " " + e.Why }

// ValidateCluster refuses a name that a cluster cannot have.
func ValidateCluster(name string) error {
	if !clusterName.MatchString(name) {
		return &InvalidError{"cluster", fmt.Sprintf("%q must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", name)}
	}
	return nil
}

// RoleHost returns the DNS name that the certificates of a role have in common:
// controllers have it, as etcd's members know each other by host names alone.
// Nobody looks it up.
func RoleHost(cluster string, role Role) string { return string(role) + "." + cluster + ".millstream" }

// Validate refuses what is no identity.
func (i Identity) Validate() error {
	if err := ValidateCluster(i.Cluster); err != nil {
		return err
	}
	switch i.Role {
	case RoleBroker, RoleController:
		// One way to write a number, so that one owner has one identity.
		if n, err := strconv.ParseUint(i.ID, 10, 32); err != nil || n > maxNumber || strconv.FormatUint(n, 10) != i.ID {
			return &InvalidError{"id", fmt.Sprintf("%q of a %s must be a number from 0 to %d", i.ID, i.Role, maxNumber)}
		}
	case RoleServer, RoleClient:
		if !ownerName.MatchString(i.ID) {
			return &InvalidError{"id", fmt.Sprintf("%q must be 1 to 63 of letters, digits, '.', '_' and '-', with a letter or digit at both ends", i.ID)}
		}
	default:
		return &InvalidError{"role", fmt.Sprintf("%q must be broker, controller, server or client", i.Role)}
	}
	return nil
}

// ErrNoIdentity says that a certificate does not say who its owner is in a
// cluster.
var ErrNoIdentity = errors.New("has no URI " + Scheme + "://CLUSTER/ROLE/ID among its subject alternative names")

// IdentityOf returns whose certificate it is. It does not verify the
// certificate. It fails with ErrNoIdentity or an *InvalidError.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var found *url.URL
	for _, u := range cert.URIs {
		if !strings.EqualFold(u.Scheme, Scheme) {
			continue
		}
		if found != nil {
			return Identity{}, &InvalidError{"identity", fmt.Sprintf("is there twice: %s and %s", found, u)}
		}
		found = u
	}
	if found == nil {
		return Identity{}, ErrNoIdentity
	}
	i := Identity{Cluster: found.Host}
	role, id, _ := strings.Cut(strings.TrimPrefix(found.Path, "/"), "/")
	i.Role, i.ID = Role(role), id
	if err := i.Validate(); err != nil {
		return Identity{}, err
	}
	if i.String() != found.String() { // a port, a query, an escape: not what we write
		return Identity{}, &InvalidError{"identity", fmt.Sprintf("%s is not of the form %s", found, i)}
	}
	return i, nil
}

// ClusterOf returns the name of the cluster that an authority made by
// NewAuthority is for, or fails with ErrNoIdentity.
func ClusterOf(authority *x509.Certificate) (string, error) {
	for _, u := range authority.URIs {
		if u.Scheme == Scheme && u.Path == "" && ValidateCluster(u.Host) == nil {
			return u.Host, nil
		}
	}
	return "", ErrNoIdentity
}
