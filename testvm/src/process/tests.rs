// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn quiet(script: &str, limit: Duration) -> Result<String, Error> {
    run("script", &mut sh(script), limit, &mut |_| ())
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn output_of_both_streams_is_returned_line_by_line() {
    let mut lines = Vec::new();
    let text = run("script", &mut sh("echo one; echo two >&2"), LONG, &mut |l| {
        lines.push(l.to_owned());
    })
    .expect("success");
    assert_eq!(text, "one\ntwo\n");
    lines.retain(|l| !l.is_empty());
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn a_failure_shows_the_last_words() {
    let error = quiet("echo reason; exit 3", LONG).expect_err("exit 3");
    assert!(matches!(&error, Error::Failed { status, .. } if status.code() == Some(3)));
    assert!(error.to_string().ends_with("| reason"), "{error}");
}

#[test]
fn a_family_is_run_as_its_command_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = sh(r#"echo "$PWD $ONE ${HOME-unset} $0"; exit $ONE"#);
    command.arg("a b").current_dir(&dir).env("ONE", "7").env_remove("HOME");
    let error = run_family("script", &command, LONG, &mut |_| ()).expect_err("exit 7");
    assert!(matches!(&error, Error::Failed { status, .. } if status.code() == Some(7)), "{error}");
    let said = format!("| {} 7 unset a b", dir.path().display());
    assert!(error.to_string().ends_with(&said), "{error}");
    assert_eq!(
        run_family("script", &sh("echo fine"), LONG, &mut |_| ()).expect("success"),
        "fine\n"
    );
}

#[test]
fn a_missing_program_is_named() {
    let error = run("tool", &mut Command::new("/nonexistent/tool"), LONG, &mut |_| ())
        .expect_err("nothing there");
    assert!(error.to_string().contains("/nonexistent/tool"), "{error}");
}

#[test]
fn a_program_that_does_not_end_is_killed() {
    let started = Instant::now();
    let error = quiet("echo stuck; sleep 60", Duration::from_millis(300)).expect_err("too slow");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_whole_group_is_seen_dead() {
    adopt_orphans().expect("a subreaper");
    let mut command = sh("sleep 61 & sleep 62 & echo up; wait");
    let (mut reader, writer) = io::pipe().expect("a pipe");
    command.stdout(writer);
    let mut child = Child::spawn("family", &mut command).expect("a shell");
    command.stdout(Stdio::null());
    let mut up = [0; 3];
    reader.read_exact(&mut up).expect("the shell speaks");
    let group = Pid::from_raw(child.pid().cast_signed());
    child.kill().expect("all dead");
    assert_eq!(killpg(group, None), Err(Errno::ESRCH), "a member of the group is left");
}

#[test]
fn a_tail_has_no_control_characters_and_no_blank_lines() {
    let tail = Tail::of("one\n\n\u{1b}[2Jtwo\r\n three\n\n", 2);
    assert_eq!(tail.0, ["[2Jtwo", " three"]);
}

#[test]
fn standard_output_is_apart_when_it_is_asked_for() {
    let mut told = Vec::new();
    let mut each = |line: &str| told.push(line.to_owned());
    let command = sh("echo data; echo words >&2");
    let output = run_family_output("script", &command, LONG, &mut each).expect("success");
    assert_eq!(output, "data\n");
    told.retain(|line| !line.is_empty());
    assert_eq!(told, ["words"]);
    let command = sh("echo data; echo reason >&2; exit 3");
    let error = run_family_output("script", &command, LONG, &mut |_| ()).expect_err("exit 3");
    let said = error.to_string();
    assert!(said.ends_with("| reason") && !said.contains("data"), "{said}");
}
