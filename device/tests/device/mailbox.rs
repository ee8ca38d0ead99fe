// SPDX-License-Identifier: Apache-2.0 OR MIT
//! docs/interface.md, "Mailbox".

use tsnic_abi::{adaptive, command_status, offset, op};
use tsnic_core::moderation::{FRAMES_MAX, USECS_MAX};

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
