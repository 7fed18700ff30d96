package api

// sendDrain tells the client that the server stops.
func (p *produceStream) sendDrain() {
	r := p.newRequest()
	r.drainMs = uint32(p.s.limits.DrainGrace.Milliseconds())
	p.mu.Lock()
	p.outstanding++ // as sent counts it
	p.ready.push(r)
	p.mu.Unlock()
	wake(p.answered)
}

// send sends answers until the stream ends, and ends it when all requests that
// will ever be taken are answered.
func (p *produceStream) send() {
	for {
		p.mu.Lock()
		list := p.ready
		p.ready = requestList{}
		finished := list.head == nil && p.ended && p.outstanding == 0
		p.mu.Unlock()
		if finished {
			p.cancel(errFinished)
			return
		}
		if list.head == nil {
			select {
			case <-p.answered:
				continue
			case <-p.ctx.Done():
				return
			}
		}
		for r := list.head; r != nil; {
			next := r.next
			b := p.out.buffer(0)
			*b = r.appendAnswer((*b)[:0])
			if err := p.out.write(b); err != nil {
				p.cancel(err)
				return
			}
			p.sent(r)
			r = next
		}
	}
}

// sent notes that the transport has taken an answer.
func (p *produceStream) sent(r *produceRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outstanding--; p.outstanding == p.s.limits.UnreadAnswers-1 {
		wake(p.room)
	}
	r.answered = true
	if r.unsettled == 0 {
		p.recycle(r)
	}
}
