// SPDX-License-Identifier: GPL-2.0-only
//! The module's parameters, which are those of all interfaces.

use crate::behaviour::BehaviourSwitch;
use crate::mode::ModeSwitch;

/// `irq_mode`
pub static MODE: ModeSwitch = ModeSwitch::new();

/// `behaviour`
pub static BEHAVIOUR: BehaviourSwitch = BehaviourSwitch::new();
