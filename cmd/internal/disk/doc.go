// Package disk gives a test disks of its own that it can take the power from,
// fill, and damage: ext4 in a file, over a loop device. Linux, and root.
//
// It owns the files, and what is mounted. It starts and ends no processes.
//
//	SHELF/.owner          the process that has mounted what is mounted here
//	SHELF/NAME.img        the disk
//	SHELF/NAME            where it is mounted
//
// A power loss is the shutdown of the file system (EXT4_IOC_SHUTDOWN, without a
// flush of its log): what had not been synced, and not yet been written for
// another reason, is never written, as if the cable had been pulled; the page
// cache is gone with the mount.
//
// INVARIANT: the mounts of a shelf are a peer group of their own, and private
// mount namespaces of processes that were started below it are to be slaves of
// it: what is unmounted here is unmounted there, so that no file system is held
// by the copy of a mount that somebody got. After Close nothing is mounted.
package disk
