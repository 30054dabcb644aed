//! Peers that know too little, too much or the wrong things. Each is refused with a reason, counted and journalled; no
//! plugin starts beside the running one, and the session that stands does not notice.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onduty_api::wire::heartbeat::v1 as wire;
use test_support::{Node, Pair, Status, alone, beside_others, boot_ns, ms_between, until};
use tokio::net::TcpListener;
use tonic::Code;

use crate::attacker::{Call, Ends, key_of, local, man_in_the_middle, runtime, stranger};
use crate::frames::{answers, play};
use crate::{PATIENCE, SLACK, count_of, one_at_a_time, options, runs_again, sessions, tells, undisturbed};

/// Lets some takeover times pass, for something that must not happen.
fn takeover_times_pass() {
    let since = boot_ns();
    until("four takeover times", PATIENCE, || (ms_between(since, boot_ns()) > 2000.0).then_some(()));
}

/// The other node is refused where it is, said on both sides, and runs nothing; the first is undisturbed.
#[track_caller]
fn refused_beside(first: &Node, other: &Node, pair: &Pair, names: &[&str]) -> Status {
    let status = other.reaches("the refusal", PATIENCE, |status| status.link() == "proved_refused");
    for name in names {
        assert!(status.link_reason().contains(name), "`{name}` is not named: {status:#?}");
    }
    let since = boot_ns();
    takeover_times_pass();
    let told = first.reaches("the refusal", PATIENCE, |status| status.warns("peer_refused"));
    for (node, status) in [(first, told), (other, other.status().expect("a status"))] {
        assert!(status.warns("peer_refused") && status.rejected_as("peer_refused") > 0, "{status:#?}");
        tells(node, "peer_refused");
        let said = count_of(node, "peer_refused");
        assert!(said <= 4, "{} says it {said} times", node.name());
    }
    assert!(other.plugins().is_empty(), "no plugin starts beside the running one");
    undisturbed(pair, first, since);
    status
}

#[test]
fn the_second_of_two_primaries_finds_the_first_and_stays_where_it_is() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let settings = pair.secondary.settings().replace("mode = \"secondary\"", "mode = \"primary\"");
    pair.secondary.settle(&settings);
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    let status = refused_beside(&pair.primary, &pair.secondary, &pair, &["configured as primary"]);
    assert_eq!(status.redundancy(), "lost", "{status:#?}");
    assert!(pair.canary().first_of("node-b", 0).is_none());
}

#[test]
fn a_primary_whose_settings_name_its_own_address_starts_and_dials_nobody() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let table = format!(
        "[redundancy.secondary]\naddress = \"https://127.0.0.1:{}\"\ntrust = \"all\"\n\n[redundancy.failback]",
        pair.port
    );
    let settings = pair.primary.settings().replace("[redundancy.failback]", &table);
    pair.primary.settle(&settings);
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    let status = pair.primary.status().expect("a status");
    assert_eq!(status.rejected(), 0, "{status:#?}");
}

#[test]
fn a_third_node_with_the_key_never_runs_beside_a_complete_pair() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let (since, stood) = (boot_ns(), stands(&pair));
    for mode in ["primary", "secondary"] {
        let mut other = Pair::prepare(options());
        let settings =
            other.secondary.settings().replace("mode = \"secondary\"", &format!("mode = \"{mode}\""));
        let settings = settings
            .replace(&*other.key_file().to_string_lossy(), &pair.key_file().to_string_lossy())
            .replace(
                &format!("https://127.0.0.1:{}", other.port),
                &format!("https://127.0.0.1:{}", pair.port),
            )
            .replace("name = \"node-b\"", "name = \"node-c\"");
        other.secondary.settle(&settings);
        let counted = pair.primary.status().expect("a status").rejected_as("other_node");
        other.secondary.start();
        pair.primary.reaches("the count", PATIENCE, |status| status.rejected_as("other_node") > counted);
        takeover_times_pass();
        assert!(
            other.secondary.plugins().is_empty(),
            "a third node runs as {mode}: {}",
            other.secondary.log()
        );
        // Between two dials: it is let in for a moment each time.
        let status = other.secondary.reaches("the reason", PATIENCE, |status| {
            status.redundancy() == "lost" && status.reason().contains("closed")
        });
        // Or it would take over together with the real secondary one day.
        let paired = status.0.pointer("/peer/paired_with").expect("a field");
        assert!(paired.is_null() || mode == "primary", "{status:#?}");
    }
    tells(&pair.primary, "session_rejected");
    undisturbed(&pair, &pair.primary, since);
    not_noticed(&pair, &stood);
}

