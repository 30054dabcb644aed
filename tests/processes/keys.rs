//! The key of a pair that runs is exchanged, as `docs/operations/keys.md` tells it to a person and in every other order; in the
//! middle of it nodes are killed, disks cut off, and wrong steps taken. The canaries judge.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use test_support::{Answer, Node, Pair, PairOptions, Profile, Status, boot_ns, one_at_a_time, timed, until};

use crate::page::{commands, step};
use crate::{PATIENCE, count_of, sessions, undisturbed};

const PAGE: &str = include_str!("../../docs/operations/keys.md");

/// With timings under which a busy machine alone disconnects nobody: that nobody was is what these tests look at.
fn options() -> PairOptions {
    crate::options().profile(Profile::Standard)
}

/// Gives each node a key file of its own, as on two machines.
pub(crate) fn apart(mut pair: Pair) -> Pair {
    let shared = pair.key_file();
    for node in [&mut pair.primary, &mut pair.secondary] {
        let own = key_file(node);
        fs::copy(&shared, &own).expect("copy the key");
        let settings =
            node.settings().replace(&format!("\"{}\"", shared.display()), &format!("\"{}\"", own.display()));
        node.settle(&settings);
    }
    pair
}

fn running(options: PairOptions) -> Pair {
    let mut pair = apart(Pair::prepare(options));
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    pair
}

pub(crate) fn key_file(node: &Node) -> PathBuf {
    node.settings_file().with_file_name("pair.key")
}

pub(crate) fn beside(node: &Node, end: &str) -> PathBuf {
    node.settings_file().with_file_name(format!("pair.key.{end}"))
}

#[track_caller]
fn done(node: &Node, arguments: &[&str]) -> String {
    let answer = node.ask(arguments);
    assert_eq!(answer.code, Some(0), "{}: {arguments:?}: {answer:?}", node.name());
    answer.stdout
}

#[track_caller]
fn refused(node: &Node, arguments: &[&str], code: &str) -> Answer {
    let answer = node.ask(arguments);
    assert_eq!(answer.code, Some(5), "{}: {arguments:?}: {answer:?}", node.name());
    assert!(answer.stderr.ends_with(&format!("[{code}]\n")), "{answer:?}");
    answer
}

/// Makes the next key on one node and takes it to the other.
#[track_caller]
fn prepared(from: &Node, to: &Node) {
    let _made = done(from, &["key", "rotate", "prepare"]);
    let next = beside(from, "next");
    let _taken = done(to, &["key", "rotate", "prepare", "--from", next.to_str().expect("a path")]);
}

/// The keys of a node: slot, fingerprint, and whether it is in use and may be dropped.
fn keys_of(status: &Status) -> Vec<(String, String, bool, bool)> {
    let text = |key: &Value, name: &str| key[name].as_str().expect("a text").to_owned();
    let all = status.0["keys"].as_array().expect("keys").iter();
    let is = |key: &Value, name: &str| key[name].as_bool().expect("true or false");
    all.map(|key| (text(key, "slot"), text(key, "fingerprint"), is(key, "in_use"), is(key, "droppable")))
        .collect()
}

fn keys(node: &Node) -> Vec<(String, String, bool, bool)> {
    keys_of(&node.status().expect("a status"))
}

/// By what the key in use is told from others.
pub(crate) fn fingerprint_of(node: &Node) -> String {
    keys(node)[0].1.clone()
}

/// Both nodes go by this key alone, and nobody has lost anybody.
#[track_caller]
fn at_rest_with(pair: &Pair, fingerprint: &str) {
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("one key, in use", PATIENCE, |status| {
            keys_of(status) == [("current".to_owned(), fingerprint.to_owned(), true, false)]
        });
        assert!(!beside(node, "next").exists() && !beside(node, "previous").exists());
    }
}

/// As far as the journals know, the peer was connected all the time.
#[track_caller]
fn never_disconnected(pair: &Pair) {
    for node in [&pair.primary, &pair.secondary] {
        assert_eq!(count_of(node, "peer_disconnected"), 0, "{}", node.log());
    }
}

