//! The rules of the pair: mode, key, address, trust and timings, with the warnings that last.

use failover_core::Role;

use super::*;

/// The one problem of a file.
fn problem(file: &str) -> String {
    let found = problems(file);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn warnings(file: &str) -> Vec<String> {
    loaded(file).warnings
}

#[test]
fn a_good_pair_has_no_warnings() {
    assert!(warnings(&primary("")).is_empty());
    assert!(warnings(&secondary("")).is_empty());
}

#[test]
fn a_mode_needs_a_key_and_a_secondary_an_address_and_a_trust() {
    assert_eq!(
        problems("[node]\nname = 'a'\n[redundancy]\nmode = 'secondary'\n"),
        [
            "onduty.toml:4: `redundancy.key_file` is missing: mode `secondary` needs the key of the pair (or \
             `redundancy.key`); `onduty key generate` makes one",
            "onduty.toml:4: `redundancy.secondary.address` is missing: mode `secondary` needs the primary's address, \
             such as \"https://other-node:5001\"",
            "onduty.toml:4: `redundancy.secondary.trust` is missing: mode `secondary` needs to know which certificates \
             to accept: `store`, `system` or `all`",
        ]
    );
    assert_eq!(
        problem("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'\n"),
        "onduty.toml:4: `redundancy.key_file` is missing: mode `primary` needs the key of the pair (or \
         `redundancy.key`); `onduty key generate` makes one"
    );
    assert_eq!(
        problem("[node]\nname = 'a'\n[redundancy]\nkey_file = '/k'\n"),
        "default: `redundancy.mode` is missing although `redundancy.key_file` is set (onduty.toml:4): write \
         `primary`, `secondary` or `deactivated`"
    );
}

#[test]
fn keys_that_are_no_keys() {
    let with_key = |key: &str| format!("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'\nkey = '{key}'\n");
    let place = "onduty.toml:5: `redundancy.key` is (secret): ";
    for empty in ["", "   "] {
        let wanted = format!("{place}an empty key is invalid; `onduty key generate` makes a good one");
        assert_eq!(problem(&with_key(empty)), wanted);
    }
    let wanted = format!("{place}a key needs at least 16 bytes; `onduty key generate` makes a good one");
    assert_eq!(problem(&with_key("short")), wanted);
    let both = problem(&format!("{}key_file = '/k'\n", with_key("odk1_0123456789012345")));
    assert_eq!(both, format!("{place}`redundancy.key_file` is set too (onduty.toml:6): give the key once"));
    assert_eq!(
        problem(&primary("previous_key_file = '/k'")),
        "onduty.toml:6: `redundancy.previous_key_file` is \"/k\": is the same file as `redundancy.key_file`"
    );
    let alone = "[node]\nname = 'a'\n[redundancy]\nmode = 'deactivated'\nprevious_key_file = '/k'\n";
    assert!(problem(alone).ends_with("is of use only beside `redundancy.key_file`"));
}

#[test]
fn what_is_in_the_key_file_is_checked_where_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = primary("").replace("'/k'", &format!("'{}'", key.display()));
    // Not there (yet, or not for this user): whoever needs the key says so.
    assert!(Place::with(&file).load().is_ok());
    for (content, rule) in [
        (&b" \n"[..], "the file is empty: an empty key is invalid"),
        (b"short\n", "the key in the file is shorter than 16 bytes"),
    ] {
        std::fs::write(&key, content).unwrap();
        assert!(problem(&file).ends_with(rule), "{}", problem(&file));
    }
    std::fs::write(&key, b"\xff\xff").unwrap();
    assert!(Place::with(&file).load().is_ok());
}

