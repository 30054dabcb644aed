//! Changes of the mode at run time: the documented swap word for word, deactivation, locks, and kills on the way.

use test_support::{Node, Pair, Profile, Signal, beside_others, boot_ns, timed, until};

use crate::{PATIENCE, SLACK, has_event, one_at_a_time, options, runs_again, tells, undisturbed};

/// The procedure, as people read it.
const PROCEDURE: &str = include_str!("../../docs/operations/swap-roles.md");
/// What the one interruption of a swap may cost: the stop, a start anew, the dial, the start of a canary.
const SWAP_MS: f64 = 1_500.0;

/// The fenced blocks of this language in the procedure's section on swapping.
fn blocks(language: &str) -> Vec<String> {
    let section = PROCEDURE.split("\n## ").find(|part| part.starts_with("Swapping")).expect("the section");
    let fence = format!("```{language}\n");
    section
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// Which node a block is for, and its one command without the program's name.
fn step(block: &str) -> (&str, Vec<&str>) {
    let mut lines = block.lines();
    let node = lines.next().and_then(|line| line.strip_prefix("# on ")).expect("the node of a block");
    let command = lines.next().and_then(|line| line.strip_prefix("onduty ")).expect("a command of onduty");
    assert_eq!(lines.next(), None, "one command in a block");
    (node, command.split(' ').collect())
}

/// Writes what the procedure's first step asks for into the primary's file, with the addresses of this pair.
fn give_address(pair: &Pair) {
    let [block] = blocks("toml").try_into().expect("one block of settings");
    let address = format!("https://127.0.0.1:{}", pair.port + 1);
    let block = block.replace("https://line1-b:5001", &address).replace("\"store\"", "\"all\"");
    assert!(block.contains(&address) && block.contains("\"all\""), "{block}");
    let settings = format!("{}\n{block}", pair.primary.settings());
    std::fs::write(pair.primary.settings_file(), settings).expect("write the settings");
}

/// Runs a command that must succeed.
#[track_caller]
fn does(node: &Node, words: &[&str]) -> String {
    let answer = node.ask(words);
    assert_eq!(answer.code, Some(0), "{}: {words:?}: {answer:?}", node.name());
    answer.stdout
}

/// Runs a command that the node must refuse, for this reason.
#[track_caller]
fn refuses(node: &Node, words: &[&str], reason: &str) {
    let answer = node.ask(words);
    assert!(
        answer.code == Some(5) && answer.stderr.contains(reason),
        "{}: {words:?}: {answer:?}",
        node.name()
    );
}

/// Waits for redundancy with this node active and the other on standby.
#[track_caller]
fn redundant(active: &Node, standby: &Node) {
    for (node, state) in [(active, "active"), (standby, "standby")] {
        node.reaches(&format!("redundancy and {state}"), PATIENCE, |status| {
            status.redundancy() == "ready" && status.state() == state
        });
    }
}

/// The mode and where it comes from.
#[track_caller]
fn mode(node: &Node) -> String {
    does(node, &["mode"])
}

#[test]
fn the_documented_swap_word_for_word_and_back_survives_restarts() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    give_address(&pair);
    let begun = boot_ns();
    let steps = blocks("sh");
    assert_eq!(steps.len(), 4, "the procedure has other steps now");
    for (number, block) in steps.iter().enumerate() {
        let (name, words) = step(block);
        let node = if name == "line1-a" { &pair.primary } else { &pair.secondary };
        let said = does(node, &words);
        if number == 0 {
            assert!(said.lines().next().is_some_and(|first| first.contains("ready")), "{said}");
        }
        if number == 1 {
            // Nothing happened to the plugins, and both say what is left to do.
            undisturbed(&pair, &pair.primary, begun);
            for node in [&pair.primary, &pair.secondary] {
                let status = node.reaches("the refusal", PATIENCE, |status| status.warns("peer_refused"));
                assert!(status.warning("peer_refused").contains("`onduty mode secondary`"), "{status:#?}");
            }
        }
    }
    redundant(&pair.secondary, &pair.primary);
    let gap = pair.canary().longest_outage_ms(begun);
    assert!(gap <= SWAP_MS * SLACK, "nobody ran for {gap:.1} ms");
    one_at_a_time(&pair);
    assert!(mode(&pair.primary).starts_with("secondary, from `onduty mode` ("));
    let shown = does(&pair.primary, &["config", "show"]);
    let line = shown.lines().find(|line| line.contains("redundancy.mode")).unwrap_or_default();
    assert!(line.contains("secondary") && line.contains("productive.toml"), "{line}");
    tells(&pair.primary, "mode_changed");

    // Both are killed, everything at once: the new roles are kept.
    let _primary = pair.primary.kill_everything();
    let _secondary = pair.secondary.kill_everything();
    pair.primary.start();
    pair.secondary.start();
    redundant(&pair.secondary, &pair.primary);

    does(&pair.primary, &["mode", "primary"]);
    does(&pair.secondary, &["mode", "secondary"]);
    redundant(&pair.primary, &pair.secondary);
    one_at_a_time(&pair);
}