#[test]
fn the_page_from_the_next_key_to_one_that_somebody_has_seen() {
    let _turn = timed();
    let pair = running(options());
    let (begun, first) = (boot_ns(), fingerprint_of(&pair.primary));
    let next = beside(&pair.primary, "next").display().to_string();
    let instead = [("next.key", next.as_str())];

    let mut steps = commands(PAGE, "# The key of the pair").into_iter();
    let said = step(&pair, &mut steps, "key show", &[]);
    assert!(said.contains(&first) && said.contains("in use since") && said.lines().count() == 1, "{said}");
    assert_eq!(steps.next(), None);

    let mut steps = commands(PAGE, "Exchanging it").into_iter();
    let mut last = first.clone();
    let mut exchange = |steps: &mut dyn Iterator<Item = (&'static str, &'static str)>| {
        let mut steps = steps;
        let said = step(&pair, &mut steps, "key rotate prepare", &[]);
        let new = keys(&pair.primary)[1].1.clone();
        assert!(said.contains(&new) && said.contains(&next), "{said}");
        assert!(step(&pair, &mut steps, "key rotate prepare --from next.key", &instead).contains(&new));
        let said = step(&pair, &mut steps, "key rotate use", &[]);
        assert!(said.contains(&format!("the session still goes by {last}")), "{said}");
        let said = step(&pair, &mut steps, "key rotate use", &[]);
        assert!(said.contains("may be removed") && said.contains("rotate finish` drops"), "{said}");
        let status = pair.secondary.ask(&["status"]).stdout;
        let row =
            |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert!(row("key ").contains(&format!("{new}, in use since ")), "{status}");
        let previous = row("previous key ");
        assert!(
            previous.contains(&format!("{last}, unused since ")) && previous.ends_with(", may be removed"),
            "{status}"
        );
        let _said = step(&pair, &mut steps, "key rotate finish", &[]);
        let _said = step(&pair, &mut steps, "key rotate finish", &[]);
        at_rest_with(&pair, &new);
        last = new;
    };
    exchange(&mut steps);
    assert_eq!(steps.next(), None);
    let mut steps = commands(PAGE, "Somebody may have seen it").into_iter();
    exchange(&mut steps);
    let events = step(&pair, &mut steps, "events --limit 1000", &[]);
    assert_eq!(steps.next(), None);
    assert!(events.contains(&format!("the pair goes by the key {last} now")), "{events}");
    // One session more for each exchange, and nobody noticed.
    assert_eq!(sessions(&pair.secondary), 3, "{}", pair.secondary.log());
    assert_eq!(count_of(&pair.secondary, "key_changed"), count_of(&pair.primary, "key_changed"));
    undisturbed(&pair, &pair.primary, begun);
    never_disconnected(&pair);

    let mut steps = commands(PAGE, "Going back").into_iter();
    prepared(&pair.primary, &pair.secondary);
    let _used = done(&pair.primary, &["key", "rotate", "use"]);
    let _back = step(&pair, &mut steps, "key rotate abort", &[]);
    let _back = step(&pair, &mut steps, "key rotate abort", &[]);
    assert_eq!(steps.next(), None);
    at_rest_with(&pair, &last);
    undisturbed(&pair, &pair.primary, begun);
    never_disconnected(&pair);
}

