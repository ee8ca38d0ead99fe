// SPDX-License-Identifier: Apache-2.0 OR MIT

use proptest::prelude::*;
use tsnic_abi::Counter;

use super::{Interrupts, Rearm};

/// A queue at a registration with nothing published and nothing consumed, number `at`.
fn registered(at: u32) -> Interrupts {
    Interrupts::at_registration(Counter(at), at as u16, Counter(0), Counter(0))
}

/// The same, armed.
fn armed(at: u32) -> Interrupts {
    let mut irq = registered(at);
    assert!(irq.arm(Counter(1), Counter(at)));
    irq
}

/// Rule 3: lets an interrupt through and raises it.
fn fire(irq: &mut Interrupts) -> Option<Counter> {
    irq.signal().then(|| irq.raise())
}

/// Numbers at which 16-bit and 32-bit counters wrap.
const WRAPS: [u32; 6] = [0, 0xfffe, 0xffff, 0x7fff_ffff, u32::MAX - 1, u32::MAX];

#[test]
fn rule_1_published_completions_advance_produced() {
    // "the completion record is written before the used index; `produced` advances."
    for at in WRAPS {
        let mut irq = registered(at);
        irq.publish(1);
        irq.publish(3);
        assert_eq!(irq.produced(), Counter(at).plus(4));
        assert_eq!(irq.signaled(), Counter(at));
    }
}

#[test]
fn rule_2_an_interrupt_is_requested_when_armed_and_produced_is_ahead_of_signaled() {
    // "An interrupt is requested when the queue is armed, `produced` is ahead of `signaled`, and
    // moderation allows."
    for at in WRAPS {
        let mut irq = registered(at);
        assert!(!irq.requested(), "neither armed nor ahead");
        irq.publish(1);
        assert!(!irq.requested(), "ahead, not armed");
        assert!(irq.arm(Counter(1), Counter(at)));
        assert!(irq.requested(), "armed and ahead");

        let mut irq = armed(at);
        assert!(!irq.requested(), "armed, not ahead");
        irq.publish(1);
        assert!(irq.requested());
    }
}

#[test]
fn rule_3_firing_sets_signaled_to_produced_clears_armed_and_advances_fired() {
    // "Firing sets `signaled = produced`, clears armed (one shot), advances `fired` and writes it
    // to the page"
    for at in WRAPS {
        let mut irq = armed(at);
        irq.publish(2);
        assert_eq!(fire(&mut irq), Some(Counter(1)));
        assert_eq!(irq.signaled(), irq.produced());
        assert!(!irq.armed());
        irq.publish(1);
        let before = irq.clone();
        assert_eq!(fire(&mut irq), None, "one shot");
        assert_eq!(irq, before, "a refused fire changes nothing");
    }
}

#[test]
fn rule_4_an_arm_takes_the_later_of_signaled_and_ci_and_arms() {
    // "`signaled = max(signaled, ci)`, armed is set; then rule 2 applies."
    for at in WRAPS {
        let mut irq = registered(at);
        irq.publish(3);
        assert!(irq.arm(Counter(1), Counter(at).plus(2)));
        assert_eq!(irq.signaled(), Counter(at).plus(2), "ci was ahead of signaled");
        assert!(irq.armed() && irq.requested());
        assert!(fire(&mut irq).is_some());
        assert!(irq.arm(Counter(2), Counter(at).plus(2)));
        assert_eq!(irq.signaled(), Counter(at).plus(3), "signaled was ahead of ci");
    }
}

#[test]
fn rule_4_the_device_never_raises_a_second_interrupt_for_a_completion_already_signaled() {
    // "The device never raises a second interrupt for a completion it has already signaled."
    for at in WRAPS {
        let mut irq = armed(at);
        irq.publish(1);
        assert!(fire(&mut irq).is_some());
        assert!(irq.arm(Counter(2), Counter(at)), "the driver has not consumed it");
        assert!(!irq.requested());
    }
}

#[test]
fn rule_4_arms_are_told_apart_by_a_sequence_number_compared_with_not_equal() {
    // "Arms are told apart by a sequence number compared with `!=`."
    let mut irq = armed(5);
    irq.publish(1);
    assert!(fire(&mut irq).is_some());
    assert!(!irq.arm(Counter(1), Counter(6)), "the known number is no arm");
    assert!(!irq.armed() && irq.ci() == Counter(5));
    assert!(irq.arm(Counter(0), Counter(6)), "a smaller number is one");
    assert!(irq.arm(Counter(u32::MAX), Counter(6)), "so is any other");
}

