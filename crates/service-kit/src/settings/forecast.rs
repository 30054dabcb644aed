//! What the chosen timings mean: for each fault, how long until it is noticed, until the other node starts the
//! plugins, and how long both could be active — with the sentence that explains it. For `onduty config check`.
//!
//! Worst cases, counted from the fault, for a takeover by the secondary; the last row is the other direction.

use std::fmt;
use std::time::Duration;

use failover_core::Mode;
use failover_core::timing::{KILL_TIME, MARGIN, SCHEDULING_DELAY, guard_deadline, longest_round_trip};
use serde::{Serialize, Serializer};

use super::node::{ContainmentMode, NodeSettings};
use super::value::show_duration;

/// What is to be expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The heartbeat interval.
    #[serde(serialize_with = "millis", rename = "interval_ms")]
    pub interval: Duration,
    /// The silence after which the secondary takes over.
    #[serde(serialize_with = "millis", rename = "takeover_after_ms")]
    pub takeover_after: Duration,
    /// How long the guard lets plugins live without a renewal; `None` in mode `deactivated`.
    #[serde(serialize_with = "maybe_millis", rename = "guard_deadline_ms")]
    pub guard_deadline: Option<Duration>,
    /// Upper bound from the start of the plugins to every one ready.
    #[serde(serialize_with = "millis", rename = "start_limit_ms")]
    pub start_limit: Duration,
    /// The faults; none in mode `deactivated`.
    pub faults: Vec<Fault>,
    /// What a service manager must allow for a stop, in whole seconds.
    pub stop_budget_s: u64,
    /// Why that much.
    pub stop_budget_why: String,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Stable, for machines.
    pub code: &'static str,
    /// For people.
    pub what: &'static str,
    /// Worst case until it is noticed.
    #[serde(serialize_with = "millis", rename = "detection_ms")]
    pub detection: Duration,
    /// Worst case until the other node starts the plugins; readiness comes on top, at most `start_limit`.
    #[serde(serialize_with = "millis", rename = "takeover_ms")]
    pub takeover: Duration,
    /// How long both nodes can be active; `None`: for as long as the fault lasts.
    #[serde(serialize_with = "maybe_millis", rename = "overlap_ms")]
    pub overlap: Option<Duration>,
    /// Why, in one sentence.
    pub why: String,
}

fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

// serde hands in a reference to the field as it is.
#[allow(clippy::ref_option)]
fn maybe_millis<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => millis(span, serializer),
        None => serializer.serialize_none(),
    }
}

/// The forecast for settings that have passed the checks.
#[must_use]
pub fn forecast(settings: &NodeSettings) -> Forecast {
    let interval = settings.redundancy.secondary.interval;
    let silence = settings.takeover_after();
    let paired = settings.redundancy.mode != Mode::Deactivated;
    let guard = guard_deadline(interval, silence).ok().filter(|_| paired);
    let (stop_budget_s, stop_budget_why) = stop_budget(settings, paired);
    Forecast {
        interval,
        takeover_after: silence,
        guard_deadline: guard,
        start_limit: settings.start_limit(),
        faults: if paired { faults(settings, interval, silence) } else { Vec::new() },
        stop_budget_s,
        stop_budget_why,
    }
}

fn faults(settings: &NodeSettings, interval: Duration, silence: Duration) -> Vec<Fault> {
    let t = show_duration(silence);
    let after_silence = silence + SCHEDULING_DELAY;
    let tombstone = KILL_TIME + longest_round_trip(interval) * 2;
    let gone_by = guard_deadline(interval, silence).map_or(silence, |guard| {
        interval + longest_round_trip(interval) + guard + KILL_TIME + SCHEDULING_DELAY
    });
    vec![
        Fault {
            code: "manager_killed",
            what: "manager killed, guard alive",
            detection: tombstone,
            takeover: tombstone + SCHEDULING_DELAY,
            overlap: Some(Duration::ZERO),
            why: "The guard ends the plugins and then proves it to the secondary, which need not wait.".to_owned(),
        },
        Fault {
            code: "node_lost",
            what: "node lost, power cut",
            detection: silence,
            takeover: after_silence,
            overlap: Some(Duration::ZERO),
            why: format!("Nobody is left to say anything, so the secondary waits for the whole silence of {t}."),
        },
        Fault {
            code: "manager_frozen",
            what: "manager frozen, guard alive",
            detection: silence,
            takeover: after_silence,
            overlap: Some(Duration::ZERO),
            why: format!(
                "The guard ends the plugins at most {} after the last acknowledged heartbeat, before the secondary acts \
                 at {t}.",
                show_duration(gone_by)
            ),
        },
        Fault {
            code: "machine_frozen",
            what: "whole machine frozen, goes on later",
            detection: silence,
            takeover: after_silence,
            overlap: Some(KILL_TIME + SCHEDULING_DELAY),
            why: "The plugins stand still with the machine, and the guard ends them as soon as it goes on.".to_owned(),
        },
        all_killed(settings, silence),
        Fault {
            code: "link_cut",
            what: "link cut, both nodes alive",
            detection: silence,
            takeover: after_silence,
            overlap: None,
            why: "With `arbitration.mode` `none` nobody can tell a cut link from a dead node: both are active until the \
                  link is back; then one yields by the rule."
                .to_owned(),
        },
        refused(settings, silence),
        active_secondary_lost(settings, interval),
    ]
}

