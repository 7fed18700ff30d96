package segment

// A segment that grows has blocks of the disk set aside ahead of its end (rule
// S9): without, the file system looks for blocks when memory is written to the
// disk, and a writer that appends meanwhile waits for that. It is a matter of
// speed: what fails is done without. The file's length stays true; what was
// not used is given back when the segment is sealed, at rest, and at the start.
const (
	// reserveFrom is the length below which nothing is set aside: most segments
	// of many small partitions never get there.
	reserveFrom = 4 << 20
	// reserveShare: at most one part in so many of what is there is set aside
	// ahead; and so much of what is free at most, so that a disk that fills up
	// is full of records.
	reserveShare = 4
	reserveFree  = 64
	// reserveMost is the most that is set aside ahead.
	reserveMost = 64 << 20
)

// reserve sets blocks aside for what is about to be written, which ends at a
// position, and for more behind it, if those before are used up.
func (s *Segment) reserve(h *handle, end int64) {
	if end <= s.reserved || end < reserveFrom || h.reserver == nil {
		return
	}
	ahead := min(end/reserveShare, reserveMost)
	s.reserved = min(end+ahead, max(end, s.o.MaxBytes()))
	free, _, err := s.o.FS.FreeBytes(s.o.Dir)
	if err != nil || free/reserveFree < uint64(ahead) {
		return // Asked again when so much was written.
	}
	if err := h.reserver.Reserve(s.at.Position, s.reserved-s.at.Position); err != nil {
		// What it found is needed elsewhere.
		_ = h.reserver.Trim(s.at.Position)
	}
}

// Trim gives back what is set aside behind the end of s, also by an earlier
// process. A failure costs room, until s is removed.
//
// REQUIRES: called by the writer; s is not sealed, and the file ends where s
// does.
func (s *Segment) Trim() {
	h, err := s.acquire()
	if err != nil {
		return
	}
	defer h.release()
	if h.reserver != nil && h.readOnly == nil {
		_ = h.reserver.Trim(s.at.Position)
	}
	s.reserved = 0
}

// GiveBack is Trim, if this process has set something aside.
//
// REQUIRES: as Trim.
func (s *Segment) GiveBack() {
	if s.reserved > s.at.Position {
		s.Trim()
	}
}
