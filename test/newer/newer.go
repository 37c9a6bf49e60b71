package operate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	pb "holdfast/proto/holdfast/v1"
)

// buildNewer builds the program as its next version may be: the state has a
// version more, from which on there is another kind of event, Rehearsed, and
// another family with what it said. Each change of the settings writes one.
func (w *world) buildNewer() string {
	w.t.Helper()
	replace := map[string]string{}
	write := func(path, text string) {
		original, err := filepath.Abs(filepath.Join("..", "..", path))
		w.must(err)
		changed := filepath.Join(shortDir(w.t), filepath.Base(path))
		w.must(os.WriteFile(changed, []byte(text), 0o600))
		replace[original] = changed
	}
	for path, changes := range newer() {
		text, err := os.ReadFile(filepath.Join("..", "..", path))
		w.must(err)
		for old, changed := range changes {
			if n := strings.Count(string(text), old); n != 1 {
				w.t.Fatalf("%s has %d times, want once: %s", path, n, old)
			}
			text = []byte(strings.Replace(string(text), old, changed, 1))
		}
		write(path, string(text))
	}
	write("proto/holdfast/v1/event.pb.go", w.newerEvents())
	write("fsm/apply_rehearsed.go", `package fsm

import pb "holdfast/proto/holdfast/v1"

func (t *tx) rehearsed(e *pb.Rehearsed) *pb.EventResult {
	key := append([]byte{byte(famRehearsed)}, e.Note...)
	t.put(key, t.get(key), []byte(e.Note))
	return resultOK
}
`)
	list, err := json.Marshal(map[string]any{"Replace": replace})
	w.must(err)
	dir := shortDir(w.t)
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "holdfast")
	w.must(os.WriteFile(overlay, list, 0o600))
	build := exec.CommandContext(w.ctx, "go", "build", "-overlay", overlay, "-ldflags", "-X main.version=newer", "-o", binary, "holdfast/cmd/holdfast")
	if output, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("build the newer program: %v\n%s", err, output)
	}
	return binary
}

// newer are the changes to files: the texts in them, and what comes instead.
func newer() map[string]map[string]string {
	version := fmt.Sprintf("const Version = %d", stateVersion)
	return map[string]map[string]string{
		"fsm/version.go": {
			version:         fmt.Sprintf("const Version = %d", stateVersion+1),
			"	switch f {\n": fmt.Sprintf("	switch f {\n	case famRehearsed:\n		return %d\n", stateVersion+1),
		},
		"fsm/keys.go": {
			"	famIndex  ":                   "	famRehearsed family = '!'\n	famIndex  ",
			"	{famResults, \"results\"},\n": "	{famRehearsed, \"rehearsed\"},\n	{famResults, \"results\"},\n",
		},
		"fsm/apply.go": {
			"	case *pb.Event_VersionRaised:\n": "	case *pb.Event_Rehearsed:\n		return t.rehearsed(kind.Rehearsed)\n	case *pb.Event_VersionRaised:\n",
		},
		"admin/settings.go": {
			"	event := &pb.Event{Kind: &pb.Event_SettingsChanged{": `	rehearsed := &pb.Event{Kind: &pb.Event_Rehearsed{Rehearsed: &pb.Rehearsed{Note: "by " + s.Node}}}
	if err := s.configure(ctx, rehearsed, "rehearsal"); err != nil {
		return nil, err
	}
	event := &pb.Event{Kind: &pb.Event_SettingsChanged{`,
		},
	}
}

// stateVersion is what the program knows that is tested.
const stateVersion = 1

// newerEvents is the generated code of the events with one kind more.
func (w *world) newerEvents() string {
	w.t.Helper()
	events := protodesc.ToFileDescriptorProto(pb.File_holdfast_v1_event_proto)
	since := &descriptorpb.FieldOptions{}
	proto.SetExtension(since, pb.E_Since, uint32(stateVersion+1))
	for _, m := range events.MessageType {
		if m.GetName() == "Event" {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: new("rehearsed"), JsonName: new("rehearsed"), Number: new(int32(15000)), OneofIndex: new(int32(0)),
				Label:    descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
				Type:     descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
				TypeName: new(".holdfast.v1.Rehearsed"), Options: since,
			})
		}
	}
	events.MessageType = append(events.MessageType, &descriptorpb.DescriptorProto{
		Name: new("Rehearsed"),
		Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("note"), JsonName: new("note"), Number: new(int32(1)),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		}},
	})
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{events.GetName()}, Parameter: new("paths=source_relative"),
		ProtoFile: []*descriptorpb.FileDescriptorProto{
			protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto), events,
		},
	})
	w.must(err)
	internal_gengo.GenerateFile(plugin, plugin.FilesByPath[events.GetName()])
	response := plugin.Response()
	if response.Error != nil || len(response.File) != 1 {
		w.t.Fatalf("generate: %v, %d files", response.GetError(), len(response.File))
	}
	return response.File[0].GetContent()
}
