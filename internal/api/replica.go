package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/stream"
	"github.com/keystile/keystile/internal/verify"
)

// The server's side of a replica: one long answer with everything that its
// index needs, and short requests for leases beside it. The messages are in
// package stream, the rules of the leases in package cluster.

const (
	// aliveEvery is how often a replica hears that nothing has changed. Its key
	// is checked as often, and with each change, such as its own revocation.
	aliveEvery = 5 * time.Second
	// frameTimeout is how long one frame may take to be taken.
	frameTimeout = 20 * time.Second
	maxAsk       = 2 << 20 // bytes
)

// mayReplicate lets in whose key may have the keys of all workspaces.
func mayReplicate(r verify.Result) *keystile.Error {
	if r.Permissions().Allow(stream.Permission) {
		return nil
	}
	p := keystile.NewError(keystile.CodeInsufficientPermission, "The key you sent may not attach a replica: it lacks the permission "+stream.Permission+".",
		"Use a key with the role replica of the operator's workspace: keystile admin key --role replica.")
	p.Permission = stream.Permission
	return p
}

// replicaProblem is how an error of an attachment is told.
func (a *API) replicaProblem(r *http.Request, err error) *keystile.Error {
	switch {
	case errors.Is(err, cluster.ErrLeaving):
		return keystile.NewError(keystile.CodeUnavailable, "This server is shutting down; attach to another.")
	case errors.Is(err, cluster.ErrCrowded):
		return keystile.NewError(keystile.CodeUnavailable, "This server has "+strconv.Itoa(cluster.MaxChildren)+" replicas, as many as it takes.",
			"Name more servers in KEYSTILE_URL, separated by commas, or in --url of the agent: a replica goes to one that has room.",
			"Start another server on the same database, or one agent on each machine in place of a replica in each process.")
	case errors.Is(err, cluster.ErrCopied):
		return keystile.NewError(keystile.CodeConflict, "Another process speaks for this replica: its machine was copied while it ran. Attach anew.",
			"Start programs with a replica on a copy of a machine anew, before it reaches this server.")
	case errors.Is(err, cluster.ErrNoChild), errors.Is(err, cluster.ErrReset):
		return keystile.NewError(keystile.CodeNotFound, "There is no such attachment, or no longer: attach anew.")
	}
	return a.door.Problem(r.Context(), err)
}

// replicate is the long answer.
func (a *API) replicate(w http.ResponseWriter, r *http.Request) {
	result, problem := a.door.Authenticate(r, nil)
	if problem == nil {
		problem = mayReplicate(result)
	}
	if problem == nil {
		problem = sameProtocol(r)
	}
	from, token, bad := position(r)
	if problem == nil {
		problem = bad
	}
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	caller := callerOf(r)
	caller.KeyID = result.KeyID()
	at, err := a.node.Attach(caller)
	if err != nil {
		a.door.Refuse(w, r, a.replicaProblem(r, err))
		return
	}
	defer at.Detach()
	w.Header().Set("Content-Type", stream.ContentType)
	out := &frames{w: stream.NewWriter(w), control: http.NewResponseController(w)}
	if err := out.send(stream.Frame{Kind: stream.KindHello, Hello: a.hello(at.ID)}); err != nil {
		return
	}
	if err := a.feed(r, at, out, from, token); err != nil && r.Context().Err() == nil {
		a.door.Log.Info("a replica was detached", "request_id", entry.RequestID(r.Context()), "error", err)
	}
}

// callerOf is who asks: what people know it by, and a digest of its key.
func callerOf(r *http.Request) (c cluster.Caller) {
	o := entry.Origin(r.Context())
	if o.Address.IsValid() {
		c.Address = o.Address.Unmap().String()
	}
	c.Program = o.UserAgent
	if secret, problem := keystile.CredentialFrom(r.Header, nil); problem == nil {
		c.Credential = sha256.Sum256([]byte(secret))
	}
	return c
}

