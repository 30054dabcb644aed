//! The life of certificates, as `docs/operations/certificates.md` tells it to a person, command by command, on a pair that
//! runs; and what that does to the session.

use std::path::Path;
use std::process::Command;

use test_support::{Node, Pair, boot_ns, timed, until};

use crate::page::{commands, step};
use crate::{PATIENCE, has_event, options, undisturbed};

pub(crate) const PAGE: &str = include_str!("../../docs/operations/certificates.md");

/// A pair whose secondary accepts only what is in its store, and does not know its primary yet.
fn strangers() -> Pair {
    let mut pair = Pair::prepare(options());
    let settings = pair.secondary.settings().replace("trust = \"all\"", "trust = \"store\"");
    pair.secondary.settle(&settings);
    pair.primary.start();
    pair.secondary.start();
    pair
}

#[track_caller]
fn json(node: &Node, words: &[&str]) -> serde_json::Value {
    let answer = node.ask(&[words, &["--json"]].concat());
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {answer:?}"))
}

pub(crate) fn shown(node: &Node) -> String {
    json(node, &["certs", "show"])["fingerprint"].as_str().expect("a fingerprint").to_owned()
}

/// The secondary dials once more, with the certificates as they are now.
fn dials_anew(pair: &mut Pair) {
    let _killed = pair.secondary.kill_manager();
    pair.secondary.start();
    pair.redundant();
}

#[test]
fn the_page_from_the_first_pairing_to_a_compromised_certificate() {
    let _turn = timed();
    let mut pair = strangers();
    let folder = pair.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();

    let mut steps = commands(PAGE, "First pairing").into_iter();
    for node in [&pair.primary, &pair.secondary] {
        until("an answer", PATIENCE, || node.status());
    }
    let first = shown(&pair.primary);
    let listed = until("the stranger's certificate", PATIENCE, || {
        let listed = pair.secondary.ask(&["certs", "list", "--store", "rejected"]).stdout;
        listed.contains(&first[..23]).then_some(listed)
    });
    assert_eq!(step(&pair, &mut steps, "certs list --store rejected", &[]), listed);
    assert!(step(&pair, &mut steps, "certs show", &[]).contains(&first));
    let _trusted = step(&pair, &mut steps, "certs trust FINGERPRINT", &[("FINGERPRINT", &first[..11])]);
    pair.redundant();
    assert_eq!(steps.next(), None);

    let mut steps = commands(PAGE, "Renewal").into_iter();
    let begun = boot_ns();
    let (next, next_pem) = (path("next.pem"), ("next.pem", path("next.pem")));
    let instead = [(next_pem.0, next_pem.1.as_str())];
    let said = step(&pair, &mut steps, "certs renew", &[]);
    assert!(said.contains("nobody is shown it yet") && said.contains("certs export next"), "{said}");
    assert_eq!(shown(&pair.primary), first);
    let _exported = step(&pair, &mut steps, "certs export next --out next.pem", &instead);
    assert!(std::fs::read_to_string(&next).is_ok_and(|text| !text.contains("PRIVATE")));
    let said = step(&pair, &mut steps, "certs import next.pem", &instead);
    assert!(said.contains("now trusted"), "{said}");
    let said = step(&pair, &mut steps, "certs renew --now", &[]);
    let second = shown(&pair.primary);
    assert!(said.contains(&second) && second != first, "{said}");
    let _gone = step(&pair, &mut steps, "certs delete OLD", &[("OLD", &first)]);
    assert_eq!(steps.next(), None);
    undisturbed(&pair, &pair.primary, begun);
    assert!(has_event(&pair.primary, "trust_notice"));
    dials_anew(&mut pair);

    let mut steps = commands(PAGE, "A certificate of the plant's authority").into_iter();
    let begun = boot_ns();
    let files = ["line1-a.csr", "line1-a.pem", "plant-ca.pem"].map(|name| (name, path(name)));
    let instead: Vec<(&str, &str)> = files.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let _asked = step(&pair, &mut steps, "certs request --out line1-a.csr", &instead);
    if !signed(&folder) {
        eprintln!("skipped: there is no openssl to sign a request with");
        return;
    }
    let said = step(&pair, &mut steps, "certs install line1-a.pem", &instead);
    let third = shown(&pair.primary);
    assert!(said.contains(&third) && third != second && said.contains("CN=Plant CA"), "{said}");
    let _imported = step(&pair, &mut steps, "certs import plant-ca.pem --authority", &instead);
    assert_eq!(steps.next(), None);
    undisturbed(&pair, &pair.primary, begun);
    dials_anew(&mut pair);
    let answer = pair.primary.ask(&["certs", "renew"]);
    assert!(answer.code == Some(5) && answer.stderr.contains("was signed by `CN=Plant CA`"), "{answer:?}");

    let mut steps = commands(PAGE, "A compromised certificate").into_iter();
    let _imported = pair.secondary.ask(&["certs", "import", &path("line1-a.pem")]);
    let _refused = step(&pair, &mut steps, "certs reject OLD", &[("OLD", &third)]);
    assert_eq!(steps.next(), None);
    let _killed = pair.secondary.kill_manager();
    pair.secondary.start();
    let status = until("the refusal", PATIENCE, || {
        let said = pair.secondary.ask(&["status"]).stdout;
        said.contains("rejected by an operator").then_some(said)
    });
    assert!(!status.contains("redundancy   ready"), "{status}");
}

/// The plant's authority, played by openssl.
fn signed(folder: &Path) -> bool {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out plant-ca.pem \
                  -days 30 -subj '/CN=Plant CA' -addext 'keyUsage=critical,keyCertSign,cRLSign' 2>/dev/null && \
                  openssl x509 -req -in line1-a.csr -CA plant-ca.pem -CAkey ca.key -CAcreateserial -days 20 \
                  -copy_extensions copyall -out line1-a.pem 2>/dev/null";
    let ran = Command::new("sh").arg("-c").arg(script).current_dir(folder).status();
    ran.is_ok_and(|status| status.success())
}
