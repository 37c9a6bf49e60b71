package node

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// docs/node-file.md has every key, and none that isn't there.
func TestNodeFileReference(t *testing.T) {
	page, err := os.ReadFile("../docs/node-file.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(line[2:], " | ")
		for key := range strings.SplitSeq(cell, ", ") {
			documented[strings.Trim(key, "`")] = true
		}
	}
	keys := keysOf("", reflect.TypeFor[Config]())
	for _, key := range keys {
		if !documented[key] {
			t.Errorf("%s isn't in docs/node-file.md", key)
		}
		delete(documented, key)
	}
	for key := range documented {
		t.Errorf("docs/node-file.md has %s, which no node file may have", key)
	}
}

func keysOf(table string, of reflect.Type) (keys []string) {
	for field := range of.NumField() {
		f := of.Field(field)
		name := f.Tag.Get("toml")
		switch {
		case name == "-":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(name+".", f.Type)...)
		default:
			keys = append(keys, table+name)
		}
	}
	return keys
}
