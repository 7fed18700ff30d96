// Package dev puts the roles of a Millstream process together: controller,
// broker, or both in one (`millstream dev`).
//
// It owns the order in which the parts of a process start and stop, its
// listeners, and the temporary directory of a dev server. It refuses to own
// what the parts do, and flags.
//
// Start, in this order, each part only when it can use those before it:
//
//  1. listeners   a port in use is an error before anything is touched
//  2. controller  its store, then ControllerService (in dev: in process)
//  3. mirror      follows the controller's metadata
//  4. broker      takes the data directory, registers, follows the mirror
//  5. internal    what brokers and controllers call
//  6. HTTP        health at once; readiness when produce works
//  7. gRPC        the public services
//
// Stop, in the reverse order, each part only when those after it have ended:
//
//  7. gRPC        not ready; streams get Drain; calls finish or are cut at 3 s
//  6. HTTP        what it waited for has ended with gRPC
//  5. internal    its calls finish or are cut at 1 s
//  4. broker      logs are synced and closed, the directory is marked clean
//  3. mirror
//  2. controller  its store is closed
//  1. listeners   closed with who served them; a temporary directory is removed
//
// INVARIANT: a part runs only while all those before it do; when one fails,
// the process stops in the same order and says why.
//
// Goroutines: one for each part; Run returns when all of them have ended.
package dev
