//! Two real nodes in a temporary folder, worked on with the commands a person has.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::Value;
use test_support::{Pair, PairOptions};

/// As in the stories on real processes: far above what it takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn pair() -> Pair {
    Pair::running(PairOptions::new(env!("CARGO_BIN_EXE_onduty")).manual())
}

#[test]
fn an_operator_looks_at_the_pair_moves_the_duty_and_stops_it() {
    let mut pair = pair();
    let (primary, secondary) = (&pair.primary, &pair.secondary);

    let text = primary.ask(&["status"]).stdout;
    assert!(text.starts_with("redundancy: ready — "), "{text}");
    for part in ["this node", "node-a (primary) active", "node-b (secondary) standby", "canary"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let text = secondary.ask(&["status"]).stdout;
    assert!(text.contains("round trip"), "the secondary measures it: {text}");
    let plugins: Value = serde_json::from_str(&primary.ask(&["plugins", "list", "--json"]).stdout).unwrap();
    assert_eq!(plugins[0]["state"], "ready", "{plugins}");
    assert!(plugins[0]["pid"].as_u64().is_some(), "{plugins}");
    assert_eq!(secondary.ask(&["health"]).code, Some(0));
    assert_eq!(secondary.ask(&["health", "--active"]).code, Some(6));

    let steps = secondary.ask(&["test", "--json"]);
    assert_eq!(steps.code, Some(0), "{steps:?}");
    let names: Vec<String> = steps
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_str().unwrap().to_owned())
        .collect();
    let wanted = ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "clock", "project"];
    assert_eq!(names, wanted);
    let nobody = primary.ask(&["test"]);
    assert_eq!(nobody.code, Some(5), "a primary dials nobody: {nobody:?}");

    assert_eq!(primary.ask(&["switchover", "--check"]).code, Some(0));
    let moved = primary.ask(&["switchover", "--json"]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let moved: Value = serde_json::from_str(&moved.stdout).unwrap();
    assert_eq!(moved["active"], "node-b", "{moved}");
    let back = secondary.ask(&["switchover"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    primary.reaches("the duty back", LIMIT, |status| status.state() == "active");
    let overlap = pair.canary().overlap_ms();
    assert!(overlap == 0.0, "both ran for {overlap} ms");

    let stop = primary.ask(&["stop"]);
    assert!(stop.stdout.contains("hands the duty over"), "{stop:?}");
    assert_eq!(pair.primary.ended(LIMIT).code(), Some(0));
    pair.secondary.reaches("the duty handed over", LIMIT, |status| status.state() == "active");
    let alone = pair.secondary.ask(&["switchover"]);
    assert_eq!(alone.code, Some(5), "nobody to move it to: {alone:?}");
    pair.secondary.ask(&["stop"]);
    assert_eq!(pair.secondary.ended(LIMIT).code(), Some(0));
    assert_eq!(pair.secondary.ask(&["status"]).code, Some(4));
    let overlap = pair.canary().overlap_ms();
    assert!(overlap == 0.0, "both ran for {overlap} ms");
}

#[test]
fn maintenance_set_on_one_node_holds_on_both_and_is_told_by_whom() {
    let pair = pair();
    let set = pair.primary.ask(&["maintenance", "on", "--reason", "new cables", "--for", "2h", "--json"]);
    assert_eq!(set.code, Some(0), "{set:?}");
    let set: Value = serde_json::from_str(&set.stdout).unwrap();
    assert_eq!((set["on"].as_bool(), set["reason"].as_str()), (Some(true), Some("new cables")));
    let on =
        |status: &test_support::Status| status.0.pointer("/node/maintenance/on") == Some(&Value::Bool(true));
    let seen = pair.secondary.reaches("maintenance", LIMIT, on);
    assert_eq!(seen.redundancy(), "degraded", "{}", seen.reason());
    assert_eq!(pair.primary.ask(&["maintenance", "on", "--reason", " ", "--for", "2h"]).code, Some(5));
    assert_eq!(pair.primary.ask(&["maintenance", "on", "--reason", "x", "--for", "32d"]).code, Some(5));
    assert_eq!(pair.secondary.ask(&["maintenance", "off"]).code, Some(0));
    pair.primary.reaches("its end", LIMIT, |status| !on(status) && status.redundancy() == "ready");

    let events = pair.primary.ask(&["events", "--json", "--limit", "1000"]);
    let codes: Vec<String> = events
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].as_str().unwrap().to_owned())
        .collect();
    for code in ["node_started", "primary_active", "peer_connected", "maintenance_set", "maintenance_cleared"]
    {
        assert!(codes.iter().any(|found| found == code), "no {code} in {codes:?}");
    }
}
