package keyring

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

const (
	// maxEndpoints bounds what one event of a workspace can cost, whatever the
	// plan says: each endpoint is a row to write and a request to send.
	maxEndpoints  = 100
	maxURL        = 500
	maxEventTypes = 100
	maxRanges     = 20
	// Ranges that the operator allows are of the own network, not half the internet.
	minRange4, minRange6 = 8, 32 // bits
	// deleteChunk is how many deliveries of a deleted endpoint go at once.
	deleteChunk = 500
)

// endpointLabel is the label of an endpoint's first secret.
const endpointLabel = "Endpoint"

// allowRanges is the permission to let an endpoint reach the operator's network.
const allowRanges = "platform.endpoint.allow"

// Endpoints lists the endpoints of a workspace, newest first.
func (k *Keyring) Endpoints(ctx context.Context, a Actor, workspaceID, cursor string, n int) (out keystile.List[keystile.Endpoint], err error) {
	if err := checkCursor("ep_", cursor); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.readWithin(ctx, a, workspaceID, "api.endpoint.view", func(tx *store.Tx) error {
		rows, err := tx.Endpoints(a.scope(), workspaceID, cursor, n+1)
		var list []keystile.Endpoint
		for _, r := range rows {
			list = append(list, r.Endpoint)
		}
		out = page(list, n, func(e keystile.Endpoint) string { return e.ID })
		return err
	})
	return out, err
}

// Endpoint shows an endpoint.
func (k *Keyring) Endpoint(ctx context.Context, a Actor, id string) (out keystile.Endpoint, err error) {
	err = k.readEndpoint(ctx, a, id, "api.endpoint.view", func(_ *store.Tx, e store.Endpoint) error {
		out = e.Endpoint
		return nil
	})
	return out, err
}

// readEndpoint runs fn on an endpoint that the actor may see.
func (k *Keyring) readEndpoint(ctx context.Context, a Actor, id, permission string, fn func(tx *store.Tx, e store.Endpoint) error) error {
	if err := checkID("ep_", id); err != nil {
		return err
	}
	return k.read(ctx, func(tx *store.Tx) error {
		e, err := tx.Endpoint(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need(permission); err != nil {
			return err
		}
		return fn(tx, e)
	})
}

// CreateEndpoint makes an endpoint with its first secret. Whoever does so can
// see all of what they subscribe it to.
func (k *Keyring) CreateEndpoint(ctx context.Context, a Actor, workspaceID string, in keystile.CreateEndpoint, idem Idempotency) (out keystile.CreatedEndpoint, replayed bool, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, false, err
	}
	strip := func(e keystile.CreatedEndpoint) keystile.CreatedEndpoint { e.Secret = ""; return e }
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("api.endpoint.create"); err != nil {
			return err
		}
		out, replayed, err = once(c, idem, in, strip, func() (keystile.CreatedEndpoint, error) { return c.createEndpoint(ws, in) })
		return err
	})
	if err != nil {
		return keystile.CreatedEndpoint{}, false, err
	}
	return out, replayed, nil
}

func (c *change) createEndpoint(ws keystile.Workspace, in keystile.CreateEndpoint) (out keystile.CreatedEndpoint, err error) {
	e := store.Endpoint{Endpoint: keystile.Endpoint{
		ID: c.k.ids.next("ep_", c.now), WorkspaceID: ws.ID, Status: keystile.EndpointActive,
		CreatedAt: c.now, CreatedBy: c.actor.party, UpdatedAt: c.now,
	}}
	if e.Description, err = text("body.description", in.Description, maxDescription); err != nil {
		return out, err
	}
	if err := c.subscribe(&e, in.EventTypes); err != nil {
		return out, err
	}
	if err := c.allowRanges(&e, in.AllowRanges); err != nil {
		return out, err
	}
	if e.URL, err = c.receiverURL(in.URL, len(e.AllowRanges) > 0); err != nil {
		return out, err
	}
	n, err := c.CountEndpoints(store.OneWorkspace(ws.ID), ws.ID)
	if err != nil {
		return out, err
	}
	if most := c.k.planOf(ws).Limits.Endpoints; most >= 0 && !ws.Operator && n >= most {
		return out, planLimit(c.k.planOf(ws), "endpoint", most, "Delete endpoints that are no longer used.")
	}
	if n >= maxEndpoints {
		return out, keystile.NewError(keystile.CodeConflict,
			"There are "+strconv.Itoa(maxEndpoints)+" endpoints in this workspace, and every event goes to each that asks for it. There can't be more.",
			"Delete endpoints that are no longer used.")
	}
	if err := c.InsertEndpoint(e); err != nil {
		return out, err
	}
	out.Endpoint = e.Endpoint
	if err := c.recordEndpoint("endpoint.created", "", nil, &e); err != nil {
		return out, err
	}
	made, err := c.createSecret(ws, keystile.CreateWebhookSecret{Label: endpointLabel, Endpoint: e.ID})
	out.WebhookSecret, out.Secret = made.WebhookSecret, made.Secret
	return out, err
}

