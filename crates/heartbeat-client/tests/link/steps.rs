//! The connection test, step by step, against a peer that is right and one that is wrong in each way.

use std::net::SocketAddr;

use certificate_trust::TrustMode;
use failover_core::{BootTime, Input, Mode, Role};
use onduty_api::errors::Refusal;
use onduty_api::heartbeat::{TestStep, TestVerdict};
use service_kit::Clock;
use tokio::net::TcpListener;

use crate::refusal::answering;
use crate::relay;
use crate::steps_silent::{Fake, Until};
use crate::support::{Node, OTHER_KEY, keys, ms};

const STEPS: [&str; 11] =
    ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "clock", "project"];

pub(crate) async fn test(secondary: &Node, to: SocketAddr) -> Vec<TestStep> {
    test_of(secondary, &format!("https://{to}")).await
}

async fn test_of(secondary: &Node, address: &str) -> Vec<TestStep> {
    let (_client, handle) = secondary.client_of(address);
    let mut steps = handle.test();
    let mut seen = Vec::new();
    while let Some(step) = steps.recv().await {
        assert_eq!(step.address.trim_end_matches('/'), address);
        let wrong = matches!(step.verdict, TestVerdict::Failed | TestVerdict::Warned);
        assert_eq!((step.code.is_empty(), step.hint.is_empty()), (!wrong, !wrong), "{step:?}");
        seen.push(step);
    }
    assert_eq!(seen.iter().map(|step| step.step).collect::<Vec<_>>(), STEPS);
    seen
}

/// Every step before this one is done, this one has failed, and nothing after it was tried.
#[track_caller]
pub(crate) fn stops_at(steps: &[TestStep], name: &str, code: &str, words: &str) {
    let at = STEPS.iter().position(|step| *step == name).unwrap();
    for (index, step) in steps.iter().enumerate() {
        let wanted: &[TestVerdict] = match index.cmp(&at) {
            std::cmp::Ordering::Less => &[TestVerdict::Passed, TestVerdict::Warned],
            std::cmp::Ordering::Equal => &[TestVerdict::Failed],
            std::cmp::Ordering::Greater => &[TestVerdict::Skipped],
        };
        assert!(wanted.contains(&step.verdict), "{step:?} of {steps:#?}");
    }
    assert_eq!(steps[at].code, code, "{:?}", steps[at]);
    assert!(steps[at].found.contains(words), "no `{words}` in {:?}", steps[at]);
}

/// This step has this verdict, and nothing was skipped because of it.
#[track_caller]
fn finds(steps: &[TestStep], name: &str, (verdict, code): (TestVerdict, &str), words: &str) {
    let step = steps.iter().find(|step| step.step == name).unwrap();
    assert_eq!((step.verdict, step.code), (verdict, code), "{step:?}");
    assert!(step.found.contains(words), "no `{words}` in {step:?}");
}

#[tokio::test]
async fn a_good_link_passes_and_nobody_notices_the_test() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.trusts(&primary);
    let server = primary.serve().await;
    for step in test(&secondary, server.address).await {
        assert_eq!(step.verdict, TestVerdict::Passed, "{step:?}");
    }
    assert!(primary.driver.inputs.try_recv().is_err(), "a test is no session");
    assert!(secondary.driver.inputs.try_recv().is_err(), "a test is no session");

    // Beside a standing session it changes nothing either.
    let client = secondary.dial(server.address);
    let (session, _) = primary.proved().await;
    secondary.proved().await;
    let before = client.handle.keys().states();
    assert!(before[0].in_use);
    for _ in 0..3 {
        test(&secondary, server.address).await;
    }
    assert_eq!(client.handle.keys().states(), before, "a test says nothing about the key of the session");
    let on = primary.told("a beat", |input| match input {
        Input::BeatArrived { session, .. } => Some(session),
        Input::SessionProved { .. } => panic!("a test became a session"),
        _ => None,
    });
    assert_eq!(on.await, session);
    assert!(primary.driver.rejected().is_empty(), "{:?}", primary.driver.rejected());
}

