//! `cargo xtask tidy`: the rules of this code base that neither compiler nor clippy checks.
//!
//! ```text
//!  run ──► files::collect        every tracked kind of text file, without `target` and `.git`
//!      ──► RULES (one table)     each rule: name, reason, check, and examples that it refuses and accepts
//!            sources.rs          header, length of files and functions, cfg(test), unwanted words, machine paths
//!            floors.rs           which crate may depend on which
//!            links.rs            links between documents
//!      ──► findings, `file:line: rule: what (why)`
//! ```
//!
//! A rule without an example of each kind is refused by this module's own test: a rule nobody has seen at work is
//! one that nobody can trust.

mod files;
mod floors;
mod links;
mod sources;

use std::path::Path;

pub(crate) use files::TextFile;

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) what: String,
}

/// An example file: its path, and its text as a head, a line many times over, and a tail.
pub(crate) struct Example {
    path: &'static str,
    head: &'static str,
    line: (&'static str, usize),
    tail: &'static str,
}

impl Example {
    /// A short file.
    pub(crate) const fn of(path: &'static str, text: &'static str) -> Self {
        Self { path, head: text, line: ("", 0), tail: "" }
    }

    /// A file with `line` repeated `times` between `head` and `tail`.
    pub(crate) const fn long(
        path: &'static str,
        head: &'static str,
        (line, times): (&'static str, usize),
        tail: &'static str,
    ) -> Self {
        Self { path, head, line: (line, times), tail }
    }

    fn file(&self) -> TextFile {
        let (line, times) = self.line;
        TextFile {
            path: self.path.to_owned(),
            text: format!("{}{}{}", self.head, line.repeat(times), self.tail),
        }
    }
}

/// What exists in the workspace, for rules that look beyond one file.
pub(crate) trait Tree {
    /// Whether there is a file or folder with this path from the workspace's folder.
    fn has(&self, path: &str) -> bool;
}

impl Tree for &Path {
    fn has(&self, path: &str) -> bool {
        self.join(path).exists()
    }
}

/// The workspace of the examples.
struct ExampleTree;

impl Tree for ExampleTree {
    fn has(&self, path: &str) -> bool {
        ["README.md", "docs", "docs/a.md", "docs/adr/0001.md"].contains(&path)
    }
}

/// One rule.
pub(crate) struct Rule {
    /// Its name, as the message shows it.
    name: &'static str,
    /// Why it exists, as the message shows it.
    reason: &'static str,
    /// Finds the violations in one file.
    check: fn(&TextFile, &dyn Tree) -> Vec<Finding>,
    /// Files in which the rule finds exactly one violation, on the line given.
    refused: &'static [(usize, Example)],
    /// Files in which it finds none.
    accepted: &'static [Example],
}

/// Every rule.
const RULES: &[&Rule] = &[
    &sources::HEADER,
    &sources::FILE_LENGTH,
    &sources::FUNCTION_LENGTH,
    &sources::TEST_ONLY_CODE,
    &sources::UNFINISHED,
    &sources::MACHINE_PATH,
    &floors::FLOORS,
    &floors::PURE_CORE,
    &floors::GENERATED_TYPES,
    &links::LINKS,
];

/// Checks the whole workspace.
///
/// # Errors
///
/// One line for each violation, or why the workspace could not be read.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    RULES.iter().try_for_each(|rule| proven(rule))?;
    let files = files::collect(root).map_err(|error| format!("tidy: cannot read the workspace: {error}"))?;
    let complaints: Vec<String> = files.iter().flat_map(|file| complaints(file, &root)).collect();
    if complaints.is_empty() {
        println!("tidy: {} files, {} rules, nothing to complain about", files.len(), RULES.len());
        return Ok(());
    }
    let count = complaints.len();
    Err(format!("{}\ntidy: {count} violation{}", complaints.join("\n"), if count == 1 { "" } else { "s" }))
}

/// Whether a rule has examples and judges them as they say.
fn proven(rule: &Rule) -> Result<(), String> {
    let Rule { name, refused, accepted, .. } = rule;
    if refused.is_empty() || accepted.is_empty() {
        return Err(format!("tidy: rule `{name}` needs an example that it refuses and one that it accepts"));
    }
    let refused = refused.iter().map(|(line, example)| (vec![*line], example));
    let accepted = accepted.iter().map(|example| (Vec::new(), example));
    for (expected, example) in refused.chain(accepted) {
        let file = example.file();
        let found = (rule.check)(&file, &ExampleTree);
        let lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
        if lines != expected {
            let TextFile { path, text } = &file;
            return Err(format!(
                "tidy: rule `{name}` finds {found:?} instead of lines {expected:?} in {path}:\n{text}"
            ));
        }
    }
    Ok(())
}

fn complaints(file: &TextFile, tree: &dyn Tree) -> Vec<String> {
    let of_rule = |rule: &&Rule| {
        let Rule { name, reason, .. } = rule;
        let path = &file.path;
        (rule.check)(file, tree)
            .into_iter()
            .map(|Finding { line, what }| format!("{path}:{line}: {name}: {what} ({reason})"))
            .collect::<Vec<_>>()
    };
    RULES.iter().flat_map(of_rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_refuses_and_accepts_its_examples() {
        RULES.iter().try_for_each(|rule| proven(rule)).expect("proven");
    }

    #[test]
    fn a_rule_without_examples_or_with_a_wrong_one_is_refused() {
        let bare = Rule { refused: &[], ..sources::HEADER };
        assert!(proven(&bare).is_err_and(|why| why.contains("needs an example")));
        const WRONG: &[Example] = &[Example::of("crates/duty/src/a.rs", "fn f() {}\n")];
        let wrong = Rule { accepted: WRONG, ..sources::HEADER };
        assert!(proven(&wrong).is_err_and(|why| why.contains("crates/duty/src/a.rs")));
    }

    #[test]
    fn names_are_unique_and_every_rule_has_a_reason() {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        assert!(RULES.iter().all(|rule| rule.reason.len() > 20));
    }

    #[test]
    fn a_complaint_names_file_line_rule_and_reason() {
        let said = complaints(&Example::of("crates/duty/src/lib.rs", "pub mod a;\n").file(), &ExampleTree);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("crates/duty/src/lib.rs:1: header: "), "{said:?}");
        assert!(said[0].ends_with(&format!("({})", sources::HEADER.reason)), "{said:?}");
    }
}
