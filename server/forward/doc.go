// Package forward carries requests of clients from the broker that they asked
// to the one that leads: unary calls, Produce streams and Fetch streams.
//
// It owns what is between the two brokers: who is asked, what a request is
// marked with, in which order requests of one client for one partition go, and
// what is known of those whose answer never came. It refuses to own who leads
// (server/metadata), connections (Peers), and what a client is told
// (server/api).
//
// INVARIANT: a request goes to one broker, once. What may have been carried out
// is never sent again: its outcome is unknown (*BrokenError). What surely was
// not sent is said to be so (*UnreachableError, *BusyError).
// INVARIANT: what is forwarded is marked, and who gets it marked does not
// forward it.
// INVARIANT: the calls that are open to a broker are bounded (Calls), and so is
// what is held of frames: those of a client by what was granted, those of all by
// a Budget.
//
// Goroutines: two for each link to a leader, beside those that call; they end
// with the stream of the client.
package forward

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Peers reaches the other brokers.
type Peers interface {
	// Conn returns a connection to the present incarnation of a broker. It is
	// shared: nobody closes it.
	Conn(broker int32) (*grpc.ClientConn, error)
}

// Target is who leads a partition.
type Target struct {
	// Topic is the identity of the topic.
	Topic [16]byte
	// Leader is the broker.
	Leader int32
	// Epoch is the one it leads in.
	Epoch int32
	// Revision of the metadata that says so; the leader waits for it.
	Revision int64
}

// What the calls of brokers are marked with.
const (
	// hopsHeader is there on everything that is forwarded.
	hopsHeader = "millstream-hops"
	// leaderHeader is there on calls for one partition: TOPIC_ID:EPOCH.
	leaderHeader = "millstream-leader"
	// beganHeader is there on what a leader answers to a Read: START:EPOCH:END.
	beganHeader = "millstream-read"
)

// Forwarded tells whether a call was forwarded already.
func Forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, hopsHeader)) > 0
}

// mark marks the calls of a context as forwarded.
func mark(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(hopsHeader, "1"))
}

// markLeader also says in which epoch of which topic the callee is to lead.
func markLeader(ctx context.Context, to Target) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(
		hopsHeader, "1", leaderHeader, fmt.Sprintf("%x:%d", to.Topic, to.Epoch)))
}

// Expected returns the topic and the leader epoch that a forwarded call is
// for; false if it does not say.
func Expected(ctx context.Context) (topic [16]byte, epoch int32, ok bool) {
	said := metadata.ValueFromIncomingContext(ctx, leaderHeader)
	if len(said) != 1 {
		return topic, 0, false
	}
	id, number, _ := strings.Cut(said[0], ":")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || hex.DecodedLen(len(id)) != len(topic) {
		return topic, 0, false
	}
	if _, err := hex.Decode(topic[:], []byte(id)); err != nil {
		return topic, 0, false
	}
	return topic, int32(n), true
}
