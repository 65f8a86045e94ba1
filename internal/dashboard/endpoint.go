package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// endpoints serves a page only where the profile offers endpoints.
func endpoints(serve func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		if !v.door.Profile.Endpoints {
			return unknownPage()
		}
		return serve(v)
	}
}

func (v *visit) endpointsAt() string { return v.base() + "/endpoints" }

func (v *visit) endpointAt(id string) string { return v.endpointsAt() + "/" + id }

// endpointsPage is the list of a workspace's endpoints.
type endpointsPage struct {
	Tabs        []tab
	Rows        []endpointRow
	First, Next string // addresses of other pages of the list
	MayCreate   bool
}

// endpointRow is an endpoint with what the reader may do about it.
type endpointRow struct {
	keystile.Endpoint

	Acts []string
}

func (v *visit) endpointRow(e keystile.Endpoint) endpointRow {
	row := endpointRow{Endpoint: e}
	if v.actor.May("api.endpoint.update") {
		row.Acts = append(row.Acts, "edit", "test")
		if e.Status == keystile.EndpointActive {
			row.Acts = append(row.Acts, "pause")
		} else {
			row.Acts = append(row.Acts, "resume")
		}
	}
	if v.actor.May("api.endpoint.delete") {
		row.Acts = append(row.Acts, "delete")
	}
	return row
}

func (v *visit) listEndpoints() error {
	cursor := v.r.URL.Query().Get("cursor")
	list, err := v.keyring().Endpoints(v.r.Context(), v.actor, v.workspace.ID, cursor, keysOnPage)
	if err != nil {
		return err
	}
	page := endpointsPage{Tabs: v.tabs("endpoints"), MayCreate: v.actor.May("api.endpoint.create")}
	for _, e := range list.Data {
		page.Rows = append(page.Rows, v.endpointRow(e))
	}
	if cursor != "" {
		page.First = v.endpointsAt()
	}
	if list.NextCursor != "" {
		page.Next = v.endpointsAt() + "?cursor=" + url.QueryEscape(list.NextCursor)
	}
	v.show(http.StatusOK, "endpoints", v.door.Profile.Word("endpoints_title"), page)
	return nil
}

// endpoint reads the endpoint of the path, which is this workspace's own.
func (v *visit) endpoint() (keystile.Endpoint, error) {
	e, err := v.keyring().Endpoint(v.r.Context(), v.actor, v.r.PathValue("endpoint"))
	if err == nil && e.WorkspaceID != v.workspace.ID {
		return keystile.Endpoint{}, unknownPage()
	}
	return e, err
}

// endpointForm is the form of a new endpoint or of one that there is.
type endpointForm struct {
	Endpoint    keystile.Endpoint // with an ID when there is one
	URL         string
	Description string
	Ranges      string
	MayAllow    bool // the reader may open the operator's network
	Groups      []eventGroup
	Nonce       string
	Problem     *keystile.Error
}

// eventGroup is a branch of the types of events.
type eventGroup struct {
	Title string
	Items []eventItem
}

type eventItem struct {
	Pattern, Description string
	Checked, Disabled    bool
}

// eventGroups is the catalogue as a picker: each branch begins with all of it.
// Only what the reader may see can be ticked.
func (v *visit) eventGroups(chosen []string) []eventGroup {
	all := eventItem{Pattern: "*", Description: "Everything, also what comes later", Checked: slices.Contains(chosen, "*")}
	groups := []eventGroup{{Title: "All"}}
	for _, t := range keystile.EventTypes() {
		branch, _, _ := strings.Cut(t.Type, ".")
		may := v.actor.May(t.Permission)
		all.Disabled = all.Disabled || !may
		if last := groups[len(groups)-1]; last.Title != branch {
			groups = append(groups, eventGroup{Title: branch, Items: []eventItem{{
				Pattern: branch + ".*", Description: "All of these", Checked: slices.Contains(chosen, branch+".*"), Disabled: !may,
			}}})
		}
		g := &groups[len(groups)-1]
		g.Items[0].Disabled = g.Items[0].Disabled || !may
		g.Items = append(g.Items, eventItem{t.Type, t.Description, slices.Contains(chosen, t.Type), !may})
	}
	groups[0].Items = []eventItem{all}
	return groups
}

func (v *visit) newEndpoint() error { return v.newEndpointForm(nil) }

func (v *visit) newEndpointForm(problem *keystile.Error) error {
	return v.endpointFormPage("endpoint_create_title", endpointForm{
		URL: v.r.PostFormValue("url"), Description: v.r.PostFormValue("description"), Ranges: v.r.PostFormValue("ranges"), Problem: problem,
	}, v.eventsTicked())
}

func (v *visit) endpointFormPage(title string, f endpointForm, chosen []string) error {
	f.Groups, f.Nonce, f.MayAllow = v.eventGroups(chosen), newNonce(), v.actor.May("platform.endpoint.allow")
	v.show(formStatus(f.Problem), "endpoint_form", v.door.Profile.Word(title), f)
	return nil
}

