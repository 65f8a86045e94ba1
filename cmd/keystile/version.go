package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/keystile/keystile"
)

type versionCmd struct{}

// version is what --json prints. What the build did not record is absent.
type version struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"` // of git
	Time     string `json:"time,omitempty"`     // of the revision, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the tree had changes on top
}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	v := version{Version: keystile.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.time":
				v.Time = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if a.json {
		return printJSON(a.stdout, v)
	}
	line := "keystile " + v.Version + ", " + v.Go + " " + v.Platform
	if v.Revision != "" {
		line += ", revision " + v.Revision
		if v.Modified {
			line += " with changes"
		}
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}
