package api

import (
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

// problemHeader carries the problem of a refused forward-auth: gateways such
// as nginx drop the body of a refusal and keep its headers.
const problemHeader = "X-Keystile-Problem"

// maxProblemLine bounds the header, in bytes. nginx reads all headers of an
// answer into one buffer of 4 KiB by default, and answers 502 when they do
// not fit.
const maxProblemLine = 1024

// problemLine is a problem as one line of ASCII, which is all that a header may
// hold everywhere (RFC 9110, section 5.5). It is the body's JSON, with less to
// say where that is too long: a reader who needs all of it has the request ID.
func problemLine(p keystile.Error, unauthorizedTitle string) string {
	if p.Status == http.StatusUnauthorized && unauthorizedTitle != "" {
		p.Title = unauthorizedTitle
	}
	p.Fields = nil
	if p.Fixes == nil {
		p.Fixes = []string{}
	}
	for {
		line := entry.ASCII(p)
		switch {
		case len(line) <= maxProblemLine:
			return line
		case len(p.Fixes) > 0:
			p.Fixes = p.Fixes[:len(p.Fixes)-1]
		case p.Detail != "" || p.Permission != "":
			p.Detail, p.Permission = "", ""
		default:
			return "" // a title of 60 characters, the most a profile has, fits in any case
		}
	}
}
