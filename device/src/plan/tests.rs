// SPDX-License-Identifier: Apache-2.0 OR MIT

use tsnic_core::moderation::Limits;
use tsnic_core::policy::spec::Span;

use super::*;

fn parse(text: &str) -> Result<Plan, PlanError> {
    said::parse(text).and_then(|plan| Plan::of(&plan, text))
}

fn wrong(text: &str) -> String {
    parse(&format!("about = 'x'\n{text}")).expect_err(text).to_string()
}

#[test]
fn a_plan_says_what_the_device_does() {
    let plan = parse(
        "about = 'x'\nseed = 7\nrearm = 'edge'\n[[moderation]]\nvector = 'tx'\nusecs = 50\n\
         [[policy]]\nkind = 'fixed-delay'\ndelay_us = 9\n[[policy]]\nvector = 'tx'\n\
         kind = 'drop'\nper_mille = 1\n[[packets]]\ndirection = 'tx'\nkind = 'duplicate'\n\
         per_mille = 3\n[[packets]]\nkind = 'delay'\nfrom_us = 0\nto_us = 9\n",
    )
    .expect("it is right");
    let tx = Limits { usecs: 50, frames: 0 };
    let moderation = [Setting::default(), tx.into()];
    assert_eq!(plan.all.interrupts, InterruptConfig { moderation, rearm: Rearm::Edge });
    let stacks =
        [vec![PolicySpec::FixedDelay { delay_us: 9 }], vec![PolicySpec::Drop { per_mille: 1 }]];
    let packets = [
        vec![PacketSpec::Delay(Span { from_us: 0, to_us: 9 })],
        vec![PacketSpec::Duplicate { per_mille: 3, copies: 1 }],
    ];
    let commands = [PathCommand::Policies(7, stacks), PathCommand::Packets(7, packets)];
    assert_eq!(plan.commands(0), commands);
    assert!(!plan.is_conformant());
}

#[test]
fn a_pair_that_is_named_has_its_own() {
    let plan = parse(
        "about = 'x'\nseed = 7\n[[policy]]\nkind = 'fixed-delay'\ndelay_us = 9\n\
         [[pair]]\nnumber = 1\n[[pair.policy]]\nkind = 'drop'\nper_mille = 1\n\
         [[pair.moderation]]\nvector = 'rx'\nusecs = 5\n[[pair]]\nnumber = 2\n",
    )
    .expect("it is right");
    let policies = |spec| [vec![spec], vec![]];
    let delay = policies(PolicySpec::FixedDelay { delay_us: 9 });
    let drop = policies(PolicySpec::Drop { per_mille: 1 });
    assert_eq!(plan.commands(0), [PathCommand::Policies(7, delay.clone())]);
    assert_eq!(plan.commands(1), [PathCommand::Policies(8, drop)]);
    assert_eq!(plan.commands(2), []);
    assert_eq!(plan.commands(3), [PathCommand::Policies(10, delay)]);
    let usecs = |pair| plan.of_pair(pair).interrupts.moderation[0].limits.usecs;
    assert_eq!([0, 1, 2].map(usecs), [0, 5, 0]);
    assert!(!plan.is_conformant());
}