/// Every step first on either node, with the duty on either: the steps of the two nodes mix as they like.
#[test]
fn the_nodes_may_be_in_different_steps_in_any_order() {
    let _turn = timed();
    let pair = running(options().manual());
    for (number, primary_first) in
        [[true, false, true], [false, true, false], [false, false, false]].into_iter().enumerate()
    {
        if number == 2 {
            pair.move_to_secondary();
        }
        let begun = boot_ns();
        let order = |first: bool| {
            if first { [&pair.primary, &pair.secondary] } else { [&pair.secondary, &pair.primary] }
        };
        let [one, other] = order(primary_first[0]);
        let _made = done(one, &["key", "rotate", "prepare"]);
        let new = keys(one)[1].1.clone();
        // The one that has the key may go on while the other has never heard of it.
        let ahead = number == 1;
        if ahead {
            let _used = done(one, &["key", "rotate", "use"]);
            let _refused = refused(one, &["key", "rotate", "finish"], "key_in_use");
        }
        let made = if ahead { key_file(one) } else { beside(one, "next") };
        let _taken = done(other, &["key", "rotate", "prepare", "--from", made.to_str().expect("a path")]);
        for node in order(primary_first[1]) {
            let _used = done(node, &["key", "rotate", "use"]);
        }
        for node in order(primary_first[2]) {
            node.reaches("the new key in use", PATIENCE, |status| {
                let keys = keys_of(status);
                keys.len() < 2 || keys[1].3
            });
            let _dropped = done(node, &["key", "rotate", "finish"]);
        }
        at_rest_with(&pair, &new);
        let active = if number == 2 { &pair.secondary } else { &pair.primary };
        undisturbed(&pair, active, begun);
    }
    never_disconnected(&pair);
    one_at_a_time(&pair);
}

#[test]
fn a_key_that_the_peer_needs_is_not_dropped_unless_forced_and_that_is_mended() {
    let _turn = timed();
    let mut pair = running(options().manual());
    let (primary, secondary) = (&pair.primary, &pair.secondary);
    let begun = boot_ns();
    let old = fingerprint_of(primary);
    let none = refused(primary, &["key", "rotate", "use"], "key_step_refused");
    assert!(none.stderr.contains("there is no next key"), "{none:?}");
    let _nothing = done(primary, &["key", "rotate", "finish"]);
    let _made = done(primary, &["key", "rotate", "prepare"]);
    let early = refused(primary, &["key", "rotate", "finish"], "key_step_refused");
    assert!(early.stderr.contains("not used yet"), "{early:?}");
    let _used = done(primary, &["key", "rotate", "use"]);
    let why = refused(primary, &["key", "rotate", "finish"], "key_in_use").stderr;
    assert!(why.contains(&format!("the session goes by the key {old}")) && why.contains("--force"), "{why}");
    let again = refused(primary, &["key", "rotate", "prepare"], "key_step_refused");
    assert!(again.stderr.contains("the rotation before is not over"), "{again:?}");
    undisturbed(&pair, primary, begun);
    never_disconnected(&pair);

    let forced = done(primary, &["key", "rotate", "finish", "--force"]);
    assert!(forced.contains(&format!("dropped the key {old}")), "{forced}");
    let strangers =
        |status: &Status| status.link() != "established" && status.rejected_as("key_mismatch") > 0;
    primary.reaches("strangers to each other", PATIENCE, strangers);
    let key = key_file(primary);
    let _mended = done(secondary, &["key", "rotate", "prepare", "--from", key.to_str().expect("a path")]);
    pair.redundant();
    let new = fingerprint_of(&pair.primary);
    let back = refused(&pair.secondary, &["key", "rotate", "abort"], "key_in_use");
    assert!(back.stderr.contains(&format!("the session goes by the key {new}")), "{back:?}");
    let _used = done(&pair.secondary, &["key", "rotate", "use"]);
    // While the peer is away nobody can say what it has; nor can a node that does not run.
    let _killed = pair.primary.kill_everything();
    pair.secondary.reaches("the peer away", PATIENCE, |status| status.link() != "established");
    let alone = refused(&pair.secondary, &["key", "rotate", "finish"], "key_in_use");
    assert!(alone.stderr.contains("there is no session that goes by"), "{alone:?}");
    pair.primary.start();
    pair.secondary.reaches("the peer back", PATIENCE, |status| keys_of(status)[1].3);
    let _dropped = done(&pair.secondary, &["key", "rotate", "finish"]);
    at_rest_with(&pair, &new);
    one_at_a_time(&pair);
}

