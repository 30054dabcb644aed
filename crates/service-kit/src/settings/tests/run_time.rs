//! The mode that was changed at run time: which layer wins, and what is said of a file that is not as it should be.

use failover_core::Mode;

use super::*;

/// A primary whose data directory is its own folder, and that could be a secondary.
fn place() -> Place {
    let place = Place::with("");
    let data_dir = place.folder.path().display().to_string();
    let file = format!(
        "[node]\nname = 'a'\ndata_dir = '{data_dir}'\n[redundancy]\nmode = 'primary'\nkey_file = '/k'\n\
         [redundancy.secondary]\naddress = 'https://b'\ntrust = 'store'\n"
    );
    std::fs::write(place.path(), file).unwrap();
    place
}

fn mode_and_source(place: &Place) -> (Mode, String) {
    let loaded = place.load().unwrap_or_else(|problems| panic!("{problems}"));
    let source = loaded.sources["redundancy.mode"].to_string();
    (loaded.settings.redundancy.mode, source.replace(&format!("{}/", place.folder.path().display()), ""))
}

#[test]
fn what_was_changed_at_run_time_wins_over_the_file_and_nothing_else() {
    let place = place();
    assert_eq!(mode_and_source(&place), (Mode::Primary, "onduty.toml:5".to_owned()));
    productive::keep_mode(place.folder.path(), Mode::Secondary).unwrap();
    let kept = "`onduty mode` (productive.toml)".to_owned();
    assert_eq!(mode_and_source(&place), (Mode::Secondary, kept.clone()));
    productive::keep_mode(place.folder.path(), Mode::Deactivated).unwrap();
    assert_eq!(mode_and_source(&place), (Mode::Deactivated, kept));

    let place = place.variable("ONDUTY_REDUNDANCY__MODE", "primary");
    let variable = "variable ONDUTY_REDUNDANCY__MODE".to_owned();
    assert_eq!(mode_and_source(&place), (Mode::Primary, variable));
    let place = place.flag("--set redundancy.mode", "redundancy.mode", "secondary");
    let flag = "flag --set redundancy.mode".to_owned();
    assert_eq!(mode_and_source(&place), (Mode::Secondary, flag));
}

#[test]
fn settings_are_judged_as_they_would_be_and_nothing_is_written() {
    let place = place();
    let as_if = |mode| {
        let options = LoadOptions { file: Some(place.path()), as_if: Some(mode), ..LoadOptions::default() };
        load(&options).map(|loaded| loaded.settings.redundancy.mode)
    };
    assert_eq!(as_if(Mode::Secondary), Ok(Mode::Secondary));
    let data_dir = place.folder.path().display().to_string();
    let bare = format!(
        "[node]\nname = 'a'\ndata_dir = '{data_dir}'\n[redundancy]\nmode = 'primary'\nkey_file = '/k'\n"
    );
    std::fs::write(place.path(), bare).unwrap();
    let refused = as_if(Mode::Secondary).unwrap_err().to_string();
    for key in ["`redundancy.secondary.address` is missing", "`redundancy.secondary.trust` is missing"] {
        assert!(refused.contains(key), "{refused}");
    }
    assert!(!productive::path(place.folder.path()).exists());
}

#[test]
fn a_file_that_cannot_be_used_says_what_to_do() {
    let place = place();
    let remedy =
        "the file is the node's own (`onduty mode` writes it): remove it, and the settings file counts again";
    for (content, said) in [
        ("mode", "is not TOML"),
        ("[redundancy]\ninterval = 3\n", "`redundancy.interval` does not belong here"),
        ("[redundancy.primary]\ntimeout = '9s'\n", "`redundancy.primary.timeout` does not belong here"),
    ] {
        std::fs::write(productive::path(place.folder.path()), content).unwrap();
        let problems = place.problems().join("\n");
        assert!(problems.contains(said) && problems.contains(remedy), "{content}: {problems}");
    }
    std::fs::write(productive::path(place.folder.path()), "[redundancy]\nmode = 'both'\n").unwrap();
    let problems = place.problems();
    assert!(
        problems[0].starts_with("`onduty mode` (productive.toml): `redundancy.mode` is \"both\""),
        "{problems:?}"
    );
}
