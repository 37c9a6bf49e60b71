package smtpout_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"holdfast/delivery/smtpout"
	"holdfast/relay"
	"holdfast/test/sink"
)

// BenchmarkSend carries messages over one kept connection on loopback; client
// and server share the processors.
func BenchmarkSend(b *testing.B) {
	for _, way := range []string{"bdat in one flight", "data in one flight", "data in steps"} {
		for _, size := range []int{1 << 10, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB", way, size>>10), func(b *testing.B) { benchmarkSend(b, offers[way], size) })
		}
	}
}

func benchmarkSend(b *testing.B, offer []string, size int) {
	server := startSink(b, sink.Config{Offer: offer, Recording: sink.RecordCount})
	conn, err := newDialer().Connect(b.Context(), server.Addr(), relay.TLSNone, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	line := []byte("a line of a message, about as long as lines are, and then its end.\r\n")
	content := bytes.Repeat(line, size/len(line))
	body := &rewound{Reader: bytes.NewReader(content)}
	tx := smtpout.Transaction{
		From:       "sender@example.net",
		Recipients: []smtpout.Recipient{{Address: "rcpt@example.org"}},
		Size:       int64(len(content)),
		Body: func() (io.ReadCloser, error) {
			body.Reset(content)
			return body, nil
		},
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if result := conn.Send(ctx, tx); result.Accepted() != 1 {
			b.Fatal(result.Outcomes[0].Failure)
		}
	}
}

type rewound struct{ *bytes.Reader }

func (*rewound) Close() error { return nil }
