//! Seeds of the settings: each kind of value, right and wrong, in the file and in variables.

use fuzzing::SECRET;

use crate::Seed;

/// What a person writes.
pub(crate) fn settings() -> Vec<Seed> {
    let pair = |more: &str| {
        let text =
            format!("[node]\nname = \"a\"\n[redundancy]\nmode = \"primary\"\nkey_file = \"/k\"\n{more}");
        text.into_bytes()
    };
    let second = |more: &str| {
        let text = format!(
            "node.name = 'b'\n[redundancy]\nmode = 'secondary'\nkey_file = '/k'\n[redundancy.secondary]\n\
             address = 'https://a'\ntrust = 'store'\n{more}"
        );
        text.into_bytes()
    };
    let secret = |text: &str| text.replace('$', SECRET).into_bytes();
    let plugin =
        |more: &str| format!("[plugins.bridge]\ncommand = [\"/opt/bridge\", \"-v\"]\n{more}").into_bytes();
    let variables = |file: &str, lines: &str| [file.as_bytes(), b"\0", lines.as_bytes()].concat();
    let mut seeds: Vec<Seed> = vec![
        ("empty", Vec::new()),
        ("pair", pair("")),
        ("pair-timings", pair("profile = \"fast\"\nprimary = { timeout = 1.5, startup_wait = \"1m 30s\" }\n")),
        ("pair-overlap", pair("allow_overlap = true\nprimary.timeout = '2s'\nchannel_binding = 'off'\n")),
        ("pair-failback", pair("[redundancy.failback]\nmode = 'manual'\nstable_for = 0\n[redundancy.flap]\nlimit = 3\nwindow = '1day'\n")),
        ("pair-long-interval", pair("primary.timeout = '1h'\nsecondary.interval = '20m'\n")),
        ("second", second("")),
        ("second-two-paths", second("interval = '250ms'\ntakeover_after = 2\n").replace_address("['https://a', 'https://[::1]:443/']")),
        ("second-same-path-twice", second("").replace_address("['https://a', 'https://A:5001']")),
        ("second-confirm", second("takeover_confirm = '900ms'\non_unproved = 'take_over'\n")),
        ("second-port-443", second("").replace_address("'https://a:0443'")),
        ("second-not-https", second("").replace_address("'http://a'")),
        ("alone", b"redundancy.mode = 'deactivated'\nlog.level = 'info,duty=debug'\nlog.format = 'json'\n".to_vec()),
        ("key", secret("[node]\nname = 'a'\n[redundancy]\nmode = 'primary'\nkey = '$'\n")),
        ("key-short", secret("redundancy.mode = 'primary'\nredundancy.key = '$'\nredundancy.key_file = '/k'\n")),
        ("key-table", secret("redundancy.key.a = '$'\n")),
        ("key-cut", secret("redundancy.key = '$\n")),
        ("key-twice", secret("redundancy.key = '$'\nredundancy.key = '$'\n")),
        ("key-list", secret("redundancy.key = ['$']\n")),
        ("key-misspelt", secret("redundancy.kye = '$'\n")),
        ("plugin", plugin("")),
        ("plugin-all", plugin("env = { TOKEN = 'x', \"a b\" = '' }\ndir = '/srv'\nuser = 'bridge'\nclaims = ['sap:1']\nfenced = true\ncritical = false\nreload_signal = 'SIGHUP'\non_new_epoch = 'ignore'\n")),
        ("plugin-ready", plugin("ready = { tcp = '127.0.0.1:4840', within = 5 }\nstop = { signal = 'int', grace = 0 }\n")),
        ("plugin-ready-http", plugin("ready.http = 'http://127.0.0.1:80/x'\nrestart = { policy = 'never', backoff = '10ms', limit = 0, window = 1 }\n")),
        ("plugin-ready-twice", plugin("ready = { stays_up = '31s', command = ['true'] }\npreflight.command = ['']\n")),
        ("plugin-circle", b"[plugins.a]\ncommand = ['x']\nafter = ['b']\n[plugins.b]\ncommand = ['x']\nafter = ['a', 'c']\n".to_vec()),
        ("plugin-claims", b"[plugins.a]\ncommand = ['x']\nclaims = ['1']\n[plugins.b]\ncommand = ['x']\nclaims = ['1', '']\n".to_vec()),
        ("plugin-env-secret", secret("[plugins.a]\ncommand = ['x']\n[plugins.a.env]\nTOKEN = '$'\n\"a=b\" = '$'\n")),
        ("plugin-name-wrong", b"[plugins.'a-b']\ncommand = ['x']\n[plugins.c]\nkind = 'grpc'\n".to_vec()),
        ("characters", "[plugins.a]\ncommand = [\"\\u007f\\u0001\\u2028\u{e9}\\\"\\\\\"]\n".as_bytes().to_vec()),
        ("characters-in-keys", b"\"a\\u001bb\" = 1\n[plugins.a]\ncommand = ['x']\nafter = [\"\\n\"]\n".to_vec()),
        ("null", b"[plugins.a]\ncommand = [\"a\\u0000\"]\ndir = \"/a\\u0000\"\n".to_vec()),
        ("numbers", b"redundancy.flap.limit = 99999999999999999999\nredundancy.primary.timeout = nan\nredundancy.failback.stable_for = -1\nnode.name = 2026-11-30\n".to_vec()),
        ("later", b"arbitration.mode = 'etcd'\n[arbitration.etcd]\nx = 1\n[hooks]\n".to_vec()),
        ("not-a-table", b"redundancy = 3\nplugins = []\nnode = 'x'\n".to_vec()),
        ("misspelt", b"[redundancy]\nmoed = 'primary'\nmode = 'Primary'\n[nod]\n".to_vec()),
        ("not-utf8", b"node.name = 'a'\n# \xff\n".to_vec()),
        ("bom", "\u{feff}node.name = 'a'\n".as_bytes().to_vec()),
        ("variables", variables("", "ONDUTY_REDUNDANCY__MODE=primary\nONDUTY_REDUNDANCY__KEY_FILE=/k\nONDUTY_NODE__NAME=0123\nONDUTY_SERVICE_HOST=1\n")),
        ("variables-json", variables("", "ONDUTY_PLUGINS__A__COMMAND=[\"x\"]\nONDUTY_PLUGINS__B={\"command\":[\"y\"],\"env\":{\"T\":\"1\"}}\nONDUTY_PLUGINS__B__ENV__U=2\n")),
        ("variables-wrong", variables("node.name = 'a'\n", "ONDUTY_NODE={\nONDUTY_NODE__NAME__X=1\nONDUTY_Node__Listen=x\nONDUTY_NODE__LISTEN=y\n")),
    ];
    let examples: [Seed; 4] = [
        ("example-fast", include_bytes!("../../../../../examples/fast.toml").to_vec()),
        ("example-minimal", include_bytes!("../../../../../examples/minimal.toml").to_vec()),
        ("example-primary", include_bytes!("../../../../../examples/primary.toml").to_vec()),
        ("example-secondary", include_bytes!("../../../../../examples/secondary.toml").to_vec()),
    ];
    seeds.extend(examples);
    seeds
}

/// Other addresses in a seed.
trait Addressed {
    fn replace_address(self, address: &str) -> Self;
}

impl Addressed for Vec<u8> {
    fn replace_address(self, address: &str) -> Self {
        String::from_utf8_lossy(&self).replace("'https://a'", address).into_bytes()
    }
}
