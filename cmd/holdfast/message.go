package main

import (
	"fmt"

	pb "holdfast/proto/holdfast/v1"
)

type messageJSON struct {
	ID         string          `json:"id"`
	From       string          `json:"from"`
	Size       uint64          `json:"size"`
	AcceptedAt *string         `json:"acceptedAt"`
	State      string          `json:"state"`
	Recipients []recipientJSON `json:"recipients"`
}

type recipientJSON struct {
	Address     string     `json:"address"`
	Domain      string     `json:"domain"`
	Destination *string    `json:"destination"`
	State       string     `json:"state"`
	Attempts    uint32     `json:"attempts"`
	NextAttempt *string    `json:"nextAttempt"`
	ExpiresAt   *string    `json:"expiresAt"`
	InDoubt     bool       `json:"inDoubt"`
	Spam        bool       `json:"spam"`
	Causes      []string   `json:"causes"`
	LastError   *errorJSON `json:"lastError"`
}

type errorJSON struct {
	Cause    string  `json:"cause"`
	Phase    string  `json:"phase"`
	Host     *string `json:"host"`
	Code     *uint32 `json:"code"`
	Enhanced *string `json:"enhanced"`
	Text     *string `json:"text"`
	At       *string `json:"at"`
}

func toMessageJSON(m *pb.Message) messageJSON {
	out := messageJSON{
		ID: m.Id, From: m.From, Size: m.Size, AcceptedAt: timeJSON(m.AcceptedAt),
		State: stateWord(m.State), Recipients: []recipientJSON{},
	}
	for _, r := range m.Recipients {
		out.Recipients = append(out.Recipients, recipientJSON{
			Address: r.Address, Domain: r.Domain, Destination: orNull(r.Destination),
			State: stateWord(r.State), Attempts: r.Attempts,
			NextAttempt: timeJSON(r.NextAttempt), ExpiresAt: timeJSON(r.ExpiresAt),
			InDoubt: r.InDoubt > 0, Spam: r.Spam,
			Causes: append([]string{}, r.Causes...), LastError: toErrorJSON(r.LastError),
		})
	}
	return out
}

func toErrorJSON(e *pb.DeliveryError) *errorJSON {
	if e == nil {
		return nil
	}
	return &errorJSON{
		Cause: e.Cause, Phase: e.Phase, Host: orNull(e.Host), Code: orNull(e.Code),
		Enhanced: orNull(e.Enhanced), Text: orNull(e.Text), At: timeJSON(e.At),
	}
}

// messageDetailJSON is a message as the log shows it.
type messageDetailJSON struct {
	messageJSON
	Client          *string       `json:"client"`
	Account         *string       `json:"account"`
	Helo            *string       `json:"helo"`
	Node            *string       `json:"node"`
	HeaderMessageID *string       `json:"headerMessageId"`
	ReportOn        *string       `json:"reportOn"`
	History         []historyJSON `json:"history"`
}

type historyJSON struct {
	Index       uint64     `json:"index"`
	Row         uint32     `json:"row"`
	At          *string    `json:"at"`
	Event       string     `json:"event"`
	Node        *string    `json:"node"`
	Host        *string    `json:"host"`
	Address     *string    `json:"address"`
	TLS         *string    `json:"tls"`
	Seconds     *float64   `json:"seconds"`
	Recipients  []string   `json:"recipients"`
	Error       *errorJSON `json:"error"`
	NextAttempt *string    `json:"nextAttempt"`
	Text        *string    `json:"text"`
	Report      *string    `json:"report"`
	By          *string    `json:"by"`
	Reason      *string    `json:"reason"`
}

func toDetailJSON(m *pb.Message, history []*pb.HistoryEntry) messageDetailJSON {
	out := messageDetailJSON{
		messageJSON: toMessageJSON(m), Client: orNull(m.ClientAddress), Account: orNull(m.Account), Helo: orNull(m.Helo), Node: orNull(m.Node),
		HeaderMessageID: orNull(m.HeaderMessageId), ReportOn: orNull(m.ReportOn), History: []historyJSON{},
	}
	for _, h := range history {
		out.History = append(out.History, toHistoryJSON(h))
	}
	return out
}

func toHistoryJSON(h *pb.HistoryEntry) historyJSON {
	row := historyJSON{
		Index: h.Index, Row: h.Row, At: timeJSON(h.Time), Event: eventWord(h.Kind), Node: orNull(h.Node),
		Host: orNull(h.Host), Address: orNull(h.Address), TLS: orNull(h.Tls), Recipients: append([]string{}, h.Recipients...),
		Error: toErrorJSON(h.Error), NextAttempt: timeJSON(h.NextAttempt), Text: orNull(h.Text), Report: orNull(h.Report),
		By: orNull(h.By), Reason: orNull(h.Reason),
	}
	if h.Duration != nil {
		seconds := h.Duration.AsDuration().Seconds()
		row.Seconds = &seconds
	}
	return row
}

// showMessage writes a message for reading.
func (a *app) showMessage(m *pb.Message) error {
	t := newTable(a.out)
	t.row("message", m.Id)
	t.row("from", sender(m.From))
	t.row("size", fmt.Sprintf("%d bytes", m.Size))
	t.row("accepted", a.when(m.AcceptedAt))
	if m.ClientAddress != "" {
		t.row("", fmt.Sprintf("by node %s from %s (%s)", dash(m.Node), m.ClientAddress, dash(m.Helo)))
	}
	if m.Account != "" {
		t.row("", "authenticated as "+m.Account)
	}
	if m.ReportOn != "" {
		t.row("report on", m.ReportOn)
	}
	if m.HeaderMessageId != "" {
		t.row("message-id", m.HeaderMessageId)
	}
	t.row("state", cell{stateWord(m.State), stateLook(m.State)})
	for _, r := range m.Recipients {
		t.row()
		t.row("to", r.Address)
		t.row("destination", dash(r.Destination))
		t.row("state", recipientState(r))
		t.row("attempts", r.Attempts)
		if r.NextAttempt != nil {
			t.row("next attempt", a.when(r.NextAttempt))
		}
		if r.ExpiresAt != nil {
			t.row("expires", a.when(r.ExpiresAt))
		}
		if r.LastError != nil {
			t.row("last error", describeError(r.LastError))
		}
		for i, cause := range r.Causes {
			if i == 0 {
				t.row("why", cause)
			} else {
				t.row("", cause)
			}
		}
	}
	return t.flush()
}

func recipientState(r *pb.MessageRecipient) cell {
	c := cell{stateWord(r.State), stateLook(r.State)}
	if r.InDoubt > 0 {
		c.text += ", in doubt"
		if c.look == plain {
			c.look = yellow
		}
	}
	return c
}