#[test]
fn the_documented_swap_is_the_same_with_the_services_apart() {
    let _turn = timed();
    let mut pair = Pair::prepare(options());
    give_address(&pair);
    for node in [&mut pair.primary, &mut pair.secondary] {
        for service in ["certificate-trust", "plugin-supervisor", "heartbeat", "management"] {
            node.start_service(service);
        }
    }
    pair.redundant();
    let begun = boot_ns();
    for block in blocks("sh") {
        let (name, words) = step(&block);
        does(if name == "line1-a" { &pair.primary } else { &pair.secondary }, &words);
    }
    redundant(&pair.secondary, &pair.primary);
    let gap = pair.canary().longest_outage_ms(begun);
    assert!(gap <= SWAP_MS * SLACK, "nobody ran for {gap:.1} ms");
    one_at_a_time(&pair);
    assert!(mode(&pair.primary).starts_with("secondary, from `onduty mode` ("));

    // The services that have the mode are killed: the new roles are kept.
    for node in [&mut pair.primary, &mut pair.secondary] {
        node.kill_service("heartbeat");
        node.start_service("heartbeat");
    }
    redundant(&pair.secondary, &pair.primary);

    does(&pair.primary, &["mode", "primary"]);
    does(&pair.secondary, &["mode", "secondary"]);
    redundant(&pair.primary, &pair.secondary);
    let off = boot_ns();
    does(&pair.primary, &["mode", "deactivated"]);
    undisturbed(&pair, &pair.primary, off);
    does(&pair.primary, &["mode", "primary"]);
    redundant(&pair.primary, &pair.secondary);
    one_at_a_time(&pair);
}

#[test]
fn a_heartbeat_service_of_one_mode_refuses_the_mode_of_the_other() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    give_address(&pair);
    for service in ["certificate-trust", "plugin-supervisor", "heartbeat-server", "management"] {
        pair.primary.start_service(service);
    }
    for service in ["certificate-trust", "plugin-supervisor", "heartbeat-client", "management"] {
        pair.secondary.start_service(service);
    }
    pair.redundant();
    refuses(
        &pair.primary,
        &["mode", "secondary"],
        "`onduty serve heartbeat-client`, and this is heartbeat-server",
    );
    refuses(&pair.secondary, &["mode", "primary", "--force"], "`onduty serve heartbeat` is either");
    // Both are services of the same process.
    let since = boot_ns();
    does(&pair.primary, &["mode", "deactivated"]);
    undisturbed(&pair, &pair.primary, since);
}

#[test]
fn a_swap_that_is_killed_half_way_goes_on_where_it_was() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    give_address(&pair);
    does(&pair.secondary, &["mode", "primary"]);
    // The active one of two primaries dies: the other takes over; back again it stands by, without an interruption.
    let killed = pair.primary.kill_everything();
    let taken = runs_again(&pair, &pair.secondary, killed);
    pair.primary.start();
    pair.primary.reaches("standby", PATIENCE, |status| status.state() == "standby");
    does(&pair.primary, &["mode", "secondary"]);
    redundant(&pair.secondary, &pair.primary);
    undisturbed(&pair, &pair.secondary, taken);
    one_at_a_time(&pair);
}