#[test]
fn addresses() {
    let refused = |address: &str, rule: &str| {
        let found = problem(&secondary("").replace("https://a", address));
        assert!(found.starts_with("onduty.toml:7: `redundancy.secondary.address` is "), "{found}");
        assert!(found.ends_with(rule), "{found}");
    };
    refused("http://a:5001", "\"http://a:5001\": http:// is refused: https is required");
    refused("HTTP://a", "http:// is refused: https is required");
    refused("ftp://a", "must be https://HOST or https://HOST:PORT: https is required");
    refused("a:5001", "must be https://HOST or https://HOST:PORT: https is required");
    refused("just-a-name", "relative URL without a base");
    refused("https://", "empty host");
    refused("https://a:0", "port 0 cannot be dialled");
    refused("https://a:99999", "invalid port number");
    refused("https://a/path", "nothing may follow the port");
    refused("https://a?x=1", "nothing may follow the port");
    refused(
        "https://me:pass@a",
        "(not shown, it has a user name): must be https://HOST or https://HOST:PORT: a user \
                                  name or password does not belong here",
    );
    let listed = |list: &str, rule: &str| {
        let found = problem(&secondary("").replace("'https://a'", list));
        assert!(found.starts_with("onduty.toml:7: `redundancy.secondary.address` is ["), "{found}");
        assert!(found.ends_with(rule), "{found}");
    };
    let shape = "must be an https URL such as \"https://other-node:5001\", or a list of up to 4, one per network path";
    listed("[]", shape);
    listed("['https://a', 7]", shape);
    listed("['http://a']", "http:// is refused: https is required");
    listed("['https://a', 'http://b']", ": address 2: http:// is refused: https is required");
    listed(
        "['https://a', 'https://b', 'https://A:5001/']",
        ": addresses 1 and 3 are the same (https://a:5001): each network path needs its own",
    );
    listed(
        "['https://a', 'https://b', 'https://c', 'https://d', 'https://e']",
        "at most 4 addresses are possible, one per network path",
    );

    let accepted = |address: &str| {
        let loaded = loaded(&secondary("").replace("'https://a'", address));
        let address = loaded.settings.redundancy.secondary.address.unwrap().all()[0].clone();
        (address.host(), address.port(), address.to_string())
    };
    assert_eq!(accepted("'https://a'"), ("a".into(), 5001, "https://a:5001".into()));
    assert_eq!(accepted("'https://a/'").1, 5001);
    assert_eq!(accepted("['https://a:7']").1, 7);
    for written in
        ["https://a:443", "https://a:443/", "https://a:0443", "HTTPS://a:443/.", "https://[::443]:443"]
    {
        assert_eq!(accepted(&format!("'{written}'")).1, 443, "{written}");
    }
    assert_eq!(accepted("'https://[::443]'").1, 5001);
    assert_eq!(accepted("'https://a:80'").1, 80);
    assert_eq!(accepted("'https://[fe80::1]:7'"), ("fe80::1".into(), 7, "https://[fe80::1]:7".into()));
    assert_eq!(accepted("'https://10.0.0.1'").0, "10.0.0.1");
}

