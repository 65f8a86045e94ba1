// Package keystile is what a Go program imports to issue and check API keys
// with a Keystile server: the nouns as they are on the wire, [Client],
// [Middleware] and the offline checks of a key's form ([Format]).
//
// It imports the standard library alone. Nothing that knows SQL, files or the
// server's inside belongs here.
package keystile

// Version is the version of this module. A release changes it.
const Version = "0.1.0-dev"
