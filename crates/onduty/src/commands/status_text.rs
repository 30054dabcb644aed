//! The status for people: the word first, then this node, the peer, the link, plugins and warnings.

use std::collections::BTreeMap;

use onduty_api::wire::failover::v1::{LinkVerdict, NodeStatus, PathStatus, PeerStatus, RedundancyWord};
use onduty_api::wire::types::v1::{Mode, NodeReport, Severity};

use crate::commands::{key, plugins, render};
use crate::output::{Colour, coded, paint, span};

/// The whole picture.
pub(crate) fn status(status: &NodeStatus) -> String {
    let mut lines = vec![headline(status), String::new()];
    let node = status.node.clone().unwrap_or_default();
    let for_ = span(render::seconds_between(status.state_since.as_ref(), status.at.as_ref()));
    lines.push(row("this node", &format!("{}, for {for_}", who(&node))));
    lines.push(row("", &paint(Colour::Grey, &status.state_reason)));
    if node.mode() != Mode::Deactivated {
        peer(&mut lines, status, &status.peer.clone().unwrap_or_default());
        lines.extend(key::text::rows(&status.keys).iter().map(|(name, text)| row(name, text)));
        lines.push(row("timing", &timing(&node)));
    }
    let maintenance = node.maintenance.clone().unwrap_or_default();
    lines.push(row("maintenance", &render::maintenance_text(&maintenance)));
    if status.flap_latched {
        lines.push(row("flapping", "automatic moves are blocked after too many of them"));
    }
    if !status.rejected.is_empty() {
        let rejected = BTreeMap::from_iter(status.rejected.clone());
        let told: Vec<String> = rejected.iter().map(|(code, count)| format!("{code} {count}")).collect();
        lines.push(row("rejected", &told.join(", ")));
    }
    if !status.plugins.is_empty() {
        lines.push(String::new());
        lines.push(plugins::table(&status.plugins));
    }
    if !status.warnings.is_empty() {
        lines.push(String::new());
        lines.extend(status.warnings.iter().map(|warning| {
            let colour = match warning.severity() {
                Severity::Error | Severity::Critical => Colour::Red,
                Severity::Unspecified | Severity::Info | Severity::Warn => Colour::Yellow,
            };
            format!(
                "{} {}",
                paint(colour, &format!("{}:", render::severity(warning.severity()))),
                coded(&warning.sentence, &warning.code)
            )
        }));
    }
    lines.retain(|line| line != BLANK_ROW);
    lines.join("\n")
}

/// `redundancy: ready — why`.
pub(crate) fn headline(status: &NodeStatus) -> String {
    let word = status.redundancy();
    let colour = match word {
        RedundancyWord::Ready => Colour::Green,
        RedundancyWord::Degraded => Colour::Yellow,
        RedundancyWord::Lost => Colour::Red,
        RedundancyWord::Off | RedundancyWord::Unspecified => Colour::Grey,
    };
    format!("redundancy: {} — {}", paint(colour, render::word(word)), status.redundancy_reason)
}

/// An empty row, which is left out.
const BLANK_ROW: &str = "             ";

fn row(name: &str, text: &str) -> String {
    format!("{name:<13}{text}")
}

fn who(report: &NodeReport) -> String {
    let name = report.identity.as_ref().map_or("?", |identity| identity.name.as_str());
    let part = if report.mode() == Mode::Deactivated { "deactivated" } else { render::role(report.role()) };
    let state = paint(Colour::Bold, render::state(report.state()));
    let epoch = report.epoch.map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
    let fitness = report.fitness.clone().unwrap_or_default();
    let fit = if fitness.fit {
        String::new()
    } else {
        format!(", {}: {}", paint(Colour::Red, "unfit"), fitness.reason)
    };
    format!("{name} ({part}) {state}{epoch}{fit}")
}

fn peer(lines: &mut Vec<String>, status: &NodeStatus, peer: &PeerStatus) {
    let verdict = peer.link();
    match &peer.report {
        Some(report) if verdict == LinkVerdict::Established => lines.push(row("peer", &who(report))),
        Some(report) => lines.push(row("peer", &format!("{} when last heard", who(report)))),
        None => {
            let known = peer.paired_with.as_ref().map(|identity| identity.name.as_str());
            let text =
                known.map_or_else(|| "never seen".to_owned(), |name| format!("{name}, not seen in this run"));
            lines.push(row("peer", &text));
        }
    }
    let for_ = span(render::seconds_between(peer.link_since.as_ref(), status.at.as_ref()));
    let colour = if verdict == LinkVerdict::Established { Colour::Green } else { Colour::Red };
    let mut link = format!("{} for {for_}", paint(colour, &render::link(verdict).replace('_', ", ")));
    if let Some(round_trip) = &peer.round_trip
        && verdict == LinkVerdict::Established
    {
        link.push_str(&format!(", round trip {}", span(render::seconds(round_trip))));
    }
    if !peer.link_reason.is_empty() {
        link.push_str(&format!(": {}", peer.link_reason));
    }
    if let Some(due) = &peer.takeover_in
        && verdict != LinkVerdict::Established
    {
        link.push_str(&format!("; takes over in {}", span(render::seconds(due))));
    }
    lines.push(row("link", &link));
    if peer.paths.len() > 1 {
        lines.extend(peer.paths.iter().map(|one| path(status, one)));
    }
}

/// One of several network paths.
fn path(status: &NodeStatus, path: &PathStatus) -> String {
    let verdict = path.link();
    let for_ = span(render::seconds_between(path.link_since.as_ref(), status.at.as_ref()));
    let colour = match verdict {
        LinkVerdict::Established => Colour::Green,
        _ if path.lost => Colour::Yellow,
        LinkVerdict::Unspecified
        | LinkVerdict::Silent
        | LinkVerdict::Unproved
        | LinkVerdict::ProvedRefused => Colour::Red,
    };
    let mut text = format!("{} for {for_}", paint(colour, &render::link(verdict).replace('_', ", ")));
    if !path.address.is_empty() {
        text = format!("{}: {text}", path.address);
    }
    if let (LinkVerdict::Established, Some(round_trip)) = (verdict, &path.round_trip) {
        text.push_str(&format!(", round trip {}", span(render::seconds(round_trip))));
    }
    if !path.link_reason.is_empty() {
        text.push_str(&format!(": {}", path.link_reason));
    }
    row(&format!("path {}", path.path), &text)
}

fn timing(node: &NodeReport) -> String {
    let timings = node.timings.unwrap_or_default();
    let told = |value: Option<prost_types::Duration>| {
        value.as_ref().map_or_else(|| "?".to_owned(), |value| span(render::seconds(value)))
    };
    format!(
        "heartbeat every {}, takeover after {}, guard {}, containment {}",
        told(timings.interval),
        told(timings.takeover_after),
        told(timings.guard_deadline),
        render::containment(node.containment()),
    )
}
