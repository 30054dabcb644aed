//! Layers, types, unknown keys and files that are no settings.

use proptest::prelude::*;

use super::*;

#[test]
fn later_layers_win_and_every_source_is_known() {
    let place = Place::with("[node]\nname = 'file'\nlisten = '127.0.0.1:1'\n\n[log]\nlevel = 'warn'\n")
        .variable("ONDUTY_NODE__NAME", "variable")
        .variable("ONDUTY_LOG__LEVEL", "debug")
        .flag("--log-level", "log.level", "trace");
    let loaded = place.load().unwrap();
    assert_eq!(loaded.settings.node.name, "variable");
    assert_eq!(loaded.settings.node.listen.port(), 1);
    assert_eq!(loaded.settings.log.level, "trace");
    let shown: Vec<String> = loaded
        .effective()
        .iter()
        .filter(|e| ["node.name", "node.listen", "node.data_dir", "log.level"].contains(&e.key.as_str()))
        .map(|e| format!("{} = {} # {}", e.key, e.value.as_deref().unwrap_or("-"), e.source))
        .collect();
    let path = place.path().display().to_string();
    assert_eq!(
        shown,
        [
            "node.name = \"variable\" # variable ONDUTY_NODE__NAME".to_owned(),
            format!("node.listen = \"127.0.0.1:1\" # {path}:3"),
            "node.data_dir = \"/var/lib/onduty\" # default".to_owned(),
            "log.level = \"trace\" # flag --log-level".to_owned(),
        ]
    );
}

#[test]
fn variables_without_a_double_underscore_are_none_of_our_business() {
    let place = Place::with("[node]\nname = 'a'")
        .variable("ONDUTY_EPOCH", "7")
        .variable("ONDUTY_SERVICE_HOST", "10.0.0.1")
        .variable("ONDUTY_PORT", "tcp://10.0.0.1:5001")
        .variable("OTHER__NODE__NAME", "x");
    assert!(place.load().is_ok());
}

