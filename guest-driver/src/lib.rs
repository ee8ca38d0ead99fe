// SPDX-License-Identifier: GPL-2.0-only
//! The tsnic guest driver.
#![cfg_attr(target_os = "none", no_std)]
