package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// playedRead is a Read that a test answers.
type playedRead struct {
	grpc.ServerStreamingServer[pb.ReadResponse]

	asked *pb.ReadRequest
	end   chan error
}

func (l *playedLeader) Read(r *pb.ReadRequest, st grpc.ServerStreamingServer[pb.ReadResponse]) error {
	p := &playedRead{ServerStreamingServer: st, asked: r, end: make(chan error)}
	l.reads <- p
	select {
	case err := <-p.end:
		return err
	case <-st.Context().Done():
		return nil
	}
}

// begins says where the Read begins and ends, as leaders do.
func (p *playedRead) begins(t *testing.T, start record.Offset, epoch record.LeaderEpoch, end record.Offset) {
	t.Helper()
	if err := (forward.Began{Start: start, Epoch: epoch, End: end}).Say(p.Context()); err != nil {
		t.Fatal(err)
	}
}

// answer sends records of one leader epoch.
func (p *playedRead) answer(t *testing.T, epoch int32, offsets ...int64) {
	t.Helper()
	for _, at := range offsets {
		if err := p.Send(&pb.ReadResponse{Offset: at, LeaderEpoch: epoch, ValueForm: &pb.ReadResponse_Text{Text: fmt.Sprint(at)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantsFrom fails the test unless the leader was asked to go on at an offset,
// behind a record of an epoch; noEpoch: of none.
func (p *playedRead) wantsFrom(t *testing.T, offset int64, epoch int32) {
	t.Helper()
	at, isOffset := p.asked.GetStart().(*pb.ReadRequest_Offset)
	got := noEpoch
	if p.asked.LeaderEpoch != nil {
		got = p.asked.GetLeaderEpoch()
	}
	if !isOffset || at.Offset != offset || got != epoch {
		t.Errorf("the leader was asked for %v, want offset %d behind epoch %d", p.asked, offset, epoch)
	}
}

// nextRead returns the Read that a leader is asked for next.
func (m *movingLeader) nextRead(id int32) *playedRead {
	m.t.Helper()
	select {
	case p := <-m.leaders[id].reads:
		return p
	case <-time.After(20 * time.Second):
		m.t.Fatalf("broker %d is not asked", id)
		return nil
	}
}

// ends fails the test unless the Read is given up.
func (p *playedRead) ends(t *testing.T) {
	t.Helper()
	select {
	case <-p.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the leader sends on")
	}
}

func (m *movingLeader) read(r *pb.ReadRequest) grpc.ServerStreamingClient[pb.ReadResponse] {
	m.t.Helper()
	r.Topic = "t"
	st, err := m.client.Read(m.t.Context(), r)
	if err != nil {
		m.t.Fatal(err)
	}
	return st
}

func wantRecords(t *testing.T, st grpc.ServerStreamingClient[pb.ReadResponse], offsets ...int64) {
	t.Helper()
	for _, want := range offsets {
		got, err := st.Recv()
		if err != nil {
			t.Fatalf("at %d: %v", want, err)
		}
		if got.GetOffset() != want || got.GetText() != fmt.Sprint(want) {
			t.Fatalf("got %v, want the record at %d", got, want)
		}
	}
}

func wantEnd(t *testing.T, st grpc.ServerStreamingClient[pb.ReadResponse]) {
	t.Helper()
	if got, err := st.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, %v, want the end", got, err)
	}
}

func wantReason(t *testing.T, st grpc.ServerStreamingClient[pb.ReadResponse], reason pb.ErrorReason, retryable bool) *pb.Divergence {
	t.Helper()
	got, err := st.Recv()
	f := rpc.FaultFromStatus(err)
	if f == nil || f.Reason != reason || f.Retryable != retryable {
		t.Fatalf("got %v, %v, want %v", got, err, reason)
	}
	return f.Divergence
}

// errStops is how a leader ends a Read when it stops.
var errStops error = rpc.ShuttingDownFault()

// The client has one call; behind it leaders come and go. It ends where the
// first one saw the end.
func TestAReadFollowsItsLeader(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{Start: &pb.ReadRequest_BeforeEnd{BeforeEnd: 4}, Form: pb.ReadForm_READ_FORM_JSON})
	two := m.nextRead(2)
	two.begins(t, 5, 3, 9)
	two.answer(t, 4, 5, 6)
	wantRecords(t, st, 5, 6)

	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	three.wantsFrom(t, 7, 4)
	if three.asked.GetForm() != pb.ReadForm_READ_FORM_JSON || three.asked.GetMinRevision() != 2 {
		t.Errorf("the second leader was asked for %v", three.asked)
	}
	three.begins(t, 7, 4, 12)
	three.answer(t, 4, 7)
	wantRecords(t, st, 7)

	three.end <- leaderFault(&pb.LeaderHint{BrokerId: 2}, "it moved")
	m.lead(2, 6)
	two = m.nextRead(2)
	two.wantsFrom(t, 8, 4)
	two.begins(t, 8, 4, 20)
	two.answer(t, 5, 8, 9)
	wantRecords(t, st, 8)
	wantEnd(t, st)
	two.ends(t)
}

// A leader that later leads may have no record at the end, and one behind it.
func TestAReadDoesNotGoBeyondTheEndThatItSaw(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{})
	two := m.nextRead(2)
	two.begins(t, 0, -1, 5)
	two.answer(t, 4, 0)
	wantRecords(t, st, 0)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	three.answer(t, 4, 1, 7)
	wantRecords(t, st, 1)
	wantEnd(t, st)
}

// Nothing has come yet: what begins at the end goes on where that was.
func TestAReadOfRecordsToComeMissesNone(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{Start: &pb.ReadRequest_Latest{Latest: true}, Follow: true})
	two := m.nextRead(2)
	two.begins(t, 9, 2, -1)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	three.wantsFrom(t, 9, 2)
	if !three.asked.GetFollow() {
		t.Errorf("the second leader was asked for %v", three.asked)
	}
	three.begins(t, 9, 2, -1)
	three.answer(t, 5, 9)
	wantRecords(t, st, 9)
	m.service.Drain()
	wantReason(t, st, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, true)
}

func TestAReadOfSoManyRecordsGetsThemFromAllItsLeaders(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{MaxRecords: 3, Follow: true})
	two := m.nextRead(2)
	two.begins(t, 0, -1, -1)
	two.answer(t, 4, 0, 1)
	wantRecords(t, st, 0, 1)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	if three.asked.GetMaxRecords() != 1 {
		t.Errorf("the second leader was asked for %v", three.asked)
	}
	three.answer(t, 5, 2)
	_ = three.Send(&pb.ReadResponse{Offset: 3, LeaderEpoch: 5}) // one too many, refused if the Read has ended by then
	wantRecords(t, st, 2)
	wantEnd(t, st)
}

