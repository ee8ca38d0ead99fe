// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::machine::cache_dir;
use super::*;
use crate::config::{AccelChoice, Config, Interrupts, KernelChoice, Series, UmlConfig};

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["testvm"], args].concat())
}

fn repro(args: &[&str]) -> Config {
    match parse(&[&["repro"], args].concat()).expect("valid arguments").command {
        Command::Repro(args) => args.try_into().expect("a configuration"),
        other => panic!("not repro: {other:?}"),
    }
}

fn uml(args: &[&str]) -> UmlConfig {
    match parse(&[&["uml"], args].concat()).expect("valid arguments").command {
        Command::Uml(args) => args.try_into().expect("a configuration"),
        other => panic!("not uml: {other:?}"),
    }
}

#[test]
fn the_defaults_are_the_full_run_on_the_stable_kernel() {
    let config = repro(&[]);
    assert!(!config.quick);
    assert_eq!(config.machine.kernel, KernelChoice::Debian(Series::Stable));
    assert_eq!(config.machine.accel, AccelChoice::Auto);
    assert_eq!(config.machine.interrupts, Interrupts::Msix);
}

#[test]
fn an_own_kernel_needs_both_its_image_and_its_build_directory() {
    for half in [&["--kernel", "/k"][..], &["--kernel-build", "/b"]] {
        let err = parse(&[&["repro"], half].concat()).expect_err("half a kernel");
        assert_eq!(err.exit_code(), 2);
    }
    let config = repro(&["--kernel", "/k", "--kernel-build", "/b"]);
    assert_eq!(config.machine.kernel, KernelChoice::Own { image: "/k".into(), build: "/b".into() });
}

#[test]
fn a_series_may_be_any_suite() {
    let series = |name| repro(&["--kernel-series", name]).machine.kernel;
    assert_eq!(series("backports"), KernelChoice::Debian(Series::Backports));
    let suite = Series::Suite("trixie-backports".to_owned());
    assert_eq!(series("trixie-backports"), KernelChoice::Debian(suite));
}

#[test]
fn an_own_kernel_excludes_a_series() {
    let own = ["repro", "--kernel", "/k", "--kernel-build", "/b"];
    let error = parse(&[&own, &["--kernel-series", "backports"][..]].concat());
    assert_eq!(error.expect_err("two kernels").kind(), clap::error::ErrorKind::ArgumentConflict);
}

#[test]
fn usage_errors_have_exit_code_2() {
    for bad in [
        &["repro", "--accel", "magic"][..],
        &["repro", "--rounds", "0"],
        &["repo"],
        &["boot", "--vcpus", "0"],
        &["napi", "--steps", "0"],
        &["check", "--only", "nothing"],
        &["repro", "--kernel-series", "../x"],
        &["repro", "--slow", "0"],
        &["uml", "--slow", "0"],
    ] {
        assert_eq!(parse(bad).expect_err("nonsense").exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn the_time_limits_have_a_factor() {
    let minute = std::time::Duration::from_secs(60);
    assert_eq!(repro(&[]).machine.scale.limit(minute), minute);
    assert_eq!(repro(&["--slow", "10"]).machine.scale.limit(minute), 10 * minute);
    assert_eq!(uml(&["--slow", "10"]).scale.limit(minute), 10 * minute);
}

#[test]
fn the_cache_is_looked_for_in_three_places() {
    let only = |name: &'static str| move |asked: &str| (asked == name).then(|| PathBuf::from("/x"));
    assert_eq!(cache_dir(only("TSNIC_CACHE")), Some("/x".into()));
    assert_eq!(cache_dir(only("XDG_CACHE_HOME")), Some("/x/tsnic".into()));
    assert_eq!(cache_dir(only("HOME")), Some("/x/.cache/tsnic".into()));
    assert_eq!(cache_dir(|_| None), None);
}

#[test]
fn relative_paths_become_absolute() {
    assert!(repro(&["--json", "out.json"]).json.expect("a path").is_absolute());
    assert!(uml(&["--json", "out.json"]).json.expect("a path").is_absolute());
}
