//! The layers that give values, and where in a layer each value was found.
//!
//! ```text
//!   built in  <  file  <  productive revision  <  environment  <  command line
//! ```
//!
//! figment merges them and tags each value with its layer; the layer knows the line or the variable. figment's own
//! environment provider is not used: it guesses types, so that a key `0123456789` becomes a number.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;

use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Metadata, Profile, Provider};
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Source, key_of};
use super::productive;
use super::schema;
use super::value::quoted;
use crate::codes::Code;

/// A settings file larger than this is not one of ours.
const LARGEST_FILE: usize = 1 << 20;
/// What the name of a variable begins with.
const PREFIX: &str = "ONDUTY_";

/// Values of one kind of place.
pub(super) struct Layer {
    /// Tells the layers apart; never shown.
    pub(super) name: &'static str,
    /// Whether single values are text whose type the target decides.
    pub(super) textual: bool,
    dict: Dict,
    origins: BTreeMap<Vec<String>, Source>,
    /// What could not even be read.
    pub(super) problems: Vec<Problem>,
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

impl Layer {
    fn new(name: &'static str, textual: bool) -> Self {
        Self { name, textual, dict: Dict::new(), origins: BTreeMap::new(), problems: Vec::new() }
    }

    /// Where in this layer the value at `path`, or the nearest table around it, was found; of a table that only variables make,
    /// where the first value in it was.
    pub(super) fn origin(&self, path: &[String]) -> Option<&Source> {
        let around = (0..=path.len()).rev().find_map(|end| self.origins.get(&path[..end]));
        let first =
            || self.origins.iter().find(|(place, _)| place.starts_with(path)).map(|(_, source)| source);
        around.or_else(first)
    }

    fn refuse(&mut self, key: String, value: Option<String>, rule: impl Into<String>, source: Source) {
        let code = if key.is_empty() { Code::SettingsUnreadable } else { Code::BadValue };
        self.problems.push(Problem { code, key, value, rule: rule.into(), source });
    }

    /// The settings file. `None`: there is none, which is not wrong.
    pub(super) fn file(path: Option<&Path>) -> Self {
        let mut layer = Self::new("file", false);
        if let Some(path) = path {
            match std::fs::read(path) {
                Ok(bytes) => layer.parse_file(path, bytes),
                Err(e) => {
                    let source = Source::File { path: path.to_owned(), line: None };
                    layer.refuse(String::new(), None, format!("cannot be read: {e}"), source);
                }
            }
        }
        layer
    }

    fn parse_file(&mut self, path: &Path, bytes: Vec<u8>) {
        let at = |line| Source::File { path: path.to_owned(), line };
        if bytes.len() > LARGEST_FILE {
            return self.refuse(String::new(), None, "is larger than 1 MiB: not a settings file", at(None));
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let good = e.utf8_error().valid_up_to();
                let line = 1 + e.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
                let rule = format!("is not UTF-8: byte 0x{:02x}", e.as_bytes()[good]);
                return self.refuse(String::new(), None, rule, at(Some(line)));
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        // Counted once: there is a question for each key, and there may be a hundred thousand.
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line_of = |offset: usize| 1 + ends.partition_point(|end| *end < offset);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // Only the message: the text around the place may be a key.
            let line =
                error.span().map_or_else(|| line_of_placeless(text, &ends), |span| line_of(span.start));
            self.refuse(
                String::new(),
                None,
                format!("is not TOML: {}", error.message().replace('\n', "; ")),
                at(Some(line)),
            );
        }
        if errors.is_empty() {
            let mut found = BTreeMap::new();
            self.dict = table_of(table.get_ref(), &mut Vec::new(), &mut |path, offset| {
                found.insert(path.to_vec(), at(Some(line_of(offset))));
            });
            self.origins = found;
        }
    }

    /// What was changed at run time; `as_if`: what would have been.
    pub(super) fn productive(path: &Path, as_if: Option<failover_core::Mode>) -> Self {
        let source = || Source::RunTime(path.to_owned());
        let mut layer = Self::new("productive revision", false);
        let bytes = match as_if.map_or_else(|| std::fs::read(path), |mode| Ok(productive::text(mode).into()))
        {
            Ok(bytes) => bytes,
            // A data directory that is none has an error of its own, which names its key.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return layer;
            }
            Err(error) => {
                layer.refuse(String::new(), None, format!("cannot be read: {error}"), source());
                return layer;
            }
        };
        layer.parse_file(path, bytes);
        for problem in &mut layer.problems {
            problem.rule = format!("{}; {}", problem.rule, productive::REMEDY);
        }
        for (place, origin) in &mut layer.origins {
            let key = place.join(".");
            let known =
                productive::KEYS.iter().any(|known| *known == key || known.starts_with(&format!("{key}.")));
            if !known {
                let rule = format!("does not belong here; {}", productive::REMEDY);
                let (code, source) = (Code::UnknownKey, origin.clone());
                layer.problems.push(Problem { code, key, value: None, rule, source });
            }
            *origin = source();
        }
        layer
    }

