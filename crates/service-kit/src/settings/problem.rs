//! What is wrong with settings, in words a person can act on: key, value, rule and where the value came from.
//!
//! Every problem is reported, not only the first, because each restart of a service to find the next one costs a
//! trip to the machine.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::codes::Code;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Built in.
    Default,
    /// Built in, chosen by `redundancy.profile`.
    Profile(String),
    /// The settings file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1; `None` when the file as a whole is meant.
        line: Option<usize>,
    },
    /// Set at run time and kept in this file.
    RunTime(PathBuf),
    /// An environment variable, by its full name.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(name) => write!(f, "profile `{name}`"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::RunTime(path) => write!(f, "`onduty mode` ({})", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem; its page is in `docs/errors/`.
    pub code: Code,
    /// The key, such as `redundancy.mode`; empty when the file as a whole is meant.
    pub key: String,
    /// The value as it would be written in the file; secrets as `(secret)`; `None` when there is none.
    pub value: Option<String>,
    /// What is asked for, and what to do.
    pub rule: String,
    /// Where the value came from.
    pub source: Source,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, rule) = (&self.source, &self.rule);
        let sentence = match (&self.key, &self.value) {
            (key, _) if key.is_empty() => format!("{source}: {rule}"),
            (key, Some(value)) => format!("{source}: `{key}` is {value}: {rule}"),
            (key, None) => format!("{source}: `{key}` {rule}"),
        };
        // Keys and names are as somebody wrote them: nothing of them may look like another line, or be a terminal's command.
        f.write_str(&sentence.replace(char::is_control, "?"))
    }
}

/// Everything that is wrong, at least one thing. Shown with the code of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "the settings cannot be used: {only} [{}]", only.code),
            all => {
                write!(f, "the settings cannot be used, {} problems:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem} [{}]", problem.code))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// The key at a path. A part without a letter is a part, too: the empty key means the file as a whole.
pub(super) fn key_of(path: &[String]) -> String {
    let part = |part: &String| if part.is_empty() { "\"\"".to_owned() } else { part.clone() };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

/// The candidate that is most like `text`, if one is like it at all: at most a third of it differs.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let letters = lower.chars().count();
    let most = |candidate: &str| (candidate.len().max(letters) / 3).max(1);
    candidates
        .into_iter()
        // What is so much longer is not compared letter by letter: a whole file may have become one key.
        .filter(|candidate| letters.abs_diff(candidate.len()) <= most(candidate))
        .map(|candidate| (distance(&lower, candidate), candidate))
        .filter(|(changes, candidate)| *changes <= most(candidate))
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be inserted, deleted, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["interval", "timeout", "mode"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("itnerval", known), Some("interval"));
        assert_eq!(nearest("Mode", known), Some("mode"));
        assert_eq!(nearest("colour", known), None);
    }
}
