//! `onduty.types.v1` ↔ the words every part of onduty uses: identities, states, reports.

use failover_core::{
    Containment, Epoch, Fitness, Handover, HandoverReason, Identity, InstanceId, Maintenance,
    MaintenanceWindow, Mode, NodeId, NodeName, Procedure, Report, RequestId, Role, Severity, State, Summary,
    TimingsInForce, TombstonePromise,
};

use crate::invalid::{Invalid, bytes, clip, duration, required, text, to_duration};
use crate::wire::types::v1 as wire;

/// The most plugins a report names.
pub const MAX_PLUGINS: usize = 64;
/// Sentences: reasons, what people typed.
const SENTENCE: usize = 1024;
/// Who did something.
const WHO: usize = 256;
/// Names and single words.
const WORD: usize = 64;

macro_rules! enum_pair {
    ($(#[$doc:meta])* $field:literal, $from_wire:ident, $wire:ident <=> $domain:ident { $($variant:ident),+ $(,)? }) => {
        impl From<$domain> for wire::$wire {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant,)+ }
            }
        }

        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// When the value is unspecified or not of this version.
        pub fn $from_wire(value: i32) -> Result<$domain, Invalid> {
            match wire::$wire::try_from(value) {
                $(Ok(wire::$wire::$variant) => Ok($domain::$variant),)+
                Ok(wire::$wire::Unspecified) => Err(Invalid::new($field, "is not told")),
                Err(_) => Err(Invalid::new($field, format!("has the value {value}, which this version does not know"))),
            }
        }
    };
}

enum_pair! {
    /// A role from the wire.
    "role", role, Role <=> Role { Primary, Secondary }
}
enum_pair! {
    /// A mode from the wire.
    "mode", mode, Mode <=> Mode { Primary, Secondary, Deactivated }
}
enum_pair! {
    /// A state from the wire.
    "state", state, NodeState <=> State { Starting, Standby, TakingOver, Active, Yielding, Standalone }
}
enum_pair! {
    /// The reason of a planned move from the wire.
    "reason", handover_reason, HandoverReason <=> HandoverReason { Return, Switchover, Stop }
}
enum_pair! {
    /// A severity from the wire.
    "severity", severity, Severity <=> Severity { Info, Warn, Error, Critical }
}
enum_pair! {
    /// A containment level from the wire; see also [`containment_if_any`].
    "containment", containment, Containment <=> Containment { Namespace, Cgroup, Group }
}

/// A containment level from the wire; unspecified means that no guard runs.
///
/// # Errors
///
/// When the value is not of this version.
pub fn containment_if_any(value: i32) -> Result<Option<Containment>, Invalid> {
    if value == wire::Containment::Unspecified as i32 { Ok(None) } else { containment(value).map(Some) }
}

/// A containment level for the wire.
#[must_use]
pub fn from_containment(level: Option<Containment>) -> i32 {
    level.map_or(wire::Containment::Unspecified, wire::Containment::from) as i32
}

impl From<Identity> for wire::NodeIdentity {
    fn from(identity: Identity) -> Self {
        Self {
            node_id: identity.node.0.to_vec(),
            instance_id: identity.instance.0.to_vec(),
            name: identity.name.into(),
        }
    }
}

impl TryFrom<wire::NodeIdentity> for Identity {
    type Error = Invalid;

    fn try_from(identity: wire::NodeIdentity) -> Result<Self, Invalid> {
        Ok(Self {
            node: NodeId(bytes("node_id", &identity.node_id)?),
            instance: InstanceId(bytes("instance_id", &identity.instance_id)?),
            name: NodeName::try_from(identity.name)
                .map_err(|_| Invalid::new("name", "must be 1 to 64 characters out of A-Z a-z 0-9 . _ -"))?,
        })
    }
}

impl From<Fitness> for wire::Fitness {
    fn from(fitness: Fitness) -> Self {
        match fitness {
            Fitness::Fit => Self { fit: true, reason: String::new() },
            Fitness::Unfit(reason) => Self { fit: false, reason: clip(reason, SENTENCE) },
        }
    }
}

impl TryFrom<wire::Fitness> for Fitness {
    type Error = Invalid;

    fn try_from(fitness: wire::Fitness) -> Result<Self, Invalid> {
        let reason = text("reason", fitness.reason, SENTENCE)?;
        Ok(if fitness.fit { Self::Fit } else { Self::Unfit(reason) })
    }
}

