//! `onduty metrics`: the status of a node and what runs out, in the text format of Prometheus (version 0.0.4), for a collector
//! that reads files or runs commands. What each figure means is in `docs/operations/metrics.md`.
//!
//! Words (a state, a verdict) are one series for each value, 1 for the one that holds, as OpenMetrics' state sets are.

use std::collections::BTreeMap;

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use onduty_api::wire::failover::v1::{LinkVerdict, NodeStatus, RedundancyWord};
use onduty_api::wire::trust::v1::certificate_service_client::CertificateServiceClient;
use onduty_api::wire::trust::v1::{
    Certificate, CertificateStore, ListCertificatesRequest, ListCertificatesResponse,
};
use onduty_api::wire::types::v1::NodeState;

use crate::cli::NodeArgs;
use crate::commands::certs::text::{fingerprint, store_name};
use crate::commands::{render, status};
use crate::failure::Failure;
use crate::{node, output};

/// What the node says of a plugin.
const PLUGIN_STATES: [&str; 7] =
    ["stopped", "starting", "ready", "stopping", "backing_off", "failed", "unknown"];

/// Prints them.
pub(crate) async fn run(args: &NodeArgs) -> Result<(), Failure> {
    let status = status::get(args).await?;
    let listed = match certificates(args).await {
        Ok(listed) => Some(listed),
        Err(failure) => {
            // The other figures are true without them.
            output::complain(&format!("no figures of certificates: {}", failure.into_message()));
            None
        }
    };
    output::raw(&text(&status, listed.as_ref()));
    Ok(())
}

async fn certificates(args: &NodeArgs) -> Result<ListCertificatesResponse, Failure> {
    let mut client = CertificateServiceClient::new(node::connect(args).await?)
        .max_decoding_message_size(onduty_api::trust::MAX_ANSWER);
    Ok(client.list_certificates(node::question(ListCertificatesRequest::default())).await?.into_inner())
}

fn text(status: &NodeStatus, certificates: Option<&ListCertificatesResponse>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        of_node(status);
        of_peer(status);
        of_plugins(status);
        of_certificates(certificates);
    });
    recorder.handle().render()
}

fn describe() {
    for (name, what) in [
        ("onduty_info", "What runs here; always 1."),
        ("onduty_redundancy", "How redundant the pair is: 1 for the word that holds."),
        ("onduty_state", "What this node does: 1 for the state that holds."),
        ("onduty_fit", "Whether this node could run the plugins."),
        ("onduty_epoch", "The epoch that this node holds; 0 while it holds none."),
        ("onduty_start_time_seconds", "When the node was started, in Unix seconds."),
        ("onduty_warning", "1 for each warning that stands."),
        ("onduty_peer_link", "What the link says of the other node: 1 for the verdict that holds."),
        ("onduty_peer_round_trip_seconds", "The last round trip of a heartbeat, where this node dials."),
        ("onduty_path_lost", "Whether this network path is lost while the nodes are connected over another."),
        ("onduty_plugin_state", "What the plugin does: 1 for the state that holds."),
        ("onduty_plugin_restarts", "Restarts of the plugin since it was last started for a duty."),
        ("onduty_certificate_not_after_seconds", "When the certificate runs out, in Unix seconds."),
        ("onduty_revocation_list_next_update_seconds", "When the revocation list runs out, in Unix seconds."),
    ] {
        describe_gauge!(name, what);
    }
    describe_counter!(
        "onduty_rejected_total",
        "Connections and peers that were turned away since the start, by reason."
    );
}

