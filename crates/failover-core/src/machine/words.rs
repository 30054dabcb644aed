//! How events are made: every sentence that people read passes through here.

use super::{Machine, Now};
use crate::{BootTime, Effect, Event, EventCode, Measures, RequestId, Severity, State};

/// What an event says beside its code; the rest is filled in by [`Machine::say`].
#[derive(Default)]
pub(super) struct Saying {
    pub(super) sentence: String,
    pub(super) cause: String,
    pub(super) request: Option<RequestId>,
    pub(super) measures: Measures,
}

impl Saying {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), ..Self::default() }
    }

    pub(super) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    pub(super) fn request(mut self, request: Option<RequestId>) -> Self {
        self.request = request;
        self
    }

    pub(super) const fn measures(mut self, measures: Measures) -> Self {
        self.measures = measures;
        self
    }
}

/// The span in whole milliseconds.
pub(super) fn ms(from: BootTime, to: BootTime) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// The span in whole milliseconds, rounded up: for what must never be told as less than it was.
pub(super) fn at_most_ms(from: BootTime, to: BootTime) -> u64 {
    u64::try_from(to.since(from).as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Machine {
    /// Records something that is no transition.
    pub(super) fn say(&mut self, code: EventCode, severity: Severity, saying: Saying) {
        self.record(code, severity, saying, None);
    }

    /// The transition: the state changes, and the event says why.
    pub(super) fn go(&mut self, now: Now, to: State, code: EventCode, severity: Severity, saying: Saying) {
        let from = self.state;
        self.state = to;
        self.since = now.boot;
        self.why.clone_from(&saying.sentence);
        self.record(code, severity, saying, Some((from, to)));
    }

    fn record(
        &mut self,
        code: EventCode,
        severity: Severity,
        saying: Saying,
        transition: Option<(State, State)>,
    ) {
        let Saying { sentence, cause, request, measures } = saying;
        let epoch = self.duty.as_ref().map(|duty| duty.epoch);
        let event = Event { code, severity, sentence, cause, epoch, transition, request, measures };
        self.out.push(Effect::Record(Box::new(event)));
    }

    /// The peer's name for sentences.
    pub(super) fn peer_name(&self) -> String {
        let open = self.peer.session.as_ref().map(|session| (session.role, &session.identity));
        let told = self.peer.report.as_ref().map(|report| (report.role, &report.identity));
        let other = self.settings.role.other();
        let before = self.memory.paired_with.as_ref().map(|identity| (other, identity));
        let known = open.or(told).or(before);
        known
            .map_or_else(|| format!("the {other}"), |(role, who)| format!("the {role} {}", who.name.as_str()))
    }
}