/// A power cut on one node in each stage of a rotation, and what it leaves on the disk between two changes of a step.
#[test]
fn a_node_that_is_cut_off_in_the_middle_comes_back_with_keys_that_the_other_knows() {
    let _turn = timed();
    let mut pair = running(crate::options().manual());
    let old = fingerprint_of(&pair.primary);
    prepared(&pair.secondary, &pair.primary);
    let new = keys(&pair.primary)[1].1.clone();
    let comes_back = |pair: &mut Pair, at_primary: bool, change: &dyn Fn(&Node)| {
        let node = if at_primary { &mut pair.primary } else { &mut pair.secondary };
        let _cut = node.kill_everything();
        change(node);
        node.start();
        let ready = |status: &Status| status.redundancy() == "ready";
        for node in [&pair.primary, &pair.secondary] {
            node.reaches("redundancy again", PATIENCE, ready);
        }
    };
    comes_back(&mut pair, true, &|_node| {});
    comes_back(&mut pair, false, &|node| {
        // `use`: the key before is written, the next one not yet in its place.
        fs::copy(key_file(node), beside(node, "previous")).expect("a copy");
    });
    let both = |pair: &Pair| [&pair.primary, &pair.secondary].map(fingerprint_of);
    assert_eq!(both(&pair), [old.clone(), old.clone()]);
    let _used = done(&pair.secondary, &["key", "rotate", "use"]);
    comes_back(&mut pair, false, &|node| {
        // The next key is in its place, and not yet removed where it was.
        fs::copy(key_file(node), beside(node, "next")).expect("a copy");
    });
    assert_eq!(both(&pair), [old, new.clone()]);
    let _again = done(&pair.secondary, &["key", "rotate", "use"]);
    // On a node that does not run.
    let node = if pair.primary.status().is_some_and(|status| status.state() == "active") {
        &mut pair.secondary
    } else {
        &mut pair.primary
    };
    let _stopped = node.kill_everything();
    let idle = node.name().to_owned();
    let said = done(node, &["key", "rotate", "use"]);
    assert!(said.contains("this node does not run"), "{said}");
    let why = refused(node, &["key", "rotate", "finish"], "key_in_use");
    assert!(why.stderr.contains("does not run"), "{why:?}");
    node.start();
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("redundancy again", PATIENCE, |status| status.redundancy() == "ready");
        if node.name() != idle {
            let _used = done(node, &["key", "rotate", "use"]);
        }
    }
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("the old key unused", PATIENCE, |status| keys_of(status)[1].3);
    }
    for node in [&pair.primary, &pair.secondary] {
        let _dropped = done(node, &["key", "rotate", "finish"]);
    }
    at_rest_with(&pair, &new);
    one_at_a_time(&pair);
}

/// Each network path has a session, and each goes over for itself: the old key is unused when the last has.
#[test]
fn over_two_network_paths_every_session_goes_over() {
    let _turn = timed();
    let mut pair = apart(Pair::prepare(options()));
    let port = pair.port;
    let everywhere = pair.primary.settings().replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:");
    pair.primary.settle(&everywhere);
    let one = format!("address = \"https://127.0.0.1:{port}\"");
    let two = format!("address = [\"https://127.0.0.1:{port}\", \"https://127.0.0.2:{port}\"]");
    let both = pair.secondary.settings().replace(&one, &two);
    assert_ne!(both, pair.secondary.settings());
    pair.secondary.settle(&both);
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    let established = |status: &Status| {
        let paths = status.0.pointer("/peer/paths").and_then(Value::as_array);
        paths.is_some_and(|paths| paths.len() == 2 && paths.iter().all(|path| path["link"] == "established"))
    };
    pair.secondary.reaches("both paths", PATIENCE, established);
    let begun = boot_ns();
    prepared(&pair.primary, &pair.secondary);
    for node in [&pair.secondary, &pair.primary] {
        let _used = done(node, &["key", "rotate", "use"]);
    }
    for node in [&pair.primary, &pair.secondary] {
        node.reaches("the old key unused", PATIENCE, |status| keys_of(status)[1].3);
        let _dropped = done(node, &["key", "rotate", "finish"]);
    }
    assert_eq!(sessions(&pair.secondary), 4, "{}", pair.secondary.log());
    assert!(pair.secondary.status().is_some_and(|status| established(&status)));
    assert_eq!(count_of(&pair.secondary, "path_lost") + count_of(&pair.primary, "path_lost"), 0);
    undisturbed(&pair, &pair.primary, begun);
    never_disconnected(&pair);
}

