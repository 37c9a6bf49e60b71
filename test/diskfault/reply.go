package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// replyToMail is what a server says to MAIL.
func replyToMail(ctx context.Context, address string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	replies, last := bufio.NewReader(conn), ""
	for _, command := range []string{"", "HELO client.example\r\n", "MAIL FROM:<probe@load.test>\r\n"} {
		if _, err := fmt.Fprint(conn, command); err != nil {
			return "", err
		}
		if last, err = replies.ReadString('\n'); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(last), nil
}
