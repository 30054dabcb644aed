//! Wire messages for people and, as JSON, for machines. In JSON every word is lower case, every moment is RFC 3339
//! in UTC, every span is in milliseconds, and what is not known is null.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use onduty_api::wire::events::v1::Event;
use onduty_api::wire::failover::v1::{
    KeySlot, LinkVerdict, NodeStatus, PairKey, PathStatus, PeerStatus, PluginStatus, RedundancyWord, Warning,
};
use onduty_api::wire::types::v1::{
    Containment, Fitness, Maintenance, Mode, NodeIdentity, NodeReport, NodeState, Role, Severity,
    TimingsInForce,
};
use serde_json::{Value, json};

/// A span in seconds.
pub(crate) fn seconds(span: &prost_types::Duration) -> f64 {
    span.seconds as f64 + f64::from(span.nanos) / 1e9
}

fn millis(span: Option<&prost_types::Duration>) -> Option<f64> {
    span.map(|span| (seconds(span) * 1e6).round() / 1e3)
}

fn moment(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// RFC 3339, with milliseconds.
pub(crate) fn rfc3339(at: &prost_types::Timestamp) -> Option<String> {
    moment(at).map(|at| format!("{at:.3}"))
}

/// Date and time of day here, with milliseconds.
pub(crate) fn local_time(at: &prost_types::Timestamp) -> String {
    here(at, "%Y-%m-%d %H:%M:%S%.3f")
}

/// Time of day here.
pub(crate) fn time_of_day(at: &prost_types::Timestamp) -> String {
    here(at, "%H:%M:%S")
}

fn here(at: &prost_types::Timestamp, format: &str) -> String {
    moment(at).map_or_else(String::new, |at| at.to_zoned(TimeZone::system()).strftime(format).to_string())
}

/// Seconds from one moment to another.
pub(crate) fn seconds_between(
    from: Option<&prost_types::Timestamp>,
    to: Option<&prost_types::Timestamp>,
) -> f64 {
    let (Some(from), Some(to)) = (from, to) else { return 0.0 };
    (to.seconds - from.seconds) as f64 + f64::from(to.nanos - from.nanos) / 1e9
}

/// A state as people say it.
pub(crate) fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unspecified => "unknown",
        NodeState::Starting => "starting",
        NodeState::Standby => "standby",
        NodeState::TakingOver => "taking over",
        NodeState::Active => "active",
        NodeState::Yielding => "yielding",
        NodeState::Standalone => "standalone",
    }
}

/// A role.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Primary => "primary",
        Role::Secondary => "secondary",
    }
}

pub(crate) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Unspecified => "unknown",
        Mode::Primary => "primary",
        Mode::Secondary => "secondary",
        Mode::Deactivated => "deactivated",
    }
}

/// The word for people.
pub(crate) fn word(word: RedundancyWord) -> &'static str {
    match word {
        RedundancyWord::Unspecified => "unknown",
        RedundancyWord::Ready => "ready",
        RedundancyWord::Degraded => "degraded",
        RedundancyWord::Lost => "lost",
        RedundancyWord::Off => "off",
    }
}

/// The link in a word.
pub(crate) fn link(verdict: LinkVerdict) -> &'static str {
    match verdict {
        LinkVerdict::Unspecified => "unknown",
        LinkVerdict::Silent => "silent",
        LinkVerdict::Unproved => "unproved",
        LinkVerdict::ProvedRefused => "proved_refused",
        LinkVerdict::Established => "established",
    }
}

/// A severity in a word.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => "unknown",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}

/// A containment level as its letter and its means.
pub(crate) fn containment(level: Containment) -> &'static str {
    match level {
        Containment::Unspecified => "none",
        Containment::Namespace => "namespace",
        Containment::Cgroup => "cgroup",
        Containment::Group => "group",
    }
}

/// The measured times of an event, for people: `outage 3021 ms`.
pub(crate) fn measures(event: &Event) -> String {
    let named = [
        ("detected after", event.detected_ms),
        ("takeover", event.takeover_ms),
        ("outage", event.outage_ms),
        ("overlap", event.overlap_ms),
    ];
    let told: Vec<String> =
        named.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms} ms"))).collect();
    told.join(", ")
}

