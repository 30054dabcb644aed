//! Bad input before anything runs: the node refuses to start, names key, value and place, and ends with the documented
//! exit code; and what is wrong only later is a warning on both nodes before it is needed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use test_support::{Answer, Pair, beside_others};

use crate::{PATIENCE, options, tells};

/// Settings, key or certificate are wrong.
const WRONG_SETTINGS: i32 = 3;
/// It could not do what was asked.
const FAILED: i32 = 1;

/// Checks settings that the secondary gets after a change; nothing is started.
fn checked(change: impl FnOnce(&Pair, &str) -> Vec<u8>) -> Answer {
    let pair = Pair::prepare(options());
    let settings = change(&pair, pair.secondary.settings());
    fs::write(pair.secondary.settings_file(), settings).expect("write the settings");
    pair.secondary.ask(&["config", "check"])
}

#[track_caller]
fn refused(answer: &Answer, names: &[&str]) {
    assert_eq!(answer.code, Some(WRONG_SETTINGS), "{answer:#?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    for name in names {
        assert!(said.contains(name), "`{name}` is not named in: {said}");
    }
}

#[test]
fn good_settings_are_accepted_and_their_meaning_is_told() {
    let _turn = beside_others();
    let answer = checked(|_, settings| settings.into());
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    for word in ["detection", "takeover", "overlap"] {
        assert!(answer.stdout.contains(word), "`{word}` is not told: {}", answer.stdout);
    }
}

#[test]
fn plain_http_is_refused() {
    let _turn = beside_others();
    let answer = checked(|_, settings| settings.replace("https://", "http://").into());
    refused(&answer, &["redundancy.secondary.address", "http://", "https", "onduty.toml", "[bad_value]"]);
}

#[test]
fn an_interval_that_is_not_below_the_timeout_is_refused() {
    let _turn = beside_others();
    let answer = checked(|_, settings| {
        settings
            .replace("trust = \"all\"", "trust = \"all\"\ninterval = \"3s\"\ntakeover_after = \"2s\"")
            .into()
    });
    refused(&answer, &["interval", "3s", "[bad_timing]"]);
}

/// Gives the pair this key file.
fn set_key(pair: &Pair, key: &str, mode: u32) {
    fs::write(pair.key_file(), key).expect("write the key");
    fs::set_permissions(pair.key_file(), fs::Permissions::from_mode(mode)).expect("set its mode");
}

#[test]
fn an_empty_and_a_short_key_are_refused_without_being_shown() {
    let _turn = beside_others();
    let with_key = |key: &'static str| {
        checked(move |pair, settings| {
            set_key(pair, key, 0o600);
            settings.into()
        })
    };
    refused(&with_key(""), &["key_file", "empty", "[key_unusable]"]);
    refused(&with_key("\n"), &["key_file", "empty"]);
    let short = with_key("hunter2");
    refused(&short, &["key_file"]);
    assert!(!format!("{short:?}").contains("hunter2"), "a key is never shown");
}

#[test]
fn a_key_that_others_can_read_keeps_the_node_from_starting() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let key = fs::read_to_string(pair.key_file()).expect("the key");
    set_key(&pair, &key, 0o644);
    let check = pair.primary.ask(&["config", "check"]);
    assert_eq!(check.code, Some(WRONG_SETTINGS), "the check says what `up` will say: {check:?}");
    pair.primary.start();
    let ended = pair.primary.ended(PATIENCE);
    let log = pair.primary.log();
    assert_eq!(ended.code(), Some(WRONG_SETTINGS), "{log}");
    assert!(log.contains("pair.key") && log.contains("[key_unusable]"), "the file is named: {log}");
    assert!(!log.contains(key.trim()), "a key is never shown");
}

#[test]
fn a_file_that_is_empty_cut_off_not_text_or_has_unknown_keys_is_refused() {
    let _turn = beside_others();
    let unknown = checked(|_, settings| settings.replace("[node]", "[node]\ncolour = \"red\"").into());
    refused(&unknown, &["colour", "onduty.toml:2", "[unknown_key]"]);
    let cut = checked(|_, settings| settings.as_bytes()[..settings.len() / 2].to_vec());
    refused(&cut, &["onduty.toml", "[settings_unreadable]"]);
    let not_text = checked(|_, _| vec![0xff, 0xfe, 0x00, 0x41]);
    refused(&not_text, &["UTF-8"]);
    // Cut off by a full disk, most likely: never a wish for a node without redundancy on the usual port.
    refused(&checked(|_, _| Vec::new()), &["onduty.toml", "says nothing", "[no_settings]"]);
    refused(&checked(|_, _| b"# a comment\n\n".to_vec()), &["onduty.toml", "says nothing"]);
}

#[test]
fn a_start_without_any_settings_is_refused_and_says_how_to_give_them() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("a folder");
    let output = std::process::Command::new(&options().binary)
        .arg("up")
        .env_clear()
        .current_dir(folder.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(WRONG_SETTINGS), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for way in ["--config", "ONDUTY_", "--set", "[no_settings]"] {
        assert!(said.contains(way), "{way} is not told: {said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let _taken = TcpListener::bind(("127.0.0.1", pair.port)).expect("take the port");
    pair.primary.start();
    let ended = pair.primary.ended(PATIENCE);
    assert_eq!(ended.code(), Some(FAILED), "{}", pair.primary.log());
    assert!(pair.primary.log().contains(&pair.port.to_string()), "{}", pair.primary.log());
    assert!(pair.primary.log().contains("[port_unusable]"), "{}", pair.primary.log());
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    pair.primary.reaches("an answer", PATIENCE, |_| true);
    // Another port, the same data directory.
    let settings =
        pair.primary.settings().replace(&format!(":{}\"", pair.port), &format!(":{}\"", pair.port + 1));
    pair.secondary.settle(&settings);
    pair.secondary.start();
    let ended = pair.secondary.ended(PATIENCE);
    assert_eq!(ended.code(), Some(FAILED), "{}", pair.secondary.log());
    assert!(pair.secondary.log().contains("another onduty"), "{}", pair.secondary.log());
    assert!(pair.secondary.log().contains("[data_dir_in_use]"), "{}", pair.secondary.log());
    assert!(pair.primary.runs(), "the first one is undisturbed");
}

#[test]
fn a_plugin_whose_program_is_missing_on_the_standby_is_a_warning_on_both_nodes() {
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    let (before, after) = pair.secondary.settings().split_once("command = [\"").expect("a plugin's command");
    let (_program, after) = after.split_once('"').expect("the end of the program");
    let settings = format!("{before}command = [\"/nowhere/bridge\"{after}");
    pair.secondary.settle(&settings);
    pair.primary.start();
    pair.secondary.start();
    let standby = pair.secondary.reaches("the warning", PATIENCE, |status| status.warns("node_unfit"));
    assert_ne!(standby.redundancy(), "ready", "{standby:#?}");
    pair.primary.reaches("the peer's warning", PATIENCE, |status| status.warns("peer_unfit"));
    tells(&pair.secondary, "node_unfit");
    tells(&pair.primary, "peer_unfit");
}