#[test]
fn a_kill_at_any_moment_of_a_change_leaves_one_mode_or_the_other() {
    let _turn = timed();
    // On a busy machine heartbeats of the profile `fast` are late by more than its takeover time, as if the link were cut.
    let mut pair = Pair::running(options().profile(Profile::Standard));
    give_address(&pair);
    does(&pair.secondary, &["mode", "primary"]);
    for delay in [5, 40, 120, 250] {
        let asking = std::thread::scope(|scope| {
            let asked = scope.spawn(|| pair.primary.ask(&["mode", "secondary", "--within", "1s"]));
            let due = boot_ns() + delay * 1_000_000;
            until("the moment of the kill", PATIENCE, || (due <= boot_ns()).then_some(()));
            pair.primary.signal(Signal::SIGKILL);
            asked.join().expect("an answer")
        });
        let _status = pair.primary.ended(PATIENCE);
        pair.primary.start();
        let now = pair.primary.reaches("an end of its start", PATIENCE, |status| {
            ["active", "standby"].contains(&status.state())
        });
        let is = mode(&pair.primary);
        assert!(is.starts_with("primary") || is.starts_with("secondary"), "{is}: {asking:?}: {now:#?}");
        if is.starts_with("secondary") {
            does(&pair.primary, &["mode", "primary"]);
        }
        one_at_a_time(&pair);
    }
    does(&pair.primary, &["mode", "secondary"]);
    redundant(&pair.secondary, &pair.primary);
    one_at_a_time(&pair);
}

#[test]
fn a_deactivated_active_node_runs_on_and_is_never_taken_over() {
    let _turn = timed();
    let mut pair = Pair::running(options());
    let begun = boot_ns();
    does(&pair.primary, &["mode", "deactivated"]);
    let status = pair.primary.status().expect("a status");
    assert_eq!((status.redundancy(), status.state()), ("off", "standalone"), "{status:#?}");
    assert!(mode(&pair.primary).starts_with("deactivated, from `onduty mode` ("));
    undisturbed(&pair, &pair.primary, begun);

    // Killed and gone for much longer than a takeover needs: the other holds back, says so, and names the way out.
    let _killed = pair.primary.kill_everything();
    let held = pair.secondary.reaches("the hold", PATIENCE, |status| status.warns("takeover_held"));
    assert!(held.warning("takeover_held").contains("onduty takeover"), "{held:#?}");
    pair.secondary.reaches("silence", PATIENCE, |status| status.warns("peer_disconnected"));
    assert!(pair.secondary.plugins().is_empty());
    pair.primary.start();
    pair.primary.reaches("standalone again", PATIENCE, |status| status.state() == "standalone");

    // A part of the pair again.
    pair.secondary.reaches("the link", PATIENCE, |status| status.link() == "established");
    does(&pair.primary, &["mode", "primary"]);
    pair.redundant();
    one_at_a_time(&pair);
}

#[test]
fn what_would_stop_or_double_the_plugins_is_refused_unless_it_is_forced() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let begun = boot_ns();
    refuses(&pair.primary, &["mode", "secondary"], "`redundancy.secondary.address` is missing");
    give_address(&pair);
    refuses(&pair.primary, &["mode", "secondary"], "two secondaries would start nothing");
    refuses(&pair.secondary, &["mode", "deactivated"], "they would run twice");
    assert!(does(&pair.primary, &["mode", "primary"]).contains("already"));
    undisturbed(&pair, &pair.primary, begun);
    one_at_a_time(&pair);

    let doubled = does(&pair.secondary, &["mode", "deactivated", "--force"]);
    assert!(doubled.contains("the plugins run twice, as a person has asked for"), "{doubled}");
    assert!(has_event(&pair.secondary, "mode_changed"));
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("the alarm", PATIENCE, |status| status.warns("conflict_found"));
    }
    does(&pair.secondary, &["mode", "secondary"]);
    pair.redundant();
}

#[test]
fn a_mode_from_a_variable_is_locked() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.set_variable("ONDUTY_REDUNDANCY__MODE", "primary");
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    refuses(&pair.primary, &["mode", "deactivated"], "variable ONDUTY_REDUNDANCY__MODE");
    refuses(&pair.primary, &["mode", "deactivated", "--force"], "variable ONDUTY_REDUNDANCY__MODE");
    let said = mode(&pair.primary);
    assert!(
        said.contains("primary, from variable ONDUTY_REDUNDANCY__MODE") && said.contains("locked"),
        "{said}"
    );
    assert!(!pair.primary.data_dir().join("productive.toml").exists());
}
