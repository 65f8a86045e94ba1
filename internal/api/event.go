package api

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keystile/keystile"
)

// eventType is a type of event with the form of its payload.
type eventType struct {
	keystile.EventType
	Schema json.RawMessage `json:"schema" doc:"JSON Schema (2020-12) of the payload, whole in itself"`
}

type noInput struct{}

func (a *API) listEventTypes(context.Context, *noInput) (*answer[keystile.List[eventType]], error) {
	types, err := a.types()
	return answerWith(keystile.List[eventType]{Data: types}, err)
}

// describeEvents writes every type of event into the description's webhooks,
// in the types that receivers read them with.
func describeEvents(h huma.API) {
	doc := h.OpenAPI()
	doc.Webhooks = map[string]*huma.PathItem{}
	schema[keystile.Event](h)
	for _, t := range keystile.EventTypes() {
		doc.Webhooks[t.Type] = &huma.PathItem{Post: &huma.Operation{
			OperationID: "on" + camel(t.Type), Tags: []string{"Events"}, Summary: t.Description,
			Description: "Who may subscribe: " + t.Permission + ".",
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"application/json": {Schema: eventSchema(doc.Components.Schemas, t)},
			}},
			Responses: map[string]*huma.Response{"2XX": {Description: "Accepted. Any other status: not accepted, and sent again"}},
		}}
	}
}

// camel makes a name of a type: keyRotationDue of key.rotation_due.
func camel(s string) string {
	var b strings.Builder
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '_' }) {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// eventSchema is the form of one type of event: the envelope, and the one
// member of data that is there.
func eventSchema(r huma.Registry, t keystile.EventType) *huma.Schema {
	envelope := r.SchemaFromRef(r.Schema(reflect.TypeFor[keystile.Event](), true, "").Ref)
	data := r.SchemaFromRef(envelope.Properties["data"].Ref)
	properties := maps.Clone(envelope.Properties)
	properties["type"] = &huma.Schema{Type: huma.TypeString, Enum: []any{t.Type}}
	properties["data"] = &huma.Schema{
		Type: huma.TypeObject, Required: []string{t.Object}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{t.Object: data.Properties[t.Object]},
	}
	return &huma.Schema{
		Type: huma.TypeObject, Required: envelope.Required, AdditionalProperties: false, Properties: properties,
	}
}

// eventTypes lists the types with their schemas, which stand alone: what they
// refer to is in them.
func eventTypes(h huma.API) ([]eventType, error) {
	registry := h.OpenAPI().Components.Schemas
	const prefix = "#/components/schemas/"
	var out []eventType
	for _, t := range keystile.EventTypes() {
		text, err := json.Marshal(eventSchema(registry, t))
		if err != nil {
			return nil, err
		}
		defs := map[string]json.RawMessage{}
		for todo := references(string(text), prefix); len(todo) > 0; todo = todo[1:] {
			if defs[todo[0]] != nil {
				continue
			}
			part, err := json.Marshal(registry.Map()[todo[0]])
			if err != nil {
				return nil, err
			}
			defs[todo[0]] = json.RawMessage(strings.ReplaceAll(string(part), prefix, "#/$defs/"))
			todo = append(todo, references(string(part), prefix)...)
		}
		var whole map[string]any
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), prefix, "#/$defs/")), &whole); err != nil {
			return nil, err
		}
		whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		if len(defs) > 0 {
			whole["$defs"] = defs
		}
		if text, err = json.Marshal(whole); err != nil {
			return nil, err
		}
		out = append(out, eventType{EventType: t, Schema: text})
	}
	return out, nil
}

// references finds what a schema refers to, each once.
func references(text, prefix string) (names []string) {
	for {
		_, rest, ok := strings.Cut(text, `"`+prefix)
		if !ok {
			return names
		}
		name, rest, _ := strings.Cut(rest, `"`)
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		text = rest
	}
}
