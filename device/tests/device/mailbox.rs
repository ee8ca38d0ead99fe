// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/interface.md, "Mailbox".

use tsnic::control::channel::{Answer, Command, PathCommand};
use tsnic::control::convert;
use tsnic_abi::{adaptive, command_status, from_words, offset, op, to_words};
use tsnic_core::moderation::{FRAMES_MAX, USECS_MAX};
use tsnic_protocol::Adjustment;

use crate::support::{Device, Guest, Options, eventually, frame};

/// Posts a command, and waits for its answer.
fn command(guest: &Guest, number: u32, op: u32, args: [u32; 6]) -> (u32, [u32; 6]) {
    guest.set_cell(offset::COMMAND_OP, op);
    for (word, arg) in args.into_iter().enumerate() {
        guest.set_cell(offset::COMMAND_ARGS + 4 * word, arg);
    }
    guest.set_cell(offset::COMMAND, number);
    guest.rx.kick();
    eventually("an answer", || (guest.cell(offset::ANSWER) == number).then_some(()));
    let values = std::array::from_fn(|word| guest.cell(offset::ANSWER_VALUES + 4 * word));
    (guest.cell(offset::ANSWER_STATUS), values)
}

#[test]
fn moderation_is_read_and_set() {
    let device = Device::with_limits(50, 8);
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    let before = [50, 8, 0, 0, 0, 0];
    assert_eq!(command(&guest, 1, op::GET_MODERATION, [9; 6]), (command_status::DONE, before));
    let set = [10, 2, USECS_MAX, FRAMES_MAX, 0, 0];
    assert_eq!(command(&guest, 2, op::SET_MODERATION, set), (command_status::DONE, set));
    assert_eq!(command(&guest, 3, op::GET_MODERATION, [0; 6]), (command_status::DONE, set));
    for (number, bits) in [(4, adaptive::RX), (5, adaptive::TX), (6, adaptive::RX | adaptive::TX)] {
        let set = [10, 2, USECS_MAX, FRAMES_MAX, bits, 0];
        assert_eq!(command(&guest, number, op::SET_MODERATION, set), (command_status::DONE, set));
        let said = device.status().moderation;
        let bit = |adaptive, bit| if adaptive { bit } else { 0 };
        let both = bit(said[0].adaptive, adaptive::RX) | bit(said[1].adaptive, adaptive::TX);
        assert_eq!(both, bits);
    }
    assert_eq!((device.counter("commands"), device.counter("commands_refused")), (6, 0));
    guest.leave();
}

/// One frame short of the limit waits; the command that lowers the limit has it signaled.
#[test]
fn other_limits_are_for_the_packets_that_wait() {
    let device = Device::with_limits(1_000_000, 2);
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    guest.arm();
    device.host.send(&frame(1, 60));
    guest.receive();
    let fired = guest.cell(offset::FIRED);
    command(&guest, 1, op::SET_MODERATION, [1_000_000, 1, 0, 0, 0, 0]);
    eventually("the interrupt", || (guest.cell(offset::FIRED) != fired).then_some(()));
    guest.leave();
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let device = Device::with_limits(50, 8);
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    let before = command(&guest, 1, op::GET_MODERATION, [0; 6]).1;
    let most = [USECS_MAX, FRAMES_MAX, USECS_MAX, FRAMES_MAX];
    let mut number = 1;
    for word in 0..4 {
        let mut args = [7, 7, 7, 7, 0, 0];
        args[word] = most[word] + 1;
        number += 1;
        let answer = command(&guest, number, op::SET_MODERATION, args);
        assert_eq!(answer, (command_status::RANGE, [0; 6]), "argument {word}");
    }
    number += 1;
    let answer = command(&guest, number, op::SET_MODERATION, [7, 7, 7, 7, 4, 0]);
    assert_eq!(answer, (command_status::RANGE, [0; 6]), "a bit that is none");
    for op in [0, 77, u32::MAX] {
        number += 1;
        let answer = command(&guest, number, op, [u32::MAX; 6]);
        assert_eq!(answer, (command_status::UNKNOWN, [0; 6]), "operation {op}");
    }
    assert_eq!(command(&guest, 0, op::GET_MODERATION, [0; 6]).1, before);
    assert_eq!(device.counter("commands_refused"), 8);
    guest.leave();
}

