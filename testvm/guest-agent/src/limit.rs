// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's own limits of time, longer on a machine that is slow or loaded.

use std::time::Duration;

use guest_protocol::SLOW;

/// The limit of this guest for what usually has `usual`.
#[must_use]
pub fn scaled(usual: Duration) -> Duration {
    usual * factor(std::env::var(SLOW).ok().as_deref())
}

/// The factor that the kernel's command line asks for: 1 when it asks for none, or for none that
/// can be.
fn factor(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse::<u16>().ok())
        .filter(|&factor| factor != 0)
        .map_or(1, u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_as_many_times_as_long_as_the_command_line_says() {
        for (text, expected) in [
            (Some("1"), 1),
            (Some("3"), 3),
            (Some("1000"), 1_000),
            (None, 1),
            (Some(""), 1),
            (Some("0"), 1),
            (Some("-3"), 1),
            (Some("70000"), 1),
        ] {
            assert_eq!(factor(text), expected, "{text:?}");
        }
        assert_eq!(scaled(Duration::from_secs(5)), Duration::from_secs(5), "not in a guest");
    }
}
