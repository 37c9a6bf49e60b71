package newer

import (
	"fmt"

	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"holdfast/fsm"
	pb "holdfast/proto/holdfast/v1"
)

// apply is the file with the new event's function.
const apply = `package fsm

import pb "holdfast/proto/holdfast/v1"

func (t *tx) rehearsed(e *pb.Rehearsed) *pb.EventResult {
	key := append([]byte{byte(famRehearsed)}, e.Note...)
	t.put(key, t.get(key), []byte(e.Note))
	return resultOK
}
`

// changes are those to files: the texts in them, and what comes instead.
func changes() map[string]map[string]string {
	return map[string]map[string]string{
		"fsm/version.go": {
			fmt.Sprintf("const Version = %d", fsm.Version): fmt.Sprintf("const Version = %d", Version),
			"	switch f {\n": fmt.Sprintf("	switch f {\n	case famRehearsed:\n		return %d\n", Version),
		},
		"fsm/keys.go": {
			"	famIndex  ":                   "	famRehearsed family = '!'\n	famIndex  ",
			"	{famResults, \"results\"},\n": "	{famRehearsed, \"" + Family + "\"},\n	{famResults, \"results\"},\n",
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

// events is the generated code of the events with one kind more.
func events() (string, error) {
	file := protodesc.ToFileDescriptorProto(pb.File_holdfast_v1_event_proto)
	since := &descriptorpb.FieldOptions{}
	proto.SetExtension(since, pb.E_Since, uint32(Version))
	for _, m := range file.MessageType {
		if m.GetName() == "Event" {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: new("rehearsed"), JsonName: new("rehearsed"), Number: new(int32(15000)), OneofIndex: new(int32(0)),
				Label:    descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
				Type:     descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
				TypeName: new(".holdfast.v1.Rehearsed"), Options: since,
			})
		}
	}
	file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{
		Name: new("Rehearsed"),
		Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("note"), JsonName: new("note"), Number: new(int32(1)),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		}},
	})
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file.GetName()}, Parameter: new("paths=source_relative"),
		ProtoFile: []*descriptorpb.FileDescriptorProto{
			protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto), file,
		},
	})
	if err != nil {
		return "", err
	}
	internal_gengo.GenerateFile(plugin, plugin.FilesByPath[file.GetName()])
	response := plugin.Response()
	if response.Error != nil || len(response.File) != 1 {
		return "", fmt.Errorf("generate the events: %s, %d files", response.GetError(), len(response.File))
	}
	return response.File[0].GetContent(), nil
}