// speakerOf is who speaks for a replica that is attached.
func speakerOf(r *http.Request) cluster.Speaker {
	who := cluster.Speaker{Credential: callerOf(r).Credential}
	if marks := strings.Fields(r.Header.Get(stream.MarksHeader)); len(marks) > 0 && len(marks[0]) <= stream.MarkLength {
		who.Mark, who.Was = marks[0], marks[1:]
	}
	return who
}

// sameProtocol refuses a replica that would take what it is told otherwise than
// it is meant.
func sameProtocol(r *http.Request) *keystile.Error {
	theirs := r.URL.Query().Get("protocol")
	if theirs == strconv.Itoa(stream.Protocol) {
		return nil
	}
	fix := "Update the program that the replica is part of, or the agent, to " + keystile.Version + "."
	if n, err := strconv.Atoi(theirs); err == nil && n > stream.Protocol {
		fix = "Update the server first, and then its replicas."
	}
	return keystile.NewError(keystile.CodeInvalidRequest, "This replica is of another version than the server: they don't understand each other.", fix)
}

// position is where a replica stands that was attached before; -1 for none.
func position(r *http.Request) (seq int64, token [16]byte, problem *keystile.Error) {
	q := r.URL.Query()
	if !q.Has("seq") && !q.Has("token") {
		return -1, token, nil
	}
	seq, err := strconv.ParseInt(q.Get("seq"), 10, 64)
	raw, errToken := hex.DecodeString(q.Get("token"))
	if err != nil || errToken != nil || seq < 0 || copy(token[:], raw) != len(token) || len(raw) != len(token) {
		return -1, token, keystile.NewError(keystile.CodeInvalidRequest, "seq and token are not a position that a server gave out.")
	}
	return seq, token, nil
}

func (a *API) hello(attachment string) *stream.Hello {
	p := a.door.Profile
	h := &stream.Hello{
		Attachment: attachment, Version: keystile.Version, Protocol: stream.Protocol, Prefix: p.Prefix, Permissions: p.PermissionNames(),
		Profile: p.Source(), Roles: a.node.Roles(),
	}
	for _, e := range p.Environments {
		if e.Marker != "" {
			h.Markers = append(h.Markers, e.Marker)
		}
	}
	if index, ok := a.door.Index(); ok {
		h.Keys = index.Len()
	}
	return h
}

// feed sends what a replica needs until it goes, or may not be here any more.
func (a *API) feed(r *http.Request, at *cluster.Attachment, out *frames, from int64, token [16]byte) error {
	ctx := r.Context()
	resumed := false
	if from >= 0 {
		err := at.Resume(ctx, from, token)
		if err != nil && !errors.Is(err, cluster.ErrReset) {
			return err
		}
		resumed = err == nil
	}
	if resumed {
		if err := out.send(stream.Frame{Kind: stream.KindResumed, Seq: from, Token: token}); err != nil {
			return err
		}
	} else {
		seq, token, err := at.Load(ctx, func(b verify.Batch) error {
			return out.send(stream.Frame{Kind: stream.KindLoad, Batch: stream.NewBatch(b)})
		})
		if err != nil {
			return err
		}
		if err := out.send(stream.Frame{Kind: stream.KindLoaded, Seq: seq, Token: token}); err != nil {
			return err
		}
	}
	for {
		// A key that was taken away meanwhile must not learn what comes now.
		result, problem := a.door.Again(r, nil)
		if problem == nil {
			problem = mayReplicate(result)
		}
		if problem != nil {
			return problem
		}
		b, seq, token, err := at.Next(ctx, aliveEvery)
		switch {
		case errors.Is(err, cluster.ErrReset):
			return out.send(stream.Frame{Kind: stream.KindReset})
		case errors.Is(err, cluster.ErrLeaving):
			return out.send(stream.Frame{Kind: stream.KindLeave})
		case err != nil:
			return err
		}
		f := stream.Frame{Kind: stream.KindAlive}
		if token != ([16]byte{}) {
			f = stream.Frame{Kind: stream.KindChange, Batch: stream.NewBatch(b), Seq: seq, Token: token}
		}
		if err := out.send(f); err != nil {
			return err
		}
	}
}

