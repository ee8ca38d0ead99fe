// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A plan: what the device does to the interrupts and packets of a guest, in a TOML file, and what
//! testvm puts the guest through meanwhile.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::packets::{PacketPolicy, Packets};
use super::{Moderation, Policies, Policy};

mod load;
mod run;

pub use load::{LoadError, load};
pub use run::{Behaviour, Driver, Expectation, Owner, Run, Traffic};

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is for, in a line.
    pub about: String,
    /// Seed of the policies' random choices.
    #[serde(default = "seed_1")]
    pub seed: u64,
    /// What an arm of the tsnic driver does.
    #[serde(default)]
    pub rearm: Rearm,
    /// Moderation of each vector; at once, when left out.
    #[serde(default)]
    pub moderation: Vec<Moderation>,
    /// The policies.
    #[serde(default)]
    pub policy: Vec<Policy>,
    /// The packet policies.
    #[serde(default)]
    pub packets: Vec<PacketPolicy>,
    /// Queue pairs that have something else instead of all these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pair: Vec<PairPlan>,
    /// What testvm does; the device does not look at it.
    #[serde(default)]
    pub run: Run,
}

/// What one queue pair has instead of the plan's moderation, policies and packet policies: of that
/// which is left out, none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPlan {
    /// Number of the pair, 0 to 7.
    pub number: u16,
    /// Its moderation.
    #[serde(default)]
    pub moderation: Vec<Moderation>,
    /// Its policies.
    #[serde(default)]
    pub policy: Vec<Policy>,
    /// Its packet policies.
    #[serde(default)]
    pub packets: Vec<PacketPolicy>,
}

/// Greatest number of a queue pair.
const PAIR_MAX: u16 = 7;

const fn seed_1() -> u64 {
    1
}

/// Kinds of devices: what an arm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rearm {
    /// One interrupt for each arm, none for a packet that one was raised for.
    #[default]
    OneShot,
    /// One for each arm, also for packets that one was raised for and that the driver left.
    Level,
    /// One for each arm, and only for packets that come after it.
    Edge,
    /// Interrupts go on after the first one without waiting for the next arm.
    NoAutomask,
}

impl Plan {
    /// The plan of one queue pair: what it has, with a seed of its own.
    #[must_use]
    pub fn of_pair(&self, number: u16) -> Self {
        let mut plan = Self { pair: Vec::new(), ..self.clone() };
        plan.seed = plan.seed.wrapping_add(number.into());
        if let Some(pair) = self.pair.iter().find(|pair| pair.number == number) {
            plan.moderation.clone_from(&pair.moderation);
            plan.policy.clone_from(&pair.policy);
            plan.packets.clone_from(&pair.packets);
        }
        plan
    }

    /// Its policies, as the control socket takes them.
    #[must_use]
    pub fn policies(&self) -> Policies {
        Policies { seed: self.seed, policies: self.policy.clone() }
    }

    /// Its packet policies, as the control socket takes them.
    #[must_use]
    pub fn packets(&self) -> Packets {
        Packets { seed: self.seed, packets: self.packets.clone() }
    }
}

/// Where in a text something is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A plan that is none: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Where.
    pub position: Position,
    /// Why, and what would be right.
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)
    }
}

impl std::error::Error for PlanError {}

