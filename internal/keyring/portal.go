package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

// maxPortalLife is the longest that a portal session can last.
const maxPortalLife = 24 * time.Hour

// portalLinkLife is for how long the link to a portal session can be opened.
const portalLinkLife = 5 * time.Minute

// portalData is what a portal's link carries.
type portalData struct {
	ReturnURL string        `json:"return_url,omitempty"`
	Life      time.Duration `json:"life"`
	Maker     maker         `json:"maker"`
}

// CreatePortal makes a link that opens a session for one of the product's own
// people in one workspace, once, and returns its token. The person becomes a
// member with the role, or has it from now on.
func (k *Keyring) CreatePortal(ctx context.Context, a Actor, workspaceID string, in keystile.CreatePortalSession) (token string, expires time.Time, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return "", expires, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("platform.portal"); err != nil {
			return err
		}
		data, err := portalOf(in, a.maker())
		if err != nil {
			return err
		}
		if in.Person.Subject == "" {
			return badField("body.person.subject", "Name the person by the ID that your product has for them.")
		}
		if ws.Operator {
			return badField("body.workspace", "The operator's own workspace has no portal.")
		}
		m, err := c.seat(ws, keystile.CreateMember{Person: in.Person, Role: in.Role})
		if err != nil {
			return err
		}
		expires = c.now.Add(portalLinkLife)
		token, err = c.createLink(store.Link{
			WorkspaceID: ws.ID, PersonID: m.Person.ID, Purpose: SessionPortal, Data: string(data),
		}, portalLinkLife)
		if err != nil {
			return err
		}
		return c.record(entry{workspaceID: ws.ID, action: "portal.created", kind: store.ChangeLink, objectID: m.ID, objectName: personName(m.Person)})
	})
	return token, expires, err
}

func portalOf(in keystile.CreatePortalSession, by maker) ([]byte, error) {
	data := portalData{ReturnURL: in.ReturnURL, Life: time.Hour, Maker: by}
	if in.ExpiresIn != "" {
		var err error
		if data.Life, err = time.ParseDuration(in.ExpiresIn); err != nil || data.Life < time.Minute || data.Life > maxPortalLife {
			return nil, badField("body.expires_in", "It must be a duration from 1m to 24h, such as 30m.")
		}
	}
	if in.ReturnURL != "" {
		u, err := url.Parse(in.ReturnURL)
		// The pages' content policy names the host; these would mean more there.
		if err != nil || len(in.ReturnURL) > 500 || u.Host == "" || strings.ContainsAny(u.Host, "*;,'") || u.User != nil || (u.Scheme != "https" && (u.Scheme != "http" || !isLocal(u.Hostname()))) {
			return nil, badField("body.return_url", "It must be an address of your product that begins with https://.")
		}
	}
	return json.Marshal(data)
}

// isLocal tells whether a host is the reader's own machine, which http is fine for.
func isLocal(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// seat finds the person's place in the workspace, and gives them one, or
// another role there, as the caller may.
func (c *change) seat(ws keystile.Workspace, in keystile.CreateMember) (keystile.Member, error) {
	known, err := c.PersonBySubject(in.Person.Issuer, in.Person.Subject)
	if errors.Is(err, store.ErrNotFound) {
		return c.createMember(ws, in)
	} else if err != nil {
		return keystile.Member{}, err
	}
	at, err := c.Membership(known.ID, ws.ID)
	if errors.Is(err, store.ErrNotFound) {
		return c.createMember(ws, in)
	} else if err != nil {
		return keystile.Member{}, err
	}
	m, err := c.Member(store.OneWorkspace(ws.ID), at.MemberID)
	if err != nil {
		return keystile.Member{}, err
	}
	role, err := c.roleOf(ws.ID, in.Role)
	if err != nil {
		return keystile.Member{}, err
	}
	if role.ID == m.RoleID {
		return m.Member, c.mayExtend(nil, role.Permissions)
	}
	if err := c.giveRole(&m, role); err != nil {
		return keystile.Member{}, err
	}
	return m.Member, nil
}

// withoutMembers are the permissions of someone who came from the product: all
// of the role's, but for managing members. Whom the product sends is its own to
// say, and an identity made here would outlive the session.
func withoutMembers(role keystile.Permissions) keystile.Permissions {
	var out keystile.Permissions
	for _, p := range role {
		if !strings.HasPrefix(p, keystile.ManagementPrefix) {
			out = append(out, p)
		}
	}
	for _, p := range profile.ManagementPermissions() {
		if role.Allow(p.Name) && !managesMembers(p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}

func managesMembers(permission string) bool {
	return strings.HasPrefix(permission, "api.member.") && permission != "api.member.view"
}

// openPortal makes a session of a portal's link.
func (c *change) openPortal(l store.Link, s *store.Session) (err error) {
	var data portalData
	if err := json.Unmarshal([]byte(l.Data), &data); err != nil {
		return err
	}
	by, err := c.maker(data.Maker, l.WorkspaceID)
	if err != nil {
		return err
	}
	if by.need("platform.portal") != nil {
		return store.ErrNotFound
	}
	s.Kind, s.ReturnURL, s.ExpiresAt = SessionPortal, data.ReturnURL, c.now.Add(data.Life)
	if s.Person, err = c.Person(l.PersonID); err != nil {
		return err
	}
	if _, err := c.Membership(l.PersonID, l.WorkspaceID); err != nil {
		return err // removed since
	}
	return c.ActivateMember(l.PersonID, l.WorkspaceID)
}
