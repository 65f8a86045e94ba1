package main

import (
	"encoding/json"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// report holds the report of 'keystile bench --json' against bounds that no
// machine, however busy, can leave.
func report(ts *testscript.TestScript, _ bool, args []string) {
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &fields))
	keys, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	for name, bounds := range map[string][2]float64{
		"keys":                {keys, keys},
		"floor_ns":            {10, 1e6},
		"verify_ns":           {10, 1e7},
		"first_use_ns":        {10, 1e7},
		"unknown_ns":          {10, 1e7},
		"malformed_ns":        {5, 1e7},
		"allocs":              {0, 0.01},
		"bytes_per_key":       {64, 1000},
		"hot_two_cores_ratio": {0.01, 100},
		"collector_ratio":     {0.001, 1000},
		"http_cpu_ratio":      {0.1, 1000},
		"batch_ratio":         {0.1, 1000},
		"start_seconds":       {0.001, 600},
		"scan_seconds":        {0.00001, 600},
		"server_bytes":        {1 << 20, 1 << 30},
		"creates_per_second":  {1, 1e6},
		"p99_ns":              {10, 1e9},
		"p99_changing_ns":     {10, 1e9},
	} {
		v, ok := fields[name].(float64)
		if !ok || v < bounds[0] || v > bounds[1] {
			ts.Fatalf("%s is %v, want a number from %g to %g", name, fields[name], bounds[0], bounds[1])
		}
	}
}