// frames sends frames, each in its time.
type frames struct {
	w       *stream.Writer
	control *http.ResponseController
}

func (f *frames) send(frame stream.Frame) error {
	if err := f.control.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil {
		return err
	}
	if err := f.w.Write(frame); err != nil {
		return err
	}
	if err := f.w.Flush(); err != nil {
		return err
	}
	return f.control.Flush()
}

// grantLease takes note of how far a replica has come and what it has counted,
// and gives it a lease.
func (a *API) grantLease(w http.ResponseWriter, r *http.Request) {
	var ask stream.Ask
	id, who := r.PathValue("attachment"), speakerOf(r)
	problem := a.replicaCaller(r)
	if problem != nil && a.node.Attached(id, who) {
		// Its key was taken away. Whoever did that waits for the replica to know,
		// so it may say that it does; it gets nothing for that.
		if readJSON(w, r, maxAsk, &ask) == nil {
			a.node.Acknowledge(id, who, ask.Seq)
		}
	} else if problem == nil {
		problem = readJSON(w, r, maxAsk, &ask)
	}
	if problem == nil && len(ask.Uses) > stream.MaxUses {
		problem = field("body.uses", "Send at most "+strconv.Itoa(stream.MaxUses)+" at a time.")
	}
	if problem == nil { // the body may have come seconds later
		problem = a.replicaCaller(r)
	}
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	lease, err := a.node.Grant(id, who, ask.Seq, ask.Part)
	if err != nil {
		a.door.Refuse(w, r, a.replicaProblem(r, err))
		return
	}
	if lease.Fresh {
		a.door.Recorder.Restore(a.cleanUses(ask.Uses))
	}
	g := stream.Grant{Head: lease.Head, For: lease.For, Now: time.Now()}
	if !lease.Refused.IsZero() {
		g.Why = "changes waited for this replica, three within five minutes; the next lease is given after " + lease.Refused.UTC().Format(time.RFC3339)
	}
	writeJSON(w, g)
}

// cleanUses leaves out what no replica of ours can have counted, and uses of
// keys that are not here: each key that is counted takes memory.
func (a *API) cleanUses(uses []verify.Use) []verify.Use {
	const (
		most   = 1 << 32             // of one use: more than a replica counts in a minute
		oldest = 31 * 24 * time.Hour // each hour and day takes a row
	)
	var clean []verify.Use
	now := time.Now()
	index, ok := a.door.Index()
	if !ok {
		return nil
	}
	for _, u := range uses {
		if u.KeyID != "" && !index.Has(u.KeyID) {
			continue
		}
		if u.Count <= 0 || u.Count > most || !decides(u.Code) || u.First.Before(now.Add(-oldest)) || u.Last.Before(u.First) || u.Last.After(now.Add(time.Minute)) {
			continue
		}
		// A text that the database takes for none would keep all uses from being
		// written, again and again.
		if _, ok := verify.DecodeID("ws_", u.WorkspaceID); !ok && u.KeyID != "" && u.WorkspaceID != keyring.OperatorWorkspace {
			continue
		}
		u.UserAgent = entry.CleanUserAgent(u.UserAgent)
		clean = append(clean, u)
	}
	return clean
}

// decides tells whether a code is one that a key can be answered with.
func decides(c keystile.Code) bool {
	switch c.Status() {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

// releaseReplica ends the wait for a replica that answers no more.
func (a *API) releaseReplica(w http.ResponseWriter, r *http.Request) {
	if problem := a.replicaCaller(r); problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	a.node.Release(r.PathValue("attachment"), speakerOf(r))
	w.WriteHeader(http.StatusNoContent)
}

// replicaCaller checks the key of a replica, which is asked for too often to
// count as a use each time.
func (a *API) replicaCaller(r *http.Request) *keystile.Error {
	result, problem := a.door.Again(r, nil)
	if problem == nil {
		problem = mayReplicate(result)
	}
	return problem
}