/// A command that was there before the page was posted is nobody's any more.
#[test]
fn a_command_from_before_the_registration_is_not_carried_out() {
    let device = Device::with_limits(50, 8);
    let mut guest = Guest::start(&device, Options::default());
    guest.set_cell(offset::COMMAND_OP, op::SET_MODERATION);
    guest.set_cell(offset::COMMAND, 41);
    guest.register();
    assert_eq!(guest.cell(offset::ANSWER), 41);
    let values = command(&guest, 42, op::GET_MODERATION, [0; 6]).1;
    assert_eq!((values[..2].to_vec(), device.counter("commands")), (vec![50, 8], 1));
    guest.leave();
}

/// No buffers and no arms: the receive queue is of no use, and commands are answered.
#[test]
fn a_dead_receive_queue_does_not_keep_commands() {
    let device = Device::new();
    let mut guest = Guest::start_with(&device, Options::default(), 0, 2048);
    guest.register();
    device.host.send(&frame(1, 60));
    let set = [1, 2, 3, 4, 0, 0];
    assert_eq!(command(&guest, 1, op::SET_MODERATION, set), (command_status::DONE, set));
    guest.leave();
}

/// A 64-bit argument.
fn args(number: u64) -> [u32; 6] {
    let [low, high] = to_words(number);
    [low, high, 0, 0, 0, 0]
}

/// The clock's time and its rate, after a command that is carried out.
fn clock(guest: &Guest, number: u32, op: u32, argument: u64) -> (u64, i64) {
    let (status, values) = command(guest, number, op, args(argument));
    assert_eq!(status, command_status::DONE, "operation {op}");
    let rate = from_words([values[2], values[3]]).cast_signed();
    (from_words([values[0], values[1]]), rate)
}

#[test]
fn the_clock_is_read_set_stepped_and_tuned_and_stamps_follow() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    let (first, rate) = clock(&guest, 1, op::GET_CLOCK, 0);
    let told = device.status().clock;
    assert!(rate == 0 && told.ns >= first && told.ns == told.timer_ns, "{first}, {told:?}");
    // Far from whatever timer time is.
    let set = 7_000_000_000_000_000_000;
    let (now, _) = clock(&guest, 2, op::SET_CLOCK, set);
    assert!((set..set + 1_000_000_000_000).contains(&now), "{now}");
    let hour = 3_600_000_000_000_u64;
    let (before, _) = clock(&guest, 3, op::STEP_CLOCK, hour.wrapping_neg());
    assert!((set - hour..set).contains(&before), "{before}");
    let ppm = 1 << 16;
    assert_eq!(clock(&guest, 4, op::SET_CLOCK_RATE, 100 * ppm).1, 100 << 16);
    assert_eq!(device.status().clock.rate_ppb, 100_000);
    // A frame is stamped with this clock; timer time goes on as it was.
    device.host.send(&frame(1, 60));
    let number = guest.receive().number;
    let stamp = guest.rx_record(number).timestamp_ns;
    assert!((before..set).contains(&stamp), "{stamp}");
    assert!(device.status().clock.timer_ns < told.timer_ns + hour);
    guest.leave();
}

#[test]
fn a_clock_that_cannot_be_set_so_is_left_alone() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    for (number, (op, argument)) in (1..).zip([
        (op::SET_CLOCK, u64::MAX),
        (op::SET_CLOCK, 1 << 63),
        (op::STEP_CLOCK, i64::MIN.cast_unsigned()),
        (op::SET_CLOCK_RATE, i64::MAX.cast_unsigned()),
        (op::SET_CLOCK_RATE, i64::MIN.cast_unsigned()),
    ]) {
        let answer = command(&guest, number, op, args(argument));
        assert_eq!(answer, (command_status::RANGE, [0; 6]), "operation {op}, {argument:#x}");
        let told = device.status().clock;
        assert_eq!((told.ns, told.rate_ppb), (told.timer_ns, 0));
    }
    guest.leave();
}

#[test]
fn the_control_socket_adjusts_the_clock_that_the_guest_reads() {
    let device = Device::new();
    let mut guest = Guest::start(&device, Options::default());
    guest.register();
    let ask = |adjustment| {
        device.ask(Command::Paths(PathCommand::Clock(convert::adjustment(adjustment))))
    };
    let ahead = 1_000_000_000_000;
    assert_eq!(ask(Adjustment::StepNs(ahead)), Answer::Paths(None));
    assert_eq!(ask(Adjustment::RatePpb(-2_000)), Answer::Paths(None));
    let (now, rate) = clock(&guest, 1, op::GET_CLOCK, 0);
    assert!(now >= ahead.cast_unsigned() && rate == -(2 << 16), "{now}, {rate}");
    assert!(matches!(ask(Adjustment::RatePpb(i64::MAX)), Answer::Refused(_)));
    guest.leave();
}
