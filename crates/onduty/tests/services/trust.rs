//! certificate-trust in a process of its own: nobody notices its death, everybody notices its changes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{CLIENT, MANAGEMENT, SERVER, SUPERVISOR, TRUST};
use test_support::{Node, Pair, PairOptions, Signal, boot_ns, kill, timed, until};

/// Far above what anything here takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A pair whose secondary accepts only what is in its store.
fn strict() -> Pair {
    let mut pair = Pair::prepare(PairOptions::new(env!("CARGO_BIN_EXE_onduty")));
    let settings = pair.secondary.settings().replace("trust = \"all\"", "trust = \"store\"");
    pair.secondary.settle(&settings);
    pair
}

/// Brings the primary's certificate to the secondary before either was started.
fn introduced(pair: &Pair) {
    let own = pair.folder().join("primary.pem");
    done(&pair.primary, &["certs", "export", "--out", own.to_str().unwrap()]);
    done(&pair.secondary, &["certs", "import", own.to_str().unwrap()]);
}

#[track_caller]
fn done(node: &Node, arguments: &[&str]) -> String {
    let answer = node.ask(arguments);
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    answer.stdout
}

fn start(pair: &mut Pair, primary: [&'static str; 4], secondary: [&'static str; 4]) {
    primary.into_iter().for_each(|service| pair.primary.start_service(service));
    secondary.into_iter().for_each(|service| pair.secondary.start_service(service));
}

fn running() -> Pair {
    let mut pair = strict();
    introduced(&pair);
    start(&mut pair, [TRUST, SUPERVISOR, SERVER, MANAGEMENT], [MANAGEMENT, CLIENT, SUPERVISOR, TRUST]);
    pair.redundant();
    pair
}

/// The fingerprint that `certs show` tells of the node's own certificate.
#[track_caller]
fn own(node: &Node) -> String {
    let shown: serde_json::Value = serde_json::from_str(&done(node, &["certs", "show", "--json"])).unwrap();
    shown["fingerprint"].as_str().unwrap().to_owned()
}

fn warned(node: &Node) -> bool {
    node.ask(&["status", "--json"]).stdout.contains("the certificate-trust service is away")
}

/// Nothing of it reached the workload.
#[track_caller]
fn undisturbed(pair: &Pair, since: u64) {
    let canary = pair.canary();
    let gap = canary.longest_outage_ms(since);
    assert!(gap < 500.0, "the workload was disturbed for {gap:.1} ms: {:#?}", canary.activities());
    let overlap = canary.overlap_ms();
    assert!(overlap <= 0.0, "both ran for {overlap:.1} ms: {:#?}", canary.activities());
    let runs = canary.activities();
    let runs_since = runs.iter().filter(|run| run.last_ns >= since).count();
    assert_eq!(runs_since, 1, "the duty never moved: {runs:#?}");
}

#[test]
fn the_heartbeat_waits_for_its_first_bundle_loudly_and_the_port_stays_closed() {
    let _turn = timed();
    let mut pair = strict();
    introduced(&pair);
    for service in [SERVER, SUPERVISOR, MANAGEMENT] {
        pair.primary.start_service(service);
    }
    for service in [CLIENT, MANAGEMENT, TRUST, SUPERVISOR] {
        pair.secondary.start_service(service);
    }
    let said = "the certificate-trust service has not answered yet at ";
    until("the heartbeat to say what it waits for", LIMIT, || {
        pair.primary.log().contains(said).then_some(())
    });
    let port = std::net::TcpStream::connect(("127.0.0.1", pair.port));
    assert!(port.is_err(), "the port is open before there is a certificate to show");
    let listed = pair.primary.ask(&["certs", "list"]);
    assert_eq!(listed.code, Some(4), "{listed:?}");
    assert!(listed.stderr.contains("does certificate-trust run?"), "{listed:?}");
    pair.primary.start_service(TRUST);
    pair.redundant();
}

#[test]
fn a_killed_trust_service_disturbs_nobody_on_either_node_and_is_a_warning_until_it_is_back() {
    let _turn = timed();
    let mut pair = running();
    let begun = boot_ns();
    pair.primary.kill_service(TRUST);
    pair.secondary.kill_service(TRUST);
    until("both to warn", LIMIT, || (warned(&pair.primary) && warned(&pair.secondary)).then_some(()));
    undisturbed(&pair, begun);
    let log = pair.secondary.log();
    assert_eq!(log.matches("the certificate-trust service is away").count(), 1, "said once: {log}");

    // Killed and started in turn; each time somebody has the newest truth again.
    pair.primary.start_service(TRUST);
    pair.secondary.start_service(TRUST);
    until("the warnings to go", LIMIT, || (!warned(&pair.primary) && !warned(&pair.secondary)).then_some(()));
    pair.redundant();
    undisturbed(&pair, begun);
}

#[test]
fn a_frozen_trust_service_disturbs_nobody_and_a_new_dial_decides_with_the_last_bundle() {
    let _turn = timed();
    let mut pair = running();
    let begun = boot_ns();
    for node in [&pair.primary, &pair.secondary] {
        kill(node.service(TRUST), Signal::SIGSTOP);
    }
    until("both to warn", LIMIT, || (warned(&pair.primary) && warned(&pair.secondary)).then_some(()));
    undisturbed(&pair, begun);
    // The secondary's heartbeat stays; the session goes: the primary's end is restarted.
    kill(pair.primary.service(TRUST), Signal::SIGCONT);
    pair.primary.kill_service(SERVER);
    pair.primary.start_service(SERVER);
    pair.redundant();
    assert!(warned(&pair.secondary), "it decided without asking anybody");
    kill(pair.secondary.service(TRUST), Signal::SIGCONT);
    until("the warning to go", LIMIT, || (!warned(&pair.secondary)).then_some(()));
    let overlap = pair.canary().overlap_ms();
    assert!(overlap <= 0.0, "both ran for {overlap:.1} ms");
}

