//! The last steps of a connection test: what the two nodes say of themselves, side by side. Pure; the rules are those by
//! which the machine judges its peer.

use std::time::Duration;

use duty::Own;
use failover_core::{EventCode, Mode, Report, Role, timing};
use onduty_api::heartbeat::TestVerdict;
use service_kit::codes::Code;

/// Clocks that differ by less need nobody's attention.
const CLOCKS_AGREE: Duration = Duration::from_secs(2);

/// What a step has found.
pub(crate) struct Finding {
    pub(crate) step: &'static str,
    pub(crate) verdict: TestVerdict,
    pub(crate) code: &'static str,
    pub(crate) found: String,
    pub(crate) hint: &'static str,
}

impl Finding {
    pub(crate) const fn good(step: &'static str, found: String) -> Self {
        Self { step, verdict: TestVerdict::Passed, code: "", found, hint: "" }
    }

    pub(crate) const fn skipped(step: &'static str, found: String) -> Self {
        Self { step, verdict: TestVerdict::Skipped, code: "", found, hint: "" }
    }

    const fn warned(step: &'static str, code: Code, found: String, hint: &'static str) -> Self {
        Self { step, verdict: TestVerdict::Warned, code: code.as_str(), found, hint }
    }

    const fn failed(step: &'static str, code: Code, found: String, hint: &'static str) -> Self {
        Self { step, verdict: TestVerdict::Failed, code: code.as_str(), found, hint }
    }
}

/// Whether the two make a pair: one primary, one secondary.
pub(crate) fn role(own: &Own, role: Role, mode: Mode) -> Finding {
    const STEP: &str = "role";
    let found = format!("this node is the {}, the other one the {role} (mode {mode})", own.role);
    if own.mode.role().is_none() || mode.role().is_none() {
        return Finding {
            step: STEP,
            verdict: TestVerdict::Warned,
            code: EventCode::PeerStandalone.as_str(),
            found: format!("this node has mode {}, the other one mode {mode}", own.mode),
            hint: "A node in mode `deactivated` runs its plugins without redundancy: set its `redundancy.mode`.",
        };
    }
    if role == own.role {
        let found = format!("both nodes are configured as {role}");
        let hint =
            "One node must be the primary and the other the secondary: change `redundancy.mode` of one.";
        return Finding::failed(STEP, Code::RoleClash, found, hint);
    }
    Finding::good(STEP, found)
}

/// Whether interval, timeout and takeover time leave both guards their time.
pub(crate) fn timing(own: &Report, peer: &Report) -> Finding {
    const STEP: &str = "timing";
    if own.mode.role().is_none() || peer.mode.role().is_none() {
        return Finding::skipped(STEP, "timings do not matter while a node has no redundancy".to_owned());
    }
    let (primary, secondary) = match own.role {
        Role::Primary => (&own.timings, &peer.timings),
        Role::Secondary => (&peer.timings, &own.timings),
    };
    let (interval, timeout) = (secondary.interval, primary.takeover_after);
    if let Some(why) = timing::misfit(primary, secondary) {
        let hint = "Shorten `redundancy.secondary.interval` or lengthen `redundancy.primary.timeout`; `onduty config \
                    check` does the sum.";
        return Finding::failed(STEP, Code::TimingMismatch, why, hint);
    }
    let found = format!(
        "a heartbeat every {interval:?}, the primary's timeout {timeout:?}, a takeover after {:?}",
        secondary.takeover_after
    );
    if interval * 3 > timeout.min(secondary.takeover_after) {
        let hint = "The timeout should be at least three intervals, or one lost heartbeat is an alarm.";
        return Finding::warned(STEP, Code::TimingTight, found, hint);
    }
    Finding::good(STEP, found)
}

/// Whether both run the same version.
pub(crate) fn version(own: &Report, peer: &Report) -> Finding {
    const STEP: &str = "version";
    let (own, peer) = (&own.summary.version, &peer.summary.version);
    if own == peer {
        return Finding::good(STEP, format!("both nodes run onduty {own}"));
    }
    let found = format!("this node runs onduty {own}, the other one {peer}");
    Finding::warned(
        STEP,
        Code::VersionDiffers,
        found,
        "Different versions are for the time of an upgrade only.",
    )
}

/// How far apart the wall clocks are. The other node read its own between the two moments, so what lies between them
/// is no difference.
pub(crate) fn clock(peer: Option<u64>, asked_at: u64, told_at: u64) -> Finding {
    const STEP: &str = "clock";
    let Some(peer) = peer else {
        return Finding::skipped(STEP, "the other node does not tell its time".to_owned());
    };
    // The own clock may have been set back in between.
    let (first, last) = (asked_at.min(told_at), asked_at.max(told_at));
    let (apart, which) =
        if peer > last { (peer - last, "ahead of") } else { (first.saturating_sub(peer), "behind") };
    let apart = Duration::from_millis(apart);
    if apart < CLOCKS_AGREE {
        return Finding::good(STEP, format!("the clocks of the two nodes agree within {CLOCKS_AGREE:?}"));
    }
    let found = format!("the clock of the other node is {} s {which} this one's", apart.as_secs());
    let hint = "Let both nodes take the time from the same source (NTP). A takeover does not go by these clocks, but \
                certificates, maintenance windows and the times in the journal do.";
    Finding::warned(STEP, Code::ClockDiffers, found, hint)
}

/// Whether both define their plugins alike.
pub(crate) fn project(own: &Report, peer: &Report) -> Finding {
    const STEP: &str = "project";
    if own.summary.project == peer.summary.project {
        return Finding::good(STEP, "both nodes have the same plugins".to_owned());
    }
    let found = "the plugins of the two nodes are not defined alike".to_owned();
    let hint = "Compare the plugin definitions: after a failover something else would run.";
    Finding::warned(STEP, Code::ProjectDiffers, found, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_outside_the_two_moments_is_a_difference() {
        for (peer, words) in [
            (Some(10_000), "agree"),
            (Some(10_400), "agree"),
            (Some(12_300), "agree"),
            (Some(12_600), "2 s ahead of"),
            (Some(7_900), "2 s behind"),
            (Some(u64::MAX), "ahead of"),
            (Some(0), "10 s behind"),
            (None, "does not tell"),
        ] {
            let finding = clock(peer, 10_000, 10_500);
            assert!(finding.found.contains(words), "{peer:?}: {}", finding.found);
            assert_eq!(finding.code == Code::ClockDiffers.as_str(), finding.found.contains("other node is"));
        }
        // Set back by an hour while the answer was under way.
        assert_eq!(clock(Some(5_000_000), 7_200_000, 3_600_000).verdict, TestVerdict::Passed);
    }
}
