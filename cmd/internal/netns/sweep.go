package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/millstream-io/millstream/cmd/internal/owner"
)

// prefix begins the names of bridges; a number follows.
const prefix = "millnet"

var bridgeName = regexp.MustCompile(`^` + prefix + `\d+$`)

// sweep removes the networks of processes that are no more, with what runs on
// them.
func sweep() error {
	text, err := output("-j", "link", "show", "type", "bridge")
	if err != nil {
		return &UnavailableError{err.Error()}
	}
	var links []struct {
		Name  string `json:"ifname"`
		Alias string `json:"ifalias"`
	}
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("ip -j link: %w", err)
	}
	var errs []error
	for _, l := range links {
		// One without an owner is being made.
		if of, ok := owner.Parse(l.Alias); ok && bridgeName.MatchString(l.Name) && !of.Lives() {
			err := remove(l.Name)
			if _, there := net.InterfaceByName(l.Name); there == nil { // else another run was faster
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// remove removes a bridge and what is named after it, and kills what runs
// there.
func remove(bridge string) error {
	text, err := output("netns", "list")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // the name, and perhaps a number
		if len(fields) == 0 || !strings.HasPrefix(fields[0], bridge+"-") {
			continue
		}
		errs = append(errs, killAll(fields[0]), ip("netns", "del", fields[0]))
	}
	// The interfaces go with the namespaces, but not at once.
	outer, err := net.Interfaces()
	errs = append(errs, err)
	for _, i := range outer {
		if strings.HasPrefix(i.Name, bridge+"-") {
			_ = ip("link", "del", i.Name) // it may have gone meanwhile
		}
	}
	return errors.Join(append(errs, ip("link", "del", bridge))...)
}

// killAll kills the processes in a namespace.
func killAll(namespace string) error {
	text, err := output("netns", "pids", namespace)
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("ip netns pids: %w", err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	return nil
}