#[test]
fn a_primary_that_cannot_check_the_other_address_says_so_and_one_that_finds_itself_does_not() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    // Its own address under a name that it does not know, and without the trust to get as far as the proof.
    let table = format!(
        "[redundancy.secondary]\naddress = \"https://127.0.0.2:{}\"\ntrust = \"store\"\n\n[redundancy.failback]",
        pair.port
    );
    let settings = pair.primary.settings().replace("[redundancy.failback]", &table);
    pair.primary.settle(&settings.replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:"));
    let settings = pair.secondary.settings().replace("mode = \"secondary\"", "mode = \"primary\"");
    pair.secondary.settle(&settings.replace("trust = \"all\"", "trust = \"store\""));
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.primary.reaches("one look at itself", PATIENCE, |status| status.rejected_as("tls") == 1);
    pair.secondary.start();
    let status =
        pair.secondary.reaches("the count", PATIENCE, |status| status.rejected_as("dialled_untrusted") > 0);
    assert_eq!(status.rejected(), 1, "{status:#?}");
    tells(&pair.secondary, "session_rejected");
    let events = pair.secondary.ask(&["events"]).stdout;
    assert!(events.contains("redundancy.secondary.address"), "{events}");
    let status = pair.primary.status().expect("a status");
    assert_eq!(status.rejected_as("dialled_untrusted"), 0, "it has found itself: {status:#?}");
}

#[test]
fn of_two_secondaries_neither_is_dark_without_saying_so() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let table = format!(
        "[redundancy.secondary]\naddress = \"https://127.0.0.1:{}\"\ntrust = \"all\"\n\n[redundancy.failback]",
        pair.port + 1
    );
    let settings = pair.primary.settings().replace("mode = \"primary\"", "mode = \"secondary\"");
    pair.primary.settle(&settings.replace("[redundancy.failback]", &table));
    pair.primary.start();
    pair.secondary.start();
    let refused = |status: &Status| {
        status.warns("peer_refused") && status.redundancy() == "lost" && status.reason().contains("refused")
    };
    for node in [&pair.primary, &pair.secondary] {
        let status = node.reaches("the refusal", PATIENCE, refused);
        assert!(status.reason().contains("configured as secondary"), "{status:#?}");
        assert!(status.rejected_as("peer_refused") > 0, "{status:#?}");
        tells(node, "peer_refused");
    }
    takeover_times_pass();
    assert!(pair.primary.plugins().is_empty() && pair.secondary.plugins().is_empty());
    for node in [&pair.primary, &pair.secondary] {
        let said = count_of(node, "peer_refused");
        assert!(said <= 4, "{} says it {said} times", node.name());
    }
}

#[test]
fn an_interval_that_reaches_the_peers_timeout_is_refused_on_the_link() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let timings = "trust = \"all\"\ninterval = \"600ms\"\n\n[redundancy.primary]\ntimeout = \"3s\"\n";
    let settings = pair.secondary.settings().replace("trust = \"all\"\n", timings);
    pair.secondary.settle(&settings);
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    let names = ["redundancy.secondary.interval", "600ms", "redundancy.primary.timeout", "500ms"];
    refused_beside(&pair.primary, &pair.secondary, &pair, &names);
    assert!(pair.canary().first_of("node-b", 0).is_none());
}

/// The files in a folder of a node's certificates.
fn certificates(node: &Node, folder: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(node.data_dir().join("pki").join(folder)).expect("a PKI folder");
    let files = listed.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "der" || end == "pem")).collect()
}

