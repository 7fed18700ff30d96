package reconcile

// FillsAtOnce is how many replicas a broker is filled with at a time by themselves.
const FillsAtOnce = fillsAtOnce
