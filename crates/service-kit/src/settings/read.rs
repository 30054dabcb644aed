//! From merged layers to typed settings: every row is read, everything that is no row is unknown.

use std::collections::{BTreeMap, BTreeSet};

use figment::Figment;
use figment::value::{Dict, Value};

use super::layers::Layer;
use super::node::{NodeSettings, Profile};
use super::plugin::PluginDefinition;
use super::problem::{Problem, Source, key_of, nearest};
use super::productive;
use super::schema::{self, LATER, NODE, PLUGIN, Row};
use super::value::{Raw, kind_of};
use super::{Effective, LoadOptions};
use crate::codes::Code;

/// What came out.
pub(super) struct Reading {
    pub(super) settings: NodeSettings,
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) problems: Vec<Problem>,
    /// Keys whose value could not be read; with an empty one when a whole layer could not.
    pub(super) failed: BTreeSet<String>,
}

/// Reads the layers of `options`.
pub(super) fn read(options: &LoadOptions) -> Reading {
    let given = vec![
        Layer::file(options.file.as_deref()),
        Layer::environment(&options.environment),
        Layer::overrides(&options.overrides),
    ];
    // Where the productive revision is, the others say.
    let (given, reading) = read_layers(given);
    let path = productive::path(&reading.settings.node.data_dir);
    let revision = Layer::productive(&path, options.as_if);
    if revision.is_empty() {
        return reading;
    }
    let mut layers = given;
    layers.insert(1, revision);
    read_layers(layers).1
}

/// Reads these layers; the later wins.
fn read_layers(layers: Vec<Layer>) -> (Vec<Layer>, Reading) {
    let figment = layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
    // Our providers cannot fail: what they could not read is among their problems.
    let root = figment.find_value("").ok().and_then(Value::into_dict).unwrap_or_default();
    let mut reader = Reader {
        layers: &layers,
        figment: &figment,
        sources: BTreeMap::new(),
        problems: layers.iter().flat_map(|layer| layer.problems.iter().cloned()).collect(),
        failed: BTreeSet::new(),
    };
    reader.failed.extend(reader.problems.iter().map(|problem| problem.key.clone()));
    reader.unknown(&root, &mut Vec::new());
    let mut settings = NodeSettings::default();
    reader.node(&root, &mut settings);
    reader.plugins(&root, &mut settings);
    let Reader { sources, problems, failed, .. } = reader;
    (layers, Reading { settings, sources, problems, failed })
}

struct Reader<'a> {
    layers: &'a [Layer],
    figment: &'a Figment,
    sources: BTreeMap<String, Source>,
    problems: Vec<Problem>,
    failed: BTreeSet<String>,
}

