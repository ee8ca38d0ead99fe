// SPDX-License-Identifier: GPL-2.0-only
//! Commands in the mailbox.

use tsnic_abi::{adaptive, caps, command_status, offset, op, to_words};

use super::fake::World;
use crate::mailbox::{
    ClockCommand, CommandError, MailboxPort, Moderation, clock, moderation, set_moderation,
};
use crate::mode::IrqMode;
use crate::stats::Stat;

const CAPABILITIES: u32 = caps::RX_TIMESTAMP | caps::TX_TIMESTAMP | caps::MAILBOX | caps::CLOCK;
const SET: Moderation = Moderation {
    rx_usecs: 1,
    rx_frames: 2,
    tx_usecs: 3,
    tx_frames: 4,
    adaptive_rx: true,
    adaptive_tx: false,
};

/// A device that answers at its `at`th look, after doing `instead` of that.
struct Device<'a, F> {
    world: &'a World,
    at: u32,
    answer: F,
    kicks: u32,
    looks: u32,
    slept_us: u32,
}

impl<'a, F: FnMut(&World)> Device<'a, F> {
    fn new(world: &'a World, at: u32, answer: F) -> Self {
        Self { world, at, answer, kicks: 0, looks: 0, slept_us: 0 }
    }
}

impl<F: FnMut(&World)> MailboxPort for Device<'_, F> {
    fn kick(&mut self) {
        self.kicks += 1;
    }

    fn sleep_us(&mut self, us: u32) {
        assert_eq!(self.kicks, 1, "the device is told first");
        self.looks += 1;
        self.slept_us += us;
        if self.looks == self.at {
            (self.answer)(self.world);
        }
    }
}

fn world() -> World {
    world_with(CAPABILITIES)
}

fn world_with(capabilities: u32) -> World {
    let world = World::with_page(IrqMode::V4_11);
    world.identify(world.cell(offset::GENERATION), capabilities);
    let generation = world.cell(offset::GENERATION);
    let identity = crate::queue_page::Identity { generation, capabilities };
    world.shared.page_accepted(identity);
    world
}

fn answer(world: &World, number: u32, status: u32, values: [u32; 5]) {
    world.set_cell(offset::ANSWER_STATUS, status);
    for (word, value) in values.into_iter().enumerate() {
        world.set_cell(offset::ANSWER_VALUES + 4 * word, value);
    }
    world.set_cell(offset::ANSWER, number);
}

#[test]
fn the_answer_is_what_is_in_force() {
    let world = world();
    for at in [1, 2, 700] {
        let mut device = Device::new(&world, at, |world| {
            assert_eq!(world.cell(offset::COMMAND_OP), op::GET_MODERATION);
            answer(world, world.cell(offset::COMMAND), command_status::DONE, [1, 2, 3, 4, 1]);
        });
        assert_eq!(moderation(&world.shared, &mut device), Ok(SET), "at look {at}");
    }
    assert_eq!(world.shared.stats.get(Stat::Commands), 3);
    assert_eq!(world.shared.stats.get(Stat::CommandsUnanswered), 0);
}

#[test]
fn the_arguments_are_what_is_wanted() {
    let world = world();
    let mut device = Device::new(&world, 3, |world| {
        let args: [u32; 6] =
            std::array::from_fn(|word| world.cell(offset::COMMAND_ARGS + 4 * word));
        assert_eq!(
            (world.cell(offset::COMMAND_OP), args),
            (op::SET_MODERATION, [1, 2, 3, 4, 1, 0])
        );
        answer(world, world.cell(offset::COMMAND), command_status::DONE, [1, 2, 3, 9, 1]);
    });
    let set = set_moderation(&world.shared, &mut device, SET);
    assert_eq!(set, Ok(Moderation { tx_frames: 9, ..SET }), "it is the device's to say");
}