#[test]
fn rule_4_a_ci_ahead_of_produced_is_counted_and_taken_as_produced() {
    // "A `ci` ahead of `produced` is a driver error: it is counted and taken as `produced`."
    for at in WRAPS {
        let mut irq = armed(at);
        irq.publish(1);
        assert!(irq.arm(Counter(2), Counter(at).plus(2)));
        assert_eq!(
            (irq.ci(), irq.signaled(), irq.ci_errors()),
            (irq.produced(), irq.produced(), 1)
        );
        assert!(!irq.requested());
    }
}

#[test]
fn rule_4_a_ci_behind_an_earlier_one_is_counted_and_taken_as_the_earlier_one() {
    // "So is a `ci` behind an earlier one, which is taken as the earlier one."
    for at in WRAPS {
        let mut irq = armed(at);
        irq.publish(4);
        assert!(irq.arm(Counter(2), Counter(at).plus(3)));
        assert!(irq.arm(Counter(3), Counter(at).plus(2)));
        assert_eq!((irq.ci(), irq.ci_errors()), (Counter(at).plus(3), 1));
        assert!(irq.arm(Counter(4), Counter(at).plus(4 + (1 << 31))));
        assert_eq!(
            (irq.ci(), irq.ci_errors()),
            (Counter(at).plus(3), 2),
            "neither ahead nor behind"
        );
    }
}

#[test]
fn rule_5_lost_exactly_when_armed_signaled_to_the_end_and_not_consumed() {
    // "A packet is **lost** exactly when an arm has been processed, the queue is armed, `produced
    // == signaled`, and `ci` is behind `produced`: nothing in the device will ever fire for it."
    for at in WRAPS {
        let mut irq = armed(at);
        assert!(!irq.loss_candidate(), "nothing published");
        irq.publish(1);
        assert!(!irq.loss_candidate(), "an interrupt is requested");
        assert!(fire(&mut irq).is_some());
        assert!(
            !irq.loss_candidate(),
            "fired, not armed again: the interrupt or its poll is under way"
        );
        assert!(irq.arm(Counter(2), Counter(at)));
        assert!(irq.loss_candidate());
        irq.publish(1);
        assert!(!irq.loss_candidate() && irq.requested(), "the next packet ends it");
        assert!(fire(&mut irq).is_some());
        assert!(irq.arm(Counter(3), irq.produced()));
        assert!(!irq.loss_candidate(), "all consumed");
    }
}

#[test]
fn registration_produced_is_ci_widened_by_the_used_index_signaled_is_ci_not_armed() {
    // "`produced = ci + (u16)(used_index - ci)`, `signaled = ci`, not armed; the arm number in the
    // header is the baseline"
    let irq = Interrupts::at_registration(Counter(0x1_fffe), 0x0003, Counter(9), Counter(77));
    assert_eq!(irq.produced(), Counter(0x2_0003));
    assert_eq!(
        (irq.signaled(), irq.ci(), irq.armed()),
        (Counter(0x1_fffe), Counter(0x1_fffe), false)
    );
    let mut irq = irq;
    assert!(!irq.arm(Counter(9), Counter(0x2_0003)), "the baseline is no arm");
    assert!(irq.arm(Counter(10), Counter(0x1_fffe)));
    assert_eq!(fire(&mut irq), Some(Counter(78)), "numbered on from irq_seen");
}

#[derive(Clone, Debug)]
enum Op {
    Publish(u32),
    /// The driver consumes so many of those it has not, then arms.
    Arm(u64),
    /// The doorbell is looked at again.
    SameArm,
    Fire,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (1u32..6).prop_map(Op::Publish),
        (0u64..6).prop_map(Op::Arm),
        Just(Op::SameArm),
        Just(Op::Fire),
    ]
}

/// The rules on counters that never wrap.
#[derive(Default)]
struct Reference {
    produced: u64,
    signaled: u64,
    ci: u64,
    fired: u64,
    armed: bool,
}

