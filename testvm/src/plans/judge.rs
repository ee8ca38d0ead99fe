// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a trial shows of a driver: by the verdicts of the device's two detectors.

use tsnic_protocol::plan::{Expectation, Plan};
use tsnic_protocol::policy::Kind;
use tsnic_protocol::{Stalls, Status};

/// What the device's detectors have seen in a trial.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// RPCs answered.
    pub rpcs: u64,
    /// Packets that the driver lost.
    pub lost: u64,
    /// Packets lost because a policy had dropped their interrupt.
    pub lost_to_drops: u64,
    /// Times that the stall detector contradicted the loss detector.
    pub disagreements: u64,
    /// Verdicts of the stall detector.
    pub stalls: Stalls,
}

impl Seen {
    /// From one state of the device to a later one, while so many RPCs were answered.
    pub fn between(before: &Status, end: &Status, rpcs: u64) -> Self {
        let stalls = |status: &Status| status.stalls.clone().unwrap_or_default();
        let (then, now) = (&before.counters, &end.counters);
        Self {
            rpcs,
            lost: now.lost - then.lost,
            lost_to_drops: now.lost_to_drops - then.lost_to_drops,
            disagreements: now.detector_disagreements - then.detector_disagreements,
            stalls: stalls(end).since(&stalls(before)),
        }
    }

    /// Something came to a stop or was lost, whoever is to blame.
    pub const fn failed(&self) -> bool {
        self.lost + self.lost_to_drops + self.stalls.count() != 0
    }

    /// There is a verdict of a detector, on a driver or on the other detector.
    pub const fn accuses(&self) -> bool {
        self.failed() || self.disagreements != 0
    }
}

/// Policies of the plan drop interrupts.
pub fn drops(plan: &Plan) -> bool {
    plan.policy.iter().any(|policy| match policy.kind {
        Kind::Drop => policy.per_mille != Some(0),
        Kind::Replay => policy.schedule.iter().flatten().any(|entry| entry.dropped),
        _ => false,
    })
}

/// Whether that is what the plan expects; why not.
///
/// A plan that drops must be seen to have caused a stall, and nothing else may cause one.
pub fn judge(plan: &Plan, seen: &Seen) -> Result<(), String> {
    let Seen { rpcs, lost, lost_to_drops, disagreements, stalls } = seen;
    if *disagreements != 0 {
        return Err(format!(
            "The stall detector contradicted the loss detector {disagreements} times ({stalls})"
        ));
    }
    match plan.run.expect {
        Expectation::Survives if stalls.count() != 0 => Err(format!("It stalled: {stalls}")),
        Expectation::Survives if lost + lost_to_drops != 0 => Err(format!(
            "{lost} packets were lost, {lost_to_drops} more because their interrupt was dropped"
        )),
        Expectation::Stalls
            if drops(plan) && (stalls.by_policy() < stalls.count() || *lost != 0) =>
        {
            Err(format!("It stalled by itself: {lost} packets lost; {stalls}"))
        }
        Expectation::Stalls
            if plan.run.stall.is_some_and(|kind| stalls.of(kind) != stalls.count()) =>
        {
            Err(format!("It stalled otherwise than expected: {stalls}"))
        }
        Expectation::Stalls if !seen.failed() || drops(plan) && stalls.count() == 0 => {
            Err(format!("The device saw no stall in {rpcs} RPCs: this control has no power"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tsnic_protocol::plan::parse;
    use tsnic_protocol::stall::VectorStalls;

    use super::*;

    const DROP: &str = "[[policy]]\nkind = 'drop'\nper_mille = 1000\n";

    fn judged(policies: &str, expect: &str, seen: &Seen) -> Result<(), String> {
        let plan = format!("about = 'x'\n{policies}[run]\nexpect = '{expect}'\n");
        judge(&parse(&plan).expect("a plan"), seen)
    }

    fn stalls(vector: VectorStalls) -> Seen {
        Seen { stalls: Stalls { rx: VectorStalls::default(), tx: vector }, ..Seen::default() }
    }

    #[test]
    fn who_survives_has_had_no_verdict_but_slow() {
        let survives = |seen: &Seen| judged("", "survives", seen);
        survives(&Seen::default()).expect("nothing was seen");
        survives(&stalls(VectorStalls { slow: 3, nudges: 4, ..Default::default() }))
            .expect("slow is no failure");
        for vector in [
            VectorStalls { lost: 1, ..Default::default() },
            VectorStalls { ignored: 1, ..Default::default() },
            VectorStalls { suppressed: 1, ..Default::default() },
            VectorStalls { not_refilled: 1, ..Default::default() },
            VectorStalls { kick_lost: 1, ..Default::default() },
            VectorStalls { stopped: 1, ..Default::default() },
        ] {
            let why = survives(&stalls(vector)).expect_err("a stall");
            assert!(why.starts_with("It stalled: tx: 1 "), "{why}");
        }
        survives(&Seen { lost: 1, ..Seen::default() }).expect_err("a loss");
    }

    #[test]
    fn a_plan_that_drops_is_not_survived() {
        let dropped = VectorStalls { lost: 1, by_policy: 1, ..Default::default() };
        let why = judged(DROP, "survives", &stalls(dropped)).expect_err("a stall");
        assert!(why.contains("1 lost, 1 by policy"), "{why}");
        let rescued = Seen { lost_to_drops: 1, ..Seen::default() };
        judged(DROP, "survives", &rescued).expect_err("a loss");
    }

    #[test]
    fn a_control_has_to_be_seen_to_stall() {
        for control in ["", DROP, "rearm = 'edge'\n"] {
            let why = judged(control, "stalls", &Seen::default()).expect_err("nothing was seen");
            assert!(why.contains("no power"), "{why}");
        }
        judged("rearm = 'edge'\n", "stalls", &Seen { lost: 9, ..Seen::default() }).expect("lost");
        let lost = VectorStalls { lost: 1, ..Default::default() };
        judged("", "stalls", &stalls(lost.clone())).expect("a stall");
        judged(DROP, "stalls", &stalls(VectorStalls { by_policy: 1, ..lost })).expect("a stall");
    }

    #[test]
    fn a_control_that_drops_must_be_to_blame_for_all_of_it() {
        let rescued = Seen { lost_to_drops: 7, ..Seen::default() };
        judged(DROP, "stalls", &rescued).expect_err("the stall detector has seen nothing");
        let own = VectorStalls { lost: 2, by_policy: 1, ..Default::default() };
        let why = judged(DROP, "stalls", &stalls(own)).expect_err("one is the driver's");
        assert!(why.starts_with("It stalled by itself: 0 packets lost; tx: 2 lost"), "{why}");
    }

    #[test]
    fn detectors_that_disagree_fail_whatever_is_expected() {
        for (plan, expect) in [("", "survives"), ("rearm = 'edge'\n", "stalls")] {
            let seen = Seen { disagreements: 1, lost: 4, ..Seen::default() };
            let why = judged(plan, expect, &seen).expect_err("they disagree");
            assert!(why.contains("contradicted the loss detector 1 times"), "{why}");
        }
    }
}