func (c *change) recordEndpoint(action, reason string, before, after *store.Endpoint) error {
	en := entry{action: action, kind: store.ChangeEndpoint, reason: reason}
	if before != nil {
		en.before, en.workspaceID, en.objectID, en.objectName = before.Endpoint, before.WorkspaceID, before.ID, before.URL
	}
	if after != nil {
		en.after, en.workspaceID, en.objectID, en.objectName = after.Endpoint, after.WorkspaceID, after.ID, after.URL
	}
	return c.record(en)
}

// subscribe sets what an endpoint gets. The actor needs to see all of it. What
// was asked for before is remembered: events that came under it may wait still,
// and can be sent again.
func (c *change) subscribe(e *store.Endpoint, patterns []string) error {
	if len(patterns) == 0 {
		return badField("body.event_types", "It names no type. Name at least one, or * for all.")
	}
	if len(patterns) > maxEventTypes {
		return badField("body.event_types", "It has more than "+strconv.Itoa(maxEventTypes)+" entries.")
	}
	e.EventTypes, e.Sees = nil, slices.Clone(e.Sees)
	for i, p := range patterns {
		known := false
		for _, t := range keystile.EventTypes() {
			if !keystile.EventMatches(p, t.Type) {
				continue
			}
			known = true
			if err := c.actor.need(t.Permission); err != nil {
				return err
			}
			if !slices.Contains(e.Sees, t.Permission) {
				e.Sees = append(e.Sees, t.Permission)
			}
		}
		if !known || strings.Contains(strings.TrimSuffix(p, "*"), "*") || p != "*" && strings.HasSuffix(p, "*") && !strings.HasSuffix(p, ".*") {
			return badField("body.event_types["+strconv.Itoa(i)+"]",
				"There is no such type of event. GET /v1/event-types lists them; key.* stands for all that begin with key. and * for all.")
		}
		if !slices.Contains(e.EventTypes, p) {
			e.EventTypes = append(e.EventTypes, p)
		}
	}
	return nil
}

// wants tells whether an endpoint gets events of a type. A type that came with
// a newer version may need a permission that nobody was asked for when the
// endpoint was made; it gets those after someone who has it saves its types.
func wants(e store.Endpoint, t keystile.EventType) bool {
	return slices.Contains(e.Sees, t.Permission) &&
		slices.ContainsFunc(e.EventTypes, func(p string) bool { return keystile.EventMatches(p, t.Type) })
}

// allowRanges sets which addresses of the operator's network an endpoint may
// reach. That takes the operator.
func (c *change) allowRanges(e *store.Endpoint, list []string) (err error) {
	if len(list) == 0 && len(e.AllowRanges) == 0 {
		return nil
	}
	if err := c.actor.need(allowRanges); err != nil {
		return err
	}
	e.AllowRanges, err = ranges(list)
	return err
}