/// An event.
pub(crate) fn event(event: &Event) -> Value {
    let snake = |value: NodeState| (value != NodeState::Unspecified).then(|| state(value).replace(' ', "_"));
    json!({
        "number": event.number,
        "at": event.at.as_ref().and_then(rfc3339),
        "node": event.node,
        "code": event.code,
        "severity": severity(event.severity()),
        "sentence": event.sentence,
        "cause": event.cause,
        "epoch": event.epoch,
        "from_state": snake(event.from_state()),
        "to_state": snake(event.to_state()),
        "request_id": (!event.request_id.is_empty()).then_some(&event.request_id),
        "detected_ms": event.detected_ms,
        "takeover_ms": event.takeover_ms,
        "outage_ms": event.outage_ms,
        "overlap_ms": event.overlap_ms,
        "chain": hex(&event.chain),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plugin.
pub(crate) fn plugin(plugin: &PluginStatus) -> Value {
    json!({
        "name": plugin.name,
        "state": plugin.state,
        "reason": plugin.reason,
        "since": plugin.since.as_ref().and_then(rfc3339),
        "pid": plugin.pid,
        "restarts": plugin.restarts,
    })
}

/// Maintenance.
pub(crate) fn maintenance(maintenance: &Maintenance) -> Value {
    let window = maintenance.window.as_ref();
    json!({
        "version": maintenance.version,
        "on": window.is_some(),
        "reason": window.map(|window| &window.reason),
        "by": window.map(|window| &window.by),
        "until": window.and_then(|window| rfc3339(&unix(window.until_unix))),
    })
}

/// Maintenance for people.
pub(crate) fn maintenance_text(maintenance: &Maintenance) -> String {
    maintenance.window.as_ref().map_or_else(
        || "off".to_owned(),
        |window| {
            let until = local_time(&unix(window.until_unix));
            format!("on until {until}, set by {}: {}", window.by, window.reason)
        },
    )
}

fn unix(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

fn identity(identity: &NodeIdentity) -> Value {
    json!({ "name": identity.name, "node_id": hex(&identity.node_id), "instance_id": hex(&identity.instance_id) })
}

fn timings(timings: &TimingsInForce) -> Value {
    json!({
        "interval_ms": millis(timings.interval.as_ref()),
        "takeover_after_ms": millis(timings.takeover_after.as_ref()),
        "guard_deadline_ms": millis(timings.guard_deadline.as_ref()),
        "startup_wait_ms": millis(timings.startup_wait.as_ref()),
    })
}

fn report(report: &NodeReport) -> Value {
    let fitness =
        report.fitness.clone().unwrap_or_else(|| Fitness { fit: false, reason: "not told".to_owned() });
    json!({
        "identity": report.identity.as_ref().map(identity),
        "role": role(report.role()),
        "mode": mode(report.mode()),
        "state": state(report.state()).replace(' ', "_"),
        "fit": fitness.fit,
        "unfit_reason": (!fitness.fit).then_some(fitness.reason),
        "epoch": report.epoch,
        "highest_epoch": report.highest_epoch,
        "last_held_epoch": report.last_held_epoch,
        "epoch_parity": role(report.epoch_parity()),
        "timings": report.timings.as_ref().map(timings),
        "maintenance": maintenance(&report.maintenance.clone().unwrap_or_default()),
        "tombstone_armed": report.tombstone.is_some(),
        "version": report.version,
        "project": report.project,
        "containment": containment(report.containment()),
        "plugins": report.plugins.iter().map(|plugin| json!({ "name": plugin.name, "state": plugin.state })).collect::<Vec<_>>(),
    })
}

fn peer(peer: &PeerStatus) -> Value {
    json!({
        "link": link(peer.link()),
        "link_reason": peer.link_reason,
        "link_since": peer.link_since.as_ref().and_then(rfc3339),
        "report": peer.report.as_ref().map(report),
        "paired_with": peer.paired_with.as_ref().map(identity),
        "round_trip_ms": millis(peer.round_trip.as_ref()),
        "silent_for_ms": millis(peer.silent_for.as_ref()),
        "takeover_in_ms": millis(peer.takeover_in.as_ref()),
        "paths": peer.paths.iter().map(path).collect::<Vec<_>>(),
    })
}

fn path(path: &PathStatus) -> Value {
    json!({
        "path": path.path,
        "address": path.address,
        "link": link(path.link()),
        "link_reason": path.link_reason,
        "link_since": path.link_since.as_ref().and_then(rfc3339),
        "round_trip_ms": millis(path.round_trip.as_ref()),
        "lost": path.lost,
    })
}

/// A key by its fingerprint.
pub(crate) fn pair_key(key: &PairKey) -> Value {
    let slot = match key.slot() {
        KeySlot::Unspecified => "unknown",
        KeySlot::Current => "current",
        KeySlot::Previous => "previous",
        KeySlot::Next => "next",
    };
    json!({
        "slot": slot,
        "fingerprint": key.fingerprint,
        "file": (!key.file.is_empty()).then_some(&key.file),
        "in_use": key.in_use,
        "since": key.since.as_ref().and_then(rfc3339),
        "droppable": key.droppable,
    })
}

fn warning(warning: &Warning) -> Value {
    json!({ "code": warning.code, "severity": severity(warning.severity()), "sentence": warning.sentence })
}

/// A whole status.
pub(crate) fn status(status: &NodeStatus) -> Value {
    json!({
        "redundancy": word(status.redundancy()),
        "redundancy_reason": status.redundancy_reason,
        "at": status.at.as_ref().and_then(rfc3339),
        "started": status.started.as_ref().and_then(rfc3339),
        "node": status.node.as_ref().map(report),
        "state_since": status.state_since.as_ref().and_then(rfc3339),
        "state_reason": status.state_reason,
        "peer": status.peer.as_ref().map(peer),
        "warnings": status.warnings.iter().map(warning).collect::<Vec<_>>(),
        "flap_latched": status.flap_latched,
        "plugins": status.plugins.iter().map(plugin).collect::<Vec<_>>(),
        "rejected": status.rejected,
        "keys": status.keys.iter().map(pair_key).collect::<Vec<_>>(),
    })
}
