//! Links between documents: each relative link of a Markdown file leads to something that exists.
//!
//! Links to other places (`https:`), to a heading of the same page (`#…`) and whatever stands in a code block are not
//! looked at.

use super::{Example, Finding, Rule, TextFile, Tree};

/// Relative links lead somewhere.
pub(super) const LINKS: Rule = Rule {
    name: "dead-link",
    reason: "a reader who follows a link that leads nowhere stops believing the rest of the page",
    check: |file, tree| if file.path.ends_with(".md") { dead(file, tree) } else { Vec::new() },
    refused: &[
        (1, Example::of("README.md", "See [the map](docs/missing.md).\n")),
        (3, Example::of("docs/adr/0001.md", "# A\n\n[b](../b.md#part)\n")),
        (1, Example::of("docs/a.md", "[a](../../outside.md)\n")),
    ],
    accepted: &[
        Example::of(
            "README.md",
            "[a](docs/a.md), [part](docs/a.md#part), [web](https://example.org/x.md), [top](#a).\n",
        ),
        Example::of("docs/adr/0001.md", "[up](../a.md) and [home](../../README.md) and [folder](../)\n"),
        Example::of("README.md", "```text\n[a](nowhere.md)\n```\n"),
        Example::of("crates/duty/src/a.rs", "//! [a](nowhere.md)\n"),
    ],
};

fn dead(file: &TextFile, tree: &dyn Tree) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut in_code = false;
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let targets =
            line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|_| !in_code) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !resolve(folder, path).is_some_and(|path| tree.has(&path)) {
                found.push(Finding { line: index + 1, what: format!("`{target}` does not exist") });
            }
        }
    }
    found
}

/// The path from the workspace's folder; `None` when it leads out of it.
fn resolve(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}