func TestAReadOfAnotherHistoryEndsDiverged(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{})
	two := m.nextRead(2)
	two.begins(t, 0, -1, 8)
	two.answer(t, 4, 0, 1, 2, 3)
	wantRecords(t, st, 0, 1, 2, 3)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	three.wantsFrom(t, 4, 4)
	three.end <- FaultOf(&partition.DivergedError{Epoch: 3, SafeOffset: 2})
	if d := wantReason(t, st, pb.ErrorReason_ERROR_REASON_DIVERGED, false); d.GetSafeOffset() != 2 || d.GetLeaderEpoch() != 3 {
		t.Errorf("got %v", d)
	}
}

// The next leader has what was read, and not all that was there.
func TestAReadOfALogThatBecameShorterSaysSo(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{})
	two := m.nextRead(2)
	two.begins(t, 0, -1, 8)
	two.answer(t, 4, 0, 1)
	wantRecords(t, st, 0, 1)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	three.begins(t, 2, 4, 3)
	three.answer(t, 4, 2)
	three.end <- nil
	wantRecords(t, st, 2)
	if d := wantReason(t, st, pb.ErrorReason_ERROR_REASON_DIVERGED, false); d.GetSafeOffset() != 3 || d.GetLeaderEpoch() != 4 {
		t.Errorf("got %v", d)
	}
}

// The broker that the client is at comes to lead the partition itself.
func TestAReadComesHome(t *testing.T) {
	for name, c := range map[string]struct {
		epoch int32         // of the record that the leader before sent
		end   record.Offset // of the log, as it said
		want  int           // records from here
		ok    bool
	}{
		"with the history that was read": {1, 3, 2, true}, "with another history": {2, 3, 0, false},
		"with a shorter log": {1, 9, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			own := ownPartition(t)
			m := startMovingLeader(t)
			m.own = own
			leadOwn(own, 1)
			m.lead(1, 1)
			for at := range 4 {
				m.append(fmt.Sprint(at))
			}
			m.lead(2, 2)
			st := m.read(&pb.ReadRequest{})
			two := m.nextRead(2)
			two.begins(t, 0, -1, c.end)
			two.answer(t, c.epoch, 0)
			wantRecords(t, st, 0)
			leadOwn(own, 3)
			m.lead(1, 3)
			two.end <- errStops
			for at := range c.want {
				wantRecords(t, st, int64(at+1))
			}
			if !c.ok {
				wantReason(t, st, pb.ErrorReason_ERROR_REASON_DIVERGED, false)
				return
			}
			wantEnd(t, st)
		})
	}
}

// A leader that does not say where the Read ends leaves that to the client.
func TestAReadWithoutAKnownEndIsCutShort(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{})
	two := m.nextRead(2)
	two.answer(t, 4, 0)
	wantRecords(t, st, 0)
	two.end <- errStops
	wantReason(t, st, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, true)
}

// A Read does not wait for a leader for ever.
func TestAReadGivesUp(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	failed := leaderFault(&pb.LeaderHint{BrokerId: metadata.NoLeader}, "nobody leads")
	for _, c := range []struct {
		begun bool
		waits time.Duration
	}{{false, m.service.wait}, {true, moveWait}} {
		p := &passage{s: m.service, asked: &pb.ReadRequest{}, begun: c.begun, failed: failed}
		if err := p.pause(t.Context(), m.mirror.Current(), time.Now().Add(-c.waits)); !errors.Is(err, failed) {
			t.Errorf("begun %v: after %v: %v", c.begun, c.waits, err)
		}
		if err := p.pause(t.Context(), m.mirror.Current(), time.Now().Add(time.Second-c.waits)); err != nil {
			t.Errorf("begun %v: before %v: %v", c.begun, c.waits, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStops)
	p := &passage{s: m.service, asked: &pb.ReadRequest{}, begun: true, failed: failed}
	if err := p.pause(ctx, m.mirror.Current(), time.Now()); !errors.Is(err, errStops) {
		t.Errorf("when its client is gone: %v", err)
	}
}
