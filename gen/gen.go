// Package gen holds what is generated from proto/ and must never be edited:
// gen/go has the Go stubs, gen/openapi the description of the REST API.
// This file alone is written by hand: it makes the description available to
// the gateway.
package gen

import _ "embed"

// OpenAPI is the OpenAPI v2 description of the REST API, as JSON.
//
//go:embed openapi/millstream.swagger.json
var OpenAPI []byte
