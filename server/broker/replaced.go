package broker

import (
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// Metadata names leaders by the number of their broker. Two processes may have
// one number: the second was started, on a copy of the data directory or on
// another one, while the first was asleep or cut off, and counted as dead. So
// "broker 1 leads in epoch 7" is said to both, and only one is meant: the one
// whose broker epoch stands in the broker's record.
//
// INVARIANT: a process leads no partition by metadata in which its broker has
// another epoch than it was given at its registration. So a leader epoch has one
// leader, however many processes there are, and the older one is harmless from
// when it hears of the newer; until then it is a leader that was deposed, as any.

// replaced tells whether the metadata of now has another incarnation of this
// broker.
//
// WHY that of now: it is at least as new as what is about to be carried out.
func (b *Broker) replaced() bool {
	has, own := b.mirror.Current().Broker(b.opts.ID), b.identity.Load()
	return has != nil && own != nil && has.Epoch != own.BrokerEpoch
}

// retire ends what is led in epochs before that one, or in it. That one stays free
// if it is not led: metadata may tell of this broker's own registration before its
// answer does.
//
// REQUIRES: carrying is held.
func (l *localLog) retire(p *partition.Partition, epoch record.LeaderEpoch) {
	if p.State().LeaderEpoch < epoch {
		epoch--
	}
	p.Resign(replica.None, epoch)
}

// realign carries out on every log what the metadata wants of this incarnation,
// which has just registered.
func (b *Broker) realign() {
	for _, l := range b.allLogs() {
		l.align()
	}
}
