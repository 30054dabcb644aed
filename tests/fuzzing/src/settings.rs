//! `settings`: what a person writes. The bytes are the settings file and, after a byte 0, the environment: a line for each
//! variable, `NAME=value`.
//!
//! Settings either load, or every problem says where it is. What has loaded passes the rules again, can be forecast and
//! given to the machine, and loads to the same when it is written down as `onduty config show` prints it. No secret is
//! ever printed, whether it is right or wrong, in its place or beside a mistake.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;

use failover_core::{BootTime, Epoch, Identity, InstanceId, Machine, Memory, NodeId, NodeName, Now};
use service_kit::settings::{
    Effective, LoadOptions, Loaded, Override, Problem, Problems, Source, forecast, load, validate,
};
use tempfile::TempDir;

/// What stands for a secret in the corpus. Where the file has it as a key or a plugin's variable and nowhere else, nothing
/// that is printed may have it.
pub const SECRET: &str = "sEcReT-7f3a9c51d2";
/// The same for one that comes in a variable.
const OTHER_SECRET: &str = "oThEr-sEcReT-0b66e4";
/// The variables that it comes in, one at a time: two that are for secrets, and a slip.
const VARIABLES: [&str; 3] =
    ["ONDUTY_REDUNDANCY__KEY", "ONDUTY_PLUGINS__BRIDGE__ENV__TOKEN", "ONDUTY_REDUNDANCY__KEYS"];
/// The longest settings file that is read.
const LONGEST: usize = 64 * 1024;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// What a person writes.
///
/// # Panics
///
/// When a promise of the settings is broken.
pub fn settings(bytes: &[u8]) {
    if bytes.len() > LONGEST {
        return; // A file of more than a mebibyte is refused; up to there nothing else happens.
    }
    let end = bytes.iter().position(|byte| *byte == 0);
    let (file, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| TempDir::with_prefix("onduty-fuzzing-").expect("a folder"));
        written(&Written { folder, file, environment: environment(rest) });
    });
}

/// Settings as a person has written them.
struct Written<'a> {
    folder: &'a TempDir,
    file: &'a [u8],
    environment: Vec<(OsString, OsString)>,
}

impl Written<'_> {
    fn load(&self) -> Result<Loaded, Problems> {
        let path = self.folder.path().join("onduty.toml");
        fs::write(&path, self.file).expect("a file of this test");
        let flag =
            |key: &str, value: String| Override { flag: format!("--{key}"), key: key.to_owned(), value };
        // A node that runs on this machine has a folder of the usual name: it is none of ours.
        let says_where = contains(self.file, "data_dir")
            || self.environment.iter().any(|(name, _)| name.to_string_lossy().contains("DATA_DIR"));
        let data_dir = self.folder.path().join("data").to_string_lossy().into_owned();
        let overrides = if says_where { Vec::new() } else { vec![flag("node.data_dir", data_dir)] };
        load(&LoadOptions {
            file: Some(path),
            environment: self.environment.clone(),
            overrides,
            ..LoadOptions::default()
        })
    }

    fn and_variable(&self, name: &str, value: &str) -> Written<'_> {
        let mut environment = self.environment.clone();
        environment.push((name.into(), value.into()));
        Written { folder: self.folder, file: self.file, environment }
    }
}

fn environment(rest: &[u8]) -> Vec<(OsString, OsString)> {
    let text = String::from_utf8_lossy(rest);
    let lines = text.trim_start_matches('\0').lines().take(16);
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((OsString::from(name), OsString::from(value)))
    };
    lines.filter_map(pair).collect()
}

fn written(written: &Written<'_>) {
    let loaded = written.load();
    let printed = printed(&loaded);
    assert_eq!(printed, self::printed(&written.load()), "the same settings decide the same");
    if has_secrets_in_their_place_only(written) {
        assert!(!printed.contains(SECRET), "a secret is printed: {printed}");
    }
    match &loaded {
        Err(problems) => {
            assert!(!problems.0.is_empty());
            problems.0.iter().for_each(says_where_it_is);
        }
        Ok(loaded) => {
            can_be_used(loaded);
            loads_to_the_same(written, loaded);
        }
    }
    let name = VARIABLES[written.file.len() % VARIABLES.len()];
    if !contains(written.file, OTHER_SECRET) {
        let printed = self::printed(&written.and_variable(name, OTHER_SECRET).load());
        assert!(!printed.contains(OTHER_SECRET), "the secret of {name} is printed: {printed}");
    }
}

