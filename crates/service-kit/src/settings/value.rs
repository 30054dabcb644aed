//! How one value is read and shown, by the type of its field.
//!
//! The type decides, never the text: a key `0123456789` stays text, `3` for a duration is three seconds, wherever it
//! was written. A variable or flag is text; a list or table in it is JSON.

// figment's values are kinds of data, not states: "anything else" is what a wrong type means here.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Num, Value};
use secrecy::{ExposeSecret, SecretString};

use super::problem::nearest;

/// A value as one of the layers gave it.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    /// What was given.
    pub(super) value: &'a Value,
    /// Whether it came as text (variable, flag), so that the target type has to be found in the text.
    pub(super) textual: bool,
}

/// What a value must keep to beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// Nothing.
    Any,
    /// A duration, both ends allowed.
    Span(Duration, Duration),
    /// A whole number, both ends allowed.
    Count(u64, u64),
}

/// What a field of the settings can do.
pub(super) trait Setting {
    /// Its type, for people.
    fn kind(&self) -> String;
    /// Takes the value over, or says the rule that it breaks; then nothing has changed.
    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String>;
    /// As it would be written in the file; `None` when it is not set. Secrets are never shown.
    fn show(&self) -> Option<String>;
    /// Whether the value must never be shown, not even a wrong one.
    fn is_secret(&self) -> bool {
        false
    }
    /// A wrong value, for the message about it.
    fn show_wrong(&self, value: &Value) -> String {
        if self.is_secret() { "(secret)".to_owned() } else { show_raw(value) }
    }
}

/// A duration: a bare number is seconds; `250ms`, `1m 30s` and the like as they read.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if plain {
        return text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    }
    humantime::parse_duration(text).ok()
}