impl From<TimingsInForce> for wire::TimingsInForce {
    fn from(timings: TimingsInForce) -> Self {
        Self {
            interval: Some(to_duration(timings.interval)),
            takeover_after: Some(to_duration(timings.takeover_after)),
            guard_deadline: Some(to_duration(timings.guard_deadline)),
            startup_wait: Some(to_duration(timings.startup_wait)),
        }
    }
}

impl TryFrom<wire::TimingsInForce> for TimingsInForce {
    type Error = Invalid;

    fn try_from(timings: wire::TimingsInForce) -> Result<Self, Invalid> {
        Ok(Self {
            interval: duration("interval", timings.interval)?,
            takeover_after: duration("takeover_after", timings.takeover_after)?,
            guard_deadline: duration("guard_deadline", timings.guard_deadline)?,
            startup_wait: duration("startup_wait", timings.startup_wait)?,
        })
    }
}

/// A request id from the wire: 1 to 64 characters.
///
/// # Errors
///
/// When it is empty or longer.
pub fn request_id(value: String) -> Result<RequestId, Invalid> {
    let characters = value.chars().take(WORD + 1).count();
    if (1..=WORD).contains(&characters) {
        Ok(RequestId(value))
    } else {
        Err(Invalid::new("request_id", "must have 1 to 64 characters"))
    }
}

fn from_request_id(request: RequestId) -> String {
    match request.0.char_indices().nth(WORD) {
        Some((end, _)) => clip(request.0, end),
        None => request.0,
    }
}

impl From<Handover> for wire::Handover {
    fn from(handover: Handover) -> Self {
        Self {
            request_id: from_request_id(handover.request),
            reason: wire::HandoverReason::from(handover.reason) as i32,
        }
    }
}

impl TryFrom<wire::Handover> for Handover {
    type Error = Invalid;

    fn try_from(handover: wire::Handover) -> Result<Self, Invalid> {
        Ok(Self { request: request_id(handover.request_id)?, reason: handover_reason(handover.reason)? })
    }
}

impl From<Procedure> for wire::Procedure {
    fn from(procedure: Procedure) -> Self {
        Self {
            offer: procedure.offer.map(Into::into),
            ask: procedure.ask.map(Into::into),
            refusal: procedure.refusal.map(|(request, reason)| wire::HandoverRefusal {
                request_id: from_request_id(request),
                reason: clip(reason, SENTENCE),
            }),
            released_epoch: procedure.released.map(|epoch| epoch.0),
            declined_epoch: procedure.declined.map(|epoch| epoch.0),
            overlap_ms: procedure.overlap_ms,
        }
    }
}

impl TryFrom<wire::Procedure> for Procedure {
    type Error = Invalid;

    fn try_from(procedure: wire::Procedure) -> Result<Self, Invalid> {
        let refusal = |refusal: wire::HandoverRefusal| {
            Ok((request_id(refusal.request_id)?, text("reason", refusal.reason, SENTENCE)?))
        };
        Ok(Self {
            offer: procedure.offer.map(Handover::try_from).transpose().map_err(|e| e.within("offer"))?,
            ask: procedure.ask.map(Handover::try_from).transpose().map_err(|e| e.within("ask"))?,
            refusal: procedure.refusal.map(refusal).transpose().map_err(|e: Invalid| e.within("refusal"))?,
            released: procedure.released_epoch.map(Epoch),
            declined: procedure.declined_epoch.map(Epoch),
            overlap_ms: procedure.overlap_ms,
        })
    }
}

impl From<Maintenance> for wire::Maintenance {
    fn from(maintenance: Maintenance) -> Self {
        Self {
            version: maintenance.version,
            window: maintenance.window.map(|window| wire::MaintenanceWindow {
                reason: clip(window.reason, SENTENCE),
                by: clip(window.by, WHO),
                until_unix: window.until_unix,
            }),
        }
    }
}

impl TryFrom<wire::Maintenance> for Maintenance {
    type Error = Invalid;

    fn try_from(maintenance: wire::Maintenance) -> Result<Self, Invalid> {
        let window = |window: wire::MaintenanceWindow| {
            Ok(MaintenanceWindow {
                reason: text("reason", window.reason, SENTENCE)?,
                by: text("by", window.by, WHO)?,
                until_unix: window.until_unix,
            })
        };
        Ok(Self {
            version: maintenance.version,
            window: maintenance.window.map(window).transpose().map_err(|e: Invalid| e.within("window"))?,
        })
    }
}

