//! Every key there is: one row gives the loader what to read, the checker what is allowed, and
//! `docs/configuration.md` what to say. A key that has no row here is unknown.

use std::time::Duration;

use super::node::NodeSettings;
use super::plugin::PluginDefinition;
use super::value::{Limits, Setting};

/// One key of the settings `T`.
pub(super) struct Row<T> {
    /// Below the root of `T`, with dots.
    pub(super) key: &'static str,
    /// For people, one sentence or two.
    pub(super) what: &'static str,
    /// What is allowed beside the type.
    pub(super) limits: Limits,
    /// What holds when nothing is given, where the plain default does not say it.
    pub(super) otherwise: Option<&'static str>,
    /// The field, to be set.
    pub(super) field: fn(&mut T) -> &mut dyn Setting,
    /// The field, to be shown.
    pub(super) peek: fn(&T) -> &dyn Setting,
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn span(least: Duration, most: Duration) -> Limits {
    Limits::Span(least, most)
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

macro_rules! row {
    ($($path:ident).+, $limits:expr, $otherwise:expr, $what:expr) => {
        Row {
            key: row!(@key $($path).+),
            what: $what,
            limits: $limits,
            otherwise: $otherwise,
            field: |settings| &mut settings.$($path).+,
            peek: |settings| &settings.$($path).+,
        }
    };
    (@key $first:ident $(. $rest:ident)*) => { concat!(stringify!($first) $(, ".", stringify!($rest))*) };
}

/// The keys outside `plugins`.
pub(super) static NODE: &[Row<NodeSettings>] = &[
    row!(
        node.name,
        Limits::Any,
        Some("the host name"),
        "The node's name for people, in every log, event and message: 1 to 64 of `A-Z a-z 0-9 . _ -`. The nodes of a pair need different names."
    ),
    row!(
        node.listen,
        Limits::Any,
        None,
        "Where the node listens for its peer. Only this port has to be open towards the other node, and only on the primary."
    ),
    row!(
        node.data_dir,
        Limits::Any,
        None,
        "The folder for what must outlive a restart: node id, epochs, journal, certificates, plugin logs, the control socket."
    ),
    row!(
        redundancy.mode,
        Limits::Any,
        None,
        "The node's part: `primary` runs the plugins whenever it can, `secondary` while the primary is not available, `deactivated` always and without a peer. Must be written when any other key of the pair is."
    ),
    row!(
        redundancy.pair,
        Limits::Any,
        None,
        "The name of the pair, the same on both nodes, so that a wrong address is noticed as such: up to 64 of `A-Z a-z 0-9 . _ -`."
    ),
    row!(
        redundancy.key,
        Limits::Any,
        None,
        "The pre-shared key itself. Not recommended: use `redundancy.key_file`."
    ),
    row!(
        redundancy.key_file,
        Limits::Any,
        None,
        "The file with the pre-shared key that both nodes have (`onduty key generate`). Others than owner and group must not be able to read it. It is read again when it changes, with `.next` and `.previous` beside it (`onduty key rotate`)."
    ),
    row!(
        redundancy.previous_key_file,
        Limits::Any,
        None,
        "While the key is exchanged by hand: the file with the key before, still accepted, and read again when it changes. Not needed with `onduty key rotate`."
    ),
    row!(
        redundancy.channel_binding,
        Limits::Any,
        None,
        "`required` binds the proof of the key to the TLS channel. `off` is for a proxy between the nodes that ends TLS; it has to be set on both nodes and is a lasting warning."
    ),
    row!(
        redundancy.profile,
        Limits::Any,
        None,
        "Timings that fit each other (interval / timeout): `relaxed` 5 s / 15 s, `standard` 1 s / 3 s, `fast` 100 ms / 500 ms with `stable_for` 500 ms. Keys that are written win over it."
    ),
    row!(
        redundancy.allow_overlap,
        Limits::Any,
        None,
        "Allows timeouts below three intervals, where one or two lost heartbeats can make both nodes active. A lasting warning."
    ),
    row!(
        redundancy.handover_on_stop,
        Limits::Any,
        None,
        "Whether a stop of the active node (SIGTERM, `onduty stop`) hands the duty over first."
    ),
    row!(
        redundancy.primary.timeout,
        span(ms(20), HOUR),
        Some("by the profile: 3s"),
        "Silence after which the secondary counts as disconnected; told to the secondary, which takes over after the same silence unless it has a `takeover_after`. Must be above the interval, and at least three intervals (see `redundancy.allow_overlap`)."
    ),
    row!(
        redundancy.primary.startup_wait,
        span(ms(20), HOUR),
        Some("the timeout, or two dials if that is longer"),
        "How long a starting primary looks for its peer before it may take the duty alone."
    ),
    row!(
        redundancy.primary.client_trust,
        Limits::Any,
        None,
        "Which certificate the secondary has to show besides proving the key (mutual TLS): `none` it is not asked for one, `store` one that is trusted in this node's own store or signed by an authority in it, `system` one that an authority has signed which the operating system trusts. Asked when the link is made; a session that runs goes on."
    ),
    row!(
        redundancy.secondary.address,
        Limits::Any,
        None,
        "Where the primary is: `https://HOST:PORT`, port 5001 when left out. Needed in mode `secondary`. A list, of up to four, is one address per network path: one session runs over each, and the peer is silent only when all are. In a variable a list is JSON."
    ),
    row!(
        redundancy.secondary.trust,
        Limits::Any,
        None,
        "Which certificates of the primary are accepted: `store` those trusted in the node's own store and what the authorities among them have signed, `system` what an authority that the operating system trusts has signed (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), `all` every one (a lasting warning; the key still protects the pair). Needed in mode `secondary`."
    ),
    row!(
        redundancy.secondary.interval,
        span(failover_core::timing::SHORTEST_INTERVAL, HOUR),
        Some("by the profile: 1s"),
        "How often the secondary sends a heartbeat. Must be below the primary's timeout."
    ),
    row!(
        redundancy.secondary.takeover_after,
        span(ms(20), HOUR),
        Some("the primary's timeout, as the primary tells it"),
        "Silence after which the secondary takes over, counted from the send of the last heartbeat that was acknowledged."
    ),
    row!(
        redundancy.secondary.takeover_confirm,
        span(ms(1), HOUR),
        None,
        "Takes over when every address of the primary refuses connections for this long, without waiting for the whole silence. A firewall that rejects then looks like a crash: a lasting warning."
    ),
    row!(
        redundancy.secondary.startup_wait,
        span(ms(20), HOUR),
        Some("30s, or the takeover time if that is longer"),
        "How long a starting secondary looks for its peer before it may take the duty alone."
    ),
    row!(
        redundancy.secondary.on_unproved,
        Limits::Any,
        None,
        "While something answers that cannot prove the key: `hold` never takes over, `take_over` does after the silence (a lasting warning)."
    ),
    row!(
        redundancy.failback.mode,
        Limits::Any,
        None,
        "When the primary is back: `automatic` takes the duty back once stable, `manual` waits for `onduty switchover`."
    ),
    row!(
        redundancy.failback.stable_for,
        span(Duration::ZERO, DAY),
        Some("by the profile: 3s"),
        "How long the primary must have been fit and connected before it takes the duty back by itself."
    ),
    row!(
        redundancy.flap.limit,
        Limits::Count(1, 1000),
        None,
        "After this many automatic moves within the window, automatic hand-back is blocked. A takeover from a silent peer never is."
    ),
    row!(
        redundancy.flap.window,
        span(Duration::from_secs(1), WEEK),
        None,
        "The window of `redundancy.flap.limit`."
    ),
    row!(
        arbitration.mode,
        Limits::Any,
        None,
        "Who decides beside the pair. `none`: silence decides; a cut link can make both nodes active until it heals."
    ),
    row!(
        supervisor.containment,
        Limits::Any,
        None,
        "How plugins are kept from outliving onduty: `namespace`, `cgroup`, `group`, or `auto` for the strongest of them that works here."
    ),
    row!(
        log.level,
        Limits::Any,
        None,
        "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,duty=debug`."
    ),
    row!(
        log.format,
        Limits::Any,
        None,
        "How it is written: `human`, `json`, or `auto`: human on a terminal, JSON otherwise."
    ),
];

/// The keys of one plugin, below `plugins.<name>`.
pub(super) static PLUGIN: &[Row<PluginDefinition>] = &[
    row!(kind, Limits::Any, None, "What kind of thing the plugin is."),
    row!(
        command,
        Limits::Any,
        Some("must be given"),
        "Program and arguments; no shell is involved. A program without `/` is looked up in `PATH`."
    ),
    row!(env, Limits::Any, None, "Variables the plugin gets beside onduty's own. Values are never shown."),
    row!(dir, Limits::Any, Some("`/`"), "Working directory."),
    row!(
        user,
        Limits::Any,
        Some("the user of onduty"),
        "The user the plugin runs as, by name or number. Needs onduty to run as root."
    ),
    row!(
        after,
        Limits::Any,
        None,
        "Plugins that must be ready before this one starts; they are stopped after it."
    ),
    row!(ready.tcp, Limits::Any, None, "Ready when `HOST:PORT` accepts a connection."),
    row!(
        ready.http,
        Limits::Any,
        None,
        "Ready when this `http://` URL is answered with a status of 200 to 399."
    ),
    row!(ready.command, Limits::Any, None, "Ready when this command exits with 0."),
    row!(
        ready.stays_up,
        span(Duration::ZERO, HOUR),
        Some("200ms, when no other check is given"),
        "Ready when the process has stayed up this long."
    ),
    row!(
        ready.within,
        span(ms(10), HOUR),
        None,
        "The start has failed when the plugin is not ready within this time."
    ),
    row!(stop.signal, Limits::Any, None, "The signal that asks the plugin to stop."),
    row!(stop.grace, span(Duration::ZERO, HOUR), None, "How long it may take; then it is killed."),
    row!(
        restart.policy,
        Limits::Any,
        None,
        "When an ended plugin is started again: `on_failure`, `always` or `never`."
    ),
    row!(
        restart.backoff,
        span(ms(10), HOUR),
        None,
        "The pause before the first restart; doubles with each failure up to one minute."
    ),
    row!(
        restart.limit,
        Limits::Count(0, 1000),
        None,
        "After this many restarts within the window the plugin counts as failed."
    ),
    row!(restart.window, span(Duration::from_secs(1), WEEK), None, "The window of `restart.limit`."),
    row!(
        preflight.command,
        Limits::Any,
        None,
        "A command that exits with 0 when the plugin could be started here. Runs on the standby too."
    ),
    row!(preflight.within, span(ms(10), HOUR), None, "How long it may take."),
    row!(standby, Limits::Any, None, "What exists of the plugin on the standby. `cold`: nothing."),
    row!(
        critical,
        Limits::Any,
        None,
        "Whether the node has failed, and the duty moves, when the plugin cannot be kept running."
    ),
    row!(
        claims,
        Limits::Any,
        None,
        "Names of shared user data that only one plugin may use at a time, such as `sap:RFC_USER1`. The same claim twice on a node is an error."
    ),
    row!(
        reload_signal,
        Limits::Any,
        None,
        "The signal that makes the plugin read `ONDUTY_EPOCH_FILE` again."
    ),
    row!(
        on_new_epoch,
        Limits::Any,
        Some("`restart` when `fenced`, else `ignore`"),
        "What happens on a new epoch without a stop, when there is no reload signal."
    ),
    row!(
        fenced,
        Limits::Any,
        None,
        "Whether the plugin hands its epoch to its own servers as a fencing token."
    ),
    row!(
        on_unconfirmed,
        Limits::Any,
        None,
        "Whether the plugin starts after a takeover from a peer that was only silent."
    ),
];

/// Keys of the design that this version does not have; a star stands for a plugin's name.
pub(super) const LATER: &[&str] = &[
    "plugins.*.alive",
    "arbitration.etcd",
    "arbitration.kubernetes",
    "arbitration.fence",
    "arbitration.reference",
    "arbitration.step_down_when_isolated",
    "journal",
    "management",
    "operators",
    "hooks",
    "sync",
];

/// Whether the keys below `path` are tables of the settings, so that a variable of that name is JSON.
pub(super) fn is_table(path: &[&str]) -> bool {
    let starts = |key: &str, below: &[&str]| {
        let parts: Vec<&str> = key.split('.').collect();
        parts.len() > below.len() && parts[..below.len()] == *below
    };
    match path {
        [] | ["plugins"] | ["plugins", _] => true,
        ["plugins", _, below @ ..] => PLUGIN.iter().any(|row| starts(row.key, below)),
        _ => NODE.iter().any(|row| starts(row.key, path)),
    }
}

/// Whether the value at `path` is a free table, whose keys are not settings.
pub(super) fn is_free_table(path: &[&str]) -> bool {
    matches!(path, ["plugins", _, "env"])
}