    /// Whether it gives nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.dict.is_empty() && self.problems.is_empty()
    }

    /// The variables whose name has `__` after `ONDUTY_`; others are none of our business.
    pub(super) fn environment(variables: &[(OsString, OsString)]) -> Self {
        let mut layer = Self::new("environment", true);
        let mut ours: Vec<(&str, &OsStr)> = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())))
            .filter(|(name, _)| name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__")))
            .collect();
        ours.sort_unstable();
        for (name, value) in ours {
            let path = variable_path(&name[PREFIX.len()..]);
            layer.take(path, value.to_str(), Source::Variable(name.to_owned()));
        }
        layer
    }

    /// The command line's own settings.
    pub(super) fn overrides(overrides: &[super::Override]) -> Self {
        let mut layer = Self::new("command line", true);
        for given in overrides {
            let path = given.key.split('.').map(str::to_owned).collect();
            layer.take(path, Some(&given.value), Source::Flag(given.flag.clone()));
        }
        layer
    }

    /// Puts one textual value in its place.
    fn take(&mut self, path: Vec<String>, text: Option<&str>, source: Source) {
        let key = key_of(&path);
        let Some(text) = text else {
            return self.refuse(key, None, "is not UTF-8", source);
        };
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        let value = if schema::is_table(&segments) || schema::is_free_table(&segments) {
            let json =
                serde_json::from_str::<serde_json::Value>(text).ok().filter(serde_json::Value::is_object);
            match json.and_then(|json| Value::serialize(json).ok()) {
                Some(table) => table,
                // Not shown: there may be a secret in it.
                None => {
                    return self.refuse(
                        key,
                        None,
                        "is a table: as text it must be JSON, {\"key\": …}",
                        source,
                    );
                }
            }
        } else {
            Value::String(Tag::Default, text.to_owned())
        };
        let other = self.origins.get(&path).cloned();
        if let (Some(other), None) = (&other, value.as_dict()) {
            let rule = format!(
                "is {} here and something else in {other}: give it once",
                quoted_or_hidden(&key, text)
            );
            return self.refuse(key, None, rule, source);
        }
        if insert(&mut self.dict, &path, value) {
            self.origins.insert(path, source);
        } else {
            self.refuse(key, None, "is given both as a single value and as a table: give it once", source);
        }
    }
}

/// The line of an error that comes without a place, as that of keys and lists nested too deeply: the last line of the shortest
/// beginning of the file that has such an error too.
fn line_of_placeless(text: &str, ends: &[usize]) -> usize {
    let is_fine =
        |end: &usize| DeTable::parse_recoverable(&text[..*end]).1.iter().all(|error| error.span().is_some());
    1 + ends.partition_point(is_fine)
}

fn quoted_or_hidden(key: &str, text: &str) -> String {
    if key == "redundancy.key" || key.contains(".env.") { "(secret)".to_owned() } else { quoted(text) }
}

/// `REDUNDANCY__KEY_FILE` → `redundancy`, `key_file`. The names of a plugin's own variables keep their letters.
fn variable_path(rest: &str) -> Vec<String> {
    let mut path = Vec::new();
    let mut parts = rest.split("__");
    while let Some(part) = parts.next() {
        path.push(part.to_ascii_lowercase());
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        if schema::is_free_table(&segments) {
            let name = parts.by_ref().collect::<Vec<_>>().join("__");
            path.extend((!name.is_empty()).then_some(name));
        }
    }
    path
}

/// Puts a value at a path; `false` when something that is no table is in the way.
fn insert(dict: &mut Dict, path: &[String], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return match (dict.get_mut(first), value) {
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => {
                new.into_iter().all(|(key, value)| insert(old, &[key], value))
            }
            (Some(_), _) => false,
            (None, value) => {
                dict.insert(first.clone(), value);
                true
            }
        };
    }
    match dict.entry(first.clone()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new())) {
        Value::Dict(_, inner) => insert(inner, rest, value),
        Value::String(..)
        | Value::Char(..)
        | Value::Bool(..)
        | Value::Num(..)
        | Value::Empty(..)
        | Value::Array(..) => false,
    }
}

fn table_of(table: &DeTable<'_>, path: &mut Vec<String>, found: &mut impl FnMut(&[String], usize)) -> Dict {
    let mut dict = Dict::new();
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        found(path, key.span().start);
        dict.insert(key.get_ref().to_string(), value_of(value.get_ref(), path, found));
        path.pop();
    }
    dict
}

fn value_of(value: &DeValue<'_>, path: &mut Vec<String>, found: &mut impl FnMut(&[String], usize)) -> Value {
    match value {
        DeValue::String(text) => Value::String(Tag::Default, text.to_string()),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            // Beyond 64 bits: close enough for the message about its range.
            let huge = || Num::F64(integer.as_str().parse().unwrap_or(f64::INFINITY));
            Value::Num(Tag::Default, number.map_or_else(|_| huge(), Num::I64))
        }
        DeValue::Float(float) => {
            Value::Num(Tag::Default, Num::F64(float.as_str().parse().unwrap_or(f64::NAN)))
        }
        DeValue::Boolean(value) => Value::Bool(Tag::Default, *value),
        DeValue::Datetime(value) => Value::String(Tag::Default, value.to_string()),
        DeValue::Array(items) => Value::Array(
            Tag::Default,
            items.iter().map(|item| value_of(item.get_ref(), path, found)).collect(),
        ),
        DeValue::Table(table) => Value::Dict(Tag::Default, table_of(table, path, found)),
    }
}