fn of_node(status: &NodeStatus) {
    let Some(report) = &status.node else { return };
    let name = report.identity.as_ref().map_or_else(String::new, |identity| identity.name.clone());
    let info = [
        Label::new("node", name),
        Label::new("mode", render::mode(report.mode())),
        Label::new("role", render::role(report.role())),
        Label::new("version", report.version.clone()),
    ];
    gauge!("onduty_info", info.iter()).set(1.0);
    let words = [RedundancyWord::Ready, RedundancyWord::Degraded, RedundancyWord::Lost, RedundancyWord::Off];
    one_of("onduty_redundancy", "word", render::word(status.redundancy()), words.map(render::word));
    let states = [
        NodeState::Starting,
        NodeState::Standby,
        NodeState::TakingOver,
        NodeState::Active,
        NodeState::Yielding,
        NodeState::Standalone,
    ];
    one_of("onduty_state", "state", render::state(report.state()), states.map(render::state));
    gauge!("onduty_fit").set(f64::from(u8::from(report.fitness.as_ref().is_some_and(|fitness| fitness.fit))));
    gauge!("onduty_epoch").set(report.epoch.unwrap_or_default() as f64);
    if let Some(started) = &status.started {
        gauge!("onduty_start_time_seconds").set(started.seconds as f64);
    }
    for warning in &status.warnings {
        let labels = [
            Label::new("code", warning.code.clone()),
            Label::new("severity", render::severity(warning.severity())),
        ];
        gauge!("onduty_warning", labels.iter()).set(1.0);
    }
    let in_order: BTreeMap<String, u64> = status.rejected.clone().into_iter().collect();
    for (reason, count) in in_order {
        counter!("onduty_rejected_total", "reason" => reason).absolute(count);
    }
}

fn of_peer(status: &NodeStatus) {
    let Some(peer) = &status.peer else { return };
    let verdicts =
        [LinkVerdict::Silent, LinkVerdict::Unproved, LinkVerdict::ProvedRefused, LinkVerdict::Established];
    one_of("onduty_peer_link", "verdict", render::link(peer.link()), verdicts.map(render::link));
    if let Some(trip) = &peer.round_trip {
        gauge!("onduty_peer_round_trip_seconds").set(render::seconds(trip));
    }
    for path in &peer.paths {
        let labels = [Label::new("path", path.path.to_string()), Label::new("address", path.address.clone())];
        gauge!("onduty_path_lost", labels.iter()).set(f64::from(u8::from(path.lost)));
    }
}

fn of_plugins(status: &NodeStatus) {
    for plugin in &status.plugins {
        for state in PLUGIN_STATES {
            let labels = [Label::new("plugin", plugin.name.clone()), Label::new("state", state)];
            gauge!("onduty_plugin_state", labels.iter()).set(f64::from(u8::from(plugin.state == state)));
        }
        gauge!("onduty_plugin_restarts", "plugin" => plugin.name.clone()).set(f64::from(plugin.restarts));
    }
}

fn of_certificates(listed: Option<&ListCertificatesResponse>) {
    let Some(listed) = listed else { return };
    let counts = |certificate: &&Certificate| {
        // Those that nobody relies on may run out.
        matches!(
            certificate.store(),
            CertificateStore::Own | CertificateStore::Trusted | CertificateStore::Issuers
        )
    };
    for certificate in listed.certificates.iter().filter(counts) {
        let Some(until) = &certificate.not_after else { continue };
        let labels = [
            Label::new("store", store_name(certificate)),
            Label::new("fingerprint", fingerprint(certificate)),
            Label::new("subject", certificate.subject.clone()),
        ];
        gauge!("onduty_certificate_not_after_seconds", labels.iter()).set(until.seconds as f64);
    }
    for list in &listed.lists {
        if let Some(next) = &list.next {
            gauge!("onduty_revocation_list_next_update_seconds", "issuer" => list.issuer.clone())
                .set(next.seconds as f64);
        }
    }
}

/// One series for each value, so that an alert can be written for any of them before it comes.
fn one_of<const N: usize>(name: &'static str, label: &'static str, holds: &str, values: [&'static str; N]) {
    for value in values {
        gauge!(name, label => value).set(f64::from(u8::from(value == holds)));
    }
}
