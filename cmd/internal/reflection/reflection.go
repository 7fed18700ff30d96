// Package reflection calls the methods of a gRPC server with nothing but what
// the server says of itself: descriptors come over the reflection service
// (grpc.reflection.v1) and messages are built from them, so that no generated
// stub is needed.
//
// It owns descriptors and dynamic messages; it refuses to own how they are
// shown, and the connection. INVARIANT: what it knows of an API it has from
// the server that it was asked about. Call starts one goroutine, which sends
// the requests and ends with them or with the stream.
package reflection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	refl "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxFiles bounds what a server can make a client collect.
const maxFiles = 1000

// NotFoundError says that the server has nothing of that name.
type NotFoundError struct {
	// Kind of thing that was looked for: symbol, method.
	Kind string
	// Name that was asked for.
	Name string
	// Known names near it, if there are any.
	Known []string
}

// Error says it for people.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("the server has no %s %q", e.Kind, e.Name)
	if len(e.Known) > 0 {
		s += "; it has " + strings.Join(e.Known, ", ")
	}
	return s
}

// Server is what a server says of itself over one reflection stream. It is
// for one goroutine.
type Server struct {
	conn   grpc.ClientConnInterface
	stream refl.ServerReflection_ServerReflectionInfoClient
	end    context.CancelFunc
	files  map[string]*descriptorpb.FileDescriptorProto
}

// Open asks a server about itself. Close ends it.
func Open(ctx context.Context, conn grpc.ClientConnInterface) (*Server, error) {
	ctx, end := context.WithCancel(ctx)
	stream, err := refl.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		end()
		return nil, err
	}
	return &Server{conn: conn, stream: stream, end: end, files: map[string]*descriptorpb.FileDescriptorProto{}}, nil
}

// Close ends the reflection stream; the connection stays its owner's.
func (s *Server) Close() { s.end() }

func (s *Server) ask(req *refl.ServerReflectionRequest) (*refl.ServerReflectionResponse, error) {
	if err := s.stream.Send(req); err != nil {
		if _, rerr := s.stream.Recv(); rerr != nil { // has the reason
			return nil, rerr
		}
		return nil, err
	}
	resp, err := s.stream.Recv()
	if err != nil {
		return nil, err
	}
	if e := resp.GetErrorResponse(); e != nil {
		return nil, status.Error(codes.Code(e.GetErrorCode()), e.GetErrorMessage())
	}
	return resp, nil
}

// Services returns the full names of the server's services in order.
func (s *Server) Services() ([]string, error) {
	resp, err := s.ask(&refl.ServerReflectionRequest{MessageRequest: &refl.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, sv := range resp.GetListServicesResponse().GetService() {
		names = append(names, sv.GetName())
	}
	slices.Sort(names)
	return names, nil
}

// Symbol returns the descriptor of a full name: a service, method, message,
// field or enum.
func (s *Server) Symbol(name string) (protoreflect.Descriptor, error) {
	files, err := s.registry(&refl.ServerReflectionRequest{
		MessageRequest: &refl.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name},
	})
	if status.Code(err) == codes.NotFound {
		return nil, &NotFoundError{Kind: "symbol", Name: name}
	}
	if err != nil {
		return nil, err
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, &NotFoundError{Kind: "symbol", Name: name}
	}
	return d, nil
}

// Method returns a method by `package.Service/Method`, `package.Service.Method`,
// or, where only one service has it, `Service/Method`.
func (s *Server) Method(name string) (protoreflect.MethodDescriptor, error) {
	name = strings.TrimPrefix(name, "/")
	cut := strings.LastIndexAny(name, "/.")
	if cut <= 0 {
		return nil, &NotFoundError{Kind: "method", Name: name + " (write package.Service/Method)"}
	}
	service, method := name[:cut], name[cut+1:]
	services, err := s.Services()
	if err != nil {
		return nil, err
	}
	full := slices.DeleteFunc(slices.Clone(services), func(known string) bool {
		return known != service && !strings.HasSuffix(known, "."+service)
	})
	if len(full) != 1 {
		return nil, &NotFoundError{Kind: "service", Name: service, Known: services}
	}
	d, err := s.Symbol(full[0])
	if err != nil {
		return nil, err
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, &NotFoundError{Kind: "service", Name: service}
	}
	if m := sd.Methods().ByName(protoreflect.Name(method)); m != nil {
		return m, nil
	}
	var known []string
	for i := range sd.Methods().Len() {
		known = append(known, string(sd.Methods().Get(i).Name()))
	}
	return nil, &NotFoundError{Kind: "method", Name: full[0] + "/" + method, Known: known}
}

// registry returns the files that answer a request, with all that they import.
func (s *Server) registry(req *refl.ServerReflectionRequest) (*protoregistry.Files, error) {
	if err := s.collect(req); err != nil {
		return nil, err
	}
	for missing := s.missing(); missing != ""; missing = s.missing() {
		if len(s.files) >= maxFiles {
			return nil, fmt.Errorf("the server describes more than %d files", maxFiles)
		}
		if err := s.collect(&refl.ServerReflectionRequest{
			MessageRequest: &refl.ServerReflectionRequest_FileByFilename{FileByFilename: missing},
		}); err != nil {
			return nil, fmt.Errorf("file %s: %w", missing, err)
		}
		if s.files[missing] == nil {
			return nil, fmt.Errorf("the server does not describe %s", missing)
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range s.files {
		set.File = append(set.File, f)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("the server's description is not consistent: %w", err)
	}
	return files, nil
}

func (s *Server) collect(req *refl.ServerReflectionRequest) error {
	resp, err := s.ask(req)
	if err != nil {
		return err
	}
	for _, b := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(b, f); err != nil {
			return errors.New("the server's description does not decode")
		}
		s.files[f.GetName()] = f
	}
	return nil
}

// missing returns a file that is imported and not there, or nothing.
func (s *Server) missing() string {
	for _, f := range s.files {
		for _, dep := range f.GetDependency() {
			if s.files[dep] == nil {
				return dep
			}
		}
	}
	return ""
}
