package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	if !strings.HasPrefix(string(text), "dlv_") {
		return errors.New("this is no delivery's id: those begin with dlv_, and 'keystile deliveries list' shows them")
	}
	*id = deliveryID(text)
	return nil
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
	out := keystile.List[keystile.Delivery]{Data: []keystile.Delivery{}}
	for d, err := range client.AllDeliveries(ctx, string(c.ID), keystile.ListDeliveries{Status: c.Status, Limit: min(c.Limit, 200)}) {
		if err != nil {
			return err
		}
		if out.Data = append(out.Data, d); len(out.Data) == c.Limit {
			break
		}
	}
	if a.json {
		return printJSON(a.stdout, out)
	}
	if len(out.Data) == 0 {
		return printNone(a.stdout, "deliveries", c.Status != "all")
	}
	rows := [][]string{{"ID", "EVENT", "HAPPENED", "STATUS", "ATTEMPTS", "ANSWER", "TOOK", "NEXT"}}
	for _, d := range out.Data {
		answer, took := "", ""
		if d.Attempts > 0 {
			answer, took = "none", strconv.FormatInt(d.LastMS, 10)+" ms"
		}
		if d.LastStatus != 0 {
			answer = strconv.Itoa(d.LastStatus)
		}
		rows = append(rows, []string{d.ID, d.EventType, minute(d.EventAt), string(d.Status), strconv.Itoa(d.Attempts), answer, took, minutePtr(d.NextAt)})
	}
	return printTable(a.stdout, rows)
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
	if a.json {
		return printJSON(a.stdout, d)
	}
	_, err = fmt.Fprintf(a.stdout, "Sent again: %s (%s).\n", d.ID, d.EventType)
	return err
}
