package record

import "testing"

// The vectors of org.apache.kafka.common.utils.UtilsTest, and two of ours for
// the lengths that those lack.
func TestMurmur2IsThatOfKafkasJavaClient(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
		"":    275646681,
	} {
		if got := int32(Murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitionForKey(t *testing.T) {
	// toPositive(murmur2(key)) % n, as the Java client has it.
	for key, want := range map[string]PartitionID{
		"21": (-973932308 & 0x7fffffff) % 7, "abc": 479470107 % 7, "": 275646681 % 7,
	} {
		if got := PartitionForKey([]byte(key), 7); got != want {
			t.Errorf("partition of %q is %d, want %d", key, got, want)
		}
	}
	if PartitionForKey([]byte("anything"), 1) != 0 {
		t.Error("one partition, and another was chosen")
	}
}
