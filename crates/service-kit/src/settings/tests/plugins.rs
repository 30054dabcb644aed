//! The rules of the plugins.

use super::*;

fn refused(plugins: &str) -> Vec<String> {
    // A blank first line instead of a header, so that lines count from the plugins.
    problems(format!("{plugins}\n[node]\nname = 'a'\n"))
}

#[test]
fn a_plugin_has_sensible_defaults() {
    let loaded = loaded("[node]\nname = 'a'\n[plugins.p]\ncommand = ['/p']\n");
    let plugin = &loaded.settings.plugins["p"];
    assert_eq!(plugin.ready.check(), ReadyCheck::StaysUp(ms(200)));
    assert_eq!((plugin.stop.signal.to_string().as_str(), plugin.stop.signal.number()), ("TERM", 15));
    assert_eq!((plugin.stop.grace, plugin.ready.within), (ms(10_000), ms(30_000)));
    assert_eq!((plugin.restart.policy, plugin.restart.limit), (RestartPolicy::OnFailure, 5));
    assert!(plugin.critical && !plugin.fenced);
    assert_eq!(plugin.on_new_epoch(), OnNewEpoch::Ignore);
    assert_eq!(loaded.sources["plugins.p"].to_string().rsplit(':').next(), Some("3"));
}

#[test]
fn a_fenced_plugin_is_restarted_on_a_new_epoch_unless_it_says_otherwise() {
    let of = |more: &str| {
        loaded(&format!("[node]\nname = 'a'\n[plugins.p]\ncommand = ['/p']\n{more}")).settings.plugins["p"]
            .on_new_epoch()
    };
    assert_eq!(of("fenced = true"), OnNewEpoch::Restart);
    assert_eq!(of("fenced = true\non_new_epoch = 'ignore'"), OnNewEpoch::Ignore);
}

#[test]
fn commands_users_and_checks() {
    assert_eq!(
        refused("[plugins.p]\ncommand = []\nuser = ''\n[plugins.q]\n"),
        [
            "onduty.toml:2: `plugins.p.command` is []: must name a program, such as [\"/opt/bridge/bridge\", \"--verbose\"]",
            "onduty.toml:3: `plugins.p.user` is \"\": must be the name of a user of this machine",
            "default: `plugins.q.command` is []: must name a program, such as [\"/opt/bridge/bridge\", \"--verbose\"]",
        ]
    );
    assert_eq!(
        refused("[plugins.p]\ncommand = '/opt/p --x'\n"),
        [
            "onduty.toml:2: `plugins.p.command` is \"/opt/p --x\": must be a list of texts such as [\"a\", \"b\"]"
        ]
    );
    assert_eq!(
        refused("[plugins.p]\ncommand = ['/p']\nready = { tcp = 'x', http = 'https://x', within = 1 }\n"),
        [
            "onduty.toml:3: `plugins.p.ready.http` is \"https://x\": give one check only, not `tcp`, `http`",
            "onduty.toml:3: `plugins.p.ready.tcp` is \"x\": must be HOST:PORT such as \"127.0.0.1:4840\"",
            "onduty.toml:3: `plugins.p.ready.http` is \"https://x\": must be an http:// URL such as \
             \"http://127.0.0.1:8080/health\"",
        ]
    );
    assert_eq!(
        refused("[plugins.p]\ncommand = ['/p']\nready = { stays_up = '2s', within = '1s' }\n"),
        ["onduty.toml:3: `plugins.p.ready.stays_up` is \"2s\": must not be longer than `ready.within`"]
    );
    assert_eq!(
        refused("[plugins.p]\ncommand = ['/p']\nready.tcp = '::1:80'\npreflight.command = ['']\n"),
        [
            "onduty.toml:4: `plugins.p.preflight.command` is [\"\"]: must name a program",
            "onduty.toml:3: `plugins.p.ready.tcp` is \"::1:80\": must be HOST:PORT such as \"127.0.0.1:4840\"",
        ]
    );
}

