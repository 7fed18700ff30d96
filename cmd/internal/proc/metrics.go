package proc

import (
	"context"
	"io"
	"net/http"
)

// Metrics asks the server at an address for metrics without labels, by their
// names.
func Metrics(ctx context.Context, addr string, names ...string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // It was only read.
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64, len(names))
	for _, name := range names {
		if values[name], err = Number(string(text), name+" "); err != nil {
			return nil, err
		}
	}
	return values, nil
}