#[test]
fn a_device_that_does_not_choose_by_the_traffic_says_so() {
    let world = world();
    for bits in [0, adaptive::RX | adaptive::TX] {
        let mut device = Device::new(&world, 1, |world| {
            answer(world, world.cell(offset::COMMAND), command_status::DONE, [1, 2, 3, 4, bits]);
        });
        let set = set_moderation(&world.shared, &mut device, SET);
        assert_eq!(set, Err(CommandError::Unsupported), "{bits}");
    }
}

#[test]
fn the_clock_is_a_64_bit_number_in_two_words() {
    let world = world();
    let shows = 0x0123_4567_89ab_cdef;
    for (wanted, op, args) in [
        (ClockCommand::Read, op::GET_CLOCK, [0, 0]),
        (ClockCommand::Set(7 << 32 | 9), op::SET_CLOCK, [9, 7]),
        (ClockCommand::Step(-1), op::STEP_CLOCK, [u32::MAX, u32::MAX]),
        (ClockCommand::Rate(-(1 << 16)), op::SET_CLOCK_RATE, [0xffff_0000, u32::MAX]),
    ] {
        let mut device = Device::new(&world, 1, |world| {
            let found = [0, 1].map(|word| world.cell(offset::COMMAND_ARGS + 4 * word));
            assert_eq!((world.cell(offset::COMMAND_OP), found), (op, args));
            let [low, high] = to_words(shows);
            answer(world, world.cell(offset::COMMAND), command_status::DONE, [low, high, 5, 5, 0]);
        });
        assert_eq!(clock(&world.shared, &mut device, wanted), Ok(shows));
    }
}

#[test]
fn a_device_without_a_clock_is_not_asked() {
    let world = world_with(CAPABILITIES & !caps::CLOCK);
    let mut device = Device::new(&world, 1, |_| ());
    let read = clock(&world.shared, &mut device, ClockCommand::Read);
    assert_eq!((read, device.kicks), (Err(CommandError::Unsupported), 0));
    assert_eq!(world.shared.stats.get(Stat::Commands), 0);
}

#[test]
fn a_refusal_is_an_error() {
    let world = world();
    for (status, error) in [
        (command_status::RANGE, CommandError::Range),
        (command_status::UNKNOWN, CommandError::Unsupported),
        (u32::MAX, CommandError::Unsupported),
    ] {
        let mut device = Device::new(&world, 1, |world| {
            answer(world, world.cell(offset::COMMAND), status, [7; 5]);
        });
        assert_eq!(set_moderation(&world.shared, &mut device, SET), Err(error), "{status}");
    }
}

/// Within about a second, and the answer to another command is none.
#[test]
fn a_silent_device_is_given_up() {
    let world = world();
    let mut device = Device::new(&world, 1, |world| {
        answer(world, world.cell(offset::COMMAND).wrapping_sub(1), command_status::DONE, [7; 5]);
    });
    assert_eq!(moderation(&world.shared, &mut device), Err(CommandError::Silent));
    assert!((1_000_000..1_100_000).contains(&device.slept_us), "{} us", device.slept_us);
    assert_eq!(world.shared.stats.get(Stat::CommandsUnanswered), 1);
}

#[test]
fn a_device_that_forgets_the_page_is_not_waited_for() {
    let world = world();
    let mut device = Device::new(&world, 2, |world| world.set_cell(offset::GENERATION, 0));
    assert_eq!(moderation(&world.shared, &mut device), Err(CommandError::Silent));
    assert_eq!(device.looks, 2);
}

#[test]
fn without_a_mailbox_nothing_is_posted() {
    let old = World::with_page(IrqMode::V4_11);
    let forgotten = world();
    forgotten.set_cell(offset::GENERATION, 0);
    for world in [World::plain(IrqMode::V4_11), old, forgotten] {
        let mut device = Device::new(&world, 1, |_| ());
        assert_eq!(moderation(&world.shared, &mut device), Err(CommandError::Unsupported));
        assert_eq!((device.kicks, world.cell(offset::COMMAND)), (0, 0));
    }
}