#[test]
fn an_unknown_certificate_is_kept_to_look_at_and_once_moved_to_trusted_it_is_one() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let settings = pair.secondary.settings().replace("trust = \"all\"", "trust = \"store\"");
    pair.secondary.settle(&settings);
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    let status = pair.secondary.reaches("the refusal", PATIENCE, |status| status.link() == "unproved");
    assert!(status.link_reason().contains("certificate"), "{status:#?}");
    assert!(status.rejected_as("dialled_untrusted") > 0, "{status:#?}");
    tells(&pair.secondary, "peer_unproved");
    tells(&pair.primary, "session_rejected");
    let since = boot_ns();
    takeover_times_pass();
    assert!(pair.secondary.plugins().is_empty());
    undisturbed(&pair, &pair.primary, since);
    let rejected = certificates(&pair.secondary, "rejected");
    assert_eq!(rejected.len(), 1, "one certificate, however often it comes: {rejected:?}");
    let manager = pair.secondary.manager();
    let trusted =
        pair.secondary.data_dir().join("pki/trusted/certs").join(rejected[0].file_name().expect("a name"));
    fs::rename(&rejected[0], trusted).expect("trust it");
    pair.redundant();
    assert_eq!(manager, pair.secondary.manager(), "without a restart");
}

#[test]
fn a_relaying_man_in_the_middle_is_found_out_although_every_certificate_is_trusted() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let (relay, _relaying) = man_in_the_middle(pair.port);
    let direct = pair.secondary.settings().to_owned();
    let led_astray =
        direct.replace(&format!("https://127.0.0.1:{}", pair.port), &format!("https://127.0.0.1:{relay}"));
    pair.secondary.settle(&led_astray);
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    let status = pair.secondary.reaches("the refusal", PATIENCE, |status| status.link() == "unproved");
    assert!(status.link_reason().contains("TLS"), "{status:#?}");
    let since = boot_ns();
    takeover_times_pass();
    let counted = pair
        .primary
        .reaches("the count", PATIENCE, |status| status.rejected_as("tls_terminated_between") > 0);
    assert_eq!(counted.link(), "silent", "it is no peer: {counted:#?}");
    assert!(pair.secondary.status().expect("a status").rejected_as("dialled_unproved") > 0);
    tells(&pair.primary, "session_rejected");
    tells(&pair.secondary, "peer_unproved");
    assert!(pair.secondary.plugins().is_empty());
    undisturbed(&pair, &pair.primary, since);
    one_at_a_time(&pair);
}