// ranges checks a list of ranges of the operator's network.
func ranges(list []string) ([]string, error) {
	if len(list) > maxRanges {
		return nil, badField("body.allow_ranges", "It has more than "+strconv.Itoa(maxRanges)+" entries.")
	}
	out, err := allowlist("body.allow_ranges", list)
	if err != nil {
		return nil, err
	}
	for i, s := range out {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		if p.Addr().Is4() && p.Bits() < minRange4 || !p.Addr().Is4() && p.Bits() < minRange6 {
			return nil, badField("body.allow_ranges["+strconv.Itoa(i)+"]", "It is too wide. Name the range that the receiver is in, /"+
				strconv.Itoa(minRange4)+" at the widest, or /"+strconv.Itoa(minRange6)+" for IPv6.")
		}
	}
	return out, nil
}

// receiverURL checks where events are to be sent. What the name leads to is
// checked when it is dialled, each time anew; what is plainly no public address
// is told now. Inside of ranges that the operator allows it may be http.
func (c *change) receiverURL(s string, inside bool) (string, error) {
	s, err := text("body.url", s, maxURL)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return "", badField("body.url", "It is not a URL such as https://example.com/keystile.")
	case u.User != nil:
		return "", badField("body.url", "It holds a user name or password, which everyone would see who may see this. Deliveries are signed: check the signature instead.")
	case u.Fragment != "" || strings.Contains(s, "#"):
		return "", badField("body.url", "Leave out the # and what follows it: it is never sent.")
	case !inside && (u.Scheme == "http" || u.Scheme == "https") && local(u.Hostname()):
		return "", badField("body.url", "It leads to this machine or into a private network. "+c.whoAllows())
	case u.Scheme != "https" && (u.Scheme != "http" || !inside):
		return "", badField("body.url", "It must begin with https://.")
	case u.Port() != "" && !validPort(u.Port()):
		return "", badField("body.url", "Its port is not a number from 1 to 65535.")
	}
	return u.String(), nil
}

// local tells whether a host is plainly no public one.
func local(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	address, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && !public(address)
}

// whoAllows says how a URL inside of the operator's network is allowed: to the
// operator what to do, to others whom to ask.
func (c *change) whoAllows() string {
	if c.actor.May(allowRanges) {
		return "Name its addresses in allow_ranges, such as 127.0.0.1 or 10.1.2.0/24; then it may begin with http:// as well."
	}
	who := "whoever runs " + c.k.profile.Product
	if mail := c.k.profile.Branding.SupportEmail; mail != "" {
		who += " (" + mail + ")"
	}
	return "Only its operator can allow that, for one endpoint: ask " + who + ", and say which address."
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// public tells whether an address may be one of the internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// changeEndpoint runs fn on an endpoint.
func (k *Keyring) changeEndpoint(ctx context.Context, a Actor, id, permission string, fn func(c *change, e *store.Endpoint) error) (out keystile.Endpoint, err error) {
	if err := checkID("ep_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		e, err := c.Tx.Endpoint(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need(permission); err != nil {
			return err
		}
		if err := fn(c, &e); err != nil {
			return err
		}
		out = e.Endpoint
		return nil
	})
	if err != nil {
		return keystile.Endpoint{}, err
	}
	return out, nil
}

// save writes an endpoint and records that.
func (c *change) saveEndpoint(action, reason string, before store.Endpoint, e *store.Endpoint, due time.Time) error {
	e.UpdatedAt = c.now
	if err := c.Tx.UpdateEndpoint(store.OneWorkspace(e.WorkspaceID), *e, due); err != nil {
		return err
	}
	return c.recordEndpoint(action, reason, &before, e)
}