/// Whatever becomes of the files of a node that runs, its session goes on.
#[test]
fn files_that_cannot_be_used_change_nothing_but_a_warning() {
    let _turn = timed();
    let pair = running(options());
    let (begun, node) = (boot_ns(), &pair.secondary);
    let old = fingerprint_of(node);
    let good = fs::read(key_file(node)).expect("the key");
    let warned = |words: &str| {
        let status =
            node.reaches("the warning", PATIENCE, |status| status.warning("key_unusable").contains(words));
        assert_eq!((status.link(), keys_of(&status)[0].1.as_str()), ("established", old.as_str()));
    };
    let well = || node.reaches("no warning", PATIENCE, |status| !status.warns("key_unusable"));
    let open_to =
        |mode: u32| fs::set_permissions(key_file(node), Permissions::from_mode(mode)).expect("a mode");
    for mode in [0o604, 0o602, 0o644, 0o666] {
        open_to(mode);
        warned(&format!("mode {mode:04o}"));
        open_to(0o600);
        well();
    }
    fs::write(key_file(node), "odk1_cut_in_the_middle").expect("half a key");
    warned("cut or changed");
    fs::remove_file(key_file(node)).expect("no key");
    warned("cannot be opened");
    fs::write(key_file(node), good).expect("the key");
    open_to(0o600);
    well();
    fs::write(beside(node, "next"), "correct horse battery staple").expect("a passphrase");
    fs::set_permissions(beside(node, "next"), Permissions::from_mode(0o600)).expect("a mode");
    warned("is a passphrase");
    // It would be the key all the same, and the node would not start again.
    let said = refused(node, &["key", "rotate", "use"], "key_step_refused").stderr;
    assert!(said.contains("is a passphrase"), "{said}");
    let _gone = done(node, &["key", "rotate", "abort"]);
    well();
    let given = key_file(node).with_file_name("given");
    fs::write(&given, "correct horse battery staple").expect("a passphrase");
    fs::set_permissions(&given, Permissions::from_mode(0o600)).expect("a mode");
    let take = ["key", "rotate", "prepare", "--from", given.to_str().expect("a path")];
    let said = refused(node, &take, "key_step_refused").stderr;
    assert!(said.contains("is a passphrase") && !beside(node, "next").exists(), "{said}");
    well();
    assert!(count_of(node, "key_unusable") >= 7, "each is in the journal");
    assert_eq!(sessions(node), 1);
    undisturbed(&pair, &pair.primary, begun);
}

