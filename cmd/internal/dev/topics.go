package dev

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/server/topicconfig"
)

// TopicSpec is a topic that a dev server makes at its start.
type TopicSpec struct {
	Name       string
	Partitions uint32
}

// ParseTopic reads NAME or NAME:PARTITIONS.
func ParseTopic(s string) (TopicSpec, error) {
	name, count, counted := strings.Cut(s, ":")
	spec := TopicSpec{Name: name, Partitions: 1}
	if err := topicconfig.ValidateNewName(name); err != nil {
		return spec, err
	}
	if counted {
		n, err := strconv.ParseUint(count, 10, 32)
		if err != nil || n < 1 || n > topicconfig.MaxPartitions {
			return spec, fmt.Errorf("topic %q: the number of partitions must be 1 to %d", s, topicconfig.MaxPartitions)
		}
		spec.Partitions = uint32(n)
	}
	return spec, nil
}