impl Reader<'_> {
    /// Where a value came from, and whether it came as text.
    fn origin(&self, value: &Value, path: &[String]) -> (Source, bool) {
        let layer = self
            .figment
            .get_metadata(value.tag())
            .and_then(|metadata| self.layers.iter().find(|layer| *layer.name == *metadata.name));
        match layer {
            Some(layer) => (layer.origin(path).cloned().unwrap_or(Source::Default), layer.textual),
            None => (Source::Default, false),
        }
    }

    fn refuse(&mut self, code: Code, path: &[String], value: Option<String>, rule: String, source: Source) {
        let key = key_of(path);
        self.failed.insert(key.clone());
        self.problems.push(Problem { code, key, value, rule, source });
    }

    /// Complains about every key that has no row, and about single values where a table belongs.
    fn unknown(&mut self, dict: &Dict, path: &mut Vec<String>) {
        for (key, value) in dict {
            path.push(key.clone());
            self.unknown_key(value, path);
            path.pop();
        }
    }

    fn unknown_key(&mut self, value: &Value, path: &mut Vec<String>) {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let siblings = siblings(&segments[..segments.len() - 1]);
        if matches!(segments.as_slice(), ["plugins", name] if !is_plugin_name(name)) {
            let (source, _) = self.origin(value, path);
            let rule = "is not a plugin's name: a-z, 0-9 and single _ between them".to_owned();
            return self.refuse(Code::UnknownKey, path, None, rule, source);
        }
        if is_later(&segments) {
            let (source, _) = self.origin(value, path);
            let rule = "is not in this version".to_owned();
            return self.refuse(Code::NotInThisVersion, path, None, rule, source);
        }
        if schema::is_table(&segments) {
            if let Some(dict) = value.as_dict() {
                return self.unknown(&dict.clone(), path);
            }
            let (source, _) = self.origin(value, path);
            let rule = "must be a table".to_owned();
            return self.refuse(Code::BadValue, path, Some(kind_of(value)), rule, source);
        }
        let last = segments[segments.len() - 1];
        if !siblings.contains(&last) {
            let (source, _) = self.origin(value, path);
            let hint = nearest(last, siblings.iter().copied());
            let hint = hint.map(|key| format!(" (did you mean `{key}`?)")).unwrap_or_default();
            // The value is not shown: it may be a key under a misspelt name.
            self.refuse(Code::UnknownKey, path, None, format!("is not a setting{hint}"), source);
        }
    }

    fn node(&mut self, root: &Dict, settings: &mut NodeSettings) {
        // The profile gives the ground that written keys are put upon, so it comes first.
        let is_profile = |row: &&Row<NodeSettings>| row.key == "redundancy.profile";
        for row in NODE.iter().filter(is_profile) {
            self.row(root, &[], row, settings);
        }
        self.apply_profile(settings);
        for row in NODE.iter().filter(|row| !is_profile(row)) {
            self.row(root, &[], row, settings);
        }
    }

    fn apply_profile(&mut self, settings: &mut NodeSettings) {
        if !self.sources.contains_key("redundancy.profile") {
            return;
        }
        let profile = settings.redundancy.profile;
        let name = match profile {
            Profile::Relaxed => "relaxed",
            Profile::Standard => "standard",
            Profile::Fast => "fast",
        };
        let (interval, timeout, stable_for) = profile.timings();
        settings.redundancy.secondary.interval = interval;
        settings.redundancy.primary.timeout = timeout;
        settings.redundancy.failback.stable_for = stable_for;
        for key in ["secondary.interval", "primary.timeout", "failback.stable_for"] {
            self.sources.insert(format!("redundancy.{key}"), Source::Profile(name.to_owned()));
        }
    }

    fn plugins(&mut self, root: &Dict, settings: &mut NodeSettings) {
        let Some(plugins) = root.get("plugins").and_then(Value::as_dict) else { return };
        for (name, value) in plugins {
            if !is_plugin_name(name) {
                continue;
            }
            let mut plugin = PluginDefinition::default();
            let path = ["plugins".to_owned(), name.clone()];
            self.sources.insert(path.join("."), self.origin(value, &path).0);
            for row in PLUGIN {
                self.row(root, &path, row, &mut plugin);
            }
            settings.plugins.insert(name.clone(), plugin);
        }
    }

    /// Reads one row, if a layer gives it.
    fn row<T>(&mut self, root: &Dict, above: &[String], row: &Row<T>, settings: &mut T) {
        let path: Vec<String> = above.iter().cloned().chain(row.key.split('.').map(str::to_owned)).collect();
        let Some(value) = find(root, &path) else { return };
        let (source, textual) = self.origin(value, &path);
        let field = (row.field)(settings);
        match field.read(Raw { value, textual }, row.limits) {
            Ok(()) => {
                self.sources.insert(path.join("."), source);
            }
            Err(rule) => {
                let shown = field.show_wrong(value);
                let later = rule.contains("not in this version");
                let code = if later { Code::NotInThisVersion } else { Code::BadValue };
                self.refuse(code, &path, Some(shown), rule, source);
            }
        }
    }
}

fn find<'a>(root: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = root.get(first)?;
    if rest.is_empty() { Some(value) } else { value.as_dict().and_then(|dict| find(dict, rest)) }
}

/// The keys that may stand in the table at `path`.
fn siblings(path: &[&str]) -> Vec<&'static str> {
    fn below<T>(rows: &'static [Row<T>], path: &[&str]) -> Vec<&'static str> {
        let parts = rows.iter().map(|row| row.key.split('.').collect::<Vec<_>>());
        let mut keys: Vec<&'static str> = parts
            .filter(|parts| parts.len() > path.len() && parts[..path.len()] == *path)
            .map(|p| p[path.len()])
            .collect();
        keys.dedup();
        keys
    }
    match path {
        [] => below(NODE, path).into_iter().chain(["plugins"]).collect(),
        ["plugins", _, rest @ ..] => below(PLUGIN, rest),
        _ => below(NODE, path),
    }
}

fn is_later(path: &[&str]) -> bool {
    LATER.iter().any(|key| {
        let parts: Vec<&str> = key.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, have)| *part == "*" || part == have)
    })
}

/// `[a-z0-9_]+`, so that every name can be part of a variable's name and of a folder's.
fn is_plugin_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let joined = name.starts_with('_') || name.ends_with('_') || name.contains("__");
    (1..=64).contains(&name.len()) && name.chars().all(allowed) && !joined
}

/// Every value in force.
pub(super) fn effective(settings: &NodeSettings, sources: &BTreeMap<String, Source>) -> Vec<Effective> {
    let source = |key: &str| sources.get(key).cloned().unwrap_or(Source::Default);
    let mut all: Vec<Effective> =
        NODE.iter().map(|row| entry(row.key.to_owned(), row, settings, &source)).collect();
    for (name, plugin) in &settings.plugins {
        all.extend(
            PLUGIN.iter().map(|row| entry(format!("plugins.{name}.{}", row.key), row, plugin, &source)),
        );
    }
    all
}

fn entry<T>(key: String, row: &Row<T>, settings: &T, source: &impl Fn(&str) -> Source) -> Effective {
    let value = (row.peek)(settings).show();
    let otherwise = if value.is_none() { row.otherwise } else { None };
    Effective { source: source(&key), key, value, otherwise }
}
