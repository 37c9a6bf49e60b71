package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"

	pb "holdfast/proto/holdfast/v1"
)

// BenchmarkAccept is a whole transaction over a socket on a kept connection,
// the cluster answering at once: what the front door itself costs.
func BenchmarkAccept(b *testing.B) {
	for _, kib := range []int{1, 10, 64, 1024} {
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			h := start(b, func(_ *Config, c *cluster) {
				c.before = func(context.Context, *pb.Event, []byte) (*pb.EventResult, error) {
					return &pb.EventResult{Code: pb.EventResult_CODE_OK}, nil
				}
			})
			nc, err := net.Dial("tcp", h.address)
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			c := &client{b, nc, bufio.NewReader(nc)}
			c.want("220 ")
			c.ask("EHLO client.example", "250-")
			envelope := "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
			content := dotStuffed(text(kib<<10 - 100))
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				c.send(envelope)
				c.want("250 ")
				c.want("250 ")
				c.want("354 ")
				c.send(content)
				c.want("250 ")
			}
		})
	}
}

// BenchmarkReadDots is the reading of DATA with all checks, from memory.
func BenchmarkReadDots(b *testing.B) {
	for _, kib := range []int{1, 10, 64} {
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			content := []byte(dotStuffed(text(kib<<10 - 100)))
			source := bytes.NewReader(content)
			br := bufio.NewReaderSize(source, readBuffer)
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				source.Reset(content)
				br.Reset(source)
				var ends lineEnds
				var headers headerScan
				if err := readDots(br, func(p []byte) error { ends.add(p); headers.add(p); return nil }); err != nil || ends.wrong() {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParse is the two commands of an envelope.
func BenchmarkParse(b *testing.B) {
	const rcpt = "TO:<someone.else@mail.example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;someone@example.org"
	const mail = "FROM:<someone.else@mail.example.com> SIZE=10240 BODY=8BITMIME"
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := parseRcpt(rcpt, false); refusal != nil {
			b.Fatal(refusal)
		}
		if _, _, refusal := parseMail(mail, false); refusal != nil {
			b.Fatal(refusal)
		}
	}
}
