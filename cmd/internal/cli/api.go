package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/millstream-io/millstream/cmd/internal/reflection"
)

func (p *Program) apiCommand() *cobra.Command {
	c := group("api", "Explore and call the API by server reflection", p.apiList(), p.apiDescribe(), p.apiCall())
	c.Long = "Explore and call the API with nothing but what the server says of itself (gRPC\nserver reflection): any method of any gRPC server."
	return c
}

// reflect runs f with what the server says of itself.
func (p *Program) reflect(ctx context.Context, f func(*reflection.Server) error) error {
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer closeQuietly(conn)
	s, err := reflection.Open(ctx, conn)
	if err != nil {
		return err
	}
	defer s.Close()
	return f(s)
}

// methodView is a method as JSON and YAML show it.
type methodView struct {
	Method          string `json:"method"`
	Request         string `json:"request"`
	Response        string `json:"response"`
	ClientStreaming bool   `json:"client_streaming"`
	ServerStreaming bool   `json:"server_streaming"`
}

func (p *Program) apiList() *cobra.Command {
	return &cobra.Command{
		Use: "list [SERVICE]", Short: "List services, or the methods of one", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			return p.reflect(c.Context(), func(s *reflection.Server) error {
				if len(args) == 1 {
					return p.listMethods(c, s, args[0])
				}
				names, err := s.Services()
				if err != nil {
					return err
				}
				t := &table{header: []string{"SERVICE"}}
				for _, n := range names {
					t.add(n)
				}
				return p.show(c, names, t)
			})
		},
	}
}

func (p *Program) listMethods(c *cobra.Command, s *reflection.Server, service string) error {
	d, err := s.Symbol(service)
	if err != nil {
		return err
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return &reflection.NotFoundError{Kind: "service", Name: service}
	}
	t := &table{header: []string{"METHOD", "REQUEST", "RESPONSE"}}
	views := []methodView{}
	for i := range sd.Methods().Len() {
		m := sd.Methods().Get(i)
		v := methodView{
			string(sd.FullName()) + "/" + string(m.Name()), string(m.Input().FullName()), string(m.Output().FullName()),
			m.IsStreamingClient(), m.IsStreamingServer(),
		}
		views = append(views, v)
		t.add(v.Method, streamed(v.ClientStreaming, v.Request), streamed(v.ServerStreaming, v.Response))
	}
	return p.show(c, views, t)
}

func streamed(stream bool, name string) string {
	if stream {
		return "stream " + name
	}
	return name
}

func (p *Program) apiDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe SYMBOL", Short: "Show a service, method, message or enum as .proto files have it",
		Example: "  millstream api describe millstream.v1.AppendRequest",
		Args:    takes("SYMBOL"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			return p.reflect(c.Context(), func(s *reflection.Server) error {
				d, err := s.Symbol(strings.ReplaceAll(strings.TrimPrefix(args[0], "/"), "/", "."))
				if err != nil {
					return err
				}
				view := symbolView{string(d.FullName()), reflection.Describe(d)}
				if p.output == "" || p.output == "table" { // as it is, to be read
					_, err = io.WriteString(p.Out, view.Definition)
					return err
				}
				return p.show(c, view)
			})
		},
	}
}

// symbolView is what is said of a symbol in JSON and YAML.
type symbolView struct {
	Symbol     string `json:"symbol" yaml:"symbol"`
	Definition string `json:"definition" yaml:"definition"`
}

func (p *Program) apiCall() *cobra.Command {
	var body string
	var headers []string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "call METHOD", Short: "Call a method with JSON, streams included",
		Long: `Call a method with JSON. METHOD is package.Service/Method. A method that takes a
stream takes JSON values one after the other; with -d @ they are read from
standard input and sent as they come. Answers are printed as they come; with
-o json each is one line.`,
		Example: `  millstream api call millstream.v1.BrokerService/Append -d '{"topic":"orders","records":[{"text":"hello"}]}'
  millstream api call millstream.v1.BrokerService/Read -d '{"topic":"orders","max_records":"1"}'
  millstream api call millstream.v1.BrokerService/Fetch -d '{"subscribe":[{"topic":"orders","form":"FETCH_FORM_RECORDS","until_end":true}]}'`,
		Args: takes("METHOD"),
		RunE: func(c *cobra.Command, args []string) error {
			if p.output != "" && p.output != "json" {
				return misuse(c, "output %q: api call prints json", p.output)
			}
			ctx := c.Context()
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok || name == "" {
					return misuse(c, "-H %q is not NAME:VALUE", h)
				}
				ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), strings.TrimSpace(value))
			}
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			var in io.Reader = strings.NewReader(body)
			if body == "@" {
				in = p.In
			}
			return p.reflect(ctx, func(s *reflection.Server) error {
				m, err := s.Method(args[0])
				if err != nil {
					return err
				}
				return s.Call(ctx, m, in, p.showAnswer)
			})
		},
	}
	c.Flags().StringVarP(&body, "data", "d", "{}", "`JSON` of the request; @ reads standard input")
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "`NAME:VALUE` of a metadata entry; may be repeated")
	c.Flags().DurationVar(&timeout, "timeout", 0, "deadline of the call; 0: none")
	return c
}

// showAnswer prints a JSON value: on one line with -o json, indented else.
func (p *Program) showAnswer(answer []byte) error {
	if p.output == "json" {
		_, err := p.Out.Write(append(answer, '\n'))
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, answer, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := p.Out.Write(b.Bytes())
	return err
}
