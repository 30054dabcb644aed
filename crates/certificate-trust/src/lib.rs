//! Own identity, trust decisions, TLS ends and the proof of the pre-shared key.