#[test]
fn what_cannot_be_is_named_with_its_place() {
    for (text, expected) in [
        (
            "[[policy]]\nkind = 'fixed-delay'\ndelay_us = 0\n",
            "4:12: fixed-delay: delay_us is 0: 1 or more",
        ),
        ("[[policy]]\nkind = 'fixed-delay'\n", "2:1: fixed-delay: needs delay_us"),
        (
            "[[policy]]\nkind = 'drop'\nper_mille = 1\ndelay_us = 3\n",
            "5:12: drop: has no delay_us; its fields: per_mille",
        ),
        (
            "[[policy]]\nkind = 'jitter'\nfrom_us = 5\nto_us = 4\n",
            "5:9: jitter: to_us is 4, less than from_us, 5",
        ),
        (
            "[[policy]]\nvector = 'tx'\nkind = 'arm-race'\nlatest_us = 9\n\
             [[policy]]\nkind = 'arm-race'\nlatest_us = 9\n\
             [[policy]]\nkind = 'on-progress'\nuntil = 'kick'\nlatest_us = 9\n",
            "9:1: on-progress: an interrupt can be held for one thing only, and one before it does",
        ),
        (
            "[[moderation]]\nvector = 'rx'\nusecs = 1000001\n",
            "4:9: usecs is 1000001, more than 1000000",
        ),
        (
            "[[moderation]]\nvector = 'rx'\n[[moderation]]\nvector = 'rx'\n",
            "5:10: moderation of this vector is said twice",
        ),
        (
            "[[packets]]\nkind = 'loss'\nper_mille = 1001\n",
            "4:13: loss: per_mille is 1001: 0 to 1000",
        ),
        (
            "[[packets]]\nkind = 'delay'\nfrom_us = 5\nto_us = 4\n",
            "4:11: delay: from_us is 5: 0 to 4",
        ),
        (
            "[[pair]]\nnumber = 3\n[[pair.policy]]\nkind = 'fixed-delay'\ndelay_us = 0\n",
            "6:12: fixed-delay: delay_us is 0: 1 or more",
        ),
        (
            "[[packets]]\nkind = 'reorder'\nper_mille = 5\nframes = 4\n",
            "2:1: reorder: needs latest_us",
        ),
        (
            "[[packets]]\nkind = 'loss'\nper_mille = 5\n[[packets]]\ndirection = 'tx'\n\
             kind = 'corrupt'\ncopies = 1\nper_mille = 5\n",
            "8:10: corrupt: has no copies; its fields: per_mille",
        ),
        (
            "[[packets]]\ndirection = 'up'\nkind = 'loss'\nper_mille = 5\n",
            "3:13: unknown variant `up`, expected `rx` or `tx`",
        ),
        (
            "[[policy]]\nkind = 'drop'\nper_mille = 5\nafter_ms = 3\nfor_ms = 0\n",
            "6:10: drop: for_ms is 0: 1 or more",
        ),
        (
            "[[policy]]\nkind = 'drop'\nper_mille = 5\nafter_ms = 3600001\n",
            "5:12: drop: after_ms is 3600001, more than 3600000",
        ),
        (
            "[[policy]]\nkind = 'replay'\nschedule = []\nfor_ms = 1\n",
            "2:1: replay: a record says itself when it acts",
        ),
        ("[[policy]]\nqueue = 3\n", "3:1: unknown field `queue`"),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(expected), "{error}, not {expected}");
    }
}

#[test]
fn every_field_of_a_policy_is_known_to_the_check_for_those_too_many() {
    // A field that is added is added to the list of those that are given, or is missed here.
    let keys = serde_json::to_value(tsnic_protocol::Policy {
        vector: tsnic_protocol::Vector::Rx,
        kind: tsnic_protocol::policy::Kind::Drop,
        after_ms: None,
        for_ms: None,
        delay_us: Some(1),
        from_us: Some(1),
        to_us: Some(1),
        slow_from_us: Some(1),
        slow_to_us: Some(1),
        mean_us: Some(1),
        max_us: Some(1),
        recorded_ns: Some(vec![1]),
        step_us: Some(1),
        until: Some(tsnic_protocol::policy::Until::Kick),
        latest_us: Some(1),
        copies: Some(1),
        lines: Some(1),
        gap_us: Some(1),
        every_us: Some(1),
        window_us: Some(1),
        per_mille: None,
        schedule: Some(vec![]),
        schedule_file: Some("it.json".into()),
    })
    .expect("it can be written");
    for (key, value) in keys.as_object().expect("it is an object") {
        // Of every kind.
        if ["vector", "kind", "after_ms", "for_ms"].contains(&key.as_str()) {
            continue;
        }
        let policy = serde_json::json!({"kind": "drop", "per_mille": 1, key: value});
        let policy = serde_json::from_value(policy).expect("it can be read");
        let error = policies::spec(&policy).expect_err(key);
        assert_eq!(error.field, Some(key.as_str()), "{error}");
    }
}
