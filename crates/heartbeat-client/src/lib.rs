//! The secondary's end of the link: dials, proves the key, sends heartbeats, reads tombstones.