/// A duration as people and the file write it.
#[must_use]
pub fn show_duration(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// A text as the file would have it.
pub(super) fn quoted(text: &str) -> String {
    as_json(text)
}

/// Texts as the file would have them. What JSON leaves as it is and TOML does not allow (DEL), or a terminal would take for a
/// command, is escaped: both read it alike.
pub(super) fn as_json(value: impl Into<serde_json::Value>) -> String {
    let mut shown = String::new();
    for c in value.into().to_string().chars() {
        if c.is_control() {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A value where a table belongs: what it is, not what is in it, for that may be a secret.
pub(super) fn kind_of(value: &Value) -> String {
    match value {
        Value::Num(..) | Value::Bool(..) | Value::Empty(..) => show_raw(value),
        Value::Array(..) => "a list".to_owned(),
        Value::String(..) | Value::Char(..) => "text".to_owned(),
        Value::Dict(..) => "a table".to_owned(),
    }
}

/// Any value as the file would have it, for messages; cut when long.
pub(super) fn show_raw(value: &Value) -> String {
    let text =
        serde_json::to_value(value).map_or_else(|_| "a value that cannot be shown".to_owned(), as_json);
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn text_of<'a>(raw: Raw<'a>) -> Result<&'a str, String> {
    match raw.value {
        Value::String(_, text) => Ok(text),
        Value::Num(..) | Value::Bool(..) => Err("must be text: put it in quotes".to_owned()),
        Value::Char(..) | Value::Empty(..) | Value::Dict(..) | Value::Array(..) => {
            Err("must be text in quotes".to_owned())
        }
    }
}

/// A list or table in a variable or flag is JSON; in the file it already is what it is.
fn structured(raw: Raw<'_>, example: &str) -> Result<Value, String> {
    match raw.value {
        Value::String(_, text) if raw.textual => serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|json| Value::serialize(json).ok())
            .ok_or_else(|| format!("must be JSON such as {example}")),
        other => Ok(other.clone()),
    }
}

impl Setting for Duration {
    fn kind(&self) -> String {
        "duration".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String> {
        let rule = || "must be a duration such as 3 (seconds), \"3s\", \"250ms\" or \"1m 30s\"".to_owned();
        let span = match raw.value {
            Value::String(_, text) => parse_duration(text),
            Value::Num(_, number) => seconds(*number),
            Value::Char(..) | Value::Bool(..) | Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
        }
        .ok_or_else(rule)?;
        if let Limits::Span(least, most) = limits {
            if span < least {
                return Err(format!("must be at least {}", show_duration(least)));
            }
            if span > most {
                return Err(format!("must be at most {}", show_duration(most)));
            }
        }
        *self = span;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&show_duration(*self)))
    }
}

fn seconds(number: Num) -> Option<Duration> {
    whole(number).map(Duration::from_secs).or_else(|| {
        let fraction = match number {
            Num::F64(n) => n,
            Num::F32(n) => f64::from(n),
            _ => return None,
        };
        Duration::try_from_secs_f64(fraction).ok()
    })
}

/// A whole number that is not negative: TOML gives signed ones, JSON the smallest kind that fits.
fn whole(number: Num) -> Option<u64> {
    let unsigned = number.to_u128().and_then(|n| u64::try_from(n).ok());
    unsigned.or_else(|| number.to_i128().and_then(|n| u64::try_from(n).ok()))
}

impl Setting for bool {
    fn kind(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        *self = match raw.value {
            Value::Bool(_, value) => *value,
            Value::String(_, text) if raw.textual && text.trim().eq_ignore_ascii_case("true") => true,
            Value::String(_, text) if raw.textual && text.trim().eq_ignore_ascii_case("false") => false,
            _ => return Err("must be true or false, without quotes".to_owned()),
        };
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u32 {
    fn kind(&self) -> String {
        "whole number".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String> {
        let (least, most) = match limits {
            Limits::Count(least, most) => (least, most),
            Limits::Any | Limits::Span(..) => (0, u64::from(Self::MAX)),
        };
        let rule = || format!("must be a whole number from {least} to {most}");
        let number = match raw.value {
            Value::Num(_, number) => whole(*number),
            Value::String(_, text) if raw.textual => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|n| (least..=most).contains(n)).ok_or_else(rule)?;
        *self = Self::try_from(number).map_err(|_| rule())?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    fn kind(&self) -> String {
        "text".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        text_of(raw)?.clone_into(self);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    fn kind(&self) -> String {
        "absolute path".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        let text = text_of(raw)?;
        if text.contains('\0') {
            return Err("must not contain a NUL byte".to_owned());
        }
        let path = Self::from(text);
        if !path.is_absolute() {
            return Err("must be an absolute path, beginning with /".to_owned());
        }
        *self = path;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Setting for SocketAddr {
    fn kind(&self) -> String {
        "IP address and port".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        *self = text_of(raw)?.trim().parse().map_err(|_| {
            "must be an IP address and a port such as \"0.0.0.0:5001\" or \"[::]:5001\"".to_owned()
        })?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for Vec<String> {
    fn kind(&self) -> String {
        "list of texts".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        let rule = || "must be a list of texts such as [\"a\", \"b\"]".to_owned();
        let Value::Array(_, items) = structured(raw, "[\"a\", \"b\"]")? else { return Err(rule()) };
        *self = items.into_iter().map(Value::into_string).collect::<Option<Self>>().ok_or_else(rule)?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some(as_json(self.clone()))
    }
}

/// What a field that may be unset begins with before its value is read.
pub(super) trait Blank {
    /// Overwritten at once.
    fn blank() -> Self;
}

macro_rules! blank {
    ($($type:ty),+) => {
        $(impl Blank for $type {
            fn blank() -> Self {
                Self::default()
            }
        })+
    };
}
blank!(Duration, String, PathBuf, Vec<String>, Secret);

impl<T: Setting + Blank> Setting for Option<T> {
    fn kind(&self) -> String {
        T::blank().kind()
    }

    fn read(&mut self, raw: Raw<'_>, limits: Limits) -> Result<(), String> {
        let mut value = T::blank();
        value.read(raw, limits)?;
        *self = Some(value);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Setting::show)
    }

    fn is_secret(&self) -> bool {
        T::blank().is_secret()
    }

    fn show_wrong(&self, value: &Value) -> String {
        T::blank().show_wrong(value)
    }
}

/// A secret text: never shown, not in errors either.
#[derive(Clone, Debug, Default)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself; handle with care.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

impl Setting for Secret {
    fn kind(&self) -> String {
        "secret text".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        self.0 = SecretString::from(text_of(raw)?);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        Some("(secret)".to_owned())
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// Variables for a plugin. Names are shown, values never: they often are passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show().unwrap_or_default())
    }
}

impl Setting for Variables {
    fn kind(&self) -> String {
        "table of texts".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        let rule = || "must be a table of texts such as { NAME = \"value\" }".to_owned();
        let Value::Dict(_, entries) = structured(raw, "{\"NAME\": \"value\"}")? else { return Err(rule()) };
        let mut variables = BTreeMap::new();
        for (name, value) in entries {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("{} is not the name of a variable", quoted(&name)));
            }
            let value = value.into_string().filter(|value| !value.contains('\0')).ok_or_else(rule)?;
            variables.insert(name, value);
        }
        self.0 = variables;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        let names: Vec<String> = self.0.keys().map(|name| format!("{name} = (secret)")).collect();
        Some(if names.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", names.join(", ")) })
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// A closed set of words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every word of this version.
    const WORDS: &'static [(&'static str, Self)];
    /// Words of the design that this version does not have.
    const LATER: &'static [&'static str] = &[];
}

/// Reads a word of a closed set.
pub(super) fn read_choice<T: Choice>(raw: Raw<'_>) -> Result<T, String> {
    let text = text_of(raw)?;
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let allowed: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let list = allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    if T::LATER.contains(&text) {
        return Err(format!("not in this version; it has {list}"));
    }
    let hint = nearest(text, allowed).map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default();
    Err(format!("must be one of {list}{hint}"))
}

/// Makes an enum a [`Setting`] by its list of words.
macro_rules! choice {
    ($type:ty { $($word:literal => $value:path),+ $(,)? } $(later { $($later:literal),+ $(,)? })?) => {
        impl $crate::settings::value::Choice for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $value)),+];
            $(const LATER: &'static [&'static str] = &[$($later),+];)?
        }

        impl $crate::settings::value::Setting for $type {
            fn kind(&self) -> String {
                let words: Vec<&str> =
                    <Self as $crate::settings::value::Choice>::WORDS.iter().map(|(word, _)| *word).collect();
                words.join(" / ")
            }

            fn read(
                &mut self,
                raw: $crate::settings::value::Raw<'_>,
                _: $crate::settings::value::Limits,
            ) -> Result<(), String> {
                *self = $crate::settings::value::read_choice(raw)?;
                Ok(())
            }

            fn show(&self) -> Option<String> {
                <Self as $crate::settings::value::Choice>::WORDS
                    .iter()
                    .find(|(_, value)| value == self)
                    .map(|(word, _)| $crate::settings::value::quoted(word))
            }
        }
    };
}
pub(super) use choice;
