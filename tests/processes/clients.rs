//! A primary that asks for the secondary's certificate, as `docs/operations/certificates.md` tells it.

use test_support::{Pair, beside_others, boot_ns, until};

use crate::certificates::{PAGE, shown};
use crate::page::{commands, step};
use crate::{PATIENCE, options, runs_again, tells, undisturbed};

fn asking() -> Pair {
    let mut pair = Pair::prepare(options());
    let settings = pair.primary.settings();
    let table = "[redundancy.primary]\n";
    let asks = "client_trust = \"store\"\n";
    let settings = if settings.contains(table) {
        settings.replace(table, &format!("{table}{asks}"))
    } else {
        settings.replace("[redundancy.failback]", &format!("{table}{asks}\n[redundancy.failback]"))
    };
    pair.primary.settle(&settings);
    pair
}

#[test]
fn a_secondary_shows_its_certificate_and_is_let_in_once_an_operator_trusts_it() {
    let _turn = beside_others();
    let mut pair = asking();
    pair.primary.start();
    let begun = runs_again(&pair, &pair.primary, 0);
    pair.secondary.start();
    let refused = pair.secondary.reaches("the refusal", PATIENCE, |status| status.link() == "unproved");
    assert!(refused.link_reason().contains("the certificate of the node that dials"), "{refused:#?}");
    assert!(
        pair.primary.reaches("the count", PATIENCE, |s| s.rejected() > 0).rejected_as("client_certificate")
            > 0
    );
    tells(&pair.primary, "session_rejected");
    let tried = pair.secondary.ask(&["test"]);
    assert!(tried.code == Some(6) && tried.stdout.contains("[client_certificate]"), "{tried:?}");

    let mut steps = commands(PAGE, "The secondary's certificate, too").into_iter();
    let own = shown(&pair.secondary);
    let listed = step(&pair, &mut steps, "certs list --store rejected", &[]);
    assert!(listed.contains(&own[..23]), "{listed}");
    assert!(step(&pair, &mut steps, "certs show", &[]).contains(&own));
    let _trusted = step(&pair, &mut steps, "certs trust FINGERPRINT", &[("FINGERPRINT", &own[..11])]);
    assert_eq!(steps.next(), None);
    pair.redundant();

    // A session that runs goes on; the next one is refused, and nothing starts beside what runs.
    let said = pair.primary.ask(&["certs", "reject", &own]);
    assert_eq!(said.code, Some(0), "{said:?}");
    pair.redundant();
    let _killed = pair.secondary.kill_manager();
    pair.secondary.start();
    until("the refusal again", PATIENCE, || {
        pair.secondary.status().filter(|status| status.link_reason().contains("the certificate of the node"))
    });
    let since = boot_ns();
    until("the canary's next word", PATIENCE, || {
        pair.canary().newest().filter(|stamp| stamp.boot_ns > since).map(|_| ())
    });
    assert!(pair.secondary.plugins().is_empty());
    undisturbed(&pair, &pair.primary, begun);
}
