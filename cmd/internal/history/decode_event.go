package history

// event reads an event. A key that it does not know, or that comes again where
// encoding/json would merge, is left to encoding/json.
func (d *decoder) event(e *Event) {
	d.object(func(key string) {
		switch key {
		case "kind":
			e.Kind = Kind(d.string())
		case "t":
			e.T = d.int()
		case "wall":
			e.Wall = d.int()
		case "topic":
			e.Topic = d.string()
		case "partition":
			e.Partition = d.uint32()
		case "op":
			e.Op = d.uint64()
		case "reason":
			e.Reason = d.string()
		case "append":
			d.once(e.Append == nil)
			e.Append = &Append{}
			d.append(e.Append)
		case "ack":
			d.once(e.Ack == nil)
			e.Ack = &Ack{}
			d.ack(e.Ack)
		case "read":
			d.once(e.Read == nil)
			e.Read = &Read{}
			d.read(e.Read)
		case "replica":
			d.once(e.Replica == nil)
			e.Replica = &Replica{}
			d.replica(e.Replica)
		case "batches":
			d.once(e.Batches == nil)
			d.array(func() {
				e.Batches = append(e.Batches, Batch{})
				d.batch(&e.Batches[len(e.Batches)-1])
			})
		default: // what else there is is rare
			d.bad = true
		}
	})
}

func (d *decoder) once(first bool) { d.bad = d.bad || !first }

// content reads a field of Content, and tells whether key is one.
func (d *decoder) content(key string, c *Content) bool {
	switch key {
	case "n":
		c.N = d.uint32()
	case "digest":
		c.Digest = d.digest()
	case "digests":
		d.once(c.Digests == nil)
		d.array(func() { c.Digests = append(c.Digests, d.digest()) })
	default:
		return false
	}
	return true
}

func (d *decoder) append(a *Append) {
	d.object(func(key string) {
		switch key {
		case "id":
			a.ID = string(d.text()) // seen once
		case "session":
			a.Session = d.uint64()
		case "acks":
			a.Acks = Acks(d.string())
		case "tries":
			a.Tries = d.uint32()
		default:
			d.once(d.content(key, &a.Content))
		}
	})
}

func (d *decoder) ack(a *Ack) {
	d.object(func(key string) {
		switch key {
		case "scope":
			a.Scope = Scope(d.string())
		case "medium":
			a.Medium = Medium(d.string())
		case "in_sync":
			a.InSync = d.uint32()
		case "base":
			a.Base = d.int()
		case "epoch":
			a.Epoch = d.int32()
		case "leader":
			leader := d.int32()
			a.Leader = &leader
		default:
			d.bad = true
		}
	})
}

func (d *decoder) read(r *Read) {
	d.object(func(key string) {
		switch key {
		case "reader":
			r.Reader = d.uint64()
		case "position":
			r.Position = Position(d.string())
		case "seek":
			r.Seek = d.bool()
		case "until_end":
			r.UntilEnd = d.bool()
		case "drain":
			r.Drain = d.bool()
		case "from":
			r.From = d.int()
		case "next":
			r.Next = d.int()
		case "hw":
			r.HighWatermark = d.int()
		case "log_start":
			r.LogStart = d.int()
		case "finished":
			r.Finished = d.bool()
		default:
			d.bad = true
		}
	})
}

func (d *decoder) batch(b *Batch) {
	d.object(func(key string) {
		switch key {
		case "base":
			b.Base = d.int()
		case "epoch":
			b.Epoch = d.int32()
		case "crc":
			b.CRC = d.uint32()
		case "control":
			b.Control = d.bool()
		default:
			d.once(d.content(key, &b.Content))
		}
	})
}

func (d *decoder) replica(r *Replica) {
	d.object(func(key string) {
		switch key {
		case "epoch":
			r.Epoch = d.int32()
		case "partition_epoch":
			r.PartitionEpoch = d.int32()
		case "hw":
			r.HighWatermark = d.int()
		case "end":
			r.End = d.int()
		case "start":
			r.Start = d.int()
		case "clean_end":
			r.CleanEnd = d.int()
		case "of":
			r.Of = d.int32()
		case "from":
			r.From = d.int()
		case "to":
			r.To = d.int()
		case "isr":
			d.once(r.ISR == nil)
			d.array(func() { r.ISR = append(r.ISR, d.int32()) })
		case "min_isr":
			r.MinISR = d.uint32()
		case "medium":
			r.Medium = Medium(d.string())
		case "in_sync":
			r.InSync = d.bool()
		case "last":
			r.Last = d.bool()
		default:
			d.bad = true
		}
	})
}
