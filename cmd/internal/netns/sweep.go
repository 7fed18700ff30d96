package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// prefix begins the names of bridges; a number follows.
const prefix = "millnet"

var bridgeName = regexp.MustCompile(`^` + prefix + `\d+$`)

// owner is the process that a network is of: its number, and when it was
// started, since numbers are used again.
type owner struct {
	pid     int
	started uint64 // ticks after boot
}

const ownerForm = "millstream test network of process %d since %d"

func (o owner) String() string { return fmt.Sprintf(ownerForm, o.pid, o.started) }

// self is this process.
func self() (owner, error) {
	started, err := startOf(os.Getpid())
	return owner{os.Getpid(), started}, err
}

// lives tells whether the process is there still.
func (o owner) lives() bool {
	started, err := startOf(o.pid)
	return err == nil && started == o.started
}

// startOf returns when a process was started.
func startOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name stands in parentheses and may have any characters; the start is
	// the 20th field after it.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

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
		var o owner
		// One without an owner is being made.
		if _, err := fmt.Sscanf(l.Alias, ownerForm, &o.pid, &o.started); err == nil && bridgeName.MatchString(l.Name) && !o.lives() {
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
