package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	// defaultWait is how long a command waits for moves unless it is told.
	defaultWait = time.Hour
	// defaultPoll is how often it looks.
	defaultPoll = time.Second
)

// patienceFlags are whether and how long a command waits until what it began is
// done.
type patienceFlags struct {
	wait    bool
	timeout time.Duration
	poll    time.Duration
}

func (w *patienceFlags) flags(c *cobra.Command) {
	c.Flags().BoolVar(&w.wait, "wait", false, "wait until it is done, and say how far it is")
	c.Flags().DurationVar(&w.timeout, "timeout", defaultWait, "how long to wait at most; what was begun goes on all the same")
	w.poll = defaultPoll
}

func (w *patienceFlags) check(c *cobra.Command) error {
	if w.timeout <= 0 {
		return misuse(c, "--timeout must be positive")
	}
	if c.Flags().Changed("timeout") && !w.wait {
		return misuse(c, "--timeout needs --wait")
	}
	return nil
}

// await looks until nothing is left, and says how far it is whenever that has
// changed. A server that is not there for a while does not end it.
func (p *Program) await(c *cobra.Command, w patienceFlags, look func() (left int, state string, err error)) error {
	end := time.NewTimer(w.timeout)
	defer end.Stop()
	tick := time.NewTicker(w.poll)
	defer tick.Stop()
	line := &progress{p: p, terminal: isTerminal(p.Err)}
	defer line.end()
	last := "nothing was heard of it"
	for {
		left, state, err := look()
		switch {
		case err == nil && left == 0:
			line.say(state)
			return nil
		case err == nil:
			last = state
			line.say(state)
		case passing(err) && c.Context().Err() == nil:
			line.say("waiting for an answer: " + oneLine(p.explain(err)))
		default:
			return err
		}
		select {
		case <-c.Context().Done():
			return context.Cause(c.Context())
		case <-end.C:
			return fmt.Errorf("not done after %s: %s; it goes on: see how far it is with: millstream cluster status", w.timeout, last)
		case <-tick.C:
		}
	}
}

// passing tells whether an error may be gone when asked again.
func passing(err error) bool {
	if re := requestErrorOf(err); re != nil {
		return re.GetRetryable()
	}
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// progress is a line that says how far something is: rewritten on a terminal,
// one after the other elsewhere.
type progress struct {
	p        *Program
	terminal bool
	said     string
}

func (l *progress) say(state string) {
	if state == l.said {
		return
	}
	l.said = state
	if l.terminal {
		_, _ = fmt.Fprintf(l.p.Err, "\r\x1b[K%s", state)
		return
	}
	l.p.done("%s", state)
}

func (l *progress) end() {
	if l.terminal && l.said != "" {
		l.p.done("")
	}
}

// reassignments returns all partitions that are being moved.
func (p *Program) reassignments(c *cobra.Command) ([]*pb.OngoingReassignment, error) {
	var all []*pb.OngoingReassignment
	req := &pb.ListReassignmentsRequest{}
	for {
		resp, err := call(p, c, cluster, pb.ClusterServiceClient.ListReassignments, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetReassignments()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// awaitedBy says for whom moves wait; empty: for nobody.
func awaitedBy(moves []*pb.OngoingReassignment) string {
	var brokers []int32
	for _, m := range moves {
		brokers = append(brokers, m.GetAwaitedBrokerIds()...)
	}
	slices.Sort(brokers)
	if brokers = slices.Compact(brokers); len(brokers) == 0 {
		return ""
	}
	return ", waiting for " + brokersNamed(brokers)
}

// awaitMoves waits until partitions are where they should be, and notes so.
func (p *Program) awaitMoves(c *cobra.Command, w patienceFlags, moves []moveView) error {
	to := make(map[partitionName][]int32, len(moves))
	for _, m := range moves {
		to[partitionName{m.Topic, m.Partition}] = m.To
	}
	err := p.await(c, w, func() (int, string, error) {
		all, err := p.reassignments(c)
		if err != nil {
			return 0, "", err
		}
		all = slices.DeleteFunc(all, func(m *pb.OngoingReassignment) bool {
			_, ours := to[partitionName{m.GetPlacement().GetTopic(), m.GetPlacement().GetPartition()}]
			return !ours
		})
		return len(all), fmt.Sprintf("%d of %s moved%s", len(to)-len(all), counted(len(to), "partition", "partitions"), awaitedBy(all)), nil
	})
	if err != nil {
		return err
	}
	return p.arrived(c, moves)
}

// arrived notes that moves are done, and who leads now. It fails unless
// partitions are where they should be: one that is not being moved any more may
// have been put back.
func (p *Program) arrived(c *cobra.Command, moves []moveView) error {
	topicOf := make(map[string][]*pb.Partition)
	var elsewhere []string
	for i := range moves {
		m := &moves[i]
		parts, known := topicOf[m.Topic]
		if !known {
			resp, err := call(p, c, topics, pb.TopicServiceClient.GetTopic, &pb.GetTopicRequest{Topic: m.Topic, MetadataOnly: true})
			if err != nil {
				return err
			}
			parts = resp.GetPartitions()
			topicOf[m.Topic] = parts
		}
		if int(m.Partition) >= len(parts) || !slices.Equal(parts[m.Partition].GetReplicas(), m.To) {
			elsewhere = append(elsewhere, partitionName{m.Topic, m.Partition}.String())
			continue
		}
		m.Done, m.Leader = true, parts[m.Partition].GetLeader().GetBrokerId()
	}
	if len(elsewhere) == 0 {
		return nil
	}
	slices.Sort(elsewhere)
	return errors.New("moved elsewhere meanwhile, or put back: " + atMost(elsewhere, maxNamed))
}
