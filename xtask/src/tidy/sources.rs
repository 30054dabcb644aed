//! Rules about single files: header, sizes, tests inside production code, unfinished work, machine paths.
//!
//! Rust is read with `syn`, not by counting braces, so that a brace in a string or a comment changes nothing. A file
//! that does not parse is left to the compiler, which says it better. The examples name unwanted words and paths in
//! halves (`concat!`), so that this file obeys its own rules.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Example, Finding, Rule, TextFile};

/// The longest file, in lines.
const LONGEST_FILE: usize = 500;
/// The longest function, in lines from its signature to its closing brace.
const LONGEST_FUNCTION: usize = 70;
/// The longest test: a story is easier to follow in one piece.
const LONGEST_TEST: usize = 120;

/// Every file says why it exists.
pub(super) const HEADER: Rule = Rule {
    name: "header",
    reason: "a reader must learn from the first lines why a file exists and who calls it",
    check: |file, _| {
        let headed = file.text.trim_start().starts_with("//!");
        let finding = Finding { line: 1, what: "the file does not begin with a `//!` header".to_owned() };
        if file.is_written_rust() && !headed { vec![finding] } else { Vec::new() }
    },
    refused: &[
        (1, Example::of("crates/duty/src/a.rs", "pub mod b;\n")),
        (1, Example::of("crates/duty/src/a.rs", "// Not a header.\n")),
        (1, Example::of("crates/duty/src/a.rs", "")),
    ],
    accepted: &[
        Example::of("crates/duty/src/a.rs", "//! Why.\nfn f() {}\n"),
        Example::of("crates/onduty-api/src/generated/a.rs", "pub mod b;\n"),
    ],
};

/// Files stay readable in one sitting.
pub(super) const FILE_LENGTH: Rule = Rule {
    name: "file-length",
    reason: "a file of more than 500 lines has more than one subject; split it by subject",
    check: |file, _| {
        let lines = file.text.lines().count();
        let what = format!("the file has {lines} lines, more than {LONGEST_FILE}");
        let too_long = file.is_written_rust() && lines > LONGEST_FILE;
        if too_long { vec![Finding { line: LONGEST_FILE + 1, what }] } else { Vec::new() }
    },
    refused: &[(501, Example::long("crates/duty/src/a.rs", "//! Why.\n", ("// x\n", 500), ""))],
    accepted: &[
        Example::long("crates/duty/src/a.rs", "//! Why.\n", ("// x\n", 499), ""),
        Example::long("crates/onduty-api/src/generated/a.rs", "//! Why.\n", ("// x\n", 900), ""),
        Example::long("docs/long.md", "# Why\n", ("text\n", 900), ""),
    ],
};

/// Functions fit on a screen.
pub(super) const FUNCTION_LENGTH: Rule = Rule {
    name: "function-length",
    reason: "a function that fits on one screen can be checked by reading; name its parts",
    check: |file, _| scan(file).long_functions,
    refused: &[
        (2, Example::long("crates/duty/src/a.rs", "//! Why.\nfn f() {\n", ("    g();\n", 69), "}\n")),
        (
            4,
            Example::long(
                "a.rs",
                "//! Why.\nimpl A {\n    /// D.\n    fn f() {\n",
                ("        g();\n", 69),
                "}\n}\n",
            ),
        ),
        (2, Example::long("tests/processes/src/a.rs", "//! Why.\nfn f() {\n", ("    g();\n", 119), "}\n")),
    ],
    accepted: &[
        Example::long("crates/duty/src/a.rs", "//! Why.\nfn f() {\n", ("    g();\n", 68), "}\n"),
        Example::long("tests/processes/src/a.rs", "//! Why.\nfn f() {\n", ("    g();\n", 118), "}\n"),
        Example::long("a.rs", "//! Why.\n#[cfg(test)]\nmod t {\nfn f() {\n", ("    g();\n", 118), "}\n}\n"),
        Example::long("a.rs", "//! Why.\n#[tokio::test]\nasync fn f() {\n", ("    g();\n", 118), "}\n"),
    ],
};

/// What is tested is what runs.
pub(super) const TEST_ONLY_CODE: Rule = Rule {
    name: "test-only-code",
    reason: "a function that behaves differently under test proves nothing about the one that runs",
    check: |file, _| scan(file).test_only_code,
    refused: &[
        (3, Example::of("crates/duty/src/a.rs", "//! Why.\nfn f() {\n    if cfg!(test) { g(); }\n}\n")),
        (3, Example::of("crates/duty/src/a.rs", "//! Why.\nfn f() {\n    #[cfg(test)]\n    g();\n}\n")),
        (
            3,
            Example::of(
                "crates/duty/src/a.rs",
                "//! Why.\nfn f() -> u8 {\n    #[cfg(not(test))]\n    { 1 }\n}\n",
            ),
        ),
    ],
    accepted: &[
        Example::of(
            "crates/duty/src/a.rs",
            "//! Why.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n",
        ),
        Example::of(
            "crates/duty/src/a.rs",
            "//! Why.\nfn f() {\n    #[cfg(feature = \"test-clock\")]\n    g();\n}\n",
        ),
    ],
};

