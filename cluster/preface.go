package cluster

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// preface opens every raft connection. The receiver answers with a string: ""
// or why it refuses. It refuses where it isn't the target: at the address of
// a wiped node another raft id answers now, and must not take its messages or
// vote in its place.
type preface struct {
	cluster string // "" where the sender doesn't know it yet
	source  string // raft ids
	target  string
}

const prefaceMagic = "HFR1"

func (p preface) write(w io.Writer) error {
	buf := []byte(prefaceMagic)
	for _, s := range []string{p.cluster, p.source, p.target} {
		var err error
		if buf, err = appendString(buf, s); err != nil {
			return err
		}
	}
	_, err := w.Write(buf)
	return err
}

func readPreface(r io.Reader) (preface, error) {
	magic := make([]byte, len(prefaceMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return preface{}, err
	}
	if string(magic) != prefaceMagic {
		return preface{}, errors.New("not a raft connection of holdfast")
	}
	var p preface
	for _, s := range []*string{&p.cluster, &p.source, &p.target} {
		var err error
		if *s, err = readString(r); err != nil {
			return preface{}, err
		}
	}
	return p, nil
}

// appendString appends a length byte and s.
func appendString(buf []byte, s string) ([]byte, error) {
	if len(s) > 255 {
		return nil, fmt.Errorf("%.40q… is longer than 255 bytes", s)
	}
	return append(append(buf, byte(len(s))), s...), nil
}

func readString(r io.Reader) (string, error) {
	var size [1]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return "", err
	}
	buf := make([]byte, size[0])
	if _, err := io.ReadFull(r, buf); err != nil {
		return "", err
	}
	return string(buf), nil
}

// raftAddress is how a server is listed in raft's configuration: its id too,
// since Dial is given nothing but the address and has to name its target; and
// a wiped node has another one at the same host and port.
func raftAddress(raftID, hostport string) string { return raftID + "@" + hostport }

func splitRaftAddress(address string) (raftID, hostport string, err error) {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 {
		return "", "", fmt.Errorf("raft address %q lacks a raft id", address)
	}
	return address[:i], address[i+1:], nil
}
