//! The rules of the plugins: each by itself, and all of them together (order, claims).

use std::collections::BTreeMap;
use std::time::Duration;

use super::plugin::{MOST_PLUGINS, PluginDefinition};
use super::validate::Check;

/// Checks every plugin.
pub(super) fn check(check: &mut Check<'_>) {
    let settings = check.settings;
    if settings.plugins.len() > MOST_PLUGINS {
        check.wrong(
            "plugins",
            format!("has {} plugins; a node can run {MOST_PLUGINS}", settings.plugins.len()),
        );
        // What else is wrong with so many is no use, and to find circles among them takes more than a thread's stack.
        return;
    }
    for (name, plugin) in &settings.plugins {
        alone(check, name, plugin);
        for other in &plugin.after {
            if other == name {
                check.wrong(&key(name, "after"), "a plugin cannot come after itself");
            } else if !settings.plugins.contains_key(other) {
                let known: Vec<&str> = settings.plugins.keys().map(String::as_str).collect();
                let rule = format!("there is no plugin `{other}`; there are: {}", known.join(", "));
                check.wrong(&key(name, "after"), rule);
            }
        }
    }
    if let Some(cycle) = cycle(&settings.plugins) {
        let rule = format!("the order goes in a circle: {}", cycle.join(" after "));
        check.wrong(&key(cycle[0], "after"), rule);
    }
    claims(check);
}

fn key(name: &str, field: &str) -> String {
    format!("plugins.{name}.{field}")
}

fn alone(check: &mut Check<'_>, name: &str, plugin: &PluginDefinition) {
    if plugin.command.first().is_none_or(|program| program.trim().is_empty()) {
        check.wrong(
            &key(name, "command"),
            "must name a program, such as [\"/opt/bridge/bridge\", \"--verbose\"]",
        );
    }
    let commands = [
        ("command", Some(&plugin.command)),
        ("ready.command", plugin.ready.command.as_ref()),
        ("preflight.command", plugin.preflight.command.as_ref()),
    ];
    for (field, command) in commands {
        let Some(command) = command else { continue };
        if command.iter().any(|part| part.contains('\0')) {
            check.wrong(&key(name, field), "must not contain a NUL byte");
        }
        if field != "command" && command.first().is_none_or(|program| program.trim().is_empty()) {
            check.wrong(&key(name, field), "must name a program");
        }
    }
    if plugin.user.as_ref().is_some_and(|user| user.is_empty() || user.contains(['\0', ':', '/', ' '])) {
        check.wrong(&key(name, "user"), "must be the name of a user of this machine");
    }
    ready(check, name, plugin);
}

fn ready(check: &mut Check<'_>, name: &str, plugin: &PluginDefinition) {
    let ready = &plugin.ready;
    let given: Vec<&str> = [
        ("tcp", ready.tcp.is_some()),
        ("http", ready.http.is_some()),
        ("command", ready.command.is_some()),
        ("stays_up", ready.stays_up.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field))
    .collect();
    if let [_, second, ..] = given.as_slice() {
        let list = given.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
        check.wrong(&key(name, &format!("ready.{second}")), format!("give one check only, not {list}"));
    }
    if ready.tcp.as_ref().is_some_and(|address| !is_host_and_port(address)) {
        check.wrong(&key(name, "ready.tcp"), "must be HOST:PORT such as \"127.0.0.1:4840\"");
    }
    if ready.http.as_ref().is_some_and(|address| !is_plain_http(address)) {
        let rule = "must be an http:// URL such as \"http://127.0.0.1:8080/health\"";
        check.wrong(&key(name, "ready.http"), rule);
    }
    if ready.stays_up.is_some_and(|span| span > ready.within && span > Duration::ZERO) {
        check.wrong(&key(name, "ready.stays_up"), "must not be longer than `ready.within`");
    }
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    !host.is_empty() && bare && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_plain_http(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| url.scheme() == "http" && url.has_host() && url.username().is_empty())
}

/// The first circle in the order, as a path that ends where it began.
fn cycle(plugins: &BTreeMap<String, PluginDefinition>) -> Option<Vec<&str>> {
    fn visit<'a>(
        name: &'a str,
        plugins: &'a BTreeMap<String, PluginDefinition>,
        path: &mut Vec<&'a str>,
        done: &mut Vec<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if done.contains(&name) {
            return None;
        }
        if let Some(begin) = path.iter().position(|known| *known == name) {
            return Some(path[begin..].iter().copied().chain([name]).collect());
        }
        path.push(name);
        // A plugin after itself has its own message.
        let after = plugins.get(name).map(|plugin| plugin.after.as_slice()).unwrap_or_default();
        let found =
            after.iter().filter(|other| *other != name).find_map(|other| visit(other, plugins, path, done));
        path.pop();
        done.push(name);
        found
    }
    let mut done = Vec::new();
    plugins.keys().find_map(|name| visit(name, plugins, &mut Vec::new(), &mut done))
}

fn claims(check: &mut Check<'_>) {
    let settings = check.settings;
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, plugin) in &settings.plugins {
        for claim in &plugin.claims {
            if claim.trim().is_empty() {
                check.wrong(&key(name, "claims"), "a claim must have a name, such as \"sap:RFC_USER1\"");
            } else if let Some(other) = holders.insert(claim, name) {
                let rule = if other == name {
                    format!("`{claim}` is claimed twice")
                } else {
                    format!("`{claim}` is claimed by plugin `{other}` too: it would be used twice")
                };
                check.wrong(&key(name, "claims"), rule);
            }
        }
    }
}
