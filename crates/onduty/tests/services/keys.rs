//! The key is exchanged with the services apart: the heartbeat's process follows its files, whatever becomes of the others.

use std::fs;

use super::{MANAGEMENT, TRUST, Which, options, prepared, redundant};
use test_support::{Node, PATIENCE, Pair, Profile, boot_ns, one_at_a_time, timed, undisturbed};

#[track_caller]
fn done(node: &Node, arguments: &[&str]) -> String {
    let answer = node.ask(arguments);
    assert_eq!(answer.code, Some(0), "{}: {arguments:?}: {answer:?}", node.name());
    answer.stdout
}

/// Two key files, as on two machines.
fn apart() -> Pair {
    let mut pair = prepared(options().profile(Profile::Standard).manual());
    let shared = pair.key_file();
    for node in [&mut pair.primary, &mut pair.secondary] {
        let own = node.settings_file().with_file_name("pair.key");
        fs::copy(&shared, &own).unwrap();
        let settings =
            node.settings().replace(&format!("\"{}\"", shared.display()), &format!("\"{}\"", own.display()));
        node.settle(&settings);
    }
    pair.start_apart();
    pair.redundant();
    pair
}

#[test]
fn a_rotation_needs_neither_certificate_trust_nor_a_management_that_lives_on() {
    let _turn = timed();
    let mut pair = apart();
    let begun = boot_ns();
    let _dead = pair.secondary.kill_service(TRUST);
    let _made = done(&pair.secondary, &["key", "rotate", "prepare"]);
    let next = pair.secondary.settings_file().with_file_name("pair.key.next");
    let _taken = done(&pair.primary, &["key", "rotate", "prepare", "--from", next.to_str().unwrap()]);
    let _dead = pair.primary.kill_service(MANAGEMENT);
    pair.primary.start_service(MANAGEMENT);
    pair.primary.reaches("an answer", PATIENCE, |_status| true);
    for node in [&pair.primary, &pair.secondary] {
        let _used = done(node, &["key", "rotate", "use"]);
    }
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("the old key unused", PATIENCE, |status| {
            status.0.pointer("/keys/1/droppable").and_then(serde_json::Value::as_bool) == Some(true)
        });
        assert!(done(node, &["status"]).contains(", may be removed"));
        let _dropped = done(node, &["key", "rotate", "finish"]);
        let events = done(node, &["events", "--limit", "100"]);
        assert!(events.contains("the pair goes by the key "), "{events}");
        assert!(!events.contains("[peer_disconnected]"), "{events}");
    }
    undisturbed(&pair, &pair.primary, begun);
    redundant(&pair, Which::Primary);
    one_at_a_time(&pair);
}
