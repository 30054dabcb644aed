//! The durable, hash-chained journal of events: one writer, behind a bounded queue, never waited for.
