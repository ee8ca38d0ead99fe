// SPDX-License-Identifier: GPL-2.0-only
//! What the driver does wrong, for the tests of those who have to notice: the module parameter
//! `behaviour`.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU8, Ordering};

/// What the driver does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Nothing.
    #[default]
    Right,
    /// A poll that has consumed packets refills as if memory had run out, and the refill timer
    /// tries again.
    OutOfMemory,
    /// No poll refills the receive ring.
    NoRefill,
    /// No kick follows a frame that was put into the transmit ring.
    NoKick,
}

impl Behaviour {
    const ALL: [Self; 4] = [Self::Right, Self::OutOfMemory, Self::NoRefill, Self::NoKick];

    /// The name as the user writes it.
    #[must_use]
    pub const fn name(self) -> &'static CStr {
        match self {
            Self::Right => c"right",
            Self::OutOfMemory => c"out-of-memory",
            Self::NoRefill => c"no-refill",
            Self::NoKick => c"no-kick",
        }
    }

    /// Reads a name. One newline after it is allowed, as `echo` writes it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Self::ALL.into_iter().find(|behaviour| behaviour.name().to_bytes() == text)
    }
}

/// The behaviour of all interfaces, which may change at any time.
#[derive(Debug, Default)]
pub struct BehaviourSwitch(AtomicU8);

impl BehaviourSwitch {
    /// [`Behaviour::Right`].
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// The behaviour from now on. Any context.
    #[must_use]
    pub fn get(&self) -> Behaviour {
        let index = self.0.load(Ordering::Relaxed);
        Behaviour::ALL.get(usize::from(index)).copied().unwrap_or_default()
    }

    /// Changes it. Any context.
    pub fn set(&self, behaviour: Behaviour) {
        self.0.store(behaviour as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_is_read_by_its_exact_name_and_kept() {
        let switch = BehaviourSwitch::new();
        assert_eq!(switch.get(), Behaviour::Right);
        for behaviour in Behaviour::ALL {
            let name = behaviour.name().to_bytes();
            assert_eq!(Behaviour::parse(name), Some(behaviour));
            assert_eq!(Behaviour::parse(&[name, b"\n"].concat()), Some(behaviour));
            switch.set(behaviour);
            assert_eq!(switch.get(), behaviour);
        }
        for wrong in [&b""[..], b"\n", b"Right", b"right ", b"no-kick\n\n", b"no", b"wrong"] {
            assert_eq!(Behaviour::parse(wrong), None, "{wrong:?}");
        }
    }
}
