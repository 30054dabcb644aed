//! Where the driver's events go: into the journal, in tests into a list.
//!
//! A recorder must never wait; the journal's handle does not.

use std::fmt;
use std::sync::Arc;

use failover_core::{Epoch, Event, EventCode, Severity};

/// Takes events and returns at once.
#[derive(Clone)]
pub struct Recorder(Arc<dyn Fn(Event) + Send + Sync>);

impl Recorder {
    /// A recorder that calls `record`, which must not wait.
    pub fn new(record: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(record))
    }

    /// Records one event.
    pub fn record(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

/// An event of the driver itself (the machine makes its own).
pub(crate) fn notice(code: EventCode, severity: Severity, sentence: String, epoch: Option<Epoch>) -> Event {
    Event { epoch, ..Event::plain(code, severity, sentence) }
}
