package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// CPU returns the processor time that a process and its descendants have used
// so far, to the microsecond: what the scheduler has counted for each of their
// threads (Documentation/scheduler/sched-stats.rst of Linux). Threads that have
// ended are not in it; what is measured here ends none.
func CPU(pid int) (total time.Duration, err error) {
	for _, p := range append([]int{pid}, descendants(pid)...) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p))
		if err != nil {
			return 0, err
		}
		if len(threads) == 0 {
			return 0, fmt.Errorf("the system does not count the processor time of process %d, or it has ended", p)
		}
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended just now
			}
			first, _, _ := bytes.Cut(text, []byte(" "))
			ns, err := strconv.ParseInt(string(first), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", name, err)
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}

// Memory returns the bytes of memory that a process and its descendants hold,
// pages that they share counted once.
func Memory(pid int) (total int64, err error) {
	for _, p := range append([]int{pid}, descendants(pid)...) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return 0, err
		}
		_, line, _ := bytes.Cut(text, []byte("\nPss:"))
		var kB int64
		if _, err := fmt.Sscan(string(line), &kB); err != nil {
			return 0, fmt.Errorf("read the memory of process %d: %w", p, err)
		}
		total += kB << 10
	}
	return total, nil
}

// descendants finds the processes that a process has started, and theirs.
func descendants(pid int) (all []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]int{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended just now
		}
		// The name in brackets may hold anything; behind it come state and parent.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}
