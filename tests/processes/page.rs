//! A page of the documentation, followed command by command on a pair that runs.

use test_support::Pair;

/// The commands of a section, each with its node, in the order of the page.
pub(crate) fn commands(page: &'static str, section: &str) -> Vec<(&'static str, &'static str)> {
    let text = page.split("\n## ").find(|part| part.starts_with(section)).expect("the section");
    let blocks = text.split("```sh\n# on ").skip(1);
    let block = blocks.map(|block| block.split("\n```").next().unwrap_or_default().split_once('\n'));
    block.map(|block| block.expect("a node and its command")).collect()
}

/// Runs the next command of the page, which must be this one, with these words in the place of the page's.
#[track_caller]
pub(crate) fn step(
    pair: &Pair,
    steps: &mut impl Iterator<Item = (&'static str, &'static str)>,
    wanted: &str,
    instead: &[(&str, &str)],
) -> String {
    let (on, command) = steps.next().expect("another command in this section");
    assert_eq!(command, format!("onduty {wanted}"));
    let node = if on == "line1-a" { &pair.primary } else { &pair.secondary };
    let words: Vec<&str> = wanted
        .split(' ')
        .map(|word| instead.iter().find(|(from, _)| *from == word).map_or(word, |(_, to)| *to))
        .collect();
    let answer = node.ask(&words);
    assert_eq!(answer.code, Some(0), "{on}: {words:?}: {answer:?}");
    answer.stdout
}