/// Two packets were interrupted for and one came after; the driver arms with the first consumed.
fn armed_again(rearm: Rearm) -> Interrupts {
    let mut irq = registered(u32::MAX).with_rearm(rearm);
    assert!(irq.arm(Counter(1), Counter(u32::MAX)));
    irq.publish(2);
    assert!(fire(&mut irq).is_some());
    irq.publish(1);
    assert_eq!(irq.requested(), rearm == Rearm::NoAutomask, "{rearm:?}: not armed");
    assert!(irq.arm(Counter(2), Counter(0)));
    irq
}

#[test]
fn one_shot_and_no_automask_interrupt_for_the_packet_nobody_signaled() {
    for rearm in [Rearm::OneShot, Rearm::NoAutomask] {
        let mut irq = armed_again(rearm);
        assert!(fire(&mut irq).is_some());
        assert!(irq.arm(Counter(3), Counter(0)));
        assert!(!irq.requested() && irq.loss_candidate(), "{rearm:?} never signals one twice");
    }
}

#[test]
fn a_level_triggered_device_interrupts_again_for_what_was_not_consumed() {
    let mut irq = armed_again(Rearm::Level);
    assert!(fire(&mut irq).is_some());
    assert!(irq.arm(Counter(3), Counter(0)));
    assert!(irq.requested() && !irq.loss_candidate());
}

#[test]
fn an_edge_triggered_device_does_not_look_back() {
    let mut irq = armed_again(Rearm::Edge);
    assert!(!irq.requested() && irq.loss_candidate() && irq.forgotten());
    irq.publish(1);
    assert!(fire(&mut irq).is_some(), "the next packet's interrupt");
    assert!(irq.arm(Counter(3), Counter(3)) && !irq.forgotten());
}

proptest! {
    #[test]
    fn any_interleaving_agrees_with_the_rules_on_counters_that_do_not_wrap(
        near in prop::sample::select(WRAPS.to_vec()),
        back in 0u32..40,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let start = near.wrapping_sub(back);
        let mut irq = Interrupts::at_registration(Counter(start), start as u16, Counter(start), Counter(start));
        let mut seq = start;
        let mut reference = Reference::default();
        for op in ops {
            match op {
                Op::Publish(n) => {
                    irq.publish(n);
                    reference.produced += u64::from(n);
                }
                Op::Arm(n) => {
                    reference.ci = (reference.ci + n).min(reference.produced);
                    reference.signaled = reference.signaled.max(reference.ci);
                    reference.armed = true;
                    seq = seq.wrapping_add(1);
                    prop_assert!(irq.arm(Counter(seq), Counter(start).plus(reference.ci as u32)));
                }
                Op::SameArm => prop_assert!(!irq.arm(Counter(seq), Counter(start).plus(reference.ci as u32))),
                Op::Fire => {
                    let due = reference.armed && reference.produced > reference.signaled;
                    prop_assert_eq!(fire(&mut irq).is_some(), due);
                    if due {
                        reference.signaled = reference.produced;
                        reference.armed = false;
                        reference.fired += 1;
                    }
                }
            }
            prop_assert_eq!(irq.produced().since(Counter(start)), reference.produced as u32);
            prop_assert_eq!(irq.signaled().since(Counter(start)), reference.signaled as u32);
            prop_assert_eq!(irq.ci().since(Counter(start)), reference.ci as u32);
            prop_assert_eq!(irq.fired().since(Counter(start)), reference.fired as u32);
            prop_assert_eq!(irq.armed(), reference.armed);
            prop_assert_eq!(irq.requested(), reference.armed && reference.produced > reference.signaled);
            prop_assert_eq!(
                irq.loss_candidate(),
                reference.armed && reference.produced == reference.signaled && reference.ci < reference.produced
            );
            prop_assert_eq!(irq.ci_errors(), 0);
        }
    }

    #[test]
    fn no_doorbell_a_driver_can_write_puts_the_counters_out_of_order(
        start in any::<u32>(),
        doorbells in prop::collection::vec((any::<u32>(), any::<u32>(), 0u32..4), 1..100),
    ) {
        let mut irq = Interrupts::at_registration(Counter(start), start as u16, Counter(0), Counter(0));
        for (arm, ci, publish) in doorbells {
            irq.publish(publish);
            irq.arm(Counter(arm), Counter(ci));
            prop_assert!(!irq.ci().is_after(irq.signaled()));
            prop_assert!(!irq.signaled().is_after(irq.produced()));
            let _ = fire(&mut irq);
        }
    }
}