#[test]
fn an_unknown_certificate_is_listed_trusted_by_its_beginning_journalled_and_the_pair_connects() {
    let _turn = timed();
    let mut pair = strict();
    start(&mut pair, [TRUST, SUPERVISOR, SERVER, MANAGEMENT], [TRUST, SUPERVISOR, CLIENT, MANAGEMENT]);
    let listed = until("the stranger to be listed", LIMIT, || {
        let listed = pair.secondary.ask(&["certs", "list", "--store", "rejected", "--json"]).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).ok()?;
        Some(listed["certificates"].as_array()?.first()?["fingerprint"].as_str()?.to_owned())
    });
    assert_eq!(listed, own(&pair.primary), "the same words on both nodes");
    let beginning: String = listed.chars().take(11).collect();
    let told = done(&pair.secondary, &["certs", "trust", &beginning]);
    assert!(told.contains("now trusted"), "{told}");
    pair.redundant();
    let journalled = until("the journal to have it", LIMIT, || {
        let events = pair.secondary.ask(&["events", "--json", "--limit", "500"]).stdout;
        let change = |line: &&str| line.contains(&listed) && line.contains("\"trust_notice\"");
        events.lines().find(change).map(str::to_owned)
    });
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    assert!(journalled.contains(&format!("{user}: ")) && journalled.contains("`trusted`"), "{journalled}");

    // Rejected: the session goes on, the next dial does not.
    let begun = boot_ns();
    done(&pair.secondary, &["certs", "reject", &beginning]);
    pair.redundant();
    pair.secondary.kill_service(CLIENT);
    pair.secondary.start_service(CLIENT);
    pair.secondary.reaches("the refusal", LIMIT, |status| {
        status.redundancy() != "ready" && format!("{status:?}").contains("rejected by an operator")
    });
    done(&pair.secondary, &["certs", "trust", &beginning]);
    pair.redundant();
    let overlap = pair.canary().overlap_ms();
    assert!(overlap <= 0.0, "both ran for {overlap:.1} ms since {begun}");
    for service in [TRUST, MANAGEMENT] {
        assert_eq!(pair.secondary.end_service(service, LIMIT).code(), Some(0));
    }
}

#[test]
fn a_new_own_certificate_is_shown_without_a_restart() {
    let _turn = timed();
    let mut pair = running();
    let before = own(&pair.primary);
    let begun = boot_ns();
    replace_own(&pair.primary, None);
    let after = until("the new certificate", LIMIT, || {
        let now = own(&pair.primary);
        (now != before).then_some(now)
    });
    pair.redundant();
    undisturbed(&pair, begun);
    // Only the new one is trusted now, and the secondary dials anew.
    let file = pair.folder().join("new.pem");
    done(&pair.primary, &["certs", "export", "--out", file.to_str().unwrap()]);
    done(&pair.secondary, &["certs", "import", file.to_str().unwrap()]);
    done(&pair.secondary, &["certs", "delete", &before]);
    pair.secondary.kill_service(CLIENT);
    pair.secondary.start_service(CLIENT);
    pair.redundant();
    let trusted = done(&pair.secondary, &["certs", "list", "--store", "trusted", "--json"]);
    assert!(trusted.contains(&after) && !trusted.contains(&before), "{trusted}");
}

#[test]
fn what_runs_out_is_journalled_once_and_a_warning_as_long_as_it_lasts() {
    let _turn = timed();
    let pair = running();
    let warning = |node: &Node| {
        let status: serde_json::Value = serde_json::from_str(&done(node, &["status", "--json"])).unwrap();
        let warnings = status["warnings"].as_array().unwrap().clone();
        warnings.into_iter().find(|warning| warning["code"] == "certificate_expires")
    };
    let events = || {
        let told = done(&pair.primary, &["events", "--json", "--limit", "1000"]);
        told.lines()
            .filter(|line| line.contains("certificate_expires"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!((warning(&pair.primary), events()), (None, Vec::new()));
    replace_own(&pair.primary, Some(Duration::from_secs(4 * 86_400 + 9000)));
    let said = until("the warning", LIMIT, || warning(&pair.primary));
    let sentence = said["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("this node's own certificate") && sentence.contains("expires in 4 days"),
        "{said}"
    );
    assert_eq!(said["severity"], "warn");
    // The next step is another event.
    replace_own(&pair.primary, Some(Duration::from_secs(5400)));
    let _pressing =
        until("the error", LIMIT, || warning(&pair.primary).filter(|warning| warning["severity"] == "error"));
    replace_own(&pair.primary, None);
    until("no warning", LIMIT, || warning(&pair.primary).is_none().then_some(()));
    let told = events();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("4 days") && told[1].contains("in 1 hour"), "{told:?}");
}

/// Another key and certificate for the same names, written as a tool would: each file whole, one after the other. Valid for
/// so long, or for very long.
fn replace_own(node: &Node, valid: Option<Duration>) {
    let own: PathBuf = node.data_dir().join("pki/own");
    let names = vec!["node-a".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    if let Some(valid) = valid {
        let now = service_kit::Clock::real().now().unix;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now) + valid;
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    for (name, text) in [("private.key", key.serialize_pem()), ("certificate.pem", certificate.pem())] {
        let (new, file) = (own.join(format!(".{name}")), own.join(name));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::metadata(&file).unwrap().permissions()).unwrap();
        fs::rename(new, file).unwrap();
    }
}
