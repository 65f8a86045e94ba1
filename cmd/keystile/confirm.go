package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// confirmFlag is on the verbs that can't be undone.
type confirmFlag struct {
	Yes bool `help:"Do not ask first: this cannot be undone." short:"y"`
}

// check refuses to begin where nobody could be asked.
func (f confirmFlag) check(a *app) error {
	if f.Yes || a.terminal {
		return nil
	}
	return usage(errors.New("this cannot be undone, and standard input is no terminal to ask on: add --yes to do it"))
}

// ask puts a question to the person at the terminal. It returns an error that
// ends the program unless the answer is yes.
func (f confirmFlag) ask(ctx context.Context, a *app, question string) error {
	if f.Yes {
		return nil
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := readLine(ctx, a)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return exitError{exitFailed, errors.New("nothing was changed")}
}

// readLine reads a line of standard input, "" at its end. It gives up when ctx
// ends, which reading itself would not.
func readLine(ctx context.Context, a *app) (string, error) {
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(a.stdin).ReadString('\n') // broken off means no answer
		line <- text
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return "", exitError{exitFailed, errors.New("interrupted; nothing was changed")}
	case text := <-line:
		return text, nil
	}
}

// isTerminal tells whether a person may sit at the other end of a file.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // is a character device, too
	return err == nil && !os.SameFile(info, null)
}
