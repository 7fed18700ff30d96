package netns

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// ipTimeout bounds a command: it takes milliseconds, unless the machine is very
// busy.
const ipTimeout = 30 * time.Second

// ip runs the command ip.
func ip(args ...string) error {
	_, err := output(args...)
	return err
}

// script has ip do something line by line in a namespace ("": the machine's
// own), and stops at the first line that fails.
func script(namespace string, lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	_, err := run(strings.Join(lines, "\n")+"\n", args)
	return err
}

// output runs ip and returns what it prints.
func output(args ...string) ([]byte, error) { return run("", args) }

func run(input string, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ipTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}