#[test]
fn types_are_found_by_the_target_never_by_the_text() {
    let loaded = Place::with("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'")
        .variable("ONDUTY_REDUNDANCY__KEY", "01234567890123456789")
        .variable("ONDUTY_REDUNDANCY__PAIR", "7")
        .variable("ONDUTY_REDUNDANCY__HANDOVER_ON_STOP", "false")
        .variable("ONDUTY_REDUNDANCY__FLAP__LIMIT", "9")
        .variable("ONDUTY_REDUNDANCY__PRIMARY__TIMEOUT", "4")
        .variable("ONDUTY_PLUGINS__BRIDGE__COMMAND", r#"["/opt/x", "--port", "1"]"#)
        .variable("ONDUTY_PLUGINS__BRIDGE__READY", r#"{"tcp": "127.0.0.1:1", "within": "5s"}"#)
        .variable("ONDUTY_PLUGINS__BRIDGE__READY__WITHIN", "6s")
        .variable("ONDUTY_PLUGINS__BRIDGE__ENV__Http_Proxy__X", "1")
        .load();
    // `ready.within` is given twice: as part of the table and by itself.
    assert_eq!(
        loaded.unwrap_err().to_string(),
        "the settings cannot be used: variable ONDUTY_PLUGINS__BRIDGE__READY__WITHIN: `plugins.bridge.ready.within` is \
         given both as a single value and as a table: give it once [bad_value]"
    );
    let loaded = Place::with("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'")
        .variable("ONDUTY_REDUNDANCY__KEY", "01234567890123456789")
        .variable("ONDUTY_REDUNDANCY__PAIR", "7")
        .variable("ONDUTY_REDUNDANCY__HANDOVER_ON_STOP", "false")
        .variable("ONDUTY_REDUNDANCY__FLAP__LIMIT", "9")
        .variable("ONDUTY_REDUNDANCY__PRIMARY__TIMEOUT", "4")
        .variable("ONDUTY_PLUGINS__BRIDGE__COMMAND", r#"["/opt/x", "--port", "1"]"#)
        .variable("ONDUTY_PLUGINS__BRIDGE__READY", r#"{"tcp": "127.0.0.1:1"}"#)
        .variable("ONDUTY_PLUGINS__BRIDGE__READY__WITHIN", "6s")
        .variable("ONDUTY_PLUGINS__BRIDGE__ENV__Http_Proxy__X", "1")
        .load()
        .unwrap();
    let redundancy = &loaded.settings.redundancy;
    assert_eq!(redundancy.key.as_ref().unwrap().expose(), "01234567890123456789");
    assert_eq!(
        (redundancy.pair.as_str(), redundancy.handover_on_stop, redundancy.flap.limit),
        ("7", false, 9)
    );
    assert_eq!(redundancy.primary.timeout, ms(4000));
    let bridge = &loaded.settings.plugins["bridge"];
    assert_eq!(bridge.command, ["/opt/x", "--port", "1"]);
    assert_eq!(
        (bridge.ready.check(), bridge.ready.within),
        (ReadyCheck::Tcp("127.0.0.1:1".into()), ms(6000))
    );
    assert_eq!(bridge.env.0["Http_Proxy__X"], "1");
}

#[test]
fn every_problem_is_said_with_key_value_rule_and_place() {
    let found = Place::with(
        "[node]\nlisten = 'everywhere'\n[redundancy]\nmode = 'primry'\nintervall = 3\n[redundancy.primary]\n\
         timeout = 'soon'\n[redundancy.flap]\nlimit = 0\n[log]\nformat = 1\n[plugins]\nBridge = {}\n[nodes]\n",
    )
    .variable("ONDUTY_REDUNDANCY__ALLOW_OVERLAP", "yes")
    .variable("ONDUTY_NODE__COLOUR", "red")
    .flag("--data-dir", "node.data_dir", "data")
    .problems();
    assert_eq!(
        found,
        [
            "variable ONDUTY_NODE__COLOUR: `node.colour` is not a setting",
            "onduty.toml:14: `nodes` is not a setting (did you mean `node`?)",
            "onduty.toml:13: `plugins.Bridge` is not a plugin's name: a-z, 0-9 and single _ between them",
            "onduty.toml:5: `redundancy.intervall` is not a setting",
            "onduty.toml:2: `node.listen` is \"everywhere\": must be an IP address and a port such as \"0.0.0.0:5001\" \
             or \"[::]:5001\"",
            "flag --data-dir: `node.data_dir` is \"data\": must be an absolute path, beginning with /",
            "onduty.toml:4: `redundancy.mode` is \"primry\": must be one of `primary`, `secondary`, `deactivated` (did \
             you mean `primary`?)",
            "variable ONDUTY_REDUNDANCY__ALLOW_OVERLAP: `redundancy.allow_overlap` is \"yes\": must be true or false, \
             without quotes",
            "onduty.toml:7: `redundancy.primary.timeout` is \"soon\": must be a duration such as 3 (seconds), \"3s\", \
             \"250ms\" or \"1m 30s\"",
            "onduty.toml:9: `redundancy.flap.limit` is 0: must be a whole number from 1 to 1000",
            "onduty.toml:11: `log.format` is 1: must be text: put it in quotes",
        ]
    );
}

#[test]
fn an_unknown_key_is_said_with_its_neighbour_and_never_with_its_value() {
    let found = problems("[redundancy.secondary]\nintervall = '1s'\n[redundancy]\nkeyy = 'odk1_secret'\n");
    assert_eq!(
        found,
        [
            "onduty.toml:4: `redundancy.keyy` is not a setting (did you mean `key`?)",
            "onduty.toml:2: `redundancy.secondary.intervall` is not a setting (did you mean `interval`?)",
        ]
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let file = "[redundancy]\nmode = 'primary'\nkey = 'odk1_hidden-hidden-hidden'\n[node]\nname = 'a'\n\
                [plugins.p]\ncommand = ['/p']\nenv = { PASSWORD = 'hidden' }\n";
    let fine = loaded(file);
    assert!(!format!("{:?} {:?}", fine, fine.effective()).contains("hidden"));
    let shown = fine.effective();
    let of = |key: &str| shown.iter().find(|e| e.key == key).unwrap().value.clone().unwrap();
    assert_eq!(of("redundancy.key"), "(secret)");
    assert_eq!(of("plugins.p.env"), "{ PASSWORD = (secret) }");
    for wrong in [
        "[redundancy]\nkey = ['hidden']",
        "[redundancy]\nkey = 'hidden",
        "[redundancy]\nmode = 'primary'\nkey = 'hidden'",
        "[plugins.p]\ncommand = ['/p']\nenv = { PASSWORD = ['hidden'] }",
        "[redundancy.secondary]\naddress = 'https://user:hidden@host'",
        "[redundancy.secondary]\naddress = ['https://user:hidden@host', 'x']",
        &format!("[redundancy.secondary]\naddress = 'https://user:hidden{}@host'", "x".repeat(200)),
    ] {
        let place = Place::with(wrong).variable("ONDUTY_PLUGINS__Q__ENV", "{hidden");
        let problems = place.load().unwrap_err();
        assert!(!format!("{problems} {problems:?}").contains("hidden"), "{problems}");
    }
}

/// As `config show` prints them they can be put into a file, and nothing of them moves a terminal.
#[test]
fn characters_that_do_nothing_good() {
    let file = "[plugins.p]\ncommand = [\"/p\", \"\\u007f\\u001b\\u009b\"]\nuser = \"a\\u007f\"";
    let value = |loaded: &Loaded, key: &str| {
        loaded.effective().into_iter().find(|e| e.key == key).and_then(|e| e.value).unwrap()
    };
    let fine = loaded(file);
    let (command, user) = (value(&fine, "plugins.p.command"), value(&fine, "plugins.p.user"));
    assert_eq!((command.as_str(), user.as_str()), (r#"["/p","\u007f\u001b\u009b"]"#, r#""a\u007f""#));
    let again = loaded(&format!("[plugins.p]\ncommand = {command}\nuser = {user}\n"));
    assert_eq!(again.settings.plugins["p"].command, fine.settings.plugins["p"].command);

    let wrong =
        "\"a\\u001bb\\nc\" = 1\n[plugins.p]\ncommand = ['/p']\nafter = [\"\\n\"]\ndir = \"/a\\u0000\"";
    assert_eq!(
        problems(wrong),
        [
            "onduty.toml:1: `a?b?c` is not a setting",
            "onduty.toml:5: `plugins.p.dir` is \"/a\\u0000\": must not contain a NUL byte",
            "onduty.toml:4: `plugins.p.after` is [\"\\n\"]: there is no plugin `?`; there are: p",
        ]
    );
}

#[test]
fn a_key_without_letters_and_a_misspelt_table_of_a_variable_are_named() {
    let place = Place::with("\"\" = 1\n").variable("ONDUTY___NAME__X", "1").variable("ONDUTY_NOD__NAME", "a");
    assert_eq!(
        place.problems(),
        [
            "variable ONDUTY___NAME__X: `\"\"` is not a setting",
            "variable ONDUTY_NOD__NAME: `nod` is not a setting (did you mean `node`?)"
        ]
    );
    assert_eq!(problems("\"\" = 1\n"), ["onduty.toml:1: `\"\"` is not a setting"]);
}

/// Not a thread's whole stack, and not an hour.
#[test]
fn a_file_of_plugins_and_a_file_that_is_one_key_are_refused_at_once() {
    let plugin = |number: usize| format!("[plugins.p{number}]\nafter = [\"p{}\"]\n", number + 1);
    let many = problems((0..20_000).map(plugin).collect::<String>());
    assert_eq!(many, ["default: `plugins` has 20000 plugins; a node can run 64"]);
    let key = "k".repeat(1_000_000);
    assert_eq!(problems(format!("{key} = 1")), [format!("onduty.toml:1: `{key}` is not a setting")]);
}

#[test]
fn files_that_are_no_settings() {
    assert_eq!(problems(b"[node]\nname = '\xff\xfe'\n"), ["onduty.toml:2: is not UTF-8: byte 0xff"]);
    let cut = problems("[redundancy]\nmode = \"prim");
    assert_eq!(cut.len(), 1, "{cut:?}");
    assert!(cut[0].starts_with("onduty.toml:2: is not TOML: "), "{cut:?}");
    let deep = [format!("[{}a]\n", "a.".repeat(200)), format!("a = {}", "[".repeat(200))];
    for deep in deep {
        let found = problems(format!("[node]\nname = 'a'\n{deep}\n[log]\nlevel = 'info'\n"));
        assert!(found[0].starts_with("onduty.toml:3: is not TOML: "), "{found:?}");
    }
    assert_eq!(problems("[node]\nname = 'a'\nname = 'b'\n"), ["onduty.toml:3: is not TOML: duplicate key"]);
    assert_eq!(
        problems(vec![b'#'; (1 << 20) + 1]),
        ["onduty.toml: is larger than 1 MiB: not a settings file"]
    );
    assert_eq!(problems("node = 3"), ["onduty.toml:1: `node` is 3: must be a table"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");
    let error = load(&LoadOptions { file: Some(path.clone()), ..LoadOptions::default() }).unwrap_err();
    let expected = format!(
        "the settings cannot be used: {}: cannot be read: No such file or directory (os error 2) [settings_unreadable]",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_empty_file_is_a_node_without_redundancy() {
    for empty in ["", "\n", "# nothing\n", "\u{feff}[node]\nname = 'a'\n"] {
        let place = Place::with(empty).variable("ONDUTY_NODE__NAME", "a");
        let loaded = place.load().unwrap();
        assert_eq!(loaded.settings.redundancy.mode, failover_core::Mode::Deactivated);
        assert!(loaded.settings.plugins.is_empty() && loaded.warnings.is_empty());
    }
}

#[test]
fn the_host_name_is_the_default_and_a_bad_one_is_explained() {
    let loaded = load(&LoadOptions::default());
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    match failover_core::NodeName::try_from(host.clone()) {
        Ok(_) => assert_eq!(loaded.unwrap().settings.node.name, host),
        Err(_) => assert!(loaded.unwrap_err().to_string().contains("this is the host name: set `node.name`")),
    }
    assert_eq!(
        problems("[node]\nname = 'line 1'\n"),
        ["onduty.toml:2: `node.name` is \"line 1\": must be 1 to 64 characters out of A-Z a-z 0-9 . _ -"]
    );
}

#[test]
fn the_same_key_twice_in_one_layer_is_refused() {
    let twice = Place::with("[node]\nname = 'a'").flag("--listen", "node.listen", "1.1.1.1:1").flag(
        "--set",
        "node.listen",
        "1.1.1.1:2",
    );
    assert_eq!(
        twice.problems(),
        ["flag --set: `node.listen` is \"1.1.1.1:2\" here and something else in flag --listen: give it once"]
    );
    let both =
        Place::with("").variable("ONDUTY_NODE__NAME__X", "1").variable("ONDUTY_NODE__NAME", "a").problems();
    let wanted = "variable ONDUTY_NODE__NAME__X: `node.name.x` is given both as a single value and as a table: give it once";
    assert_eq!(both, [wanted]);
    let table = Place::with("[node]\nname = 'a'").variable("ONDUTY_PLUGINS__P", "x").problems();
    let wanted = "variable ONDUTY_PLUGINS__P: `plugins.p` is a table: as text it must be JSON, {\"key\": …}";
    assert_eq!(table, [wanted]);
}

#[test]
fn a_variable_that_is_not_utf8_is_said() {
    use std::os::unix::ffi::OsStringExt as _;
    let environment = vec![("ONDUTY_NODE__NAME".into(), OsString::from_vec(vec![0xff]))];
    let error = load(&LoadOptions { environment, ..LoadOptions::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the settings cannot be used: variable ONDUTY_NODE__NAME: `node.name` is not UTF-8 [bad_value]"
    );
}

#[test]
fn later_versions_are_announced() {
    let found = problems(
        "[arbitration]\nmode = 'etcd'\n[journal]\nretention = '1y'\n[plugins.p]\ncommand = ['/p']\nkind = 'grpc'\n\
         standby = 'warm'\non_unconfirmed = 'hold'\nalive = { http = 'http://x' }\n",
    );
    assert_eq!(
        found,
        [
            "onduty.toml:3: `journal` is not in this version",
            "onduty.toml:10: `plugins.p.alive` is not in this version",
            "onduty.toml:2: `arbitration.mode` is \"etcd\": not in this version; it has `none`",
            "onduty.toml:7: `plugins.p.kind` is \"grpc\": not in this version; it has `process`",
            "onduty.toml:8: `plugins.p.standby` is \"warm\": not in this version; it has `cold`",
            "onduty.toml:9: `plugins.p.on_unconfirmed` is \"hold\": not in this version; it has `start`",
        ]
    );
}

fn timeout_of(file_value: Option<&str>, variable: Option<&str>) -> Result<Duration, Problems> {
    let line =
        file_value.map(|value| format!("[redundancy.primary]\ntimeout = {value}\n")).unwrap_or_default();
    let mut place = Place::with(format!("[node]\nname = 'a'\n{line}"));
    if let Some(value) = variable {
        place = place.variable("ONDUTY_REDUNDANCY__PRIMARY__TIMEOUT", value);
    }
    place.load().map(|loaded| loaded.settings.redundancy.primary.timeout)
}

#[test]
fn durations_are_the_same_wherever_they_are_written() {
    for (value, wanted) in
        [("4", 4000), ("4.0", 4000), ("4s", 4000), ("4.25", 4250), ("3250ms", 3250), ("1m 30s", 90_000)]
    {
        assert_eq!(timeout_of(Some(&format!("'{value}'")), None).unwrap(), ms(wanted), "{value}");
        assert_eq!(timeout_of(None, Some(value)).unwrap(), ms(wanted), "{value}");
        if value.parse::<f64>().is_ok() {
            assert_eq!(timeout_of(Some(value), None).unwrap(), ms(wanted), "{value}");
        }
    }
    for wrong in [
        "-3",
        "-3.0",
        "nan",
        "inf",
        "'3 apples'",
        "''",
        "'-3s'",
        "true",
        "[3]",
        "'1e3'",
        "9223372036854775808",
    ] {
        let error = timeout_of(Some(wrong), None).unwrap_err().to_string();
        assert!(
            error.contains("onduty.toml:4: `redundancy.primary.timeout` ") || error.contains("is not TOML"),
            "{error}"
        );
    }
    let limits = |value| timeout_of(None, Some(value)).unwrap_err().0[0].rule.clone();
    assert_eq!(limits("1ms"), "must be at least 20ms");
    assert_eq!(limits("2h"), "must be at most 1h");
    assert_eq!(
        limits("99999999999999999999999999"),
        "must be a duration such as 3 (seconds), \"3s\", \"250ms\" or \"1m 30s\""
    );
}

proptest! {
    #[test]
    fn durations_survive_being_shown_and_read(nanos in 0_u64..=u64::MAX) {
        let span = Duration::from_nanos(nanos);
        prop_assert_eq!(value::parse_duration(&show_duration(span)), Some(span));
    }

    #[test]
    fn bare_numbers_are_seconds(millis in 0_u64..100_000_000) {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        prop_assert_eq!(value::parse_duration(&text), Some(ms(millis)));
    }

    #[test]
    fn no_file_makes_the_loader_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Place::with(file).load();
    }

    #[test]
    fn no_settings_make_the_loader_panic(key in "[a-z.]{0,30}", value in "\\PC{0,30}") {
        let _ = Place::with(format!("{key} = {value}")).variable("ONDUTY_A__B", &value).flag("--x", &key, &value).load();
    }
}