/// Everything that people or logs ever see of settings.
fn printed(loaded: &Result<Loaded, Problems>) -> String {
    match loaded {
        Ok(loaded) => format!("{loaded:?} {:?} {}", loaded.effective(), forecast(&loaded.settings)),
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

/// A problem names its key, or its line where there is no key yet; it is one line of text.
fn says_where_it_is(problem: &Problem) {
    let has_line = matches!(problem.source, Source::File { line: Some(_), .. } | Source::RunTime(_));
    assert!(!problem.key.is_empty() || has_line, "{problem:?}");
    assert!(!problem.rule.is_empty(), "{problem:?}");
    let shown = problem.to_string();
    assert!(!shown.chars().any(char::is_control), "a command for a terminal: {shown:?}");
}

fn can_be_used(loaded: &Loaded) {
    let verdict = validate(&loaded.settings, &loaded.sources);
    assert_eq!(verdict.problems, [], "what has loaded passes the rules again");
    assert_eq!(verdict.warnings, loaded.warnings);
    let name = NodeName::try_from(loaded.settings.node.name.clone()).expect("checked to be a name");
    let identity = Identity { node: NodeId([1; 16]), instance: InstanceId([2; 16]), name };
    let now = Now { boot: BootTime::from_millis(60_000), unix: 1_795_000_000 };
    let (machine, _) = Machine::new(now, loaded.core(identity, None), Memory::default(), Some(Epoch(0)));
    let _ = (machine.view(now), machine.deadline());
    for plugin in loaded.settings.plugins.values() {
        let commands =
            [Some(&plugin.command), plugin.ready.command.as_ref(), plugin.preflight.command.as_ref()];
        let dir = plugin.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        let words = commands.into_iter().flatten().flatten().chain(&dir).chain(&plugin.user);
        let variables = plugin.env.0.iter().flat_map(|(name, value)| [name, value]);
        for word in words.chain(variables) {
            assert!(!word.contains('\0'), "no program can be started with {word:?}");
        }
    }
}

/// `onduty config show`, written into a file, is the same settings. Secrets are not printed, and put in from elsewhere.
fn loads_to_the_same(written: &Written<'_>, loaded: &Loaded) {
    let file = as_file(loaded);
    let again = Written { folder: written.folder, file: file.as_bytes(), environment: Vec::new() };
    let again = again.load().unwrap_or_else(|problems| panic!("{problems}\n{file}"));
    let values = |loaded: &Loaded| -> Vec<(String, Option<String>)> {
        loaded.effective().into_iter().map(|Effective { key, value, .. }| (key, value)).collect()
    };
    assert_eq!(values(loaded), values(&again), "{file}");
    let of_file = |warning: &&String| !warning.contains("stands in");
    let warnings = |loaded: &Loaded| loaded.warnings.iter().filter(of_file).cloned().collect::<Vec<_>>();
    assert_eq!(warnings(loaded), warnings(&again), "{file}");
}

fn as_file(loaded: &Loaded) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let mut file = String::new();
    for Effective { key, value, .. } in loaded.effective() {
        let Some(mut value) = value else { continue };
        if key == "redundancy.key" {
            value = loaded.settings.redundancy.key.as_ref().map(|key| text(key.expose())).unwrap_or_default();
        }
        let plugin = key.strip_prefix("plugins.").and_then(|rest| rest.strip_suffix(".env"));
        if let Some(plugin) = plugin.and_then(|name| loaded.settings.plugins.get(name)) {
            let entry = |(name, value): (&String, &String)| format!("{} = {}", text(name), text(value));
            value = format!("{{ {} }}", plugin.env.0.iter().map(entry).collect::<Vec<_>>().join(", "));
        }
        file.push_str(&format!("{key} = {value}\n"));
    }
    file
}

/// Whether the file has the secret of the corpus as a key or as a plugin's variable, each as a whole, and nowhere else. In a
/// file that is no TOML no place is right.
fn has_secrets_in_their_place_only(written: &Written<'_>) -> bool {
    let in_environment =
        written.environment.iter().any(|(name, value)| [name, value].iter().any(|text| is_in(text)));
    if in_environment {
        return false;
    }
    let Ok(text) = std::str::from_utf8(written.file) else { return true };
    let Ok(table) = text.trim_start_matches('\u{feff}').parse::<toml::Table>() else { return true };
    let all = text.matches(SECRET).count();
    let key = table.get("redundancy").and_then(|redundancy| redundancy.get("key"));
    let plugins = table.get("plugins").and_then(toml::Value::as_table).into_iter().flatten();
    let variables = plugins
        .filter_map(|(_, plugin)| plugin.get("env").and_then(toml::Value::as_table))
        .flat_map(|variables| variables.iter().map(|(_, value)| value));
    let in_place = key.into_iter().chain(variables).filter_map(toml::Value::as_str);
    all == in_place.map(|value| value.matches(SECRET).count()).sum::<usize>()
}

fn is_in(text: &OsString) -> bool {
    text.to_string_lossy().contains(SECRET)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