#[test]
fn addresses_of_several_network_paths() {
    let in_file =
        loaded(&secondary("").replace("'https://a'", "['https://a', 'https://b:7', 'https://10.0.0.1']"));
    let wanted = "https://a:5001 and https://b:7 and https://10.0.0.1:5001";
    assert_eq!(in_file.settings.redundancy.secondary.address.unwrap().to_string(), wanted);
    let variable = |text: &str| {
        Place::with(secondary("").replace("address = 'https://a'\n", ""))
            .variable("ONDUTY_REDUNDANCY__SECONDARY__ADDRESS", text)
            .load()
            .map(|loaded| loaded.settings.redundancy.secondary.address.unwrap().to_string())
    };
    assert_eq!(variable(r#"["https://c:1"]"#).unwrap(), "https://c:1");
    assert_eq!(variable(r#"["https://c:1", "https://d"]"#).unwrap(), "https://c:1 and https://d:5001");
    assert_eq!(variable("https://c:1").unwrap(), "https://c:1");
    assert!(variable("[https://c:1").is_err());
}

#[test]
fn timings_that_cannot_work() {
    let key = "onduty.toml:9: `redundancy.secondary.interval` is ";
    assert_eq!(
        problem(&secondary("interval = '3s'")),
        format!(
            "{key}\"3s\": must be below `redundancy.primary.timeout`: the interval is 3s, \
                 `redundancy.primary.timeout` is 3s"
        )
    );
    assert_eq!(problem(&secondary("interval = '5ms'")), format!("{key}\"5ms\": must be at least 10ms"));
    assert_eq!(
        problem(&primary("[redundancy.primary]\ntimeout = '2s'")),
        "onduty.toml:7: `redundancy.primary.timeout` is \"2s\": must be at least three times \
         `redundancy.secondary.interval` (1s), that is 3s, or one lost heartbeat can make both nodes active; \
         `redundancy.allow_overlap = true` allows it"
    );
    assert_eq!(
        warnings(&primary("allow_overlap = true\n[redundancy.primary]\ntimeout = '2.5s'")),
        [
            "`redundancy.allow_overlap` is on and `redundancy.primary.timeout` (2s 500ms) is below three intervals of 1s: one or \
          two lost heartbeats can make both nodes active."
        ]
    );
    assert_eq!(
        problem(&primary(
            "[redundancy.primary]\ntimeout = '150ms'\n[redundancy.secondary]\ninterval = '50ms'"
        )),
        "onduty.toml:7: `redundancy.primary.timeout` is \"150ms\": leaves the guard too little time to end the plugins \
         of a frozen node before the other takes over: at `redundancy.secondary.interval` = 50ms it must be at least \
         317ms"
    );
    assert!(
        problem(&secondary("takeover_after = '2s'"))
            .contains("`redundancy.secondary.takeover_after` is \"2s\": must be at least three times")
    );
}

#[test]
fn waits_and_confirmations() {
    assert_eq!(
        problem(&secondary("startup_wait = '2s'")),
        "onduty.toml:9: `redundancy.secondary.startup_wait` is \"2s\": must be at least the silence after which the \
         secondary takes over (3s)"
    );
    assert_eq!(
        problem(&primary("[redundancy.primary]\nstartup_wait = '1s'")),
        "onduty.toml:7: `redundancy.primary.startup_wait` is \"1s\": must be at least 2s, the time of two dials"
    );
    let confirm = |value: &str| problem(&secondary(&format!("takeover_confirm = {value}")));
    let key = "onduty.toml:9: `redundancy.secondary.takeover_confirm` is ";
    assert_eq!(
        confirm("'100ms'"),
        format!(
            "{key}\"100ms\": must be at least 110ms, the time the guard of the other node needs to end its plugins"
        )
    );
    assert_eq!(
        confirm("3"),
        format!("{key}\"3s\": must be below the silence after which the secondary takes over anyway (3s)")
    );
    assert_eq!(
        confirm("'on'"),
        format!(
            "{key}\"on\": must be a duration such as 3 (seconds), \"3s\", \"250ms\" or \"1m 30s\", or \"off\""
        )
    );
    assert_eq!(
        warnings(&secondary("takeover_confirm = '500ms'")),
        [
            "`redundancy.secondary.takeover_confirm` is 500ms: a firewall that rejects connections looks like a crash and \
          makes both nodes active."
        ]
    );
    assert_eq!(
        loaded(&secondary("takeover_confirm = 'off'")).settings.redundancy.secondary.takeover_confirm.0,
        None
    );
}

#[test]
fn what_is_not_recommended_is_a_lasting_warning_and_reaches_the_machine() {
    let all = secondary("").replace("'store'", "'all'");
    let warned = loaded(&all);
    assert_eq!(
        warned.warnings,
        [
            "`redundancy.secondary.trust` is `all`: every certificate is accepted, only the key protects the pair."
        ]
    );
    let identity = failover_core::Identity {
        node: failover_core::NodeId([1; 16]),
        instance: failover_core::InstanceId([2; 16]),
        name: failover_core::NodeName::try_from("b".to_owned()).unwrap(),
    };
    let core = warned.core(identity, None);
    assert_eq!(core.unsafe_settings, warned.warnings);
    assert_eq!((core.role, core.startup_wait, core.interval), (Role::Secondary, ms(30_000), ms(1000)));

    let unbound = secondary("").replace("mode =", "channel_binding = 'off'\nmode =");
    assert_eq!(
        warnings(&unbound),
        [
            "`redundancy.channel_binding` is off: whoever ends TLS between the nodes could act for both of them."
        ]
    );
    assert_eq!(
        problem(&unbound.replace("'store'", "'all'")),
        "onduty.toml:9: `redundancy.secondary.trust` is \"all\": with `redundancy.channel_binding` off anybody could \
         sit between the nodes: use `store` or `system`"
    );
    assert_eq!(
        warnings(&secondary("on_unproved = 'take_over'")),
        [
            "`redundancy.secondary.on_unproved` is `take_over`: a wrong key or certificate on a running primary makes both \
          nodes active."
        ]
    );
}

#[test]
fn a_typed_key_is_not_for_trusting_everybody() {
    let rule = "a typed key could be guessed by a false primary: use `store` or `system`, or a key of `onduty key generate`";
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = secondary("").replace("'store'", "'all'").replace("'/k'", &format!("'{}'", key.display()));
    std::fs::write(&key, "correct horse battery staple\n").unwrap();
    assert!(problem(&file).ends_with(rule));
    let inline =
        secondary("").replace("'store'", "'all'").replace("key_file = '/k'", "key = 'correct horse battery'");
    assert!(problem(&inline).ends_with(rule));
    std::fs::write(&key, "odk1_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\n").unwrap();
    assert_eq!(warnings(&file).len(), 1);
    // The key before is proved to the same false primary.
    let before = folder.path().join("before");
    std::fs::write(&before, "correct horse battery staple\n").unwrap();
    let rotating = file.replace("mode =", &format!("previous_key_file = '{}'\nmode =", before.display()));
    assert!(problem(&rotating).ends_with(rule));
}

#[test]
fn a_key_in_a_file_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with(primary("").replace("key_file = '/k'", "key = 'odk1_0123456789abcdef'"));
    let allow = |mode| std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o640);
    assert!(place.load().unwrap().warnings.is_empty());
    allow(0o644);
    let warned = place.load().unwrap().warnings;
    let wanted = format!(
        "`redundancy.key` stands in {}, which every user of this machine can read.",
        place.path().display()
    );
    assert_eq!(warned, [wanted]);
}

#[test]
fn profiles_set_timings_together_and_written_keys_win() {
    let timings = |more: &str| {
        let loaded = loaded(&primary(more));
        let redundancy = &loaded.settings.redundancy;
        (redundancy.secondary.interval, redundancy.primary.timeout, redundancy.failback.stable_for)
    };
    assert_eq!(timings(""), (ms(1000), ms(3000), ms(3000)));
    assert_eq!(timings("profile = 'relaxed'"), (ms(5000), ms(15_000), ms(3000)));
    assert_eq!(timings("profile = 'fast'"), (ms(100), ms(500), ms(500)));
    assert_eq!(timings("profile = 'fast'\n[redundancy.primary]\ntimeout = 1"), (ms(100), ms(1000), ms(500)));
    let fast = loaded(&primary("profile = 'fast'"));
    assert_eq!(fast.sources["redundancy.primary.timeout"].to_string(), "profile `fast`");
    // A startup wait follows the timings too.
    assert_eq!(fast.settings.startup_wait(Role::Primary), ms(500));
    assert_eq!(fast.settings.startup_wait(Role::Secondary), ms(30_000));
}

#[test]
fn a_rule_over_a_value_that_could_not_be_read_is_not_said() {
    // The timeout is unreadable; that the interval is above its default is nobody's mistake.
    let found = problems(secondary("interval = '30s'\n[redundancy.primary]\ntimeout = 'x'"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`redundancy.primary.timeout` is \"x\""));
}

#[test]
fn a_list_in_the_place_of_a_table_is_named_and_never_shown() {
    let key = "odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let said =
        problems(format!("[node]\nname = 'a'\n[[redundancy]]\nmode = 'primary'\nkey = '{key}'\n")).join("\n");
    assert!(said.contains("`redundancy` is a list: must be a table") && !said.contains(key), "{said}");
    let said = problems("redundancy = 'odk1_secret'\n[node]\nname = 'a'\n").join("\n");
    assert!(
        said.contains("`redundancy` is text: must be a table") && !said.contains("odk1_secret"),
        "{said}"
    );
}

#[test]
fn a_stray_key_hides_no_other_problem() {
    let said = problems("key = 1\n[node]\nname = 'a'\n[redundancy]\nmode = 'primary'\n").join("\n");
    assert!(said.contains("`key`"), "{said}");
    assert!(said.contains("`redundancy.key_file` is missing"), "{said}");
}

/// It dials to see whether the other node is a primary, too, and proves the key to whoever answers.
#[test]
fn a_primary_that_has_an_address_is_held_to_what_a_secondary_is() {
    let address = "[redundancy.secondary]\naddress = 'https://other:5001'\ntrust = 'all'\n";
    let _sound = loaded(&format!("{}{address}", primary("")));
    let unbound = primary("").replace("mode =", "channel_binding = 'off'\nmode =");
    assert!(problem(&format!("{unbound}{address}")).contains("anybody could sit between the nodes"));
    let _sound = loaded(&unbound);
}
