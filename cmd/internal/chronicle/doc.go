// Package chronicle writes down what a test of real processes does and sees, as
// a history that package check judges: what clients asked for and were
// answered, what they read, what was broken when, and what is in the logs at
// the end.
//
// It owns the files of the history. It sends nothing and breaks nothing.
//
// INVARIANT: the first error of a file comes back from Check: a history that is
// not whole is not judged.
package chronicle
