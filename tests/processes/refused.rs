//! What a node refuses while it runs: peers with a wrong key, a wrong role or a wrong mode, itself as a peer, and a
//! stranger. The reason is said, counted and journalled; the plugins that run do not notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use test_support::{Pair, Status, beside_others, boot_ns, ms_between, until};

use crate::{PATIENCE, options, runs_again, tells, undisturbed};

/// Runs both nodes, waits until the secondary's link is as expected, and asserts that only the primary runs, before
/// and for some takeover times after.
fn refused_by_the_primary(pair: &mut Pair, wanted: impl Fn(&Status) -> bool) -> Status {
    pair.primary.start();
    runs_again(pair, &pair.primary, 0);
    pair.secondary.start();
    let status = pair.secondary.reaches("the refusal", PATIENCE, wanted);
    let since = boot_ns();
    until("four takeover times", PATIENCE, || (ms_between(since, boot_ns()) > 2000.0).then_some(()));
    assert!(pair.secondary.plugins().is_empty(), "no plugin starts beside the running one");
    undisturbed(pair, &pair.primary, since);
    assert!(pair.canary().first_of("node-b", 0).is_none());
    status
}

#[test]
fn a_secondary_with_another_key_is_refused_and_both_sides_say_so() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let other = pair.another_key();
    let settings = pair.secondary.settings();
    let settings = settings.replace(&*pair.key_file().to_string_lossy(), &other.to_string_lossy());
    pair.secondary.settle(&settings);

    let status = refused_by_the_primary(&mut pair, |status| status.link() == "unproved");
    assert!(status.link_reason().contains("key"), "the reason names the key: {status:#?}");
    let counted = pair.primary.reaches("the count", PATIENCE, |status| status.rejected() > 0);
    assert!(counted.rejected() > 0);
    tells(&pair.primary, "session_rejected");
    tells(&pair.secondary, "peer_unproved");
}

#[test]
fn a_secondary_whose_address_leads_to_itself_is_told_so() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let own = format!("https://127.0.0.1:{}", pair.port + 1);
    let settings = pair.secondary.settings().replace(&format!("https://127.0.0.1:{}", pair.port), &own);
    pair.secondary.settle(&settings);
    pair.secondary.start();
    let status = pair
        .secondary
        .reaches("the refusal", PATIENCE, |status| ["unproved", "proved_refused"].contains(&status.link()));
    assert!(status.link_reason().contains("this very node"), "{status:#?}");
    // It hangs up on itself before it has proved anything, so the dialling end is the one that counts.
    assert!(status.rejected_as("dialled_unproved") > 0, "{status:#?}");
    tells(&pair.secondary, "peer_unproved");
    assert!(pair.secondary.plugins().is_empty());
}

#[test]
fn a_second_primary_is_refused_and_never_runs_beside_the_first() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    // A primary does not dial by itself; the node that does is a secondary whose peer turns out to be one, too.
    let settings = pair.primary.settings().replace("mode = \"primary\"", "mode = \"secondary\"");
    let table =
        "[redundancy.secondary]\naddress = \"https://127.0.0.1:1\"\ntrust = \"all\"\n\n[redundancy.failback]";
    pair.primary.clean_up();
    pair.primary.settle(&settings.replace("[redundancy.failback]", table));
    let before = boot_ns();
    pair.primary.start();
    pair.secondary.start();
    let status = pair.secondary.reaches("the refusal", PATIENCE, |status| status.link() == "proved_refused");
    assert!(status.link_reason().contains("secondary"), "the reason names the role: {status:#?}");
    assert!(pair.canary().first_of("node-b", before).is_none());
    assert!(pair.secondary.plugins().is_empty());
}

#[test]
fn a_peer_without_redundancy_is_alive_and_nobody_takes_over_from_it() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let settings = pair.primary.settings().replace("mode = \"primary\"", "mode = \"deactivated\"");
    pair.primary.settle(&settings);
    refused_by_the_primary(&mut pair, |status| status.warns("peer_standalone"));
    tells(&pair.secondary, "peer_standalone");
}

#[test]
fn a_stranger_learns_nothing_and_is_shown_out_in_time() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let address = SocketAddr::from(([127, 0, 0, 1], pair.port));
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(b"GET /status HTTP/1.1\r\n\r\n").expect("write");
    let mut said = Vec::new();
    // Ends with an error or the end of the stream; what matters is that it ends, and what was said.
    let ended = stream.read_to_end(&mut said);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
    let text = String::from_utf8_lossy(&said);
    assert!(!text.contains("node-a") && !text.contains("onduty"), "a stranger was told {text:?}");
}