/// Nothing is left for later in the code.
pub(super) const UNFINISHED: Rule = Rule {
    name: "unfinished",
    reason: "work that is left over belongs into the issue tracker, where somebody will find it",
    check: |file, _| {
        let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
        let of_line = |(index, line): (usize, &str)| {
            let word = words.into_iter().find(|word| has_word(line, word))?;
            Some(Finding { line: index + 1, what: format!("`{word}` marks unfinished work") })
        };
        file.text.lines().enumerate().filter_map(of_line).collect()
    },
    refused: &[
        (2, Example::of("crates/duty/src/a.rs", concat!("//! Why.\n// TO", "DO: handle it\n"))),
        (1, Example::of("docs/a.md", concat!("FIX", "ME\n"))),
        (3, Example::of("justfile", concat!("a:\n    true\n# XX", "X\n"))),
    ],
    accepted: &[
        Example::of("docs/a.md", concat!("mktemp -t onduty.XX", "XXXX\n")),
        Example::of("crates/duty/src/a.rs", concat!("//! Why.\nconst TO", "DOS: u8 = 1;\n")),
    ],
};

/// The repository works on every machine.
pub(super) const MACHINE_PATH: Rule = Rule {
    name: "machine-path",
    reason: "a path of one person's machine works nowhere else",
    check: |file, _| {
        let paths =
            [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Use", "rs/"), concat!("/wo", "rk/")];
        let of_line = |(index, line): (usize, &str)| {
            let path = paths.into_iter().find(|path| names_path(line, path))?;
            Some(Finding { line: index + 1, what: format!("`{path}` is a folder of one machine") })
        };
        file.text.lines().enumerate().filter_map(of_line).collect()
    },
    refused: &[
        (1, Example::of("README.md", concat!("Look into `/ho", "me/ann/onduty`.\n"))),
        (2, Example::of("a.toml", concat!("[node]\ndata_dir = \"/ro", "ot/onduty\"\n"))),
    ],
    accepted: &[
        Example::of("README.md", "Look into `/var/lib/onduty` and https://example.org/home/page.\n"),
        Example::of("README.md", "The crates are in `crates/`, the network in `tests/netns/`.\n"),
    ],
};

/// Whether `word` stands in `line` by itself, not as a part of another word.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

/// Whether an absolute path begins with `path` somewhere in `line`; a part of a URL or of a longer path does not count.
fn names_path(line: &str, path: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}');
    line.match_indices(path).any(|(at, _)| !line[..at].chars().next_back().is_some_and(continues))
}

/// What reading the syntax of a file has found.
#[derive(Default)]
struct Scan {
    long_functions: Vec<Finding>,
    test_only_code: Vec<Finding>,
    inside_tests: bool,
    inside_function: bool,
}

fn scan(file: &TextFile) -> Scan {
    let mut scan = Scan { inside_tests: file.is_test_code(), ..Scan::default() };
    if file.is_written_rust()
        && let Ok(syntax) = syn::parse_file(&file.text)
    {
        scan.visit_file(&syntax);
    }
    scan
}

impl Scan {
    fn function(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature, end: Span) {
        let first = signature.fn_token.span.start().line;
        let lines = end.end().line.saturating_sub(first) + 1;
        let limit = if self.inside_tests || is_test(attributes) { LONGEST_TEST } else { LONGEST_FUNCTION };
        if lines > limit {
            let what = format!("`{}` has {lines} lines, more than {limit}", signature.ident);
            self.long_functions.push(Finding { line: first, what });
        }
    }

    /// Visits what is inside an item that may be for tests only, and comes back to what it was before.
    fn within(&mut self, tests: bool, function: bool, visit: impl FnOnce(&mut Self)) {
        let before = (self.inside_tests, self.inside_function);
        self.inside_tests |= tests;
        self.inside_function |= function;
        visit(self);
        (self.inside_tests, self.inside_function) = before;
    }

    fn test_only(&mut self, span: Span) {
        if self.inside_function && !self.inside_tests {
            let what = "code inside a function depends on `cfg(test)`".to_owned();
            self.test_only_code.push(Finding { line: span.start().line, what });
        }
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within(is_test(&module.attrs), false, |scan| visit::visit_item_mod(scan, module));
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.attrs, &function.sig, function.block.span());
        let visit_block = |scan: &mut Self| scan.visit_block(&function.block);
        self.within(is_test(&function.attrs), true, visit_block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.attrs, &function.sig, function.block.span());
        let visit_block = |scan: &mut Self| scan.visit_block(&function.block);
        self.within(is_test(&function.attrs), true, visit_block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.attrs, &function.sig, block.span());
            self.within(is_test(&function.attrs), true, |scan| scan.visit_block(block));
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if depends_on_test(attribute) {
            self.test_only(attribute.span());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.is_ident("cfg") && names_test(&call.tokens.to_string()) {
            self.test_only(call.span());
        }
    }
}

/// Whether the item exists in test builds only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let last = attribute.path().segments.last();
        last.is_some_and(|segment| segment.ident == "test") || depends_on_test(attribute)
    })
}

fn depends_on_test(attribute: &syn::Attribute) -> bool {
    let conditional = attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr");
    let syn::Meta::List(list) = &attribute.meta else { return false };
    conditional && names_test(&list.tokens.to_string())
}

/// Whether a configuration predicate names `test` itself, not a feature whose name contains the word.
fn names_test(predicate: &str) -> bool {
    predicate
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '"')))
        .any(|word| word == "test")
}