#[tokio::test]
async fn trust_in_everybody_is_a_warning() {
    let (primary, secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let steps = test(&secondary, server.address).await;
    finds(&steps, "trust", (TestVerdict::Warned, "unsafe_setting"), "every certificate is accepted");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_by_how_far_it_came() {
    let secondary = Node::secondary();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    stops_at(&test(&secondary, nobody).await, "tcp", "connection_refused", "refused the connection");
    let steps = test_of(&secondary, "https://no-such-host.invalid:5001").await;
    stops_at(&steps, "name", "name_unresolved", "no-such-host.invalid");
    // The network of the documentation, unless it is on a link: never a host of this machine.
    let steps = test_of(&secondary, "https://[100::1]:5001").await;
    assert_eq!(steps[2].verdict, TestVerdict::Failed, "{:?}", steps[2]);
    assert!(["unreachable", "no_answer"].contains(&steps[2].code), "{:?}", steps[2]);
}

#[tokio::test]
async fn something_else_at_the_address_is_named() {
    // What a server says that knows nothing newer than TLS 1.2: a fatal alert, `protocol_version` (RFC 8446 §4.2.1).
    let old: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];
    // `handshake_failure`: it speaks TLS 1.3, and nothing that we offer.
    let other: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];
    let cases: [(&'static [u8], &str, &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls.not_tls", "does not speak TLS"),
        (old, "tls.version", "TLS 1.3"),
        (other, "not_onduty", "HandshakeFailure"),
        (b"", "closed_early", "closed the connection"),
        (b"ONDUTY-TOMBSTONE/1\n12345678", "guard_answers", "its guard answers instead"),
    ];
    for (bytes, code, words) in cases {
        let steps = test(&Node::secondary(), answering(bytes).await).await;
        stops_at(&steps, "tls", code, words);
    }
    let fake = Fake::serve(&Node::primary(), Until::Refused(tonic::Code::Unimplemented)).await;
    stops_at(
        &test(&Node::secondary(), fake).await,
        "key",
        "not_onduty",
        "does not speak the onduty protocol",
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_says_why() {
    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    secondary.trust = TrustMode::Store;
    let steps = test(&secondary, server.address).await;
    stops_at(&steps, "trust", "tls.unknown_certificate", "not trusted here");

    secondary.trusts(&primary);
    let elsewhere = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let server = primary.serve_on(elsewhere);
    let steps = test(&secondary, server.address).await;
    stops_at(&steps, "trust", "tls.name_mismatch", "127.0.0.2");

    let server = primary.serve().await;
    for (unix, code, words) in
        [(40_000_000_000, "tls.expired", "expired"), (1_000_000_000, "tls.not_yet_valid", "not valid")]
    {
        secondary.clock = Clock::simulated(BootTime::from_nanos(1), unix);
        stops_at(&test(&secondary, server.address).await, "trust", code, words);
    }
}

#[tokio::test]
async fn a_key_that_is_not_proved_says_why() {
    type Change = fn(&mut Node);
    let cases: [(&str, &str, Change); 4] = [
        ("key_mismatch", "different keys", |secondary| secondary.keys = keys(OTHER_KEY, None)),
        ("pair_mismatch", "redundancy.pair", |secondary| secondary.pair = "another".to_owned()),
        ("binding_mismatch", "redundancy.channel_binding", |secondary| secondary.channel_bound = false),
        ("selfie", "this very node", |secondary| *secondary = Node::new(Role::Secondary, 1)),
    ];
    for (code, words, change) in cases {
        let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
        change(&mut secondary);
        let server = primary.serve().await;
        stops_at(&test(&secondary, server.address).await, "key", code, words);
        assert!(primary.driver.inputs.try_recv().is_err(), "a test changes nothing");
    }
    let (primary, secondary) = (Node::primary(), Node::secondary());
    let evil = Node::new(Role::Primary, 66);
    let server = primary.serve().await;
    let between = relay::man_in_the_middle(evil.acceptor(), evil.connector(), server.address).await;
    let steps = test(&secondary, between).await;
    stops_at(&steps, "key", "tls_terminated_between", "TLS connection ends between");

    let fake = Fake::serve(&primary, Until::Refusal(Refusal::Version)).await;
    stops_at(&test(&secondary, fake).await, "key", "version_mismatch", "no version of the protocol");
    let fake = Fake::serve(&primary, Until::WrongProof).await;
    stops_at(&test(&secondary, fake).await, "key", "impostor", "although it claims to");
    let fake = Fake::serve(&primary, Until::Refused(tonic::Code::Unavailable)).await;
    stops_at(&test(&secondary, fake).await, "key", "closed_early", "not available");
}

#[tokio::test]
async fn a_peer_with_the_wrong_part_is_found_and_the_rest_is_compared_all_the_same() {
    use TestVerdict::{Failed, Passed, Skipped, Warned};
    for role in [Role::Primary, Role::Secondary] {
        let server = Node::new(role, 1).serve().await;
        let steps = test(&Node::new(role, 2), server.address).await;
        finds(&steps, "role", (Failed, "role_clash"), &format!("both nodes are configured as {role}"));
        finds(&steps, "project", (Passed, ""), "the same plugins");
    }
    let mut alone = Node::primary();
    alone.report.mode = Mode::Deactivated;
    alone.driver.publish(alone.report.clone(), false);
    let server = alone.serve().await;
    let steps = test(&Node::secondary(), server.address).await;
    finds(&steps, "role", (Warned, "peer_standalone"), "mode deactivated");
    finds(&steps, "timing", (Skipped, ""), "no redundancy");
}

#[tokio::test]
async fn what_does_not_fit_together_is_told_one_by_one() {
    use TestVerdict::{Failed, Warned};
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let an_hour_ahead = Clock::real().now().unix + 3600;
    primary.clock = Clock::simulated(BootTime::from_nanos(1), an_hour_ahead);
    primary.report.summary.version = "0.2.0".to_owned();
    primary.report.summary.project = "another".to_owned();
    primary.driver.publish(primary.report.clone(), false);
    secondary.report.timings.interval = ms(1500);
    secondary.report.timings.takeover_after = ms(6000);
    secondary.driver.publish(secondary.report.clone(), false);
    let server = primary.serve().await;
    let steps = test(&secondary, server.address).await;
    // Twice the interval and the guard's own time do not fit into the primary's 3 s.
    finds(&steps, "timing", (Failed, "timing_mismatch"), "the guard too little time");
    finds(&steps, "version", (Warned, "version_differs"), "the other one 0.2.0");
    finds(&steps, "clock", (Warned, "clock_differs"), "s ahead of this one's");
    finds(&steps, "project", (Warned, "project_differs"), "not defined alike");

    secondary.report.timings.interval = ms(3000);
    secondary.driver.publish(secondary.report.clone(), false);
    let steps = test(&secondary, server.address).await;
    finds(&steps, "timing", (Failed, "timing_mismatch"), "must be shorter than");
    secondary.report.timings.interval = ms(1200);
    secondary.driver.publish(secondary.report.clone(), false);
    let steps = test(&secondary, server.address).await;
    finds(&steps, "timing", (Warned, "timing_tight"), "1.2s");
}