#[test]
fn who_answers_without_end_on_one_of_two_paths_does_not_hold_up_the_other() {
    let _turn = alone();
    let mut pair = Pair::prepare(options());
    let attack = runtime();
    let listener = attack.block_on(TcpListener::bind(local(0))).expect("a port");
    let flooding = listener.local_addr().expect("its address").port();
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    attack.spawn(async move {
        let ends = Ends::new();
        while let Ok((io, _)) = listener.accept().await {
            let (acceptor, number) = (ends.acceptor.clone(), counted.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(async move {
                let Ok((io, _)) = acceptor.accept(io).await else { return };
                let scripts = answers();
                let _until_it_hangs_up = play(&scripts[number % scripts.len()], io, PATIENCE).await;
            });
        }
    });
    let one = format!("address = \"https://127.0.0.1:{}\"", pair.port);
    let two = format!("address = [\"https://127.0.0.1:{}\", \"https://127.0.0.1:{flooding}\"]", pair.port);
    let settings = pair.secondary.settings().replace(&one, &two);
    assert_ne!(settings, pair.secondary.settings());
    pair.secondary.settle(&settings);
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    pair.secondary.reaches("the session", PATIENCE, |status| status.link() == "established");
    let (since, stood) = (boot_ns(), sessions(&pair.secondary));
    let before = [&pair.primary, &pair.secondary].map(|node| count_of(node, "peer_disconnected"));
    let wanted = dials.load(Ordering::Relaxed) + 30;
    until("more dials", PATIENCE, || (dials.load(Ordering::Relaxed) >= wanted).then_some(()));
    undisturbed(&pair, &pair.primary, since);
    assert_eq!(sessions(&pair.secondary), stood);
    let after = [&pair.primary, &pair.secondary].map(|node| count_of(node, "peer_disconnected"));
    assert_eq!(after, before, "somebody has noticed");
    assert!(pair.secondary.plugins().is_empty());
}

#[test]
fn a_recorded_proof_and_a_node_of_another_pair_do_not_disturb_the_session() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let (since, before) = (boot_ns(), stands(&pair));
    let keys = key_of(&pair.key_file());
    let (ends, to) = (Ends::new(), local(pair.port));
    runtime().block_on(async {
        // It knows the key, but the pair is complete.
        let mut first = Call::open(&ends.connector, to).await.expect("a call");
        let recorded = first.prove(stranger(7), &keys).await;
        let status = first.end().await.expect("a reason");
        assert_eq!(status.code(), Code::Aborted, "{status:?}");
        // What it said, word for word, on a connection of its own.
        let mut second = Call::open(&ends.connector, to).await.expect("a call");
        for frame in recorded {
            second.send(frame).await;
        }
        let status = second.end().await.expect("a reason");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    });
    let status = pair.primary.status().expect("a status");
    assert!(status.rejected_as("other_node") > 0, "{status:#?}");
    assert_eq!((status.link(), status.redundancy()), ("established", "ready"), "{status:#?}");
    // The key is right there, the channel is not: that is what a proxy looks like.
    assert!(
        status.rejected_as("key_mismatch") + status.rejected_as("tls_terminated_between") > 0,
        "{status:#?}"
    );
    tells(&pair.primary, "session_rejected");
    undisturbed(&pair, &pair.primary, since);
    not_noticed(&pair, &before);
}

/// What stands: how many sessions there were, and how often each node has missed the other. A slow start may be missed once.
#[derive(PartialEq, Eq)]
pub(crate) struct Standing {
    sessions: usize,
    missed: [usize; 2],
}

pub(crate) fn stands(pair: &Pair) -> Standing {
    let missed = [&pair.primary, &pair.secondary].map(|node| count_of(node, "peer_disconnected"));
    Standing { sessions: sessions(&pair.secondary), missed }
}

/// The session that stood before still stands, and nobody has missed anybody since.
#[track_caller]
pub(crate) fn not_noticed(pair: &Pair, before: &Standing) {
    let now = stands(pair);
    assert_eq!(now.sessions, before.sessions, "{}", pair.secondary.log());
    assert_eq!(now.missed, before.missed, "{}", pair.secondary.log());
}

#[test]
fn malformed_and_oversized_beats_end_their_session_only() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    let since = boot_ns();
    let keys = key_of(&pair.key_file());
    let (ends, to) = (Ends::new(), local(pair.port));
    let beat = |beat| wire::SessionRequest { frame: Some(wire::session_request::Frame::Beat(beat)) };
    let bad = [
        beat(wire::Beat::default()),
        // Far above what a message may be; the start of a message is all the node reads of it.
        wire::SessionRequest { frame: Some(wire::session_request::Frame::Hello(vec![0; 300_000])) },
        wire::SessionRequest { frame: None },
    ];
    runtime().block_on(async {
        for frame in bad {
            let mut call = Call::open(&ends.connector, to).await.expect("a call");
            call.prove(stranger(9), &keys).await;
            call.inbox.message().await.expect("an answer").expect("the proof");
            call.send(frame).await;
            // Ended with a status, or by the end of the connection where the message was never read.
            let _why = tokio::time::timeout(PATIENCE, call.end()).await.expect("it ends");
        }
    });
    pair.primary.reaches("the end of it", PATIENCE, |status| status.link() == "silent");
    undisturbed(&pair, &pair.primary, since);
    let log = pair.primary.log();
    assert!(log.contains("invalid message"), "the log says why: {log}");
    let came = boot_ns();
    pair.secondary.start();
    pair.redundant();
    assert!(ms_between(came, boot_ns()) < 10_000.0 * SLACK);
}
