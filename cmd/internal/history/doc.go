// Package history owns the format in which clients and brokers write down what
// they did and saw, for the checker to judge afterwards: what an event says, how
// a recorder writes a file of events, and how the files of all recorders are
// read as one sequence. The page of the format is docs/format/history.md.
//
// It refuses to own what the events mean for one another (package check) and
// where they come from: the crash test, a chaos test of real processes and a
// simulator use it alike, since time comes from a function that they give.
//
// INVARIANT: what a Writer leaves behind, also after kill -9 of its process, is
// a prefix of what was recorded, whole but for its last line, and it holds every
// event whose loss could make a sound history look broken (see
// Event.needed).
//
// A Writer has no goroutine. A Reader has one for each recorder, which ends at
// the end of its files or with Close.
package history
