//! The onduty command: run a node, look at it, hand it over.