// UpdateEndpoint edits an endpoint. Whoever changes what it gets can see all of
// that, and whoever changes where it leads also what it has got so far.
func (k *Keyring) UpdateEndpoint(ctx context.Context, a Actor, id string, in keystile.EndpointPatch) (keystile.Endpoint, error) {
	return k.changeEndpoint(ctx, a, id, "api.endpoint.update", func(c *change, e *store.Endpoint) (err error) {
		if in == (keystile.EndpointPatch{}) {
			return nil
		}
		before := *e
		if in.Description != nil {
			if e.Description, err = text("body.description", *in.Description, maxDescription); err != nil {
				return err
			}
		}
		if in.AllowRanges != nil {
			if err := c.allowRanges(e, *in.AllowRanges); err != nil {
				return err
			}
		}
		if in.URL != nil || in.AllowRanges != nil {
			to := e.URL
			if in.URL != nil {
				to = *in.URL
			}
			if e.URL, err = c.receiverURL(to, len(e.AllowRanges) > 0); err != nil {
				return err
			}
			if e.URL != before.URL && len(e.AllowRanges) > 0 && !a.May(allowRanges) {
				return keystile.NewError(keystile.CodeExceedsAuthority,
					"The operator allowed this URL to lead into the own network, and another one may lead elsewhere in there.",
					"Create another endpoint for the new URL.", "Ask the operator to change the URL.")
			}
		}
		if e.URL != before.URL {
			// What the endpoint got so far could be sent to the new URL.
			if err := a.need(before.Sees...); err != nil {
				return err
			}
		}
		if in.EventTypes != nil || e.URL != before.URL {
			types := e.EventTypes
			if in.EventTypes != nil {
				types = *in.EventTypes
			}
			if err := c.subscribe(e, types); err != nil {
				return err
			}
		}
		return c.saveEndpoint("endpoint.updated", "", before, e, time.Time{})
	})
}

// PauseEndpoint has events wait instead of being sent.
func (k *Keyring) PauseEndpoint(ctx context.Context, a Actor, id string, in keystile.PauseEndpoint) (keystile.Endpoint, error) {
	return k.changeEndpoint(ctx, a, id, "api.endpoint.update", func(c *change, e *store.Endpoint) error {
		reason, err := text("body.reason", in.Reason, maxReason)
		if err != nil {
			return err
		}
		if e.Status != keystile.EndpointActive {
			return nil
		}
		if err := c.closeAlertsOf(e.ID); err != nil {
			return err
		}
		return c.stopEndpoint(e, keystile.EndpointPaused, reason)
	})
}

// stopEndpoint pauses or disables an endpoint.
func (c *change) stopEndpoint(e *store.Endpoint, status keystile.EndpointStatus, reason string) error {
	before := *e
	e.Status, e.StatusReason = status, reason
	action := "endpoint.paused"
	if status == keystile.EndpointDisabled {
		action = "endpoint.disabled"
	}
	return c.saveEndpoint(action, reason, before, e, time.Time{})
}

// ResumeEndpoint has events sent again, those first that have waited.
func (k *Keyring) ResumeEndpoint(ctx context.Context, a Actor, id string) (keystile.Endpoint, error) {
	return k.changeEndpoint(ctx, a, id, "api.endpoint.update", func(c *change, e *store.Endpoint) error {
		if e.Status == keystile.EndpointActive {
			return nil
		}
		if err := c.closeAlertsOf(e.ID); err != nil {
			return err
		}
		before := *e
		e.Status, e.StatusReason, e.FailingSince = keystile.EndpointActive, "", nil
		return c.saveEndpoint("endpoint.resumed", "", before, e, c.now)
	})
}

// DeleteEndpoint removes an endpoint with its secrets, deliveries and what
// still waited for it.
func (k *Keyring) DeleteEndpoint(ctx context.Context, a Actor, id string) error {
	_, err := k.changeEndpoint(ctx, a, id, "api.endpoint.delete", func(c *change, e *store.Endpoint) error {
		if err := c.recordEndpoint("endpoint.deleted", "", e, nil); err != nil {
			return err
		}
		if err := c.closeAlertsOf(e.ID); err != nil {
			return err
		}
		open, err := c.OpenAlertsOfEndpoint(store.OneWorkspace(e.WorkspaceID), e.ID)
		if err != nil {
			return err
		}
		for _, one := range open {
			if err := c.closeAlert(one); err != nil {
				return err
			}
		}
		return c.Tx.DeleteEndpoint(store.OneWorkspace(e.WorkspaceID), e.ID)
	})
	// In steps, since nobody should wait for thousands of rows. What is left
	// when this is cut short is seen by nobody, and goes with its events.
	for err == nil {
		var n int64
		if _, err = k.store.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.DeleteDeliveries(id, deleteChunk)
			return err
		}); n == 0 {
			break
		}
	}
	return problemOf(err)
}
