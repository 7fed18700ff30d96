package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// parseFile returns the values of a YAML file: one mapping of names to scalars
// or lists of scalars.
func parseFile(file string, b []byte, all []Setting, origin map[string]string) (texts, error) {
	at := func(n ast.Node) string { return fmt.Sprintf("%s:%d", file, n.GetToken().Position.Line) }
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		if se, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			return nil, &Error{Where: fmt.Sprintf("%s:%d", file, se.Token.Position.Line), Why: se.Message}
		}
		return nil, &Error{Where: file, Why: err.Error()}
	}
	entries, err := entriesOf(doc, at, file)
	if err != nil {
		return nil, err
	}
	byName := map[string]*Setting{}
	names := make([]string, len(all))
	for i := range all {
		byName[all[i].Name], names[i] = &all[i], all[i].Name
	}
	t := texts{}
	for _, e := range entries {
		name := e.Key.GetToken().Value
		if byName[name] == nil {
			return nil, &Error{Where: at(e.Key), Why: fmt.Sprintf("no setting is called %q%s", name, didYouMean(name, names))}
		}
		if _, twice := t[name]; twice {
			return nil, &Error{Where: at(e.Key), Why: name + " is there twice"}
		}
		text, err := textOfNode(e.Value)
		if err != nil {
			return nil, &Error{Where: at(e.Key), Why: name + " " + err.Error()}
		}
		t[name], origin[name] = text, at(e.Key)
	}
	return t, nil
}

// entriesOf returns the entries of the one mapping that a file may be.
func entriesOf(doc *ast.File, at func(ast.Node) string, file string) ([]*ast.MappingValueNode, error) {
	if len(doc.Docs) > 1 {
		return nil, &Error{Where: file, Why: "has more than one document"}
	}
	if len(doc.Docs) == 0 || doc.Docs[0].Body == nil {
		return nil, nil
	}
	switch n := doc.Docs[0].Body.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	case *ast.CommentGroupNode:
		return nil, nil
	default:
		return nil, &Error{Where: at(n), Why: "must be lines of `name: value`"}
	}
}

func textOfNode(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("has no value")
	case *ast.SequenceNode:
		items := make([]string, len(n.Values))
		for i, v := range n.Values {
			text, err := textOfNode(v)
			if err != nil {
				return "", err
			}
			if strings.Contains(text, ",") {
				return "", errors.New("has a comma in an item")
			}
			items[i] = text
		}
		return strings.Join(items, ","), nil
	default:
		return "", errors.New("must be a plain value or a list")
	}
}

// didYouMean names the nearest candidate, if one is near.
func didYouMean(name string, candidates []string) string {
	best, least := "", 3
	for _, c := range candidates {
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of single-byte edits between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
