//! Two real nodes in a temporary folder, worked on with the commands a person has.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use test_support::{Node, Pair, PairOptions, Profile, Signal};

/// As in the stories on real processes: far above what it takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

fn pair() -> Pair {
    Pair::running(PairOptions::new(env!("CARGO_BIN_EXE_onduty")).profile(Profile::Standard).manual())
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
    let standby = secondary.ask(&["health", "--active"]);
    assert_eq!(standby.code, Some(6));
    assert!(standby.stderr.contains("[not_ready]"), "{standby:?}");
    assert!(text.contains("only the key protects the pair. [unsafe_setting]"), "warnings have codes: {text}");

    let steps = secondary.ask(&["test", "--json"]);
    assert_eq!(steps.code, Some(0), "{steps:?}");
    let names: Vec<String> = steps
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_str().unwrap().to_owned())
        .collect();
    let wanted =
        ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "clock", "project"];
    assert_eq!(names, wanted);
    let nobody = primary.ask(&["test"]);
    assert_eq!(nobody.code, Some(5), "a primary dials nobody: {nobody:?}");
    assert!(nobody.stderr.contains("[no_address]"), "{nobody:?}");

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
    assert!(alone.stderr.contains("[request_refused]"), "{alone:?}");
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
    let events = pair.secondary.ask(&["events"]).stdout;
    assert!(events.contains("[maintenance_set]"), "events that warn have codes: {events}");
    let empty = pair.primary.ask(&["maintenance", "on", "--reason", " ", "--for", "2h"]);
    assert_eq!(empty.code, Some(5));
    assert!(empty.stderr.contains("[bad_request]"), "{empty:?}");
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

#[test]
fn a_node_that_stands_still_is_told_from_one_that_is_not_there() {
    let mut pair = Pair::prepare(PairOptions::new(env!("CARGO_BIN_EXE_onduty")));
    pair.secondary.start();
    pair.secondary.reaches("an answer", LIMIT, |_| true);
    pair.secondary.signal(Signal::SIGSTOP);
    let commands = [&["status"][..], &["plugins", "list"], &["events"], &["maintenance", "off"], &["test"]];
    let standing = &pair.secondary;
    // Each waits as long as it waits: all at once.
    std::thread::scope(|scope| {
        for command in commands {
            scope.spawn(move || {
                let answer = standing.ask(command);
                assert_eq!(answer.code, Some(7), "{command:?}: {answer:?}");
                assert!(answer.stderr.contains("[timed_out]"), "{command:?}: {answer:?}");
            });
        }
    });
    pair.secondary.signal(Signal::SIGCONT);
}

/// Steps by their names: verdict and code.
fn steps(answer: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().expect("a text").to_owned();
    let lines = answer.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|step| (text(&step, "step"), (text(&step, "verdict"), text(&step, "code")))).collect()
}

#[test]
fn the_link_is_tried_beside_the_running_session_without_anybody_noticing() {
    let mut pair = pair();
    let sessions = |pair: &Pair| pair.secondary.log().matches("a session was proved").count();
    let events = |node: &Node| node.ask(&["events", "--json", "--limit", "1000"]).stdout;
    let lost = |pair: &Pair| {
        [&pair.primary, &pair.secondary].map(|node| events(node).matches("\"peer_disconnected\"").count())
    };
    let (before, lost_before) = (sessions(&pair), lost(&pair));
    for _ in 0..5 {
        let answer = pair.secondary.ask(&["test", "--json"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let steps = steps(&answer.stdout);
        assert_eq!(steps["trust"], ("warning".to_owned(), "unsafe_setting".to_owned()));
        // A busy machine may be slow, and is told so.
        let well = |(verdict, code): &(String, String)| verdict == "ok" || code == "link_slow";
        assert!(steps.iter().all(|(name, step)| name == "trust" || well(step)), "{steps:?}");
    }
    assert_eq!(sessions(&pair), before, "{}", pair.secondary.log());
    let status = pair.primary.status().unwrap();
    assert_eq!((status.redundancy(), status.rejected()), ("ready", 0), "{status:#?}");
    assert_eq!(lost(&pair), lost_before, "nobody has lost anybody");

    pair.primary.kill_everything();
    let answer = pair.secondary.ask(&["test"]);
    assert_eq!(answer.code, Some(6), "{answer:?}");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert!(lines[0].starts_with("https://127.0.0.1:"), "the address is the heading: {answer:?}");
    let failed = lines.iter().position(|line| line.contains("failed")).unwrap();
    assert!(
        lines[failed].starts_with("tcp") && lines[failed].ends_with("[connection_refused]"),
        "{answer:?}"
    );
    assert!(lines[failed + 1].contains("→ "), "a hint follows: {answer:?}");
    assert!(lines.last().unwrap().starts_with("project  skipped"), "{answer:?}");
    assert!(answer.stderr.ends_with("the step `tcp` failed [connection_refused]\n"), "{answer:?}");
}

/// As a collector reads them: the text format of Prometheus.
#[test]
fn figures_for_a_monitoring_system_are_those_of_the_status_and_say_what_runs_out() {
    let pair = pair();
    let said = pair.primary.ask(&["metrics"]);
    assert!(said.code == Some(0) && said.stderr.is_empty(), "{said:?}");
    let figure = |series: &str| {
        let line = said.stdout.lines().find(|line| line.starts_with(series));
        let value = line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.parse::<f64>());
        value.unwrap_or_else(|| panic!("no {series} in\n{}", said.stdout)).unwrap()
    };
    for (series, value) in [
        ("onduty_redundancy{word=\"ready\"}", 1.0),
        ("onduty_redundancy{word=\"lost\"}", 0.0),
        ("onduty_state{state=\"active\"}", 1.0),
        ("onduty_peer_link{verdict=\"established\"}", 1.0),
        ("onduty_plugin_state{plugin=\"canary\",state=\"ready\"}", 1.0),
        ("onduty_plugin_restarts{plugin=\"canary\"}", 0.0),
        ("onduty_info{node=\"node-a\",mode=\"primary\",role=\"primary\"", 1.0),
        ("onduty_fit", 1.0),
    ] {
        assert_eq!(figure(series), value, "{series}");
    }
    let shown = pair.primary.ask(&["certs", "show", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let own = format!("store=\"own\",fingerprint={}", shown["fingerprint"]);
    let until = figure(&format!("onduty_certificate_not_after_seconds{{{own}"));
    let years = (until - figure("onduty_start_time_seconds")) / (365.25 * 86_400.0);
    assert!((19.9..20.1).contains(&years), "{years}");
    let names = said.stdout.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let helps = said.stdout.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert!(names == helps && names >= 10, "{}", said.stdout);
    // The page names each of them, and no other.
    let page = include_str!("../../docs/operations/metrics.md");
    for line in said.stdout.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not on the page");
    }
}
