package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/keystile/keystile"
)

type deliveriesCmd struct {
	List  deliveriesListCmd  `cmd:"" help:"List the deliveries to an endpoint, newest first."`
	Show  deliveriesShowCmd  `cmd:"" help:"Show a delivery with its attempts and what is sent."`
	Retry deliveriesRetryCmd `cmd:"" help:"Send an event again, whatever became of it."`
}

// deliveryID is an argument that names a delivery.
type deliveryID string

// UnmarshalText reads the argument.
func (id *deliveryID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "dlv_", "delivery's id", "deliveries")
	*id = deliveryID(checked)
	return err
}

type deliveryArg struct {
	ID deliveryID `arg:"" help:"ID of the delivery, dlv_…" name:"id"`
}

type deliveriesListCmd struct {
	clientFlags
	endpointArg
	Status string `help:"Only deliveries that are ${enum}." enum:"pending,delivered,failed,all" default:"all" placeholder:"STATUS"`
	Limit  int    `help:"At most so many." default:"100" placeholder:"N"`
}

// Run lists the newest.
func (c *deliveriesListCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 {
		return usage(errors.New("--limit must be at least 1"))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	return listing[keystile.Delivery]{
		nouns: "deliveries", narrowed: c.Status != "all",
		headings: []string{"ID", "EVENT", "HAPPENED", "STATUS", "ATTEMPTS", "ANSWER", "TOOK", "NEXT"},
		row: func(d keystile.Delivery) []string {
			answer, took := "", ""
			if d.Attempts > 0 {
				answer, took = "none", strconv.FormatInt(d.LastMS, 10)+" ms"
			}
			if d.LastStatus != 0 {
				answer = strconv.Itoa(d.LastStatus)
			}
			return []string{d.ID, d.EventType, minute(d.EventAt), string(d.Status), strconv.Itoa(d.Attempts), answer, took, minutePtr(d.NextAt)}
		},
	}.write(a, client.AllDeliveries(ctx, string(c.ID), keystile.ListDeliveries{Status: c.Status, Limit: min(c.Limit, 200)}), c.Limit)
}

type deliveriesShowCmd struct {
	clientFlags
	deliveryArg
}

// Run shows the delivery.
func (c *deliveriesShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	d, err := client.Delivery(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, d)
	}
	fields := [][2]string{
		{"ID", d.Delivery.ID},
		{"Endpoint", d.Delivery.EndpointID},
		{"Event", d.Delivery.EventType + " (" + d.Delivery.EventID + ")"},
		{"Happened", minute(d.Delivery.EventAt)},
		{"Status", string(d.Delivery.Status)},
		{"Next attempt", minutePtr(d.Delivery.NextAt)},
	}
	for _, at := range d.Log {
		fields = append(fields, [2]string{"Attempt", said(at)})
		if at.Body != "" {
			fields = append(fields, [2]string{"  answer", at.Body})
		}
	}
	return printFields(a.stdout, append(fields, [2]string{"Payload", string(d.Payload)}))
}

type deliveriesRetryCmd struct {
	clientFlags
	deliveryArg
}

// Run has the event sent again.
func (c *deliveriesRetryCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	d, err := client.RetryDelivery(ctx, string(c.ID))
	if err != nil {
		return err
	}
	return a.tell(d, "Sent again: %s (%s).", d.ID, d.EventType)
}
