// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other people's programs in the guest.

use std::time::Duration;

use guest_protocol::{ProgramEnd, Ran, Reply, Request, Until};

use super::Bench;
use super::failure::Failure;
use crate::lab::ToolsFound;
use crate::process::Tail;
use crate::provision::Tools;

/// For a program that does something and ends.
const LIMIT: Duration = Duration::from_secs(20);
/// For the agent beside the program's own limit: the longest that it gives one that was asked to
/// end, and more.
const AGENT: Duration = Duration::from_secs(20);
/// Lines of a program that are shown when it fails.
const TAIL: usize = 20;

impl Bench {
    /// The programs, for a check that needs them.
    pub fn tools(&self) -> Result<&Tools, Failure> {
        match &self.tools {
            ToolsFound::Found(tools) => Ok(tools),
            ToolsFound::Unwanted => Err(Failure::Skip("The guest has no tools".into())),
            ToolsFound::Missing(why) => Err(Failure::Skip(format!("There are no tools: {why}"))),
        }
    }

    /// Runs a program of the tools to its end, which has to be a good one; what it has said.
    pub fn tool(&mut self, name: &str, args: &[&str]) -> Result<String, Failure> {
        self.run_tool(name, args, None, LIMIT)
    }

    /// Runs one until it has said `text` in so many `lines`; what it has said. That it has not said
    /// it in time is no verdict.
    pub fn tool_until(
        &mut self,
        name: &str,
        args: &[&str],
        (text, lines): (&str, usize),
        limit: Duration,
    ) -> Result<String, Failure> {
        self.run_tool(name, args, Some(Until { text: text.into(), lines }), limit)
    }

    fn run_tool(
        &mut self,
        name: &str,
        args: &[&str],
        until: Option<Until>,
        limit: Duration,
    ) -> Result<String, Failure> {
        self.tools()?;
        let limit_ms = u64::try_from(self.vm.limit(limit).as_millis()).unwrap_or(u64::MAX);
        let owned = args.iter().map(|&arg| arg.to_owned()).collect();
        let program = format!("/bin/{name}");
        let request = Request::Run { program, args: owned, until: until.clone(), limit_ms };
        let Ran { end, output, .. } = match self.vm.ask_within(&request, limit + AGENT)? {
            Reply::Ran(ran) => ran,
            other => return Err(Failure::Unmet(format!("The agent answers {other:?}"))),
        };
        let called = format!("{name} {}", args.join(" "));
        let said = || Tail::of(&output, TAIL);
        match (end, until) {
            (ProgramEnd::Exited(0), None) | (ProgramEnd::Enough, _) => Ok(output),
            (ProgramEnd::Exited(status), _) => {
                Err(Failure::Unmet(format!("{called} has ended with status {status}{}", said())))
            }
            (ProgramEnd::Signalled(signal), _) => {
                Err(Failure::Unmet(format!("{called} was ended by signal {signal}{}", said())))
            }
            (ProgramEnd::TimeLimit, Some(Until { text, lines })) => Err(Failure::Late(format!(
                "{called} has not said {text:?} {lines} times within {} s{}",
                limit_ms / 1_000,
                said()
            ))),
            (ProgramEnd::TimeLimit, None) => Err(Failure::Late(format!(
                "{called} has not ended within {} s{}",
                limit_ms / 1_000,
                said()
            ))),
        }
    }
}
