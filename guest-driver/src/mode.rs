// SPDX-License-Identifier: GPL-2.0-only
//! How a receive interrupt takes the NAPI: the module parameter `irq_mode`.

use core::sync::atomic::{AtomicU32, Ordering};

/// How a receive interrupt takes the NAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqMode {
    /// By the kernel's `napi_schedule_prep()`.
    V4_11,
    /// As before Linux 4.11: [`napi_state::v4_10::schedule_prep`] on the kernel's state word.
    V4_10,
}

impl IrqMode {
    /// The mode's name as the user writes it.
    #[must_use]
    pub const fn name(self) -> &'static core::ffi::CStr {
        match self {
            Self::V4_11 => c"v4_11",
            Self::V4_10 => c"v4_10",
        }
    }

    /// Reads a name, or its alias of release 0.1 (`fixed`, `prefix`). One newline after it is
    /// allowed, as `echo` writes it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text.strip_suffix(b"\n").unwrap_or(text) {
            b"v4_11" | b"fixed" => Some(Self::V4_11),
            b"v4_10" | b"prefix" => Some(Self::V4_10),
            _ => None,
        }
    }
}

/// Why the mode was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeError {
    /// No such mode.
    Unknown,
    /// An interface of this driver is up.
    Busy,
}

/// The mode of all interfaces, and how many are up. One word, so that neither can change between a
/// look at the other and the act.
#[derive(Debug)]
pub struct ModeSwitch(AtomicU32);

const V4_10: u32 = 1;
const ONE_UP: u32 = 2;

impl ModeSwitch {
    /// `v4_11`, nothing up.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The mode. Any context.
    #[must_use]
    pub fn mode(&self) -> IrqMode {
        if self.0.load(Ordering::Relaxed) & V4_10 == 0 { IrqMode::V4_11 } else { IrqMode::V4_10 }
    }

    /// Sets the mode by its name.
    ///
    /// # Errors
    /// [`ModeError::Unknown`]: no such name. [`ModeError::Busy`]: an interface is up, and the mode
    /// is another.
    pub fn set(&self, text: &[u8]) -> Result<(), ModeError> {
        let mode = IrqMode::parse(text).ok_or(ModeError::Unknown)?;
        let bit = if mode == IrqMode::V4_10 { V4_10 } else { 0 };
        let change = |word| (word < ONE_UP || word & V4_10 == bit).then_some(word & !V4_10 | bit);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change)
            .map(drop)
            .map_err(|_| ModeError::Busy)
    }

    /// An interface goes up: the mode stays as it is until [`ModeSwitch::down`].
    pub fn up(&self) {
        self.0.fetch_add(ONE_UP, Ordering::AcqRel);
    }

    /// An interface has gone down.
    pub fn down(&self) {
        self.0.fetch_sub(ONE_UP, Ordering::AcqRel);
    }
}

impl Default for ModeSwitch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_read_by_its_exact_name() {
        assert_eq!(IrqMode::parse(b"v4_11"), Some(IrqMode::V4_11));
        assert_eq!(IrqMode::parse(b"v4_10\n"), Some(IrqMode::V4_10));
        for mode in [IrqMode::V4_11, IrqMode::V4_10] {
            assert_eq!(IrqMode::parse(mode.name().to_bytes()), Some(mode));
        }
        assert_eq!(IrqMode::parse(b"fixed"), Some(IrqMode::V4_11), "an alias");
        assert_eq!(IrqMode::parse(b"prefix\n"), Some(IrqMode::V4_10), "an alias");
        for wrong in [&b""[..], b"\n", b"fix", b"v4_10 ", b"v4_10\n\n", b"V4_10", b"v4_11prefix"] {
            assert_eq!(IrqMode::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_mode_changes_only_while_no_interface_is_up() {
        let switch = ModeSwitch::new();
        assert_eq!(switch.mode(), IrqMode::V4_11);
        assert_eq!(switch.set(b"v4_10"), Ok(()));
        assert_eq!(switch.mode(), IrqMode::V4_10);
        switch.up();
        switch.up();
        assert_eq!(switch.set(b"v4_11"), Err(ModeError::Busy));
        assert_eq!(switch.set(b"v4_10"), Ok(()), "the same mode is no change");
        assert_eq!(switch.set(b"other"), Err(ModeError::Unknown));
        switch.down();
        assert_eq!(switch.set(b"v4_11"), Err(ModeError::Busy));
        switch.down();
        assert_eq!(switch.mode(), IrqMode::V4_10);
        assert_eq!(switch.set(b"v4_11\n"), Ok(()));
        assert_eq!(switch.mode(), IrqMode::V4_11);
    }
}
