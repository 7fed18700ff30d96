package rpc

import (
	"testing"
	"testing/quick"
)

func TestPoolClassHoldsWhatWasAskedFor(t *testing.T) {
	holds := func(n uint32) bool {
		want := int(n)%maxPooled + 1
		class, size := poolClass(want)
		again, same := poolClass(size)
		tight := want <= minPooled || size-want < want/4+1
		return size >= want && class >= 0 && class < poolClasses && again == class && same == size && tight
	}
	if err := quick.Check(holds, &quick.Config{MaxCount: 20_000}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, minPooled, minPooled + 1, 1 << 20, 1<<20 + 1, maxPooled} {
		if !holds(uint32(max(n, 1) - 1)) {
			t.Errorf("class of %d", n)
		}
	}
	if class, _ := poolClass(maxPooled); class != poolClasses-1 {
		t.Errorf("the last class is %d, want %d", class, poolClasses-1)
	}
}

func TestPoolGivesBuffersBackUncleared(t *testing.T) {
	var p BufferPool
	b := p.Get(5000)
	if len(*b) != 5000 {
		t.Fatalf("got %d bytes", len(*b))
	}
	foreign := make([]byte, 5000) // of no class
	p.Put(&foreign)
	p.Put(b)
	if huge := p.Get(maxPooled + 1); len(*huge) != maxPooled+1 {
		t.Errorf("got %d bytes", len(*huge))
	}
	if allocs := testing.AllocsPerRun(100, func() { p.Put(p.Get(300 << 10)) }); allocs > 1 {
		t.Errorf("%v allocations for a pooled buffer", allocs)
	}
}

func BenchmarkPool(b *testing.B) {
	var p BufferPool
	b.ReportAllocs()
	for b.Loop() {
		p.Put(p.Get(64 << 10))
	}
}