fn active_secondary_lost(settings: &NodeSettings, interval: Duration) -> Fault {
    let timeout = settings.redundancy.primary.timeout;
    Fault {
        code: "active_secondary_lost",
        what: "secondary lost while it is active",
        detection: timeout,
        takeover: timeout + SCHEDULING_DELAY,
        overlap: Some(Duration::ZERO),
        why: format!(
            "The primary takes over after its own timeout of {}, counted from its last acknowledgement that a later \
             heartbeat (every {}) echoed.",
            show_duration(timeout),
            show_duration(interval)
        ),
    }
}

fn all_killed(settings: &NodeSettings, silence: Duration) -> Fault {
    let lives_on = "The plugins live on until onduty is started again there, which ends them first.";
    let (overlap, why) = match settings.supervisor.containment {
        ContainmentMode::Namespace => {
            (Some(Duration::ZERO), "The plugins die with their namespace, but nobody is left to prove it.")
        }
        ContainmentMode::Cgroup | ContainmentMode::Group => (None, lives_on),
        ContainmentMode::Auto => (
            None,
            "With containment `namespace` the plugins die too; with `cgroup` or `group` they live on until onduty is \
             started again there (`onduty status` shows which it is).",
        ),
    };
    Fault {
        code: "all_killed",
        what: "every onduty process killed at once",
        detection: silence,
        takeover: silence + SCHEDULING_DELAY,
        overlap,
        why: why.to_owned(),
    }
}

fn refused(settings: &NodeSettings, silence: Duration) -> Fault {
    let (code, what) = ("refused", "connections refused, no proof of death");
    match settings.redundancy.secondary.takeover_confirm.0 {
        None => Fault {
            code,
            what,
            detection: silence,
            takeover: silence + SCHEDULING_DELAY,
            overlap: None,
            why: format!(
                "A refused connection proves nothing, a firewall can refuse too: the secondary waits for the whole \
                 silence of {}, and if the primary is alive behind it both are active.",
                show_duration(silence)
            ),
        },
        Some(window) => {
            let dials = settings.dial_deadline().min(settings.redundancy.secondary.interval);
            let detection = (window + dials + MARGIN).min(silence);
            Fault {
                code,
                what,
                detection,
                takeover: detection + SCHEDULING_DELAY,
                overlap: None,
                why: format!(
                    "`redundancy.secondary.takeover_confirm` is {}: refusals for that long count as a crash; behind a \
                     rejecting firewall both are active.",
                    show_duration(window)
                ),
            }
        }
    }
}

/// What may hang at the end of a process, all of it together: the driver's margin (0.5 s) and its last writes (1 s), the link
/// (1 s), the supervisor (1 s), the journal (3 s), and the threads and the log that are left (1.3 s).
const LAST_STEPS: Duration = Duration::from_secs(8);

/// Stopping, and where the duty is handed over also the peer's start, which this node waits for; plus the last steps.
fn stop_budget(settings: &NodeSettings, paired: bool) -> (u64, String) {
    let stop = settings.stop_limit();
    let hands_over = paired && settings.redundancy.handover_on_stop;
    let handover = settings.longest_silence() * 2 + settings.start_limit();
    let total = stop + if hands_over { handover } else { Duration::ZERO } + LAST_STEPS;
    let seconds = total.as_secs() + u64::from(total.subsec_nanos() > 0);
    let stop = show_duration(stop);
    let why = if hands_over {
        format!(
            "The plugins stop within {stop}, the other node has {} to take the duty and start its own, and {} are for what \
             may hang at the end.",
            show_duration(handover),
            show_duration(LAST_STEPS)
        )
    } else {
        let last = show_duration(LAST_STEPS);
        format!("The plugins stop within {stop}, and {last} are for what may hang at the end.")
    };
    (seconds, why)
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.faults.is_empty() {
            writeln!(f, "mode deactivated: the plugins run here, nobody takes over")?;
        } else {
            let guard = self.guard_deadline.map(show_duration).unwrap_or_default();
            writeln!(
                f,
                "heartbeat every {}, takeover after {}, guard deadline {guard}; worst cases from the fault:",
                show_duration(self.interval),
                show_duration(self.takeover_after)
            )?;
        }
        for fault in &self.faults {
            let overlap = match fault.overlap {
                Some(Duration::ZERO) => "none".to_owned(),
                Some(span) => format!("≤ {}", show_duration(span)),
                None => "until it is healed".to_owned(),
            };
            writeln!(
                f,
                "  {:<39} detection ≤ {:<7} takeover ≤ {:<9} overlap {overlap}\n      {}",
                fault.what,
                show_duration(fault.detection),
                show_duration(fault.takeover),
                fault.why
            )?;
        }
        writeln!(f, "plugins are ready at most {} after they were started", show_duration(self.start_limit))?;
        write!(f, "stop budget: {} s. {}", self.stop_budget_s, self.stop_budget_why)
    }
}
