//! The connection test, step by step.

use failover_core::{Input, Role};
use onduty_api::heartbeat::{TestStep, TestVerdict};
use tokio::net::TcpListener;

use crate::support::{Node, OTHER_KEY, keys, ms};

const STEPS: [&str; 10] =
    ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "project"];

async fn test(secondary: &Node, to: std::net::SocketAddr) -> Vec<TestStep> {
    let (_client, handle) = secondary.client(to);
    let mut steps = handle.test();
    let mut seen = Vec::new();
    while let Some(step) = steps.recv().await {
        seen.push(step);
    }
    assert_eq!(seen.iter().map(|step| step.step).collect::<Vec<_>>(), STEPS);
    seen
}

fn verdicts(steps: &[TestStep]) -> Vec<TestVerdict> {
    steps.iter().map(|step| step.verdict).collect()
}

#[tokio::test]
async fn a_good_link_passes_and_nobody_notices_the_test() {
    let (mut primary, mut secondary) = (Node::primary(), Node::secondary());
    let server = primary.serve().await;
    let steps = test(&secondary, server.address).await;
    for step in &steps {
        let expected = if step.step == "trust" { TestVerdict::Warned } else { TestVerdict::Passed };
        assert_eq!(step.verdict, expected, "{step:?}");
        assert_eq!(step.hint.is_empty(), expected == TestVerdict::Passed, "{step:?}");
    }
    assert!(primary.driver.inputs.try_recv().is_err(), "a test is no session");
    assert!(secondary.driver.inputs.try_recv().is_err(), "a test is no session");

    // Beside a standing session it changes nothing either.
    let _client = secondary.dial(server.address);
    let (session, _) = primary.proved().await;
    secondary.proved().await;
    test(&secondary, server.address).await;
    let on = primary.told("a beat", |input| match input {
        Input::BeatArrived { session, .. } => Some(session),
        Input::SessionProved { .. } => panic!("a test became a session"),
        _ => None,
    });
    assert_eq!(on.await, session);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_the_rest_is_skipped() {
    use TestVerdict::{Failed, Passed, Skipped, Warned};
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let steps = test(&Node::secondary(), nobody).await;
    assert_eq!(
        verdicts(&steps),
        [Passed, Passed, Failed, Skipped, Skipped, Skipped, Skipped, Skipped, Skipped, Skipped]
    );
    assert!(steps[2].found.contains("refused"), "{:?}", steps[2]);

    let (primary, mut secondary) = (Node::primary(), Node::secondary());
    secondary.keys = keys(OTHER_KEY, None);
    let server = primary.serve().await;
    let steps = test(&secondary, server.address).await;
    assert_eq!(
        verdicts(&steps),
        [Passed, Passed, Passed, Passed, Warned, Failed, Skipped, Skipped, Skipped, Skipped]
    );
    assert!(steps[5].hint.contains("key_file"), "{:?}", steps[5]);
}

#[tokio::test]
async fn what_does_not_fit_is_a_warning() {
    let (mut primary, mut secondary) = (Node::primary(), Node::new(Role::Primary, 2));
    secondary.interval = ms(2000);
    primary.report.summary.version = "0.2.0".to_owned();
    primary.report.summary.project = "another".to_owned();
    primary.driver.publish(primary.report.clone(), false);
    let server = primary.serve().await;
    let steps = test(&secondary, server.address).await;
    for step in &steps[6..] {
        assert_eq!(step.verdict, TestVerdict::Warned, "{step:?}");
        assert!(!step.hint.is_empty(), "{step:?}");
    }
}
