//! `docs/configuration.md`, made from the rows that the loader reads by, so that it cannot say anything else.

use std::fmt::Write as _;

use super::node::NodeSettings;
use super::plugin::PluginDefinition;
use super::schema::{NODE, PLUGIN, Row};
use super::value::{Limits, show_duration};

const HEAD: &str = "\
<!-- Generated from crates/service-kit/src/settings by `UPDATE_DOCS=1 cargo test -p service-kit reference`. -->

# Configuration

One file in TOML is read by every service of a node. Later layers win:

```text
built in  <  settings file  <  changed at run time  <  environment  <  command line
```

**Variables.** Every setting can be given as a variable: `ONDUTY_`, then the key in capitals with `__` for each dot, such as
`ONDUTY_REDUNDANCY__MODE=secondary`. A variable is a setting only if its name has `__` after `ONDUTY_`; others are ignored, so
the variables that Kubernetes makes for services do no harm. Lists and tables in a variable are JSON:
`ONDUTY_PLUGINS__BRIDGE__COMMAND='[\"/opt/bridge/bridge\", \"--verbose\"]'`. The type of the setting decides, never the text: a key
`0123456789` stays text. A table in a variable is merged into the table of the file key by key; a list replaces the list.

**Changed at run time.** `onduty mode` changes `redundancy.mode` of a running node and keeps it in `productive.toml` in the data
directory; from then on it wins over the settings file, until that file is removed. A mode that a variable or a flag gives is
locked: it cannot be changed at run time. See [Swapping the roles](operations/swap-roles.md).

**Durations** are the same everywhere: `3`, `3.0`, `\"3s\"`, `\"250ms\"`, `\"1m 30s\"`. A bare number is seconds.

**Errors.** Unknown keys are errors. Every error names the key, the value, the rule and where the value came from (file and
line, variable or flag), and all of them are reported at once. `onduty config check` checks without starting anything,
`onduty config show` prints every value in force with where it came from. Secrets are never shown.

**Restart.** Settings are read at the start of a service: each change below takes effect with the next start, but for the mode
(`onduty mode`).
";

/// The whole page.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    let defaults = NodeSettings::default();
    let mut section = "";
    for row in NODE {
        let (first, _) = row.key.split_once('.').unwrap_or((row.key, ""));
        if first != section {
            section = first;
            heading(&mut page, &format!("`[{section}]`"));
        }
        line(&mut page, "", row, &defaults);
    }
    heading(&mut page, "`[plugins.<name>]`");
    for row in PLUGIN {
        line(&mut page, "plugins.<name>.", row, &PluginDefinition::default());
    }
    page.push_str("\nNames of plugins: `a-z`, `0-9` and single `_` between them, up to 64.\n\n");
    page.push_str(&crate::exit::reference_markdown());
    page
}

fn heading(page: &mut String, title: &str) {
    let _ = write!(
        page,
        "\n## {title}\n\n\
         | key | variable | type and unit | default | range | what it does | restart |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
}

fn line<T>(page: &mut String, above: &str, row: &Row<T>, defaults: &T) {
    let key = format!("{above}{}", row.key);
    let variable = format!("ONDUTY_{}", key.to_uppercase().replace('.', "__"));
    let field = (row.peek)(defaults);
    let kind = match field.kind() {
        words if words.contains(" / ") => {
            words.split(" / ").map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        kind => kind,
    };
    let default = match (row.otherwise, field.show()) {
        (Some(otherwise), _) => otherwise.to_owned(),
        (None, Some(shown)) => format!("`{shown}`"),
        (None, None) => "not set".to_owned(),
    };
    let range = match row.limits {
        Limits::Any => String::new(),
        Limits::Span(least, most) => format!("{} to {}", show_duration(least), show_duration(most)),
        Limits::Count(least, most) => format!("{least} to {most}"),
    };
    let _ = writeln!(page, "| `{key}` | `{variable}` | {kind} | {default} | {range} | {} | yes |", row.what);
}
