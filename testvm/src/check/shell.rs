// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check of the guest's shell, which `testvm boot --hold` connects to the user's terminal.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::bench::Bench;
use crate::bench::failure::Failure;

const ROWS: u16 = 40;
const COLUMNS: u16 = 132;
const LIMIT: Duration = Duration::from_secs(10);
pub(super) const PROMPT: &str = "guest# ";
const CTRL_C: u8 = 3;

/// Check: what is typed is carried out by a shell, Ctrl-C ends a command and not the guest, and
/// after `exit` there is another shell.
pub fn answers(bench: &mut Bench) -> Result<String, Failure> {
    let kernel = bench.vm.ready().kernel.clone();
    let mut typist = Typist::start(bench)?;
    typist.say(bench, b"uname -r\r", &[&kernel, PROMPT])?;
    typist.say(bench, b"stty size\r", &[&format!("{ROWS} {COLUMNS}"), PROMPT])?;
    // What is typed is shown, too: an answer is something that was not typed.
    typist.say(bench, b"echo $((6 * 7)); sleep 10000\r", &["42"])?;
    typist.say(bench, &[CTRL_C], &[PROMPT])?;
    typist.say(bench, b"echo $((43 * 47))\r", &["2021", PROMPT])?;
    typist.say(bench, b"exit\r", &[PROMPT])?;
    typist.say(bench, b"echo $((47 * 53))\r", &["2491", PROMPT])?;
    Ok("commands, Ctrl-C, exit".into())
}

/// Who types at the guest's terminal.
#[derive(Debug)]
pub(super) struct Typist(UnixStream);

impl Typist {
    /// At the shell of this guest.
    pub(super) fn start(bench: &mut Bench) -> Result<Self, Failure> {
        if !bench.files().shell {
            return Err(Failure::Skip("There is no busybox on this host (busybox-static)".into()));
        }
        Ok(Self(bench.vm.shell(ROWS, COLUMNS)?))
    }

    /// Types `keys` and waits until the terminal has shown all of `answers`, one after the other.
    pub(super) fn say(
        &mut self,
        bench: &mut Bench,
        keys: &[u8],
        answers: &[&str],
    ) -> Result<(), Failure> {
        self.0.write_all(keys)?;
        let all = |said: &str| {
            answers
                .iter()
                .try_fold(said, |said, &answer| Some(said.split_once(answer)?.1))
                .is_some()
        };
        let limit = bench.vm.limit(LIMIT);
        let heard = bench.vm.hear_shell(&mut self.0, limit, all)?;
        if all(&heard) {
            return Ok(());
        }
        let keys = String::from_utf8_lossy(keys);
        Err(Failure::Late(format!("To {keys:?} the shell said {heard:?} and not {answers:?}")))
    }
}