/// A Kubernetes Secret: two files behind one link, exchanged at once; the key before is named in the settings.
#[test]
fn files_that_others_exchange_are_followed_too() {
    let _turn = timed();
    let mut pair = apart(Pair::prepare(options()));
    let (old, new) =
        (fs::read(pair.key_file()).expect("a key"), fs::read(pair.another_key()).expect("a key"));
    let mount = |node: &Node| node.settings_file().with_file_name("secret");
    let publish = |folder: &Path, number: u32, key: &[u8], previous: &[u8]| {
        let version = folder.join(format!("..{number}"));
        fs::create_dir_all(&version).expect("a folder");
        for (name, content) in [("key", key), ("previous", previous)] {
            fs::write(version.join(name), content).expect("a key");
            fs::set_permissions(version.join(name), Permissions::from_mode(0o440)).expect("a mode");
        }
        symlink(format!("..{number}"), folder.join("..new")).expect("a link");
        fs::rename(folder.join("..new"), folder.join("..data")).expect("exchanged");
    };
    for node in [&mut pair.primary, &mut pair.secondary] {
        let folder = mount(node);
        publish(&folder, 1, &old, &old);
        for name in ["key", "previous"] {
            symlink(format!("..data/{name}"), folder.join(name)).expect("a link");
        }
        let own = format!("key_file = \"{}\"", key_file(node).display());
        let named = format!("key_file = \"{0}/key\"\nprevious_key_file = \"{0}/previous\"", folder.display());
        let settings = node.settings().replace(&own, &named);
        assert_ne!(settings, node.settings());
        node.settle(&settings);
        node.start();
    }
    pair.redundant();
    let begun = boot_ns();
    let first = fingerprint_of(&pair.primary);
    // Both learn the new key as the one before, then use it, then forget the old one.
    for (number, key, previous) in [(2, &old, &new), (3, &new, &old), (4, &new, &new)] {
        for node in [&pair.secondary, &pair.primary] {
            publish(&mount(node), number, key, previous);
            let wanted = if previous == key { 1 } else { 2 };
            node.reaches("the files", PATIENCE, |status| {
                let keys = keys_of(status);
                keys.len() == wanted && (number == 2) == (keys[0].1 == first)
            });
        }
        if number == 3 {
            for node in [&pair.primary, &pair.secondary] {
                node.reaches("the old key unused", PATIENCE, |status| keys_of(status)[1].3);
            }
            let why = refused(&pair.primary, &["key", "rotate", "finish"], "key_step_refused");
            assert!(why.stderr.contains("by hand"), "{why:?}");
        }
    }
    let last = keys(&pair.primary);
    assert!(last.len() == 1 && last[0].1 != first && last[0].2, "{last:?}");
    undisturbed(&pair, &pair.primary, begun);
    never_disconnected(&pair);
    until("the events", PATIENCE, || (count_of(&pair.secondary, "key_changed") >= 4).then_some(()));
}

#[test]
fn a_step_asks_the_node_when_a_file_beside_the_key_says_nothing() {
    let _turn = timed();
    let pair = running(options());
    prepared(&pair.primary, &pair.secondary);
    for node in [&pair.primary, &pair.secondary] {
        let _used = done(node, &["key", "rotate", "use"]);
    }
    let new = fingerprint_of(&pair.primary);
    pair.primary.reaches("the new key in use", PATIENCE, |status| keys_of(status)[0].2);
    // A next key that nobody can read does not hide that the pair goes by the new one.
    fs::write(beside(&pair.primary, "next"), "odk1_cut").expect("write");
    let _kept = refused(&pair.primary, &["key", "rotate", "abort"], "key_in_use");
    assert_eq!(fingerprint_of(&pair.primary), new);
    let _dropped = done(&pair.primary, &["key", "rotate", "finish"]);
    let _dropped = done(&pair.secondary, &["key", "rotate", "finish"]);
    at_rest_with(&pair, &new);

    // The last step of a previous key that has become unusable: the node still goes by it.
    prepared(&pair.primary, &pair.secondary);
    let _used = done(&pair.primary, &["key", "rotate", "use"]);
    fs::set_permissions(beside(&pair.primary, "previous"), Permissions::from_mode(0o644)).expect("chmod");
    let _kept = refused(&pair.primary, &["key", "rotate", "finish"], "key_in_use");
    let _used = done(&pair.secondary, &["key", "rotate", "use"]);
    pair.primary.reaches("the new key in use", PATIENCE, |status| keys_of(status)[0].2);
    let _dropped = done(&pair.primary, &["key", "rotate", "finish"]);
    let _dropped = done(&pair.secondary, &["key", "rotate", "finish"]);
    at_rest_with(&pair, &fingerprint_of(&pair.primary));
    never_disconnected(&pair);
}