/// Reads a plan. Whether its policies can be, the device says.
///
/// # Errors
/// When it is no TOML, has a field that is not known, or lacks one.
pub fn parse(text: &str) -> Result<Plan, PlanError> {
    let plan: Plan = toml::from_str(text).map_err(|error: Error| PlanError {
        position: Position::of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    if let Some((field, message)) = plan.contradiction() {
        return Err(PlanError {
            position: position(text, &[Step::Field("run"), Step::Field(field)]),
            message: format!("{field}: {message}"),
        });
    }
    if let Some((place, message)) = plan.wrong_pair() {
        let path = [Step::Field("pair"), Step::Entry(place), Step::Field("number")];
        return Err(PlanError { position: position(text, &path), message });
    }
    Ok(plan)
}

impl Plan {
    /// A field of `[run]` that another one excludes, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let Run { driver, behaviour, traffic, owner, inject_per_mille, stall, .. } = self.run;
        let no = |field, why: &str| Some((field, why.to_owned()));
        let ours = driver.is_some_and(|driver| driver != Driver::VirtioNet);
        if behaviour.is_some() && !ours {
            return no("behaviour", "only the tsnic driver has one: driver is v4_11 or v4_10");
        }
        if traffic.is_placed() {
            if !ours {
                let why = "this traffic needs the tsnic driver: v4_11, v4_10 or livepatch";
                return no("traffic", why);
            }
            let bare = self.policy.is_empty() && self.packets.is_empty() && self.pair.is_empty();
            if !bare || !self.moderation.is_empty() || behaviour.is_some() {
                let why = format!(
                    "{traffic} places its packets and interrupts itself, and excludes policies, \
                     packets, moderation and behaviour"
                );
                return Some(("traffic", why));
            }
        } else if driver == Some(Driver::Livepatch) {
            let why = "livepatch goes with traffic natural, rendezvous or injected-rpc";
            return no("driver", why);
        }
        match (traffic, owner) {
            (Traffic::Rendezvous, None) => {
                return no("traffic", "a rendezvous needs an owner: driver, busy-poll or watchdog");
            }
            (Traffic::Rendezvous, Some(_)) | (_, None) => {}
            (_, Some(_)) => return no("owner", "only traffic rendezvous has one"),
        }
        match (traffic, inject_per_mille) {
            (Traffic::InjectedRpc, None) => {
                return no("traffic", "injected-rpc needs inject_per_mille, 0 to 1000");
            }
            (Traffic::InjectedRpc, Some(1001..)) => return no("inject_per_mille", "0 to 1000"),
            (Traffic::InjectedRpc, Some(_)) | (_, None) => {}
            (_, Some(_)) => return no("inject_per_mille", "only traffic injected-rpc has it"),
        }
        if stall.is_some() && self.run.expect != Expectation::Stalls {
            let why = "a driver that stalls is expected only with expect = \"stalls\"";
            return no("stall", why);
        }
        None
    }

    /// The place of a pair whose number cannot be, and why.
    fn wrong_pair(&self) -> Option<(usize, String)> {
        let numbers: Vec<_> = self.pair.iter().map(|pair| pair.number).collect();
        let wrong = |(place, number): (usize, &u16)| {
            if *number > PAIR_MAX {
                Some((place, format!("number is {number}: 0 to {PAIR_MAX}")))
            } else if numbers[..place].contains(number) {
                Some((place, format!("queue pair {number} is said twice")))
            } else {
                None
            }
        };
        numbers.iter().enumerate().find_map(wrong)
    }
}

/// A step from a value of a plan to one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The field of this name.
    Field(&'a str),
    /// The entry of a list, from 0.
    Entry(usize),
}

/// Where in a plan the value at the end of a path is: as far as the path leads.
#[must_use]
pub fn position(text: &str, path: &[Step<'_>]) -> Position {
    let Ok(table) = DeTable::parse(text) else { return Position::of(text, 0) };
    let mut found: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let next = match (*step, found.map(Spanned::get_ref)) {
            (Step::Field(name), None) => table.get_ref().get(name),
            (Step::Field(name), Some(value)) => value.as_table().and_then(|it| it.get(name)),
            (Step::Entry(place), Some(value)) => value.as_array().and_then(|it| it.get(place)),
            (Step::Entry(_), None) => None,
        };
        let Some(next) = next else { break };
        found = Some(next);
    }
    Position::of(text, found.map_or(0, |value| value.span().start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAN: &str = "about = 'x'\n\n[[policy]]\nkind = 'fixed-delay'\ndelay_us = 3\n\n[[policy]]\n\
                        vector = 'tx'\nkind = 'drop'\nper_mille = 2000\n";

    #[test]
    fn what_is_wrong_is_found_where_it_stands() {
        for (text, line, column, needle) in [
            ("seed = 1\n", 1, 1, "missing field `about`"),
            ("about = 'x'\nsede = 1\n", 2, 1, "unknown field `sede`"),
            ("about = 'x'\n[[policy]]\nkind = 'jiter'\n", 3, 8, "unknown variant `jiter`"),
            ("about = 'x'\n[[policy]]\nkind = 'drop'\nper_mile = 1\n", 4, 1, "`per_mile`"),
            ("about = 'x'\n[[policy]]\nkind = 'drop'\nper_mille = -1\n", 4, 13, "-1"),
            ("about = 'x'\n[[policy]\n", 2, 10, ""),
            ("about = 'x'\n[[packets]]\nkind = 'lose'\n", 3, 8, "unknown variant `lose`"),
            ("about = 'x'\n[run]\nexpect = 'wins'\n", 3, 10, "unknown variant `wins`"),
            ("about = 'x'\n[run]\nbehaviour = 'no-kick'\n", 3, 13, "only the tsnic driver"),
            (
                "about = 'x'\n[run]\ndriver = 'virtio_net'\ntraffic = 'natural'\n",
                4,
                11,
                "needs the tsnic driver",
            ),
            (
                "about = 'x'\n[[policy]]\nkind = 'drop'\nper_mille = 1\n[run]\n\
                 driver = 'v4_10'\ntraffic = 'natural'\n",
                7,
                11,
                "excludes policies",
            ),
            (
                "about = 'x'\n[run]\ndriver = 'v4_10'\ntraffic = 'rendezvous'\n",
                4,
                11,
                "needs an owner",
            ),
            ("about = 'x'\n[run]\nowner = 'watchdog'\n", 3, 9, "only traffic rendezvous"),
            (
                "about = 'x'\n[run]\ndriver = 'v4_10'\ntraffic = 'injected-rpc'\n",
                4,
                11,
                "needs inject_per_mille",
            ),
            (
                "about = 'x'\n[run]\ndriver = 'v4_10'\ntraffic = 'injected-rpc'\n\
                 inject_per_mille = 1001\n",
                5,
                20,
                "0 to 1000",
            ),
            ("about = 'x'\n[run]\ninject_per_mille = 3\n", 3, 20, "only traffic injected-rpc"),
            ("about = 'x'\n[run]\ndriver = 'livepatch'\n", 3, 10, "goes with traffic natural"),
            ("about = 'x'\n[run]\nstall = 'lost'\n", 3, 9, "expect = \"stalls\""),
            ("about = 'x'\n[[pair]]\n", 2, 1, "missing field `number`"),
            ("about = 'x'\n[[pair]]\nnumber = 8\n", 3, 10, "number is 8: 0 to 7"),
            ("about = 'x'\n[[pair]]\nnumber = 1\n[[pair]]\nnumber = 1\n", 5, 10, "said twice"),
            ("about = 'x'\n[[pair]]\nnumber = 1\nseed = 1\n", 4, 1, "unknown field `seed`"),
            (
                "about = 'x'\n[[pair]]\nnumber = 1\n[run]\ndriver = 'v4_10'\n\
                 traffic = 'natural'\n",
                6,
                11,
                "excludes policies",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.position.line, error.position.column), (line, column), "{error}");
            assert!(error.message.contains(needle), "{error}");
        }
    }

    #[test]
    fn entries_and_fields_are_found() {
        let plan = parse(PLAN).expect("it is right");
        assert_eq!((plan.policy.len(), plan.seed), (2, 1));
        let at = |place, field| {
            let path = [Step::Field("policy"), Step::Entry(place), Step::Field(field)];
            position(PLAN, &path).to_string()
        };
        assert_eq!(at(0, "delay_us"), "5:12");
        assert_eq!(at(1, "per_mille"), "10:13");
        assert_eq!(at(1, "nothing"), "7:1");
        assert_eq!(position(PLAN, &[Step::Field("policies")]).to_string(), "1:1");
        assert_eq!(position(PLAN, &[Step::Entry(1)]).to_string(), "1:1");
    }

    #[test]
    fn a_pair_has_what_is_said_of_it_and_nothing_else() {
        let text = format!("{PLAN}[[pair]]\nnumber = 2\n[[pair.moderation]]\nvector = 'rx'\n");
        let plan = parse(&text).expect("it is right");
        let [other, pair] = [1, 2].map(|number| plan.of_pair(number));
        assert_eq!((other.policy.len(), other.moderation.len(), other.seed), (2, 0, 2));
        assert_eq!((pair.policy.len(), pair.moderation.len(), pair.seed), (0, 1, 3));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,80}", cut in 0usize..160) {
            let _ = parse(&text);
            let cut = cut.min(PLAN.len());
            let text = format!("{}{text}{}", &PLAN[..cut], &PLAN[cut..]);
            if let Err(error) = parse(&text) {
                prop_assert!(error.position.line <= text.matches('\n').count() + 1);
            }
            let path = [Step::Field("policy"), Step::Entry(1), Step::Field("kind")];
            let _ = position(&text, &path);
        }
    }
}
