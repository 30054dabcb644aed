//! The primary's end of the link: one port, accepts, checks the proof, acknowledges heartbeats.