// eventsTicked are the types that the form names.
func (v *visit) eventsTicked() []string {
	if v.r.Method == http.MethodGet {
		return nil
	}
	_ = v.r.PostFormValue("url")               // reads the form
	ticked := v.r.PostForm["types[]"]          //nolint:forbidigo // the form's fields, not the function of that name
	return ticked[:min(len(ticked), maxTicks)] // the keyring refuses so many
}

// rangesTyped are the ranges that an operator allows, one a line.
func (v *visit) rangesTyped() []string { return strings.Fields(v.r.PostFormValue("ranges")) }

// createEndpoint makes an endpoint and shows its secret, once.
func (v *visit) createEndpoint() error {
	out, replayed, err := v.keyring().CreateEndpoint(v.r.Context(), v.actor, v.workspace.ID, keystile.CreateEndpoint{
		URL: v.r.PostFormValue("url"), Description: v.r.PostFormValue("description"), EventTypes: v.eventsTicked(), AllowRanges: v.rangesTyped(),
	}, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.newEndpointForm(problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.to(v.endpointAt(out.Endpoint.ID))
	}
	return v.endpointPage(http.StatusCreated, out.Endpoint, &createdSecret{
		keystile.CreatedWebhookSecret{WebhookSecret: out.WebhookSecret, Secret: out.Secret}, v.endpointAt(out.Endpoint.ID),
	})
}

// endpointPage is all there is to know about an endpoint.
type endpointPage struct {
	endpointRow

	Tabs        []tab
	Created     *createdSecret
	Secrets     []endpointSecret
	Status      string // filter of the deliveries
	Statuses    []string
	Deliveries  []keystile.Delivery
	First, Next string
	MayRetry    bool
}

// endpointSecret is a secret of the endpoint with what the reader may do about it.
type endpointSecret struct {
	keystile.WebhookSecretRecord

	Marks                []string // names of words without mark_
	MayRotate, MayRevoke bool
}

func (v *visit) showEndpoint() error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	return v.endpointPage(http.StatusOK, e, nil)
}

func (v *visit) endpointPage(status int, e keystile.Endpoint, made *createdSecret) error {
	page := endpointPage{endpointRow: v.endpointRow(e), Tabs: v.tabs("endpoints"), Created: made, MayRetry: v.actor.May("api.endpoint.update")}
	secrets, err := v.keyring().WebhookSecrets(v.r.Context(), v.actor, v.workspace.ID, keyring.WebhookSecretQuery{Endpoint: e.ID, Limit: keysOnPage})
	if err != nil {
		return err
	}
	signing := map[string]bool{}
	for _, s := range secrets.Data {
		signing[s.ID] = s.Status == keystile.StatusActive
	}
	for _, s := range secrets.Data {
		// There is no third one while a rotation has two in use.
		rotating := signing[s.ReplacedBy] || signing[s.Replaces]
		live := signing[s.ID] && page.MayRetry
		page.Secrets = append(page.Secrets, endpointSecret{s, v.secretRow(s).Marks, live && !rotating, live})
	}
	q := v.r.URL.Query()
	page.Status = q.Get("status")
	page.Statuses = []string{"pending", "delivered", "failed"}
	if !slices.Contains(page.Statuses, page.Status) {
		page.Status = ""
	}
	list, err := v.keyring().Deliveries(v.r.Context(), v.actor, e.ID, keystile.DeliveryStatus(page.Status), q.Get("cursor"), keysOnPage)
	if err != nil {
		return err
	}
	page.Deliveries = list.Data
	filter := url.Values{}
	if page.Status != "" {
		filter.Set("status", page.Status)
	}
	if q.Get("cursor") != "" {
		page.First = v.endpointAt(e.ID) + "?" + filter.Encode()
	}
	if list.NextCursor != "" {
		filter.Set("cursor", list.NextCursor)
		page.Next = v.endpointAt(e.ID) + "?" + filter.Encode()
	}
	v.show(status, "endpoint", v.door.Profile.Word("endpoint_title"), page)
	return nil
}

// deliveryPage is a delivery with its attempts.
type deliveryPage struct {
	keystile.DeliveryDetails

	Tabs     []tab
	Endpoint keystile.Endpoint
	MayRetry bool
}

// delivery reads the delivery of the path, which is this workspace's own.
func (v *visit) delivery() (keystile.DeliveryDetails, error) {
	d, err := v.keyring().Delivery(v.r.Context(), v.actor, v.r.PathValue("delivery"))
	if err == nil && d.Delivery.WorkspaceID != v.workspace.ID {
		return keystile.DeliveryDetails{}, unknownPage()
	}
	return d, err
}

func (v *visit) showDelivery() error {
	d, err := v.delivery()
	if err != nil {
		return err
	}
	e, err := v.keyring().Endpoint(v.r.Context(), v.actor, d.Delivery.EndpointID)
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "delivery", v.door.Profile.Word("delivery_title"), deliveryPage{d, v.tabs("endpoints"), e, v.actor.May("api.endpoint.update")})
	return nil
}

func (v *visit) retryDelivery() error {
	d, err := v.delivery()
	if err != nil {
		return err
	}
	if _, err := v.keyring().RetryDelivery(v.r.Context(), v.actor, d.Delivery.ID); err != nil {
		return err
	}
	return v.to(v.base() + "/deliveries/" + d.Delivery.ID + "?done=queued")
}