#[test]
fn signals() {
    let rule = "must be one of TERM, INT, QUIT, HUP, USR1, USR2, WINCH, ABRT, KILL";
    assert_eq!(
        refused("[plugins.p]\ncommand = ['/p']\nstop.signal = 'STOP'\nreload_signal = 'hup'\n"),
        [format!("onduty.toml:3: `plugins.p.stop.signal` is \"STOP\": {rule}")]
    );
    let both = loaded(
        "[node]\nname = 'a'\n[plugins.p]\ncommand = ['/p']\nstop.signal = 'SIGINT'\nreload_signal = 'hup'\n",
    );
    let plugin = &both.settings.plugins["p"];
    assert_eq!((plugin.stop.signal.number(), plugin.reload_signal.unwrap().number()), (2, 1));
}

#[test]
fn the_order_must_exist_and_end() {
    let plugin = |name: &str, after: &str| format!("[plugins.{name}]\ncommand = ['/p']\nafter = [{after}]\n");
    assert_eq!(
        refused(&format!("{}{}", plugin("a", "'brokr'"), plugin("b", "'b'"))),
        [
            "onduty.toml:3: `plugins.a.after` is [\"brokr\"]: there is no plugin `brokr`; there are: a, b",
            "onduty.toml:6: `plugins.b.after` is [\"b\"]: a plugin cannot come after itself",
        ]
    );
    let circle = [plugin("a", ""), plugin("b", "'a', 'd'"), plugin("c", "'b'"), plugin("d", "'c'")].concat();
    assert_eq!(
        refused(&circle),
        [
            "onduty.toml:6: `plugins.b.after` is [\"a\",\"d\"]: the order goes in a circle: b after d after c after b"
        ]
    );
    let diamond = [plugin("a", ""), plugin("b", "'a'"), plugin("c", "'a'"), plugin("d", "'b', 'c'")].concat();
    assert!(Place::with(format!("[node]\nname = 'a'\n{diamond}")).load().is_ok());
}

#[test]
fn the_same_claim_twice_is_refused() {
    assert_eq!(
        refused(
            "[plugins.a]\ncommand = ['/p']\nclaims = ['sap:X', '']\n[plugins.b]\ncommand = ['/p']\nclaims = ['sap:X']\n"
        ),
        [
            "onduty.toml:3: `plugins.a.claims` is [\"sap:X\",\"\"]: a claim must have a name, such as \"sap:RFC_USER1\"",
            "onduty.toml:6: `plugins.b.claims` is [\"sap:X\"]: `sap:X` is claimed by plugin `a` too: it would be used twice",
        ]
    );
    assert_eq!(
        refused("[plugins.a]\ncommand = ['/p']\nclaims = ['x', 'x']\n"),
        ["onduty.toml:3: `plugins.a.claims` is [\"x\",\"x\"]: `x` is claimed twice"]
    );
}

#[test]
fn names_of_plugins() {
    for name in ["Bridge", "my-plugin", "\"a b\"", "a__b", "_a", "a_", "\"\""] {
        let found = refused(&format!("[plugins.{name}]\ncommand = ['/p']\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with("is not a plugin's name: a-z, 0-9 and single _ between them"),
            "{found:?}"
        );
    }
    assert!(Place::with("[node]\nname = 'a'\n[plugins.my_2nd_plugin]\ncommand = ['/p']\n").load().is_ok());
}

#[test]
fn the_limits_are_those_of_the_longest_chain() {
    let plugin = |name: &str, after: &str, grace: u64| {
        format!(
            "[plugins.{name}]\ncommand = ['/p']\nafter = [{after}]\nready.within = 2\nstop.grace = {grace}\n"
        )
    };
    // z before a: the order of names must not matter.
    let file =
        [plugin("z", "", 5), plugin("m", "'z'", 1), plugin("a", "'m'", 1), plugin("b", "", 6)].concat();
    let settings = loaded(&format!("[node]\nname = 'a'\n{file}")).settings;
    assert_eq!(settings.start_limit(), ms(6000));
    assert_eq!(settings.stop_limit(), ms(7300));
}

#[test]
fn there_is_room_for_so_many_plugins() {
    let file = |n: usize| -> String {
        (0..n)
            .map(|n| format!("[plugins.p{n}]\ncommand = ['/p']\n"))
            .chain(["[node]\nname = 'a'".into()])
            .collect()
    };
    assert!(Place::with(file(MOST_PLUGINS)).load().is_ok());
    assert_eq!(problems(file(MOST_PLUGINS + 1)), ["default: `plugins` has 65 plugins; a node can run 64"]);
}
