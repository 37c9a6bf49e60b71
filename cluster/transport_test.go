package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestAcknowledged(t *testing.T) {
	servers := []raft.Server{
		{ID: "a", Suffrage: raft.Voter}, {ID: "b", Suffrage: raft.Voter}, {ID: "c", Suffrage: raft.Voter},
		{ID: "d", Suffrage: raft.Nonvoter},
	}
	const now = 10 * time.Second
	for name, test := range map[string]struct {
		acks map[raft.ServerID]ack
		want bool
	}{
		"alone":              {nil, false},
		"one fresh":          {map[raft.ServerID]ack{"b": {term: 5, asked: now}}, true},
		"asked before":       {map[raft.ServerID]ack{"b": {term: 5, asked: now - 1}, "c": {term: 5, asked: now - 1}}, false},
		"of another term":    {map[raft.ServerID]ack{"b": {term: 4, asked: now}}, false},
		"nonvoters say none": {map[raft.ServerID]ack{"d": {term: 5, asked: now}}, false},
	} {
		tr := &transport{acks: test.acks}
		if got := tr.acknowledged(servers, "a", 5, now); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func FuzzPreface(f *testing.F) {
	for _, p := range []preface{{}, {cluster: "C", source: "a.1", target: "b.2"}} {
		var buf bytes.Buffer
		must(f, p.write(&buf))
		f.Add(buf.Bytes())
		f.Add(buf.Bytes()[:buf.Len()-1])
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readPreface(bytes.NewReader(data))
		if err != nil {
			return
		}
		var buf bytes.Buffer
		must(t, p.write(&buf))
		if !bytes.HasPrefix(data, buf.Bytes()) {
			t.Errorf("%+v is written as %q, was read from %q", p, buf.Bytes(), data)
		}
	})
}