impl From<TombstonePromise> for wire::TombstonePromise {
    fn from(promise: TombstonePromise) -> Self {
        Self { epoch: promise.epoch.0, sha256: promise.sha256.to_vec() }
    }
}

impl TryFrom<wire::TombstonePromise> for TombstonePromise {
    type Error = Invalid;

    fn try_from(promise: wire::TombstonePromise) -> Result<Self, Invalid> {
        Ok(Self { epoch: Epoch(promise.epoch), sha256: bytes("sha256", &promise.sha256)? })
    }
}

/// Plugins for the wire: at most [`MAX_PLUGINS`], with clipped texts.
#[must_use]
pub fn from_plugins(plugins: Vec<(String, String)>) -> Vec<wire::PluginSummary> {
    let summary = |(name, state)| wire::PluginSummary { name: clip(name, WHO), state: clip(state, WORD) };
    plugins.into_iter().take(MAX_PLUGINS).map(summary).collect()
}

/// Plugins from the wire.
///
/// # Errors
///
/// When there are more than [`MAX_PLUGINS`], or a text is too long.
pub fn plugins(plugins: Vec<wire::PluginSummary>) -> Result<Vec<(String, String)>, Invalid> {
    if plugins.len() > MAX_PLUGINS {
        return Err(Invalid::new("plugins", format!("must be at most {MAX_PLUGINS}, are {}", plugins.len())));
    }
    let pair = |plugin: wire::PluginSummary| {
        Ok((text("name", plugin.name, WHO)?, text("state", plugin.state, WORD)?))
    };
    plugins.into_iter().map(pair).collect::<Result<_, Invalid>>().map_err(|e| e.within("plugins"))
}

impl From<Report> for wire::NodeReport {
    fn from(report: Report) -> Self {
        Self {
            identity: Some(report.identity.into()),
            role: wire::Role::from(report.role) as i32,
            mode: wire::Mode::from(report.mode) as i32,
            state: wire::NodeState::from(report.state) as i32,
            fitness: Some(report.fit.into()),
            epoch: report.epoch.map(|epoch| epoch.0),
            highest_epoch: report.highest_epoch.0,
            last_held_epoch: report.last_held.map(|epoch| epoch.0),
            timings: Some(report.timings.into()),
            procedure: Some(report.procedure.into()),
            maintenance: Some(report.maintenance.into()),
            tombstone: report.tombstone.map(Into::into),
            version: clip(report.summary.version, WORD),
            project: clip(report.summary.project, WORD),
            containment: from_containment(report.summary.containment),
            plugins: from_plugins(report.summary.plugins),
            revision: report.revision,
            epoch_parity: wire::Role::from(report.parity) as i32,
        }
    }
}

impl TryFrom<wire::NodeReport> for Report {
    type Error = Invalid;

    fn try_from(report: wire::NodeReport) -> Result<Self, Invalid> {
        let identity = required("identity", report.identity)?;
        let fitness = required("fitness", report.fitness)?;
        let timings = required("timings", report.timings)?;
        let promise = report.tombstone.map(TombstonePromise::try_from);
        let own_role = role(report.role)?;
        // Unset means the usual: that of the role.
        let parity = match report.epoch_parity {
            0 => own_role,
            told => role(told).map_err(|_unknown| Invalid::new("epoch_parity", "is no role"))?,
        };
        Ok(Self {
            identity: identity.try_into().map_err(|e: Invalid| e.within("identity"))?,
            revision: report.revision,
            role: own_role,
            mode: mode(report.mode)?,
            state: state(report.state)?,
            fit: fitness.try_into().map_err(|e: Invalid| e.within("fitness"))?,
            epoch: report.epoch.map(Epoch),
            highest_epoch: Epoch(report.highest_epoch),
            last_held: report.last_held_epoch.map(Epoch),
            parity,
            timings: timings.try_into().map_err(|e: Invalid| e.within("timings"))?,
            // Unset means the same as empty: nothing is under way.
            procedure: report
                .procedure
                .unwrap_or_default()
                .try_into()
                .map_err(|e: Invalid| e.within("procedure"))?,
            maintenance: report
                .maintenance
                .unwrap_or_default()
                .try_into()
                .map_err(|e: Invalid| e.within("maintenance"))?,
            tombstone: promise.transpose().map_err(|e| e.within("tombstone"))?,
            summary: Summary {
                version: text("version", report.version, WORD)?,
                project: text("project", report.project, WORD)?,
                containment: containment_if_any(report.containment)?,
                plugins: plugins(report.plugins)?,
            },
        })
    }
}
